"""All parts of a running simulator, put together over one directory."""

import os
from pathlib import Path

from filelock import FileLock, Timeout
from starlette.applications import Starlette

from hotwax_inventory.simulator.bulk import BulkOperations
from hotwax_inventory.simulator.bulk_worker import BulkWorkers
from hotwax_inventory.simulator.control import Control
from hotwax_inventory.simulator.deliveries import WebhookDeliveries
from hotwax_inventory.simulator.execution import Executor
from hotwax_inventory.simulator.faults import Faults
from hotwax_inventory.simulator.http_server import HttpServer, bound_socket
from hotwax_inventory.simulator.identity import Identity, write_atomically
from hotwax_inventory.simulator.inventory import InventoryMutations
from hotwax_inventory.simulator.process import ADDRESSES_FILE, Addresses
from hotwax_inventory.simulator.reading import Reader
from hotwax_inventory.simulator.reference import seed
from hotwax_inventory.simulator.sftp_server import SftpService
from hotwax_inventory.simulator.shop_store import ShopStore
from hotwax_inventory.simulator.shopify_api import ShopifyApi
from hotwax_inventory.simulator.storage import Storage
from hotwax_inventory.simulator.webhooks import WebhookSubscriptions


class Service:
    """One simulator; it holds the directory's lock for as long as it runs."""

    def __init__(self, directory: Path, reference_dir: Path, schema_file: Path | None) -> None:
        directory = directory.absolute()
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(directory / "simulator.lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as taken:
            raise RuntimeError(f"Another simulator serves {directory}. Stop it, or take another directory.") from taken
        self._directory = directory
        self._identity = Identity.load(directory)
        self.faults = Faults()
        self.shops = ShopStore(directory / "shops.sqlite")
        seed(self.shops, reference_dir)
        self._storage = Storage(self.shops, directory)
        self.deliveries = WebhookDeliveries(self.shops, self.faults, self._identity.webhook_secret)
        bulk = BulkOperations(self.shops, self._storage, self.faults, schema_file)
        executor = Executor(
            inventory=InventoryMutations(self.shops, self.faults),
            reader=Reader(self.shops, bulk.answer),
            bulk=bulk,
            storage=self._storage,
            webhooks=WebhookSubscriptions(self.shops),
            may_write=lambda shop_id: "write_inventory" in self.shops.scopes_of(shop_id),
        )
        self.workers = BulkWorkers(self.shops, self._storage, executor.execute, schema_file)
        bulk.start = self.workers.start
        api = ShopifyApi(
            shops=self.shops,
            executor=executor,
            storage=self._storage,
            faults=self.faults,
            identity=self._identity,
            schema_file=schema_file,
        )
        self._app = Starlette(
            routes=[*Control(self.shops, self.faults, lambda: seed(self.shops, reference_dir)).routes, *api.routes]
        )
        self._sftp = SftpService(directory, self._identity, self.faults)
        self._http: HttpServer | None = None

    def start(self, *, sftp_port: int, http_port: int) -> Addresses:
        """Listen, on the ports of the last start when none are wanted and those are free, and say where."""
        listener = bound_socket(http_port or self._identity.http_port)
        http_port = listener.getsockname()[1]
        self._storage.base_url = f"http://127.0.0.1:{http_port}"
        self._http = HttpServer(self._app, listener)
        self._http.start()
        sftp_port = self._sftp.start(sftp_port or self._identity.sftp_port)
        known_hosts = self._directory / "known_hosts"
        write_atomically(known_hosts, self._sftp.known_host(sftp_port))
        self._identity.save(self._directory, sftp_port=sftp_port, http_port=http_port)
        addresses = Addresses(
            sftp_host="127.0.0.1",
            sftp_port=sftp_port,
            sftp_username=self._identity.sftp_username,
            sftp_password=self._identity.sftp_password,
            sftp_known_hosts_file=str(known_hosts),
            sftp_directory=str(self._sftp.root),
            shopify_url=self._storage.base_url,
            access_token=self._identity.access_token,
            pid=os.getpid(),
            webhook_secret=self._identity.webhook_secret,
        )
        self.workers.resume()
        self.deliveries.start()
        write_atomically(self._directory / ADDRESSES_FILE, addresses.text())
        return addresses

    def stop(self) -> None:
        """Stop in the order in which nothing starts anew."""
        (self._directory / ADDRESSES_FILE).unlink(missing_ok=True)
        if self._http is not None:
            self._http.stop()
        self.deliveries.stop()
        self.workers.stop()
        self._sftp.stop()
        self.shops.close()
        self._lock.release()
