"""What is kept for how long: landed files, delta files, Dagster's own runs. Nothing goes that a later run may need.

Rows of resets have a limit of their own, which `ledger.entries` keeps; failed-records files stay until somebody takes them."""

import contextlib
import json
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage

from hotwax_inventory import settings
from hotwax_inventory.files import inbox
from hotwax_inventory.imports.feeds import FEEDS
from hotwax_inventory.resources import Warehouse

LANDED = re.compile(r"[0-9a-f]{64}\.(csv|json|jsonl)")
# What a run leaves behind goes with it; of a large backlog so many runs a day.
MOST_RUNS = 5000
ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]

# A file's bytes are of use until it is posted, and until its arrival is certain to be archived on SFTP.
NEEDED = """
select distinct landed_path
from data_manager_log
where landed_path in (select unnest(from_json($paths, '["VARCHAR"]')))
    and (
        status_id in ('pending', 'imported', 'held')
        -- a file that comes late may make it mean something again
        or status_id = 'duplicate' and json_extract_string(parameters, '$.feed') in (select unnest($of_state))
        or archived_at is null
        or archived_at >= $before
    )
"""

# Deltas that came to their end, and dry runs that a newer delta has overtaken.
SENT = """
select sync_run_id
from sync_run
where sync_run_id in (select unnest(from_json($ids, '["BIGINT"]')))
    and coalesce(finished_at, created_at) < $before
    and (
        status_id in ('finished', 'abandoned')
        or (status_id = 'planned' and sync_run_id not in (select max(sync_run_id) from sync_run group by shop_id))
    )
"""


def remove_landed(warehouse: Warehouse, now: datetime) -> int:
    """Remove the bytes of files that were done with LANDING_KEEP_DAYS ago; how many. Reset rows still there keep theirs, and the
    webhook receiver knows by them what it has had."""
    before = now - timedelta(
        days=max(settings.landing_keep_days(), settings.reset_rows_keep_days(), inbox.REMEMBERED_DAYS)
    )
    home = settings.home()
    old = {
        path.relative_to(home).as_posix(): path
        for path in (home / "landing").glob("*/*")
        if LANDED.fullmatch(path.name) and _modified(path) < before
    }
    with warehouse.transaction() as connection:
        of_state = [feed.config_id for feed in FEEDS if feed.is_state]
        values = {"paths": json.dumps(list(old)), "before": before, "of_state": of_state}
        needed = set(connection.execute(NEEDED, values).fetchall())
    going = [path for name, path in old.items() if (name,) not in needed]
    # the same content may have come again since the look: then it is as young as that
    removed = [path for path in going if _modified(path) < before]
    for path in removed:
        path.unlink(missing_ok=True)
    return len(removed)


def remove_sent(warehouse: Warehouse, now: datetime) -> int:
    """Remove the files of deltas that came to their end OUTBOX_KEEP_DAYS ago; of how many deltas. The manifest stays."""
    folders = {
        int(path.name): path
        for path in settings.outbox().glob("*/*")
        if path.is_dir() and re.fullmatch(r"\d+", path.name)
    }
    before = now - timedelta(days=settings.outbox_keep_days())
    with warehouse.transaction() as connection:
        sent = connection.execute(SENT, {"ids": json.dumps(list(folders)), "before": before}).fetchall()
    for (sync_run_id,) in sent:
        shutil.rmtree(folders[sync_run_id], ignore_errors=True)
    return len(sent)


def remove_runs(instance: dg.DagsterInstance, now: datetime) -> int:
    """Remove runs that ended, with their events and logs, when they are older than DAGSTER_RUNS_KEEP_DAYS; how many.

    A run that made what an asset shows now stays: schedules and checks look at it."""
    before = now - timedelta(days=settings.dagster_runs_keep_days())
    old = instance.get_run_records(
        dg.RunsFilter(statuses=ENDED, created_before=before),
        limit=MOST_RUNS,
        order_by="create_timestamp",
        ascending=True,
    )
    needed = _shown_runs(instance) if old else set()
    going = [record.dagster_run.run_id for record in old if record.dagster_run.run_id not in needed]
    storage = instance.event_log_storage
    for run_id in going:
        instance.delete_run(run_id)
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        if isinstance(storage, SqliteEventLogStorage):  # which empties the run's own file and leaves it
            for suffix in ("", "-wal", "-shm"):
                Path(storage.path_for_shard(run_id) + suffix).unlink(missing_ok=True)
    return len(going)


def _shown_runs(instance: dg.DagsterInstance) -> set[str]:
    """The runs of the last materialisation of every asset, and of every shop's."""
    runs: set[str] = set()
    for record in instance.get_asset_records():
        key = record.asset_entry.asset_key
        filters = [dg.AssetRecordsFilter(asset_key=key)] + [
            dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition])
            for partition in instance.event_log_storage.get_materialized_partitions(key)
        ]
        for wanted in filters:
            runs |= {found.run_id for found in instance.fetch_materializations(wanted, limit=1).records}
    return runs


def _modified(path: Path) -> datetime:
    """When a file was last written; now when another run has removed it in the meantime."""
    with contextlib.suppress(FileNotFoundError):
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return datetime.now(UTC)


@dg.op(description="Removes landed files, delta files and Dagster runs that are older than their settings say.")
def remove_what_is_old(context: dg.OpExecutionContext, warehouse: Warehouse) -> None:
    now = datetime.now(UTC)
    context.add_output_metadata(
        {
            "landed_files": remove_landed(warehouse, now),
            "deltas": remove_sent(warehouse, now),
            "dagster_runs": remove_runs(context.instance, now),
        }
    )


@dg.job(
    # one at a time, as the runs of a feed
    tags={"hotwax/feed": "CLEAN_UP"},
    description="Remove what is older than LANDING_KEEP_DAYS, OUTBOX_KEEP_DAYS and DAGSTER_RUNS_KEEP_DAYS, and needed by nobody.",
)
def clean_up() -> None:
    remove_what_is_old()
