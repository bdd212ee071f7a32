"""What runs when: jobs, file sensors, schedules. What a job does is in its assets."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from hotwax_inventory import settings
from hotwax_inventory.files.landing import Source, ready_files
from hotwax_inventory.files.sources import FEEDS, Feed
from hotwax_inventory.imports.reference import ASSETS, REFERENCE_FILES
from hotwax_inventory.imports.summary import check_specs
from hotwax_inventory.publish.guards import GUARDS
from hotwax_inventory.resources import Sftp
from hotwax_inventory.sftp import SftpUnavailable

LOCATION = "hotwax_inventory"
IN_PROGRESS = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
)
# What every import runs on to, so that a file's rows are in the numbers when its run ends.
AFTER_IMPORT = ("inventory_item_detail", "inventory_item", "facility_atp", "online_atp")


def _with_own_checks(*assets: str) -> dg.AssetSelection:
    """The assets with the checks that they report themselves, without those that look at whole tables."""
    own = {
        **{asset: list(guards) for asset, guards in GUARDS.items()},
        **{feed.asset: [spec.name for spec in check_specs(feed.asset)] for feed in FEEDS},
    }
    keys = [dg.AssetCheckKey(dg.AssetKey(asset), name) for asset in assets for name in own.get(asset, ())]
    return dg.AssetSelection.assets(*assets).without_checks() | dg.AssetSelection.checks(*keys)


def import_job(feed: Feed) -> UnresolvedAssetJobDefinition:
    """The job of a feed: land, import, post, and say what may be promised."""
    return dg.define_asset_job(
        feed.job,
        selection=_with_own_checks(feed.asset, *AFTER_IMPORT)
        | dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey("online_atp"), "every_file_was_read")),
        description=f"HotWax: {feed.hotwax_name}, every 15 minutes. {feed.description}",
        tags={"hotwax/feed": feed.config_id, "hotwax/job": feed.hotwax_job, "hotwax/service": feed.hotwax_service},
    )


LOAD_REFERENCE = dg.define_asset_job(
    "load_reference",
    selection=_with_own_checks(*ASSETS),
    description="Load the reference CSVs, all or nothing.",
    tags={"hotwax/feed": "REFERENCE"},
)
HARD_SYNC = dg.define_asset_job(
    "hard_sync",
    selection=_with_own_checks(
        "shopify_inventory_level", "shopify_shop_product", "hard_sync_delta", "hard_sync_upload", "sync_verification"
    ),
    description="HotWax: Upload Inventory, once a day. Bring every level of a shop to the number that we promise.",
    tags={"hotwax/job": "JOB_UL_INV", "hotwax/service": "bulkResetShopifyInventoryLevel"},
)
UPLOAD_RECENT = dg.define_asset_job(
    "upload_recent_inventory_changes",
    selection=_with_own_checks("recent_change_delta", "recent_change_upload", "sync_verification"),
    description="HotWax: Upload Recent Inventory Changes, every 15 minutes. Send what has moved since the shop's last sync.",
    tags={"hotwax/job": "UL_RCNT_INV", "hotwax/service": "bulkRecentShopifyInventroyLevel"},
)
IMPORT_JOBS = {feed.job: import_job(feed) for feed in FEEDS}
JOBS = (LOAD_REFERENCE, *IMPORT_JOBS.values(), HARD_SYNC, UPLOAD_RECENT)


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
        source = Source(
            directories=settings.import_directories(feed.config_id, feed.directories),
            patterns=feed.patterns,
            config_id=feed.config_id,
        )
        try:
            with sftp.session(deadline_seconds=0) as session:
                ready, unsettled, _ = ready_files(source, session)
        except SftpUnavailable as error:
            return dg.SkipReason(str(error))
        if not ready:
            return dg.SkipReason(f"{len(unsettled)} files are not settled yet." if unsettled else "No files.")
        running = context.instance.get_runs(dg.RunsFilter(job_name=feed.job, statuses=list(IN_PROGRESS)), limit=1)
        if running:
            return dg.SkipReason(
                f"{len(ready)} files are ready; {feed.job} is running already (run {running[0].run_id[:8]})."
            )
        return dg.RunRequest(run_key=_run_key(feed.config_id, [(f.path, f.size_bytes, f.modified_at) for f in ready]))

    return look


def _run_key(name: str, files: Sequence[tuple[str, int, float]]) -> str:
    """A key of the files as they are, and of the hour: what a failed run left behind is tried again, once an hour."""
    digest = hashlib.sha256(json.dumps(sorted(files)).encode()).hexdigest()[:32]
    return f"{name}:{digest}:{datetime.now(UTC):%Y-%m-%dT%H}"


@dg.sensor(
    job=LOAD_REFERENCE, minimum_interval_seconds=30, description="Starts load_reference when a reference CSV is new."
)
def load_reference_files(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """One run for each state of the reference directory that has lasted for two looks."""
    folder = settings.reference_dir()
    found = [folder / file.name for file in REFERENCE_FILES if (folder / file.name).exists()]
    if not found:
        return dg.SkipReason(f"No reference files in {folder}.")
    state = json.dumps([(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in found])
    if context.cursor != state:
        context.update_cursor(state)
        return dg.SkipReason("The reference files have changed; they are looked at once more before they are loaded.")
    return dg.RunRequest(run_key=hashlib.sha256(state.encode()).hexdigest())


def shops_with_master(instance: dg.DagsterInstance, master: str) -> list[str]:
    """The shops of the reference in force whose `inventory_master` is the one given, as its last load recorded them."""
    event = instance.get_latest_materialization_event(dg.AssetKey("shopify_shop"))
    if event is None or event.asset_materialization is None:
        return []
    masters = event.asset_materialization.metadata["inventory_master"].value
    if not isinstance(masters, dict):
        return []
    return sorted(shop_id for shop_id, found in masters.items() if found == master)


@dg.schedule(
    job=HARD_SYNC,
    cron_schedule=settings.hard_sync_cron(),
    execution_timezone="UTC",
    description="Starts hard_sync for every shop whose inventory_master is hotwax.",
)
def hard_sync_daily(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """One run a shop."""
    shops = shops_with_master(context.instance, "hotwax")
    if not shops:
        yield dg.SkipReason("No shop is known whose inventory_master is hotwax. Run load_reference.")
    for shop_id in shops:
        yield dg.RunRequest(run_key=f"{shop_id}:{context.scheduled_execution_time.isoformat()}", partition_key=shop_id)


@dg.schedule(
    job=UPLOAD_RECENT,
    cron_schedule="*/15 * * * *",
    execution_timezone="UTC",
    description="Starts upload_recent_inventory_changes for every shop whose inventory_master is hotwax.",
)
def upload_recent_inventory_changes_quarter_hourly(
    context: dg.ScheduleEvaluationContext,
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """One run a shop; a shop whose last one has not ended yet is left to the next quarter of an hour."""
    shops = shops_with_master(context.instance, "hotwax")
    if not shops:
        yield dg.SkipReason("No shop is known whose inventory_master is hotwax. Run load_reference.")
    in_progress = context.instance.get_runs(dg.RunsFilter(job_name=UPLOAD_RECENT.name, statuses=list(IN_PROGRESS)))
    busy = {run.tags.get("dagster/partition") for run in in_progress}
    for shop_id in shops:
        if shop_id in busy:
            yield dg.SkipReason(f"{UPLOAD_RECENT.name} is running for shop {shop_id} already.")
        else:
            yield dg.RunRequest(
                run_key=f"{shop_id}:{context.scheduled_execution_time.isoformat()}", partition_key=shop_id
            )


SENSORS = (load_reference_files, *(file_sensor(feed) for feed in FEEDS))
SCHEDULES = (hard_sync_daily, upload_recent_inventory_changes_quarter_hourly)
