"""Checks that look at whole tables, and the one that ends a run red when a file of it could not be read."""

from collections.abc import Sequence

import dagster as dg

from hotwax_inventory.resources import Warehouse

LEDGER_SUMS = """
with summed as (
    select
        product_id,
        facility_id,
        sum(quantity_on_hand_diff) as quantity_on_hand,
        sum(available_to_promise_diff) as available_to_promise
    from inventory_item_detail
    group by product_id, facility_id
)
select i.product_id, i.facility_id, i.quantity_on_hand_total, s.quantity_on_hand, i.available_to_promise_total,
    s.available_to_promise
from inventory_item as i
full join summed as s on s.product_id = i.product_id and s.facility_id = i.facility_id
where i.product_id is null
    or i.quantity_on_hand_total <> coalesce(s.quantity_on_hand, 0)
    or i.available_to_promise_total <> coalesce(s.available_to_promise, 0)
limit 20
"""


@dg.asset_check(
    asset="inventory_item", description="The stock of every product and facility is the sum of its ledger entries."
)
def ledger_sums(warehouse: Warehouse) -> dg.AssetCheckResult:
    with warehouse.transaction() as connection:
        offenders = connection.execute(LEDGER_SUMS).fetchall()
    return dg.AssetCheckResult(passed=not offenders, metadata={"offenders": [str(row) for row in offenders]})


@dg.asset_check(
    asset="online_atp",
    blocking=True,
    description="Every file of this run could be read. It comes last, so that all other files are in the numbers by then.",
)
def every_file_was_read(context: dg.AssetCheckExecutionContext, warehouse: Warehouse) -> dg.AssetCheckResult:
    with warehouse.transaction() as connection:
        failed = connection.execute(
            "select message from data_manager_log where run_id = $run_id and status_id = 'failed' order by log_id",
            {"run_id": context.run.run_id},
        ).fetchall()
    messages = [message for (message,) in failed]
    return dg.AssetCheckResult(passed=not messages, description=" ".join(messages)[:2000] or None)


CHECKS: Sequence[dg.AssetChecksDefinition] = (ledger_sums, every_file_was_read)
