"""A simulator of the world around: an SFTP server and a Shopify Admin API on loopback, for the demo and the tests.

Everything heavy is imported when a simulator starts.
"""

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from hotwax_inventory.simulator.process import Addresses, ensure_running, running, webhook_secret

if TYPE_CHECKING:
    from hotwax_inventory.simulator.deliveries import WebhookDeliveries
    from hotwax_inventory.simulator.faults import Faults
    from hotwax_inventory.simulator.service import Service
    from hotwax_inventory.simulator.shop_store import ShopStore

__all__ = ["Addresses", "Simulator", "ensure_running", "running", "webhook_secret"]


class Simulator:
    """Both servers in this process, serving `directory`; a context manager.

    Shops come from the files of `reference_dir`, or from `shops.add_shop` and the like. Port 0 means the port of the
    last start when it is free. With `schema_file` (Shopify's introspection result or SDL) every document is validated.
    """

    addresses: Addresses

    def __init__(
        self,
        directory: Path,
        reference_dir: Path,
        *,
        sftp_port: int = 0,
        http_port: int = 0,
        schema_file: Path | None = None,
    ) -> None:
        self._directory = directory
        self._reference_dir = reference_dir
        self._sftp_port = sftp_port
        self._http_port = http_port
        self._schema_file = schema_file
        self._running: Service | None = None

    @property
    def shops(self) -> "ShopStore":
        """What the shops hold."""
        return self._service.shops

    @property
    def faults(self) -> "Faults":
        """The faults that wait."""
        return self._service.faults

    @property
    def bulk_delay_seconds(self) -> float:
        """How long a bulk operation takes at least."""
        return self._service.workers.delay_seconds

    @bulk_delay_seconds.setter
    def bulk_delay_seconds(self, seconds: float) -> None:
        self._service.workers.delay_seconds = seconds

    @property
    def deliveries(self) -> "WebhookDeliveries":
        """The webhooks on their way."""
        return self._service.deliveries

    @property
    def _service(self) -> "Service":
        if self._running is None:
            raise RuntimeError("The simulator is not running: use it in a with statement, or call start().")
        return self._running

    def start(self) -> Addresses:
        """Start both servers; RuntimeError when another simulator serves the same directory."""
        from hotwax_inventory.simulator.service import Service

        self._running = Service(self._directory, self._reference_dir, self._schema_file)
        self.addresses = self._running.start(sftp_port=self._sftp_port, http_port=self._http_port)
        return self.addresses

    def stop(self) -> None:
        """Stop both servers; all state stays in the directory."""
        if self._running is not None:
            self._running.stop()
            self._running = None

    def environment(self) -> dict[str, str]:
        """The project's environment variables that point at this simulator."""
        return self.addresses.environment(self.shops.shop_ids())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
