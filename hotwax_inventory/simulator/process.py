"""The simulator as a process of its own: found when it runs, started when it does not."""

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock

ADDRESSES_FILE = "simulator.json"
LOG_FILE = "simulator.log"
START_SECONDS = 30
LOG_TAIL_CHARACTERS = 2000


@dataclass(frozen=True)
class Addresses:
    """Where a running simulator answers, and what it lets in."""

    sftp_host: str
    sftp_port: int
    sftp_username: str
    sftp_password: str
    sftp_known_hosts_file: str
    sftp_directory: str
    shopify_url: str
    access_token: str
    pid: int
    # signs the webhooks of all shops
    webhook_secret: str = ""

    def environment(self, shop_ids: Iterable[str]) -> dict[str, str]:
        """The project's environment variables that point at this simulator and its shops."""
        variables = {
            "SFTP_HOST": self.sftp_host,
            "SFTP_PORT": str(self.sftp_port),
            "SFTP_USERNAME": self.sftp_username,
            "SFTP_PASSWORD": self.sftp_password,
            "SFTP_KNOWN_HOSTS_FILE": self.sftp_known_hosts_file,
        }
        for shop_id in shop_ids:
            name = re.sub(r"[^A-Z0-9]", "_", shop_id.upper())
            variables[f"SHOPIFY_{name}_URL"] = self.shop_url(shop_id)
            variables[f"SHOPIFY_{name}_ACCESS_TOKEN"] = self.access_token
            variables[f"SHOPIFY_{name}_WEBHOOK_SECRET"] = self.webhook_secret
        return variables

    def shop_url(self, shop_id: str) -> str:
        """Where a shop's Admin API is."""
        return f"{self.shopify_url}/{quote(shop_id, safe='')}"

    def text(self) -> str:
        """As simulator.json holds it."""
        return json.dumps(asdict(self), indent=2)


def running(directory: Path) -> Addresses | None:
    """The addresses of the simulator that serves `directory`; None when it does not answer on both of its ports."""
    addresses = _stated(directory)
    return addresses if addresses and _answers_ssh(addresses) and _answers_http(addresses) else None


def webhook_secret(directory: Path) -> str | None:
    """What the simulator of `directory` signs webhooks with; None when none has been started."""
    addresses = _stated(directory)
    return addresses.webhook_secret if addresses else None


def _stated(directory: Path) -> Addresses | None:
    """The addresses that the last simulator of `directory` has left."""
    try:
        return Addresses(**json.loads((directory / ADDRESSES_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def ensure_running(directory: Path, reference_dir: Path) -> Addresses:
    """The simulator of `directory`, started detached when none runs; RuntimeError with its log when it fails."""
    directory.mkdir(parents=True, exist_ok=True)
    with FileLock(directory / "start.lock", timeout=START_SECONDS * 2):
        addresses = running(directory)
        if addresses is not None:
            return addresses
        log_file = directory / LOG_FILE
        command = [sys.executable, "-m", __package__ or "hotwax_inventory.simulator"]
        command += ["--directory", str(directory.absolute()), "--reference", str(reference_dir.absolute())]
        with log_file.open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=_environment(),
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            addresses = running(directory)
            if addresses is not None:
                return addresses
            time.sleep(0.05)
        ended = process.poll()
        reason = f"did not answer within {START_SECONDS} seconds" if ended is None else f"ended with code {ended}"
        if ended is None:
            process.kill()
        tail = log_file.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL_CHARACTERS:]
        raise RuntimeError(f"The simulator for {directory} {reason}. The end of {log_file}:\n{tail}")


def _environment() -> dict[str, str]:
    # the package must be found from any working directory, also where it is not installed
    project = str(Path(__file__).resolve().parents[2])
    paths = [project, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _answers_ssh(addresses: Addresses) -> bool:
    try:
        with socket.create_connection((addresses.sftp_host, addresses.sftp_port), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _answers_http(addresses: Addresses) -> bool:
    host, _, port = addresses.shopify_url.removeprefix("http://").rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=2)
    try:
        connection.request("GET", "/")
        # another simulator may have taken the port since
        return connection.getresponse().getheader("X-Simulator-Pid") == str(addresses.pid)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
