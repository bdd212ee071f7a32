"""What Shopify shows after an upload, held against what was meant, for every level that was touched."""

import dagster as dg

from hotwax_inventory import tables
from hotwax_inventory.imports.reference import SHOPS
from hotwax_inventory.imports.shopify_levels import find_shop
from hotwax_inventory.imports.summary import markdown_table
from hotwax_inventory.resources import Shopify, Warehouse

TOUCHED = """
select c.shopify_inventory_item_id, c.shopify_location_id, c.target_quantity, l.shopify_inventory_level_id, c.product_id,
    c.facility_id
from sync_change as c
join shopify_inventory_level as l
    on l.shop_id = c.shop_id
    and l.shopify_inventory_item_id = c.shopify_inventory_item_id
    and l.shopify_location_id = c.shopify_location_id
where c.sync_run_id = (select max(sync_run_id) from sync_run where shop_id = $shop_id)
order by c.shopify_inventory_item_id, c.shopify_location_id
"""


@dg.asset(
    group_name="reconcile",
    kinds={"shopify"},
    partitions_def=SHOPS,
    deps=["hard_sync_upload"],
    metadata=tables.SYNC_CHANGE.metadata,
)
def sync_verification(
    context: dg.AssetExecutionContext, shopify: Shopify, warehouse: Warehouse
) -> dg.MaterializeResult:
    """One level that the newest delta touched, as Shopify shows it afterwards."""
    shop = find_shop(context.partition_key, warehouse)
    with warehouse.transaction() as connection:
        touched = connection.execute(TOUCHED, {"shop_id": shop.shop_id}).fetchall()
    with shopify.client(shop.shop_id, shop.shop_domain) as client:
        shown = client.levels([(level, item) for item, _, _, level, _, _ in touched])
    different = [
        (product, facility, meant, shown.get((item, location)))
        for item, location, meant, _, product, facility in touched
        if shown.get((item, location)) != meant
    ]
    return dg.MaterializeResult(
        metadata={
            "levels_touched": len(touched),
            "levels_equal": len(touched) - len(different),
            "levels_different": len(different),
            "different": markdown_table(("product", "facility", "meant", "Shopify shows"), different),
        }
    )
