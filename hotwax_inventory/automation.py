"""What runs when: jobs, file sensors, schedules. What a job does is in its assets."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.execution.stats import StepEventStatus

from hotwax_inventory import settings
from hotwax_inventory.alerts import sensors as alert_sensors
from hotwax_inventory.files import inbox
from hotwax_inventory.files.landing import Source, look_at
from hotwax_inventory.files.sources import Feed
from hotwax_inventory.imports.bulk_imported_files import CHECK_SPECS as BULK_CHECKS
from hotwax_inventory.imports.declaration import Import
from hotwax_inventory.imports.feeds import FEEDS, IMPORTS
from hotwax_inventory.imports.reference import ASSETS, files_state
from hotwax_inventory.imports.shop_products import UNMATCHED_CHECK
from hotwax_inventory.imports.summary import check_specs
from hotwax_inventory.ledger.receiving import due_shipments
from hotwax_inventory.publish.guards import GUARDS
from hotwax_inventory.reconcile import drift
from hotwax_inventory.resources import Sftp, Warehouse, WarehouseBusy
from hotwax_inventory.retention import clean_up
from hotwax_inventory.sftp import SftpUnavailable

IN_PROGRESS = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
)
# What every import runs on to, so that a file's rows are in the numbers when its run ends.
AFTER_IMPORT = ("inventory_item_detail", "inventory_item", "kit_inventory", "facility_atp", "online_atp")


def _with_own_checks(*assets: str) -> dg.AssetSelection:
    """The assets with the checks that they report themselves, without those that look at whole tables."""
    own = {
        **{asset: list(guards) for asset, guards in GUARDS.items()},
        "inventory_item_detail": ["no_reset_is_held"],
        "shopify_webhook_update": ["rows_accepted"],
        "inventory_drift": list(drift.CHECKS),
        "shopify_shop_product": [UNMATCHED_CHECK.name],
        "shopify_webhook_subscription": ["subscription_was_there"],
        "data_manager_log": [spec.name for spec in BULK_CHECKS],
        **{feed.asset: [spec.name for spec in check_specs(feed.asset)] for feed in FEEDS},
    }
    keys = [dg.AssetCheckKey(dg.AssetKey(asset), name) for asset in assets for name in own.get(asset, ())]
    return dg.AssetSelection.assets(*assets).without_checks() | dg.AssetSelection.checks(*keys)


def _up_to_atp(*assets: str) -> dg.AssetSelection:
    """The assets, and all that makes of them what may be promised; red at the end when a file could not be read."""
    last = dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey("online_atp"), "every_file_was_read"))
    return _with_own_checks(*assets, *AFTER_IMPORT) | last


def import_job(imports: Sequence[Import]) -> UnresolvedAssetJobDefinition:
    """The job of a feed, with all kinds of its files: land, import, post, and say what may be promised."""
    feed = imports[0].feed
    return dg.define_asset_job(
        feed.job,
        selection=_up_to_atp(feed.asset, *(beside.table.name for beside in imports[1:])),
        description=f"HotWax: {feed.hotwax_name}, every 15 minutes. {feed.description}",
        tags={"hotwax/feed": feed.config_id, "hotwax/job": feed.hotwax_job, "hotwax/service": feed.hotwax_service},
    )


LOAD_REFERENCE = dg.define_asset_job(
    "load_reference",
    selection=_with_own_checks(*ASSETS, "kit_inventory", "facility_atp", "online_atp"),
    description="Load the reference CSVs, all or nothing, and compute what they say of kits.",
    tags={"hotwax/feed": "REFERENCE"},
)
HARD_SYNC = dg.define_asset_job(
    "hard_sync",
    selection=_with_own_checks(
        "shopify_inventory_level",
        "shopify_shop_product",
        "hard_sync_delta",
        "hard_sync_upload",
        "sync_verification",
        "inventory_drift",
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
PROCESS_BULK_IMPORTED_FILES = dg.define_asset_job(
    "process_bulk_imported_files",
    selection=_up_to_atp("data_manager_log"),
    description="HotWax: Process Bulk Imported Files, every 5 minutes. Work off the files that were landed and left.",
    tags={
        "hotwax/feed": "BULK_IMPORTED_FILES",
        "hotwax/job": "JOB_PRC_PND_DML",
        "hotwax/service": "processPendingDataManagerJob",
    },
)
KIT_INVENTORY_SETUP = dg.define_asset_job(
    "kit_inventory_setup",
    selection=_with_own_checks("kit_inventory", "facility_atp", "online_atp"),
    description="HotWax: Bulk recent kit product inventory setup. How many kits the components make.",
    tags={"hotwax/job": "BLK_RCNT_KIT_INV", "hotwax/service": "bulkKitProductInventorySetup"},
)
SCHEDULE_RESTOCK = dg.define_asset_job(
    "schedule_restock",
    selection=_up_to_atp("shipment_receipt", "restock_upload"),
    description="HotWax: Scheduled restock. Receive shipments, restocks at their time, inbound ones by their id, and publish them.",
    tags={
        # its moment does not wait for the other runs in the queue, nor for one that has received and waits for a shop
        "dagster/priority": "10",
        "hotwax/job": "JOB_SCHEDULED_RSTK",
        "hotwax/service": "receiveAndUpdateInventoryToShopify",
    },
)
SYNC_FROM_SHOPIFY = dg.define_asset_job(
    "sync_inventory_from_shopify",
    selection=_up_to_atp(
        "shopify_inventory_level", "shopify_shop_product", "shopify_inventory_reset", "inventory_drift"
    ),
    description="HotWax: Sync Inventory from Shopify, once a day. Read every level of a shop, and let it reset our stock where "
    "the shop is its master.",
    tags={"hotwax/job": "JOB_SYNC_INV_FRM_SHPY", "hotwax/service": "bulkInventorySyncFromShopify"},
)
IMPORT_WEBHOOK_UPDATES = dg.define_asset_job(
    "import_webhook_updates",
    selection=_up_to_atp("shopify_webhook_update"),
    description="HotWax: inventory_levels/update. Apply what Shopify has told of its levels to shops that it is master of.",
    tags={"hotwax/feed": inbox.CONFIG_ID, "hotwax/job": "inventory_levels/update"},
)
WORKLIST = dg.define_asset_job(
    "report_worklist",
    selection=_with_own_checks("worklist"),
    description="What a person must mend, as a table and a CSV: unmatched SKUs, levels that Shopify does not stock, held files.",
)
EXPLAIN = dg.define_asset_job(
    "explain",
    selection=_with_own_checks("inventory_explanation"),
    description="Why a number is what it is: file and line of every unit, each term of ATP, what was sent, what Shopify answered.",
)
WEBHOOK_SUBSCRIPTION = dg.define_asset_job(
    "webhook_subscription",
    selection=_with_own_checks("shopify_webhook_subscription"),
    description="HotWax: the switch for inventory_levels/update in the Job Manager. Have a shop's updates sent to us, or end it.",
    tags={"hotwax/job": "inventory_levels/update"},
)
IMPORT_JOBS = {imports[0].feed.job: import_job(imports) for _, imports in IMPORTS}
JOBS = (
    LOAD_REFERENCE,
    *IMPORT_JOBS.values(),
    PROCESS_BULK_IMPORTED_FILES,
    KIT_INVENTORY_SETUP,
    SCHEDULE_RESTOCK,
    SYNC_FROM_SHOPIFY,
    IMPORT_WEBHOOK_UPDATES,
    WEBHOOK_SUBSCRIPTION,
    HARD_SYNC,
    UPLOAD_RECENT,
    WORKLIST,
    EXPLAIN,
    clean_up,
)


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
        if run := _in_progress(feed.job, context.instance):
            return dg.SkipReason(f"{len(ready)} files are ready; {feed.job} is running already (run {run}).")
        # a run before the first reference is refused; the next one need not wait for an hour
        known = "" if _last_load(context.instance) else ":no reference"
        files = [(f.path, f.size_bytes, f.modified_at) for f in ready]
        return _request(feed.files_asset, f"{feed.config_id}{known}", files, context)

    return look


def _in_progress(job: str, instance: dg.DagsterInstance) -> str | None:
    """The beginning of the id of a run of the job that has not ended."""
    runs = instance.get_runs(dg.RunsFilter(job_name=job, statuses=list(IN_PROGRESS)), limit=1)
    return runs[0].run_id[:8] if runs else None


def _receiving(instance: dg.DagsterInstance) -> str | None:
    """The beginning of the id of a run that receives restocks, or will; one that has, and publishes them, holds up no other."""
    runs = instance.get_runs(dg.RunsFilter(job_name=SCHEDULE_RESTOCK.name, statuses=list(IN_PROGRESS)))
    for run in runs:
        steps = instance.get_run_step_stats(run.run_id, ["shipment_receipt"])
        if not any(step.status == StepEventStatus.SUCCESS for step in steps):
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


def _run_key(name: str, files: Sequence[tuple[str, int, float]]) -> str:
    """A key of the files as they are, and of the hour: what a failed run left behind is tried again, once an hour."""
    digest = hashlib.sha256(json.dumps(sorted(files)).encode()).hexdigest()[:32]
    return f"{name}:{digest}:{datetime.now(UTC):%Y-%m-%dT%H}"


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
    loaded = _last_load(context.instance)
    if loaded is not None and "files_state" in loaded and loaded["files_state"].value == state:
        return dg.SkipReason("The reference files are loaded.")
    return dg.RunRequest(run_key=f"{changes}:{state[:32]}:{datetime.now(UTC):%Y-%m-%dT%H}")


def _last_load(instance: dg.DagsterInstance) -> Mapping[str, dg.MetadataValue] | None:
    """The metadata of the reference in force, by its table of shops."""
    event = instance.get_latest_materialization_event(dg.AssetKey("shopify_shop"))
    return event.asset_materialization.metadata if event and event.asset_materialization else None


@dg.sensor(
    job=IMPORT_WEBHOOK_UPDATES,
    minimum_interval_seconds=15,
    description="Starts import_webhook_updates when the receiver has put webhooks into the inbox.",
)
def import_webhook_updates_files(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """One run for all that is waiting."""
    waiting = inbox.waiting()
    if not waiting:
        return dg.SkipReason("No webhooks.")
    if run := _in_progress(IMPORT_WEBHOOK_UPDATES.name, context.instance):
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
    warehouse = Warehouse(wait_seconds=5)
    if not warehouse.path.exists():
        return dg.SkipReason("There is no warehouse yet.")
    try:
        due = due_shipments(warehouse)
    except WarehouseBusy:
        return dg.SkipReason("The warehouse is busy; restocks are looked for at the next tick.")
    if not due:
        return dg.SkipReason("No restock is due.")
    if run := _receiving(context.instance):
        return dg.SkipReason(f"{len(due)} restocks are due; schedule_restock is receiving already (run {run}).")
    return dg.RunRequest(run_key=_run_key("SCHEDULED_RESTOCK", [(name, 0, at.timestamp()) for name, at in due]))


# Kits are computed by whatever moves stock or changes a list; what has moved since belongs to a run that has died.
WAITING = """
select
    exists (from data_manager_log where status_id in ('pending', 'imported'))
    or $has_kits and (
        exists (from inventory_item where changed_seq > (select kits_upto from sequence))
        or exists (from kit_component where changed_seq > (select kits_upto from sequence))
    )
"""


@dg.schedule(
    job=PROCESS_BULK_IMPORTED_FILES,
    cron_schedule="*/5 * * * *",
    execution_timezone="UTC",
    description="Works off the files that were landed with schedule_now = false.",
)
def process_bulk_imported_files_every_5_minutes(
    context: dg.ScheduleEvaluationContext,
) -> dg.RunRequest | dg.SkipReason:
    """One run for all feeds, where something waits: files, or kits after a run that has died."""
    warehouse = Warehouse(wait_seconds=5)
    if not warehouse.path.exists():
        return dg.SkipReason("There is no warehouse yet.")
    try:
        with warehouse.transaction() as connection:
            values = {"has_kits": settings.kits_from_components()}
            (waits,) = connection.execute(WAITING, values).fetchall()[0]
    except WarehouseBusy:
        waits = True  # a run of its own has the time to wait
    if not waits:
        return dg.SkipReason("No file waits.")
    return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())


@dg.schedule(
    job=KIT_INVENTORY_SETUP,
    cron_schedule="0 6 * * *",
    execution_timezone="UTC",
    description="Computes all kits anew, after NetSuite's reset and before the hard sync.",
)
def kit_inventory_setup_daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """One run that computes all kits."""
    return dg.RunRequest(
        run_key=context.scheduled_execution_time.isoformat(),
        run_config={"ops": {"kit_inventory": {"config": {"include_all": True}}}},
    )


@dg.schedule(
    job=clean_up, cron_schedule="0 4 * * *", execution_timezone="UTC", description="Removes what is old, once a day."
)
def clean_up_daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """One run, before NetSuite's files come."""
    return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())


def shops_with_master(instance: dg.DagsterInstance, master: str) -> list[str]:
    """The shops of the reference in force whose `inventory_master` is the one given, as its last load recorded them."""
    loaded = _last_load(instance)
    masters = loaded["inventory_master"].value if loaded else None
    if not isinstance(masters, dict):
        return []
    return sorted(shop_id for shop_id, found in masters.items() if found == master)


def _run_a_shop(
    context: dg.ScheduleEvaluationContext, master: str, run_config: dict[str, Any] | None = None
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """A run for every shop with this master."""
    shops = shops_with_master(context.instance, master)
    if not shops:
        yield dg.SkipReason(f"No shop is known whose inventory_master is {master}. Run load_reference.")
    for shop_id in shops:
        run_key = f"{shop_id}:{context.scheduled_execution_time.isoformat()}"
        yield dg.RunRequest(run_key=run_key, partition_key=shop_id, run_config=run_config)


@dg.schedule(
    job=HARD_SYNC,
    cron_schedule=settings.hard_sync_cron(),
    execution_timezone="UTC",
    description="Starts hard_sync for every shop whose inventory_master is hotwax.",
)
def hard_sync_daily(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """One run a shop."""
    yield from _run_a_shop(context, "hotwax")


@dg.schedule(
    job=SYNC_FROM_SHOPIFY,
    cron_schedule="0 4 * * *",
    execution_timezone="UTC",
    description="Starts sync_inventory_from_shopify for every shop whose inventory_master is shopify.",
)
def sync_inventory_from_shopify_daily(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """One run a shop."""
    yield from _run_a_shop(context, "shopify")


@dg.schedule(
    job=WEBHOOK_SUBSCRIPTION,
    cron_schedule="30 3 * * *",
    execution_timezone="UTC",
    description="Starts webhook_subscription for every shop whose inventory_master is shopify: Shopify may have removed it.",
)
def webhook_subscription_daily(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """One run a shop, where there is a receiver."""
    switched = context.instance.get_materialized_partitions(dg.AssetKey("shopify_webhook_subscription"))
    if settings.webhook_callback_url() is None and not switched:
        yield dg.SkipReason("Shopify reaches no receiver: WEBHOOK_CALLBACK_URL is not set.")
        return
    yield from _run_a_shop(
        context, "shopify", {"ops": {"shopify_webhook_subscription": {"config": {"action": "check"}}}}
    )


@dg.schedule(
    job=UPLOAD_RECENT,
    cron_schedule="*/15 * * * *",
    execution_timezone="UTC",
    description="Starts upload_recent_inventory_changes for every shop whose inventory_master is hotwax.",
)
def upload_recent_inventory_changes_quarter_hourly(
    context: dg.ScheduleEvaluationContext,
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """One run a shop; one whose last run goes on waits for the next quarter."""
    shops = shops_with_master(context.instance, "hotwax")
    in_progress = context.instance.get_runs(dg.RunsFilter(job_name=UPLOAD_RECENT.name, statuses=list(IN_PROGRESS)))
    busy = {run.tags.get("dagster/partition") for run in in_progress}
    reasons = [f"{shop_id}'s last run is still in progress." for shop_id in shops if shop_id in busy]
    free = [shop_id for shop_id in shops if shop_id not in busy]
    if not free:
        yield dg.SkipReason(
            " ".join(reasons) or "No shop is known whose inventory_master is hotwax. Run load_reference."
        )
    elif reasons:
        context.log.info(" ".join(reasons))
    for shop_id in free:
        yield dg.RunRequest(run_key=f"{shop_id}:{context.scheduled_execution_time.isoformat()}", partition_key=shop_id)


@dg.schedule(
    job=WORKLIST,
    cron_schedule="30 7 * * *",
    execution_timezone="UTC",
    description="Writes the worklist, after the hard sync.",
)
def report_worklist_daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """One run."""
    return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())


SENSORS = (
    load_reference_files,
    *(file_sensor(feed) for feed in FEEDS),
    import_webhook_updates_files,
    schedule_restock_due,
    *alert_sensors.SENSORS,
)
SCHEDULES = (
    process_bulk_imported_files_every_5_minutes,
    kit_inventory_setup_daily,
    hard_sync_daily,
    report_worklist_daily,
    sync_inventory_from_shopify_daily,
    webhook_subscription_daily,
    upload_recent_inventory_changes_quarter_hourly,
    clean_up_daily,
)
