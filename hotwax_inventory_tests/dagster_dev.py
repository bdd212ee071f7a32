"""UI and daemon in processes of their own, as a person runs them."""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import dagster as dg
import httpx
from dagster_graphql import DagsterGraphQLClient

from hotwax_inventory.dev import stop, wait_until_ready
from hotwax_inventory.settings import PROJECT

RUN_SECONDS = 240
T = TypeVar("T")


class Dev:
    """A running `dagster dev`."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.client = DagsterGraphQLClient("127.0.0.1", port_number=port)

    def launch(self, job: str, location: str = "hotwax_inventory", **tags: str) -> str:
        """Queue a run of a job; its id."""
        return self.client.submit_job_execution(job, repository_location_name=location, tags=tags)

    def start_sensor(self, name: str) -> None:
        place = {"repositoryName": "__repository__", "repositoryLocationName": "hotwax_inventory"}
        query = "mutation($of: SensorSelector!) { startSensor(sensorSelector: $of) { __typename } }"
        body = {"query": query, "variables": {"of": {**place, "sensorName": name}}}
        assert httpx.post(f"{self.address}/graphql", json=body).json() == {
            "data": {"startSensor": {"__typename": "Sensor"}}
        }


@contextlib.contextmanager
def dagster_dev(log: Path, workspace: Path = PROJECT / "workspace.yaml") -> Iterator[Dev]:
    """`dagster dev` with the instance of DAGSTER_HOME, on a free port. What it says goes to `log`."""
    port = free_port()
    dev = Dev(port)
    command = [sys.executable, "-m", "dagster", "dev", "-w", workspace.name, "-h", "127.0.0.1", "-p", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, cwd=workspace.parent, env=environment, stdout=said, stderr=said, start_new_session=True
        )
        try:
            try:
                wait_until_ready(process, dev.address, RUN_SECONDS)
            except RuntimeError as error:
                raise RuntimeError(log.read_text()[-2000:]) from error
            yield dev
        finally:
            stop(process)


def free_port() -> int:
    """A port on loopback that nobody listens on, below those that connections of others are given."""
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def ended_run(run_id: str, instance: dg.DagsterInstance) -> dg.DagsterRun:
    """Wait for a run's end."""

    def run() -> dg.DagsterRun | None:
        found = instance.get_run_by_id(run_id)
        return found if found is not None and found.is_finished else None

    return until(run, f"run {run_id} has ended")


def until(condition: Callable[[], T | None], what: str, seconds: float = RUN_SECONDS) -> T:
    """What the condition gives once it gives something true. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise TimeoutError(f"Within {seconds} seconds it did not come true that {what}.")
