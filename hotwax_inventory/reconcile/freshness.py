"""Checks that fail by the passing of time alone: late feeds, late syncs, files that nobody has worked off.

They are asset checks like others, to be run by hand too; the sensor `failed_checks_alert` looks at them every minute and puts on
record what has changed. Dagster's freshness policies would show much the same, but tell nobody in open-source Dagster, and do not
know one shop from another."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
import duckdb

from hotwax_inventory import settings
from hotwax_inventory.files.sources import Feed
from hotwax_inventory.imports.feeds import FEEDS
from hotwax_inventory.resources import Warehouse

STUCK_HOURS = 1
# So many uploads of a shop are looked at for the last one that succeeded.
MOST_UPLOADS = 200
SHOWN = 5

NEWEST = """
select max(least(effective_at, registered_at)), arg_max(file_name, least(effective_at, registered_at))
from data_manager_log
where json_extract_string(parameters, '$.feed') = $feed and status_id <> 'failed'
"""

STUCK = """
select file_name, config_id, status_id, registered_at
from data_manager_log
where status_id in ('pending', 'imported') and registered_at < $before
order by registered_at, log_id
"""


@dataclass(frozen=True)
class TimedCheck:
    """A check on an asset. `complaint` yields a sentence, or None when all is well; `hours` is the limit, 0 where there is none."""

    asset: str
    name: str
    description: str
    hours: Callable[[], int]
    complaint: Callable[[int, duckdb.DuckDBPyConnection, dg.DagsterInstance], str | None]

    def evaluation(
        self, connection: duckdb.DuckDBPyConnection, instance: dg.DagsterInstance
    ) -> dg.AssetCheckEvaluation:
        """The check as it stands now."""
        hours = self.hours()
        complaint = self.complaint(hours, connection, instance) if hours else None
        return dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey(self.asset),
            check_name=self.name,
            passed=complaint is None,
            description=complaint or ("" if hours else "No limit is set."),
            metadata={"limit_hours": hours},
        )


def evaluations(warehouse: Warehouse, instance: dg.DagsterInstance) -> list[dg.AssetCheckEvaluation]:
    """Every check that has a limit, as it stands now. Raises WarehouseBusy."""
    with warehouse.transaction() as connection:
        return [check.evaluation(connection, instance) for check in TIMED if check.hours()]


def of_feed(feed: Feed) -> TimedCheck:
    """Whether the newest file of a feed is not older than it should be."""

    def complaint(hours: int, connection: duckdb.DuckDBPyConnection, instance: dg.DagsterInstance) -> str | None:
        newest, name = connection.execute(NEWEST, {"feed": feed.config_id}).fetchall()[0]
        since = newest or _first_run(instance)
        if since is None or _age(since) <= timedelta(hours=hours):
            return None
        found = (
            f"The newest file of {feed.config_id}, {name}, is of {newest:%Y-%m-%d %H:%M} UTC"
            if newest
            else f"No file of {feed.config_id} has ever come"
        )
        directories = settings.import_directories(feed.config_id, feed.directories)
        return (
            f"{found}: one is expected every {hours} hours ({settings.max_age_variable(feed.config_id)}). See whether the other "
            f"side has written one, and whether it lies in {' or '.join(directories)} on SFTP as {' or '.join(feed.patterns)}."
        )

    return TimedCheck(
        feed.files_asset,
        "newest_file_is_recent",
        f"The newest file is not older than {settings.max_age_variable(feed.config_id)}.",
        lambda: settings.max_age_hours(feed.config_id),
        complaint,
    )


def of_sync(asset: str, name: str, job: str) -> TimedCheck:
    """Whether every shop that we publish to had its last successful upload lately."""

    def complaint(hours: int, connection: duckdb.DuckDBPyConnection, instance: dg.DagsterInstance) -> str | None:
        shops = connection.execute(
            "select shop_id from shopify_shop where inventory_master = 'hotwax' order by 1"
        ).fetchall()
        last = {shop_id: _last_upload(asset, shop_id, instance) for (shop_id,) in shops}
        late = [f"{s} ({at:%Y-%m-%d %H:%M} UTC)" for s, at in last.items() if at and _age(at) > timedelta(hours=hours)]
        began = _first_run(instance)
        if began and _age(began) > timedelta(hours=hours):
            late += [f"{s} (never)" for s, at in last.items() if at is None]
        if not late:
            return None
        return (
            f"{job} last succeeded more than {hours} hours ago ({settings.max_age_variable(name)}) for shop {', '.join(late)}. "
            f"See the shop's last runs of {job}, and whether its schedule is on; then run it."
        )

    return TimedCheck(
        asset,
        "last_upload_is_recent",
        f"The last successful upload of every shop is not older than {settings.max_age_variable(name)}.",
        lambda: settings.max_age_hours(name),
        complaint,
    )


def _stuck(hours: int, connection: duckdb.DuckDBPyConnection, instance: dg.DagsterInstance) -> str | None:
    rows = connection.execute(STUCK, {"before": datetime.now(UTC) - timedelta(hours=hours)}).fetchall()
    if not rows:
        return None
    shown = "; ".join(
        f"{file} ({config}, {status} since {at:%Y-%m-%d %H:%M} UTC)" for file, config, status, at in rows[:SHOWN]
    )
    return (
        f"{len(rows):,} files have been waiting for more than an hour: {shown}. Run process_bulk_imported_files, and see whether "
        "its schedule is on; its run says what keeps them."
    )


def _first_run(instance: dg.DagsterInstance) -> datetime | None:
    """Since when this installation has worked."""
    records = instance.get_run_records(limit=1, ascending=True)
    return records[0].create_timestamp.replace(tzinfo=UTC) if records else None


def _last_upload(asset: str, shop_id: str, instance: dg.DagsterInstance) -> datetime | None:
    """When Shopify last confirmed every change of an upload of a shop, or there was none to send; None: not of late."""
    wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[shop_id])
    for limit in (1, MOST_UPLOADS):  # the newest is the one, as a rule, and it is asked for every minute
        for record in instance.fetch_materializations(wanted, limit=limit).records:
            if _is_confirmed(record):
                return datetime.fromtimestamp(record.timestamp, UTC)
    return None


def _is_confirmed(record: dg.EventLogRecord) -> bool:
    made = record.asset_materialization
    if made is None:
        return False
    sent, confirmed = (made.metadata.get(name) for name in ("dagster/partition_row_count", "changes_confirmed"))
    return sent is not None and confirmed is not None and sent.value == confirmed.value


def _age(moment: datetime) -> timedelta:
    return datetime.now(UTC) - moment


def asset_check(timed: TimedCheck) -> dg.AssetChecksDefinition:
    """The check for a person who wants to know now."""

    @dg.asset_check(asset=timed.asset, name=timed.name, description=timed.description)
    def check(context: dg.AssetCheckExecutionContext, warehouse: Warehouse) -> dg.AssetCheckResult:
        with warehouse.transaction() as connection:
            found = timed.evaluation(connection, context.instance)
        return dg.AssetCheckResult(passed=found.passed, description=found.description, metadata=found.metadata)

    return check


TIMED: Sequence[TimedCheck] = (
    *(of_feed(feed) for feed in FEEDS),
    of_sync("hard_sync_upload", "HARD_SYNC", "hard_sync"),
    of_sync("recent_change_upload", "RECENT_SYNC", "upload_recent_inventory_changes"),
    TimedCheck(
        "data_manager_log",
        "no_file_is_stuck",
        "No landed file waits for more than an hour.",
        lambda: STUCK_HOURS,
        _stuck,
    ),
)
CHECKS = tuple(asset_check(timed) for timed in TIMED)
