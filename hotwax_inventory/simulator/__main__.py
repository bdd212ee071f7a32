"""`python -m hotwax_inventory.simulator --directory D --reference R`: runs until SIGTERM or SIGINT."""

import argparse
import signal
import threading
from pathlib import Path

from hotwax_inventory.simulator import Simulator


def main() -> None:
    """Run a simulator in the foreground."""
    parser = argparse.ArgumentParser(prog="python -m hotwax_inventory.simulator", description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="where its state is kept")
    parser.add_argument("--reference", type=Path, required=True, help="the project's reference files")
    parser.add_argument("--sftp-port", type=int, default=0, help="default: the one of the last start")
    parser.add_argument("--http-port", type=int, default=0, help="default: the one of the last start")
    parser.add_argument("--schema", type=Path, help="Shopify's schema, to validate every document against")
    given = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    simulator = Simulator(
        given.directory,
        given.reference,
        sftp_port=given.sftp_port,
        http_port=given.http_port,
        schema_file=given.schema,
    )
    with simulator:
        ended.wait()


if __name__ == "__main__":
    main()
