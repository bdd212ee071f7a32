"""What Dagster and our code location cost: a run of import_inventory in the daemon, one small file, against an empty job's run.

Both are launched alike, in one instance with the project's dagster.yaml: queue, daemon, a process of its own for the run. The time
is from launch to end, the queue's second included."""

import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
from dagster_graphql import DagsterGraphQLClient

from hotwax_inventory.dev import stop, wait_until_ready
from hotwax_inventory.files import sources
from hotwax_inventory.simulator import Simulator
from hotwax_inventory_tests.benchmarks import measure
from hotwax_inventory_tests.benchmarks.catalogue import write_reference

REPETITIONS = 7
PRODUCTS = 1000
RUN_SECONDS = 120

EMPTY = """
import dagster as dg

@dg.asset
def nothing() -> None:
    pass

defs = dg.Definitions(
    assets=[nothing], jobs=[dg.define_asset_job("empty", selection=[nothing])], executor=dg.in_process_executor
)
"""

WORKSPACE = f"""
load_from:
  - python_module:
      module_name: hotwax_inventory.definitions
      location_name: hotwax_inventory
      working_directory: {measure.PROJECT}
  - python_file:
      relative_path: empty.py
      location_name: empty
"""


@contextlib.contextmanager
def dagster_dev(folder: Path) -> Iterator[DagsterGraphQLClient]:
    """UI and daemon over both code locations, and a client of theirs. DAGSTER_HOME is set."""
    home = folder / "dagster"
    home.mkdir()
    shutil.copyfile(measure.PROJECT / "dagster.yaml", home / "dagster.yaml")
    (folder / "empty.py").write_text(EMPTY)
    (folder / "workspace.yaml").write_text(WORKSPACE)
    os.environ["DAGSTER_HOME"] = str(home)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
    with (folder / "dagster.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
        try:
            try:
                wait_until_ready(process, f"http://127.0.0.1:{port}")
            except RuntimeError as error:
                raise RuntimeError((folder / "dagster.log").read_text()[-2000:]) from error
            yield DagsterGraphQLClient("127.0.0.1", port_number=port)
        finally:
            stop(process)


def run_seconds(client: DagsterGraphQLClient, location: str, job: str, instance: dg.DagsterInstance) -> float:
    """Launch a job and wait for its end; seconds from the run's creation to its end. Raises RuntimeError if it fails."""
    run_id = client.submit_job_execution(job, repository_location_name=location)
    deadline = time.monotonic() + RUN_SECONDS
    while time.monotonic() < deadline:
        record = instance.get_run_record_by_id(run_id)
        if record is not None and record.dagster_run.is_finished:
            if not record.dagster_run.is_success or record.end_time is None:
                raise RuntimeError(f"{job} ended as {record.dagster_run.status}")
            return record.end_time - record.create_timestamp.timestamp()
        time.sleep(0.25)
    raise RuntimeError(f"{job} did not end within {RUN_SECONDS} seconds")


def reset_file(number: int) -> str:
    """One quantity for each product at the first store, another in each file."""
    rows = (f"SKU-{i},100,{i % 50 + number},{5000000 + i}" for i in range(PRODUCTS))
    return "\n".join(["Item,externalFacilityId,availableQty,idValue", *rows]) + "\n"


def benchmark(folder: Path, size: int) -> list[measure.Line]:
    """Median of the repetitions, taken alternately; the first of each is not counted."""
    reference = folder / "reference"
    write_reference(reference, PRODUCTS)
    os.environ |= measure.environment(folder)
    found: dict[str, list[float]] = {"empty": [], "import_inventory": []}
    with Simulator(folder / "simulator", reference) as simulator:
        os.environ |= simulator.environment()
        directory = Path(simulator.addresses.sftp_directory) / sources.RESET_INVENTORY.directories[0]
        directory.mkdir(parents=True, exist_ok=True)
        with dagster_dev(folder) as client, dg.DagsterInstance.get() as instance:
            run_seconds(client, "hotwax_inventory", "load_reference", instance)
            for number in range(REPETITIONS + 1):
                (directory / f"{number}.csv").write_text(reset_file(number))
                for location, job in (("empty", "empty"), ("hotwax_inventory", "import_inventory")):
                    seconds = run_seconds(client, location, job, instance)
                    measure.say(f"  {job:<16} {seconds:8.2f} s{'' if number else '  (not counted)'}")
                    found[job] += [seconds] if number else []
    floor, ours = (statistics.median(times) for times in found.values())
    return [measure.Line("import_inventory in the daemon", floor, ours, goal=1.3)]
