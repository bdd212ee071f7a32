"""What Dagster and our code location cost: a run of import_inventory in the daemon, one small file, against an empty job's run.

Both are launched alike, in one instance with the project's dagster.yaml: queue, daemon, a process of its own for the run. The time
is from launch to end, the queue's second included."""

import os
import statistics
from pathlib import Path

import dagster as dg

from hotwax_inventory import dagster_home
from hotwax_inventory.imports import reset
from hotwax_inventory.simulator import Simulator
from hotwax_inventory_tests.benchmarks import measure
from hotwax_inventory_tests.benchmarks.catalogue import write_reference
from hotwax_inventory_tests.dagster_dev import Dev, dagster_dev, ended_run

REPETITIONS = 7
PRODUCTS = 1000

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


def run_seconds(dev: Dev, location: str, job: str, instance: dg.DagsterInstance) -> float:
    """Launch a job and wait for its end; seconds from the run's creation to its end. Raises RuntimeError if it fails."""
    run_id = dev.launch(job, location)
    ended = ended_run(run_id, instance)
    record = instance.get_run_record_by_id(run_id)
    if not ended.is_success or record is None or record.end_time is None:
        raise RuntimeError(f"{job} ended as {ended.status}")
    return record.end_time - record.create_timestamp.timestamp()


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
        directory = Path(simulator.addresses.sftp_directory) / reset.FEED.directories[0]
        directory.mkdir(parents=True, exist_ok=True)
        (folder / "empty.py").write_text(EMPTY)
        (folder / "workspace.yaml").write_text(WORKSPACE)
        os.environ["DAGSTER_HOME"] = str(folder / "dagster")
        dagster_home.prepare()
        with (
            dagster_dev(folder / "dagster.log", folder / "workspace.yaml") as dev,
            dg.DagsterInstance.get() as instance,
        ):
            run_seconds(dev, "hotwax_inventory", "load_reference", instance)
            for number in range(REPETITIONS + 1):
                (directory / f"{number}.csv").write_text(reset_file(number))
                for location, job in (("empty", "empty"), ("hotwax_inventory", "import_inventory")):
                    seconds = run_seconds(dev, location, job, instance)
                    measure.say(f"  {job:<16} {seconds:8.2f} s{'' if number else '  (not counted)'}")
                    found[job] += [seconds] if number else []
    floor, ours = (statistics.median(times) for times in found.values())
    return [measure.Line("import_inventory in the daemon", floor, ours, goal=1.3)]
