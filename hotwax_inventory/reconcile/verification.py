"""What Shopify shows after an upload, held against what was meant, for every level that was touched."""

import dagster as dg

from hotwax_inventory import tables
from hotwax_inventory.imports.reference import SHOPS
from hotwax_inventory.imports.shopify_levels import find_shop
from hotwax_inventory.imports.summary import markdown_table
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
    if(c.outcome in ('applied', 'no_op'), null, coalesce(c.error_code, c.outcome, 'not sent')) as refusal,
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


@dg.asset(
    group_name="reconcile",
    kinds={"shopify"},
    partitions_def=SHOPS,
    deps=["shopify_levels", "hard_sync_upload", "recent_change_upload"],
    metadata=tables.SYNC_CHANGE.metadata,
)
def sync_verification(
    context: dg.AssetExecutionContext, shopify: Shopify, warehouse: Warehouse
) -> dg.MaterializeResult:
    """One level that the run's upload touched, as Shopify shows it afterwards."""
    shop = find_shop(context.partition_key, warehouse)
    run, selected = context.run, context.run.asset_selection
    with warehouse.transaction() as connection:
        touched = connection.execute(
            TOUCHED,
            {
                "shop_id": shop.shop_id,
                "runs": [run_id for run_id in (run.run_id, run.parent_run_id, run.root_run_id) if run_id],
                "is_alone": selected is not None and len(selected) == 1,
            },
        ).fetchall()
    shown: dict[tuple[int, int], int] = {}
    if touched:
        with shopify.client(shop.shop_id, shop.shop_domain) as client:
            shown = client.levels([(level, item) for item, _, level, *_ in touched])
    different = [
        (product, facility, meant, shown.get((item, location)), _cause(meant, shown.get((item, location)), refusal))
        for item, location, _, meant, refusal, product, facility in touched
        if shown.get((item, location)) != meant
    ]
    return dg.MaterializeResult(
        metadata={
            "levels_touched": len(touched),
            "levels_equal": len(touched) - len(different),
            "levels_different": len(different),
            "different": markdown_table(("product", "facility", "meant", "Shopify shows", "because"), different),
        }
    )


def _cause(meant: int, shown: int | None, refusal: str | None) -> str:
    """The class of causes of a difference."""
    if refusal is not None:
        return f"refused: {refusal}"
    if shown is None:
        return "the level is gone"
    return "sold since" if shown < meant else "edited by someone"
