"""A file of 200 MB from OpenSSH's sshd, landed by us, hashed and synced; against OpenSSH's `sftp get`, which does neither."""

import contextlib
import getpass
import os
import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from hotwax_inventory import settings
from hotwax_inventory.files.landing import land
from hotwax_inventory.files.looking import Source
from hotwax_inventory.imports import reset
from hotwax_inventory.resources import Sftp, Warehouse
from hotwax_inventory_tests.benchmarks import measure
from hotwax_inventory_tests.benchmarks.catalogue import load_reference, write_reference

REPETITIONS = 5
MOST_BYTES = 200_000_000
BYTES_A_ROW = 200
SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
START_SECONDS = 10

CONFIGURATION = """
Port {port}
ListenAddress 127.0.0.1
HostKey {keys}/host
AuthorizedKeysFile {keys}/client.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
LogLevel ERROR
Subsystem sftp internal-sftp
"""


@contextlib.contextmanager
def sshd(folder: Path) -> Iterator[None]:
    """An sshd on a free port of loopback, which is in folder/port; it lets this user in by folder/keys/client."""
    keys = folder / "keys"
    keys.mkdir()
    for name in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keys / name], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "port").write_text(str(port))
    (keys / "known_hosts").write_text(f"[127.0.0.1]:{port} {(keys / 'host.pub').read_text()}")
    (keys / "sshd_config").write_text(CONFIGURATION.format(port=port, keys=keys))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd as root does not start without it
    # both paths must be absolute: its children have another working directory
    server = subprocess.Popen([str(SSHD), "-D", "-f", keys / "sshd_config", "-E", keys / "sshd.log"])
    try:
        _wait_for(port, keys / "sshd.log")
        yield
    finally:
        server.terminate()
        server.wait()


def _wait_for(port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise RuntimeError(f"sshd does not answer: {log.read_text() if log.exists() else 'no log'}") from None
            time.sleep(0.05)


def _settings(folder: Path) -> None:
    """Point the project at the sshd whose port the folder has."""
    os.environ |= {
        "SFTP_HOST": "127.0.0.1",
        "SFTP_PORT": (folder / "port").read_text(),
        "SFTP_USERNAME": getpass.getuser(),
        "SFTP_PRIVATE_KEY_FILE": str(folder / "keys" / "client"),
        "SFTP_KNOWN_HOSTS_FILE": str(folder / "keys" / "known_hosts"),
        "SFTP_ROOT": str(folder / "remote"),
    }


def prepare(folder: Path, size: int) -> None:
    """The remote file, of bytes that nothing compresses."""
    (folder / "remote").mkdir()
    (folder / "home").mkdir()
    left = min(MOST_BYTES, size * BYTES_A_ROW)
    with (folder / "remote" / "big.csv").open("wb") as file:
        while left:
            left -= file.write(os.urandom(min(left, 1 << 20)))
    write_reference(folder / "reference", products=1)
    load_reference()  # without which no file is taken


def floor(folder: Path, size: int) -> None:
    keys = folder / "keys"
    options = [
        f"-oUserKnownHostsFile={keys / 'known_hosts'}",
        "-oBatchMode=yes",
        f"-oPort={(folder / 'port').read_text()}",
    ]
    remote = f"{getpass.getuser()}@127.0.0.1:{folder / 'remote' / 'big.csv'}"
    subprocess.run(
        ["sftp", "-q", "-F", "none", "-i", keys / "client", *options, remote, folder / "got"],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def fetch(folder: Path, size: int) -> None:
    """One file, from log-in to its hash."""
    _settings(folder)
    with Sftp().session() as session:
        found = session.look("big.csv")
        assert found is not None
        session.fetch(found, folder / "home" / "fetched")


def land_whole(folder: Path, size: int) -> None:
    """From log-in to the archive: list, fetch, register, move."""
    _settings(folder)
    source = Source((".",), ("*.csv",), config_id="RESET_INVENTORY", allow_duplicate_content=True)
    landed = land(reset.FEED, source, "bench", Sftp(), Warehouse())
    assert len(landed.registered) == 1, landed
    archive = folder / "remote" / "archive"
    next(archive.iterdir()).rename(folder / "remote" / "big.csv")
    for landed_file in settings.landing_folder(source.config_id).glob("*.csv"):
        landed_file.unlink()  # the next one is a new file, too, and not written over this one


STEPS = {"prepare": prepare, "floor": floor, "fetch": fetch, "land": land_whole}


def benchmark(folder: Path, size: int) -> list[measure.Line]:
    """Median of the repetitions."""
    missing = [name for name, found in (("sshd", SSHD), ("sftp", shutil.which("sftp"))) if not found]
    if missing:
        return [measure.Line(f"SFTP landing: not measured, {' and '.join(missing)} of OpenSSH missing here")]
    with sshd(folder):
        found = measure.repeat(__name__, STEPS, folder, size, REPETITIONS)
    median = {step: statistics.median(m.seconds for m in times) for step, times in found.items()}
    megabytes = (folder / "remote" / "big.csv").stat().st_size // 1_000_000
    return [
        measure.Line(f"SFTP, {megabytes} MB, {work}", median["floor"], median[step], measure.peak(found[step]), goal=1)
        for step, work in (("fetch", "fetched and hashed"), ("land", "landed whole"))
    ]


if __name__ == "__main__":
    measure.main(STEPS)
