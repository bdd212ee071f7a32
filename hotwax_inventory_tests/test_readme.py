"""README is right: the commands that it shows run, the statements too, and no job and no setting is left out."""

import contextlib
import functools
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import dagster as dg
import httpx
import pytest

from hotwax_inventory import settings
from hotwax_inventory.definitions import defs
from hotwax_inventory.imports.feeds import FEEDS
from hotwax_inventory.resources import Warehouse
from hotwax_inventory.settings import PROJECT
from hotwax_inventory_tests.conftest import Place
from hotwax_inventory_tests.dagster_dev import free_port, until

TEXT = (PROJECT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.strip().split("    #")[0].strip()
    for line in TEXT.splitlines()
    if re.match(r" {4,}(make|flock|[.]venv/bin)\b", line)
]
# what make takes minutes for, or asks nothing but an installation
MADE_ELSEWHERE = {"install", "demo", "dev", "test", "test-long", "lint", "bench", "crash", "lock"}


def test_every_job_is_in_readme_and_every_setting_in_its_example() -> None:
    jobs = {name for name in defs.get_repository_def().job_names if not name.startswith("__")}
    assert {name for name in jobs if f"`{name}`" not in TEXT} == set()
    shown = (PROJECT / ".env.example").read_text(encoding="utf-8")
    source = Path(settings.__file__).read_text(encoding="utf-8")
    named = set(re.findall(r'"([A-Z]+(?:_[A-Z]+)+)"', source)) - {"FTP_CONFIG", *(feed.config_id for feed in FEEDS)}
    named = {f"{name}_MAX_AGE_HOURS" if name in settings.MAX_AGE_HOURS else name for name in named}
    assert {name for name in named if name not in shown} == set()


def test_everything_that_readme_names_is_there() -> None:
    assert [path for path in re.findall(r"\]\(([^)]+)\)", TEXT) if not (PROJECT / path).exists()] == []
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    shown = set(re.findall(r"(?:`| {4})make ([a-z-]+)", TEXT))
    assert shown - targets == set()
    assert shown - MADE_ELSEWHERE == {"configure", "explain"}, "run it below"
    assert [name for name in re.findall(r"\.venv/(bin/[a-z-]+)", TEXT) if not (PROJECT / ".venv" / name).exists()] == []
    assert len(COMMANDS) == 7, "a command is shown that nothing here runs"


def test_the_commands_and_statements_of_readme_run(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put_reset("reset.csv", "Item,externalFacilityId,availableQty,idValue\nTEE-S,116,6,501\nGONE,43,5,999\n")
    place.succeed("import_inventory")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    run("make -o install configure")
    assert (tmp_path / "dagster" / "dagster.yaml").exists()
    explained = run(shown("make explain SKU").replace("TEE00-BLACK-XS", "TEE-S").replace("make", "make -o install"))
    assert "reset.csv" in explained
    for statement in re.findall(r"`(select [^`]+)`", TEXT):
        place.rows(statement)
    (tmp_path / "backup").mkdir()
    kept = place.stock()
    run(shown("flock").replace("/backup/", f"{tmp_path}/backup/"))
    Warehouse().path.with_name("warehouse.duckdb.wal").write_bytes(b"what a killed run has left")
    run(re.findall(r"`(rm [^`]+)`", TEXT)[0])
    shutil.copytree(tmp_path / "backup", place.home, dirs_exist_ok=True)
    assert place.stock() == kept == {("10001", "BROADWAY"): (6, 6)}


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_processes_that_readme_starts_in_production_answer(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    run("make -o install configure")
    run(shown("dagster instance migrate"))
    ports = {"3000": str(free_port()), "3080": str(free_port())}
    processes = []
    with contextlib.ExitStack() as stack:
        for beginning in ("dagster-webserver", "dagster-daemon run", "uvicorn"):
            command = shown(beginning)
            for written, free in ports.items():
                command = command.replace(written, free)
            log = stack.enter_context((tmp_path / f"{beginning.split()[0]}.log").open("wb"))
            process = subprocess.Popen(shlex.split(command), cwd=PROJECT, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            processes.append(process)
        for port, path in (("3000", "server_info"), ("3080", "health")):
            until(functools.partial(answers, f"http://127.0.0.1:{ports[port]}/{path}"), f"{path} is answered")
        with dg.DagsterInstance.get() as instance:
            until(lambda: "SENSOR" in instance.get_daemon_heartbeats(), "the daemon looks at sensors")
        assert [process.poll() for process in processes] == [None, None, None]


def answers(address: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(address, timeout=5).status_code == 200
    return False


def shown(beginning: str) -> str:
    """The command that README shows, by how it begins."""
    (command,) = {
        found
        for found in re.findall(r"`([^`\n]+)`", TEXT) + COMMANDS
        if beginning in found.removeprefix(".venv/bin/")[: len(beginning)]
    }
    return command


def run(command: str) -> str:
    """Run a command as a person would, in the project's folder; what it says. Fails when it does."""
    done = subprocess.run(
        command, shell=True, cwd=PROJECT, env={**os.environ}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
