"""What starts a run when something is there: files, a reference, webhooks, the moment of a restock."""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

from hotwax_inventory import settings
from hotwax_inventory.alerts import sensors as alert_sensors
from hotwax_inventory.automation.instance import IN_PROGRESS, end_dead_runs, in_progress, last_load
from hotwax_inventory.automation.jobs import IMPORT_JOBS, IMPORT_WEBHOOK_UPDATES, LOAD_REFERENCE, SCHEDULE_RESTOCK
from hotwax_inventory.files import inbox
from hotwax_inventory.files.looking import Source, look_at
from hotwax_inventory.files.sources import Feed
from hotwax_inventory.imports.feeds import FEEDS
from hotwax_inventory.imports.reference import files_state
from hotwax_inventory.ledger.receiving import due_shipments, lead_ends_at
from hotwax_inventory.publish.delta import runs_too
from hotwax_inventory.resources import Sftp, Warehouse, WarehouseBusy
from hotwax_inventory.sftp_errors import SftpUnavailable

# A restock is for a moment: where the run that was to receive it has failed, the next one is not to wait for the hour.
RESTOCK_RETRY_MINUTES = 5
RECEIPT = "shipment_receipt"


def file_sensor(feed: Feed) -> dg.SensorDefinition:
    """Start the feed's job when files are there that have not changed for SFTP_STABLE_SECONDS.

    A server that cannot be reached is a skip with its reason; a refused log-in or host key is a failed tick."""

    @dg.sensor(
        name=f"{feed.job}_files",
        job=IMPORT_JOBS[feed.job],
        minimum_interval_seconds=30,
        description=f"Starts {feed.job} when files are ready in {', '.join(feed.directories)}.",
    )
    def look(context: dg.SensorEvaluationContext, sftp: Sftp) -> dg.RunRequest | dg.SkipReason:
        end_dead_runs(context.instance)
        source = Source(
            directories=settings.import_directories(feed.config_id, feed.directories),
            patterns=feed.patterns,
            config_id=feed.config_id,
        )
        try:
            with sftp.session(deadline_seconds=0) as session:
                seen = look_at(source, session)
        except SftpUnavailable as error:
            return dg.SkipReason(str(error))
        ready, refused = seen.ready, seen.refused
        if not ready and not seen.unsettled:
            # what comes back as it was is something new
            context.update_cursor(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}")
        if not ready:
            left = f" {len(refused)} are left: {'; '.join(list(refused)[:3])}: rename them." if refused else ""
            return dg.SkipReason(
                f"{len(seen.unsettled)} files are not settled yet.{left}" if seen.unsettled else f"No files.{left}"
            )
        if run := in_progress(feed.job, context.instance):
            return dg.SkipReason(f"{len(ready)} files are ready; {feed.job} is running already (run {run}).")
        # a run before the first reference is refused; the next one need not wait for an hour
        known = "" if last_load(context.instance) else ":no reference"
        files = [(f.path, f.size_bytes, f.modified_at) for f in ready]
        return _request(feed.files_asset, f"{feed.config_id}{known}", files, context)

    return look


def _receiving(instance: dg.DagsterInstance) -> str | None:
    """The beginning of the id of a run that receives restocks, or will; one that has, and publishes them, holds up no other."""
    runs = instance.get_runs(dg.RunsFilter(job_name=SCHEDULE_RESTOCK.name, statuses=IN_PROGRESS))
    for run in runs:
        if not runs_too(run, RECEIPT) or RECEIPT not in (run.step_keys_to_execute or [RECEIPT]):
            continue
        steps = instance.get_run_step_stats(run.run_id, [RECEIPT])
        if not any(step.status and step.status.value == "SUCCESS" for step in steps):
            return run.run_id[:8]
    return None


def _request(
    asset: str, name: str, files: Sequence[tuple[str, int, float]], context: dg.SensorEvaluationContext
) -> dg.RunRequest:
    """A run for files that wait. That they were seen is an observation of the external asset where they lie, once a key."""
    since, _, last = (context.cursor or "0").partition(" ")
    run_key = _run_key(f"{name}:{since}", files)
    if run_key != last:
        context.instance.report_runless_asset_event(dg.AssetObservation(asset, metadata={"files": len(files)}))
        context.update_cursor(f"{since} {run_key}")
    return dg.RunRequest(run_key=run_key)


def _run_key(name: str, files: Sequence[tuple[str, int, float]], minutes: int = 60) -> str:
    """A key of the files as they are, and of the hour: what a failed run left behind is tried again, once in so many minutes."""
    digest = hashlib.sha256(json.dumps(sorted(files)).encode()).hexdigest()[:32]
    now = datetime.now(UTC)
    return f"{name}:{digest}:{now:%Y-%m-%dT%H}:{now.minute // minutes}"


@dg.sensor(
    job=LOAD_REFERENCE, minimum_interval_seconds=30, description="Starts load_reference when a reference CSV is new."
)
def load_reference_files(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """A run for a state of the reference directory that has lasted for two looks and is not the one that was loaded.

    One that cannot be loaded is tried again once an hour."""
    state = files_state()
    if not state:
        return dg.SkipReason(f"No reference files in {settings.reference_dir()}.")
    # how often the files have changed is a part of the run's key, since an earlier state may come back
    changes, _, seen = (context.cursor or "").partition(" ")
    if seen != state:
        context.update_cursor(f"{int(changes) + 1 if changes.isdigit() else 0} {state}")
        return dg.SkipReason("The reference files have changed; they are looked at once more before they are loaded.")
    loaded = last_load(context.instance)
    if loaded is not None and "files_state" in loaded and loaded["files_state"].value == state:
        return dg.SkipReason("The reference files are loaded.")
    return dg.RunRequest(run_key=f"{changes}:{state[:32]}:{datetime.now(UTC):%Y-%m-%dT%H}")


@dg.sensor(
    job=IMPORT_WEBHOOK_UPDATES,
    minimum_interval_seconds=15,
    description="Starts import_webhook_updates when the receiver has put webhooks into the inbox.",
)
def import_webhook_updates_files(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """One run for all that is waiting."""
    end_dead_runs(context.instance)
    waiting = inbox.waiting()
    if not waiting:
        return dg.SkipReason("No webhooks.")
    if run := in_progress(IMPORT_WEBHOOK_UPDATES.name, context.instance):
        return dg.SkipReason(
            f"{len(waiting)} files are waiting; import_webhook_updates is running already (run {run})."
        )
    return _request("webhook_inbox", inbox.CONFIG_ID, [(path.name, 0, 0) for path in waiting], context)


@dg.sensor(
    job=SCHEDULE_RESTOCK,
    minimum_interval_seconds=30,
    description="Starts schedule_restock up to RESTOCK_LEAD_SECONDS before a restock's time; the run waits for the moment.",
)
def schedule_restock_due(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """One run for all restocks whose time has come, or is about to."""
    end_dead_runs(context.instance)
    warehouse = Warehouse(wait_seconds=5)
    if not warehouse.path.exists():
        return dg.SkipReason("There is no warehouse yet.")
    try:
        due = due_shipments(warehouse, lead_ends_at())
    except WarehouseBusy:
        return dg.SkipReason("The warehouse is busy; restocks are looked for at the next tick.")
    if not due:
        return dg.SkipReason("No restock is due.")
    if run := _receiving(context.instance):
        return dg.SkipReason(f"{len(due)} restocks are due; schedule_restock is receiving already (run {run}).")
    waiting = [(name, 0, at.timestamp()) for name, at in due]
    return dg.RunRequest(run_key=_run_key("SCHEDULED_RESTOCK", waiting, RESTOCK_RETRY_MINUTES))


SENSORS = (
    load_reference_files,
    *(file_sensor(feed) for feed in FEEDS),
    import_webhook_updates_files,
    schedule_restock_due,
    *alert_sensors.SENSORS,
)
