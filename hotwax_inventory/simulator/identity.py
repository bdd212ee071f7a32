"""What a simulator keeps about itself between starts: its secrets and the ports it had."""

import json
import os
import secrets
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

FILE = "identity.json"


def write_atomically(file: Path, text: str) -> None:
    """Write a small private file so that readers see all of it or nothing."""
    beside = file.with_name(f"{file.name}.{os.getpid()}.writing")
    beside.touch(mode=0o600)
    beside.write_text(text, encoding="utf-8")
    beside.replace(file)


@dataclass(frozen=True)
class Identity:
    """Credentials are made up once; ports are 0 until the first start."""

    sftp_username: str = "simulator"
    sftp_password: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    access_token: str = field(default_factory=lambda: f"shpat_{secrets.token_hex(16)}")
    webhook_secret: str = field(default_factory=lambda: secrets.token_hex(16))
    client_id: str = "simulator-client"
    client_secret: str = "simulator-secret"  # noqa: S105 - a default of a simulator on loopback
    sftp_port: int = 0
    http_port: int = 0

    @classmethod
    def load(cls, directory: Path) -> "Identity":
        """The identity kept in a folder, or a new one."""
        file = directory / FILE
        return cls(**json.loads(file.read_text(encoding="utf-8"))) if file.exists() else cls()

    def save(self, directory: Path, *, sftp_port: int, http_port: int) -> None:
        """Keep it, with the ports of this start."""
        kept = replace(self, sftp_port=sftp_port, http_port=http_port)
        write_atomically(directory / FILE, json.dumps(asdict(kept), indent=2))
