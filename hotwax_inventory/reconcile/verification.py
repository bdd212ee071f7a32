"""What Shopify shows after an upload, held against what was meant, for every level that was touched."""

from collections.abc import Iterator

import dagster as dg

from hotwax_inventory import tables
from hotwax_inventory.imports.shops import SHOPS, find_shop, shop_of
from hotwax_inventory.markdown import markdown_table
from hotwax_inventory.publish.batch import load_shown
from hotwax_inventory.publish.upload import own_runs, require_confirmed
from hotwax_inventory.resources import Shopify, Warehouse

# What this run has sent, or the run that it retries, resumed deltas included; materialised alone, what was sent last.
SENT = """
select sync_run_id
from sync_run
where shop_id = $shop_id
    and (
        list_contains($runs, sent_by_run)
        or ($is_alone and sent_by_run = (
            select arg_max(sent_by_run, sync_run_id) from sync_run where shop_id = $shop_id and sent_by_run is not null
        ))
    )
"""

# A level that Shopify has confirmed shows what it was observed with and the change; another one should show the target.
TOUCHED = f"""
select
    c.shopify_inventory_item_id,
    c.shopify_location_id,
    l.shopify_inventory_level_id,
    if(c.outcome = 'applied', c.observed_quantity + c.delta, c.target_quantity) as meant_quantity,
    coalesce(c.outcome, 'not sent') as outcome,
    c.error_code,
    c.product_id,
    c.facility_id
from sync_change as c
join shopify_inventory_level as l
    on l.shop_id = c.shop_id
    and l.shopify_inventory_item_id = c.shopify_inventory_item_id
    and l.shopify_location_id = c.shopify_location_id
where c.sync_run_id in ({SENT})
qualify row_number() over (
    partition by c.shopify_inventory_item_id, c.shopify_location_id order by c.sync_run_id desc
) = 1
order by c.shopify_inventory_item_id, c.shopify_location_id
"""

# Why a level shows something else than what it last had from us (`{meant}`; null: it never had anything), given what became of
# the last change that was sent to it.
CAUSE = """case
        when {outcome} = 'permanent' then 'refused'
        when {outcome} = 'contested' then 'contested'
        when {outcome} in ('stale', 'retryable', 'unknown') then 'unanswered'
        when {shown} is null then 'the level is gone'
        when {meant} is null then 'never published'
        when {shown} < {meant} and {outcome} is distinct from 'not sent' then 'sold since'
        when {shown} > {meant} and {outcome} is distinct from 'not sent' then 'edited by someone'
        else 'not yet sent'
    end"""

DIFFERENT = f"""
select
    t.product_id,
    t.facility_id,
    t.meant_quantity,
    s.available,
    {CAUSE.format(outcome="t.outcome", shown="s.available", meant="t.meant_quantity")},
    t.error_code
from ({TOUCHED}) as t
join shown as s using (shopify_inventory_item_id, shopify_location_id)
where s.available is distinct from t.meant_quantity
order by abs(s.available - t.meant_quantity) desc nulls first, t.product_id, t.facility_id
"""


@dg.asset(
    group_name="reconcile",
    kinds={"shopify"},
    partitions_def=SHOPS,
    deps=["shopify_levels", "hard_sync_upload", "recent_change_upload"],
    metadata=tables.SYNC_CHANGE.metadata,
)
def sync_verification(
    context: dg.AssetExecutionContext, shopify: Shopify, warehouse: Warehouse
) -> Iterator[dg.MaterializeResult]:
    """One level that the run's upload touched, as Shopify shows it afterwards. Raises NotConfirmed once that is told."""
    run, selected = context.run, context.run.asset_selection
    values = {
        "shop_id": shop_of(context),
        "runs": own_runs(run),
        "is_alone": selected is not None and len(selected) == 1,
    }
    with warehouse.transaction() as connection:
        shop = find_shop(shop_of(context), connection)
        touched = connection.execute(TOUCHED, values).fetchall()
    different = []
    if touched:
        with shopify.client(shop.shop_id, shop.shop_domain) as client:
            shown = client.levels([(level, item) for item, _, level, *_ in touched])
        with warehouse.transaction() as connection:
            load_shown("shown", [(item, location) for item, location, *_ in touched], shown, connection)
            different = connection.execute(DIFFERENT, values).fetchall()
    yield dg.MaterializeResult(
        metadata={
            "dagster/partition_row_count": len(touched),
            "levels_touched": len(touched),
            "levels_equal": len(touched) - len(different),
            "levels_different": len(different),
            "different": markdown_table(
                ("product", "facility", "meant", "Shopify shows", "because", "Shopify's code"), different
            ),
        }
    )
    require_confirmed(shop, run, warehouse)
