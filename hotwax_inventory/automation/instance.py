"""What sensors and schedules ask the Dagster instance: which runs are under way, and which reference is in force."""

import time
from collections.abc import Mapping

import dagster as dg

from hotwax_inventory import run_lock
from hotwax_inventory.retention import ENDED

IN_PROGRESS = [status for status in dg.DagsterRunStatus if status not in ENDED]
# For so long a run that this instance does not know may be one of another.
OTHERS_SECONDS = 86_400


def end_dead_runs(instance: dg.DagsterInstance) -> None:
    """End the runs whose process is gone, so that they hold up no other; those that nobody has cancelled are retried.

    Dagster ends those whose code server has seen them die; after a crash of the machine, or of a run that was started in a
    terminal, there is none."""
    for run_id, lock in run_lock.left_behind():
        run = instance.get_run_by_id(run_id)
        if run is None and time.time() - lock.stat().st_mtime < OTHERS_SECONDS:
            continue
        if run is not None and run.status is dg.DagsterRunStatus.STARTED:
            instance.report_run_failed(
                run, "The process of the run is gone: it was killed, or its machine has crashed."
            )
        elif run is not None and run.status is dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, "The process of the run is gone.")
        lock.unlink()


def in_progress(job: str, instance: dg.DagsterInstance) -> str | None:
    """The beginning of the id of a run of the job that has not ended."""
    runs = instance.get_runs(dg.RunsFilter(job_name=job, statuses=IN_PROGRESS), limit=1)
    return runs[0].run_id[:8] if runs else None


def last_load(instance: dg.DagsterInstance) -> Mapping[str, dg.MetadataValue] | None:
    """The metadata of the reference in force, by its table of shops."""
    event = instance.get_latest_materialization_event(dg.AssetKey("shopify_shop"))
    return event.asset_materialization.metadata if event and event.asset_materialization else None


def shops_with_master(instance: dg.DagsterInstance, master: str) -> list[str]:
    """The shops of the reference in force whose `inventory_master` is the one given, as its last load recorded them."""
    loaded = last_load(instance)
    masters = loaded["inventory_master"].value if loaded else None
    if not isinstance(masters, dict):
        return []
    return sorted(shop_id for shop_id, found in masters.items() if found == master)
