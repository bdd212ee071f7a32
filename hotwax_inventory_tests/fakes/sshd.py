"""A real OpenSSH server on loopback, run by the current user, for tests that want more than the simulator's server."""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hotwax_inventory_tests.dagster_dev import free_port

PROGRAM = shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
START_SECONDS = 10

# sshd changes to / before it reads any of these: every path is absolute
CONFIGURATION = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_ed25519
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/id_ed25519.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowTcpForwarding no
MaxStartups 100:30:200
LogLevel ERROR
Subsystem sftp internal-sftp
ForceCommand internal-sftp
"""


@contextmanager
def openssh(folder: Path, root: Path) -> Iterator[dict[str, str]]:
    """Run sshd over the local folder `root`; yields the SFTP_* variables that reach it, log-in by key."""
    assert PROGRAM is not None
    folder = folder.resolve()
    folder.mkdir(parents=True)
    for name in ("host_ed25519", "id_ed25519"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, parents=True, exist_ok=True)
    port = free_port()
    configuration = folder / "sshd_config"
    configuration.write_text(CONFIGURATION.format(port=port, folder=folder))
    kind, key = (folder / "host_ed25519.pub").read_text().split()[:2]
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
    with (folder / "sshd.log").open("wb") as log:
        server = subprocess.Popen([PROGRAM, "-D", "-e", "-f", str(configuration)], stderr=log, stdin=subprocess.DEVNULL)
    try:
        _wait_until_it_answers(port, server, folder / "sshd.log")
        yield {
            "SFTP_HOST": "127.0.0.1",
            "SFTP_PORT": str(port),
            "SFTP_USERNAME": pwd.getpwuid(os.getuid()).pw_name,
            "SFTP_PASSWORD": "",
            "SFTP_PRIVATE_KEY_FILE": str(folder / "id_ed25519"),
            "SFTP_KNOWN_HOSTS_FILE": str(folder / "known_hosts"),
            "SFTP_ROOT": str(root.resolve()),
        }
    finally:
        server.terminate()
        server.wait(timeout=10)


def _wait_until_it_answers(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                if connection.recv(4) == b"SSH-":
                    return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"sshd does not answer:\n{log.read_text(errors='replace')}")
