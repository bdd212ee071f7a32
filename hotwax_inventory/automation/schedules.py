"""What starts a run at its time."""

from collections.abc import Iterator, Set
from typing import Any

import dagster as dg

from hotwax_inventory import settings
from hotwax_inventory.automation.instance import IN_PROGRESS, end_dead_runs, shops_with_master
from hotwax_inventory.automation.jobs import (
    HARD_SYNC,
    KIT_INVENTORY_SETUP,
    PROCESS_BULK_IMPORTED_FILES,
    SYNC_FROM_SHOPIFY,
    UPLOAD_RECENT,
    WEBHOOK_SUBSCRIPTION,
    WORKLIST,
)
from hotwax_inventory.resources import Warehouse, WarehouseBusy, scalar
from hotwax_inventory.retention import clean_up

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
            waits = scalar(connection, WAITING, values)
    except WarehouseBusy:
        waits = True  # a run of its own has the time to wait
    if not waits:
        return dg.SkipReason("No file waits.")
    return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())


KIT_INVENTORY_SETUP_DAILY = dg.ScheduleDefinition(
    name="kit_inventory_setup_daily",
    job=KIT_INVENTORY_SETUP,
    cron_schedule="0 6 * * *",
    run_config={"ops": {"kit_inventory": {"config": {"include_all": True}}}},
    description="Computes all kits anew, after NetSuite's reset and before the hard sync.",
)
CLEAN_UP_DAILY = dg.ScheduleDefinition(
    name="clean_up_daily",
    job=clean_up,
    cron_schedule="0 4 * * *",
    description="Removes what is old, once a day, before NetSuite's files come.",
)
REPORT_WORKLIST_DAILY = dg.ScheduleDefinition(
    name="report_worklist_daily",
    job=WORKLIST,
    cron_schedule="30 7 * * *",
    description="Writes the worklist, after the hard sync.",
)


def _run_a_shop(
    context: dg.ScheduleEvaluationContext,
    master: str,
    run_config: dict[str, Any] | None = None,
    among: Set[str] | None = None,
    busy: Set[str | None] = frozenset(),
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """A run for every shop with this master, or for those `among` some, that is not `busy`; several in one tick need a key each."""
    known = shops_with_master(context.instance, master)
    shops = [shop_id for shop_id in known if among is None or shop_id in among]
    free = [shop_id for shop_id in shops if shop_id not in busy]
    reasons = " ".join(f"{shop_id}'s last run is still in progress." for shop_id in shops if shop_id in busy)
    if not free:
        yield dg.SkipReason(reasons or f"No shop is known whose inventory_master is {master}. Run load_reference.")
    elif reasons:
        context.log.info(reasons)
    for shop_id in free:
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
    among = None
    if settings.webhook_callback_url() is None:
        among = context.instance.get_materialized_partitions(dg.AssetKey("shopify_webhook_subscription"))
        if not among:
            yield dg.SkipReason("Shopify reaches no receiver: WEBHOOK_CALLBACK_URL is not set.")
            return
    check = {"ops": {"shopify_webhook_subscription": {"config": {"action": "check"}}}}
    yield from _run_a_shop(context, "shopify", check, among)


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
    end_dead_runs(context.instance)
    in_progress = context.instance.get_runs(dg.RunsFilter(job_name=UPLOAD_RECENT.name, statuses=IN_PROGRESS))
    yield from _run_a_shop(context, "hotwax", busy={run.tags.get("dagster/partition") for run in in_progress})


SCHEDULES = (
    process_bulk_imported_files_every_5_minutes,
    KIT_INVENTORY_SETUP_DAILY,
    hard_sync_daily,
    REPORT_WORKLIST_DAILY,
    sync_inventory_from_shopify_daily,
    webhook_subscription_daily,
    upload_recent_inventory_changes_quarter_hourly,
    CLEAN_UP_DAILY,
)
