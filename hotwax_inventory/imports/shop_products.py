"""Which of a shop's inventory items is which of our products: by SKU, or as a person has stated it."""

from typing import Any

import dagster as dg
import duckdb

from hotwax_inventory import settings, tables
from hotwax_inventory.imports.shops import SHOPS, find_shop, shop_of
from hotwax_inventory.resources import Warehouse

# A SKU on two items, or of two products, matches neither; a row of the CSV keeps its product and its item out of the match.
MATCHED = """
create or replace temp table matched as
with item as (
    select sku, min(shopify_inventory_item_id) as shopify_inventory_item_id, count(*) as item_count
    from shopify_inventory_item
    where shop_id = $shop_id and sku is not null
    group by sku
),
named as (
    select trim(internal_name) as sku, min(product_id) as product_id, count(*) as product_count
    from product
    where internal_name is not null
    group by trim(internal_name)
),
stated as (
    select product_id, shopify_inventory_item_id from shopify_shop_product_mapping where shop_id = $shop_id
)
select n.product_id, i.shopify_inventory_item_id, 'sku' as matched_by
from item as i
join named as n on n.sku = i.sku
anti join stated as s on s.product_id = n.product_id
anti join stated as o on o.shopify_inventory_item_id = i.shopify_inventory_item_id
where i.item_count = 1 and n.product_count = 1
union all
select product_id, shopify_inventory_item_id, 'csv'
from stated
"""

# Of what the shop's last read shows, the levels that are ours: a share of them that is about to change is looked at.
MAPPED = """
update shopify_bulk_read
set mapped_count = (
    select count(*)
    from shopify_inventory_level as l
    where l.shop_id = $shop_id
        and l.tracked
        and l.available is not null
        and l.shopify_inventory_item_id in (select shopify_inventory_item_id from shopify_shop_product where shop_id = $shop_id)
        and l.shopify_location_id in (select shopify_location_id from shopify_shop_location where shop_id = $shop_id)
)
where shop_id = $shop_id
"""

# The items of `{products}` in all shops count as moved, where no row of the products themselves can say so.
ITEMS_MOVED = """
update shopify_shop_product
set changed_seq = (select last_value + 1 from sequence)
where product_id in ({products})
"""

# The products of which something is counted, ruled or parked at `{facilities}`; at the aggregate location all are.
AT_FACILITIES = """
    select product_id
    from (
        select product_id, facility_id from inventory_item
        union all
        select product_id, facility_id from kit_inventory
        union all
        select product_id, facility_id from product_facility
        union all
        select product_id, facility_id from virtual_queue_item
        union all
        select product_id, '_NA_' from shopify_shop_product
    )
    where facility_id in ({facilities})
"""

UNMATCHED_CHECK = dg.AssetCheckSpec(
    "few_items_are_unmatched",
    asset="shopify_shop_product",
    description="No larger share of the shop's items is matched to no product than UNMATCHED_MAX_PERCENT.",
)

# Each item that is matched to no product, and why; `sku` null where it has none.
UNMATCHED_ITEM = """
with item as (
    select shop_id, shopify_inventory_item_id, sku, count(*) over (partition by shop_id, sku) as item_count
    from shopify_inventory_item
),
named as (
    select trim(internal_name) as sku, count(*) as product_count
    from product
    where internal_name is not null
    group by trim(internal_name)
)
select
    i.shop_id,
    i.shopify_inventory_item_id,
    i.sku,
    case
        when i.sku is null then 'no_sku'
        when i.item_count > 1 then 'duplicate_sku'
        when n.product_count is null then 'unknown_sku'
        when n.product_count > 1 then 'ambiguous_sku'
        else 'mapped_elsewhere'
    end as reason
from item as i
left join named as n on n.sku = i.sku
anti join shopify_shop_product as m
    on m.shop_id = i.shop_id and m.shopify_inventory_item_id = i.shopify_inventory_item_id
"""
# (reason, count, an example's SKU)
UNMATCHED = f"""
select reason, count(*), min(sku)
from ({UNMATCHED_ITEM})
where shop_id = $shop_id
group by reason
order by reason
"""


@dg.asset(
    group_name="imports",
    kinds={"duckdb"},
    partitions_def=SHOPS,
    deps=["shopify_inventory_level", "shopify_shop", "product"],
    metadata=tables.SHOPIFY_SHOP_PRODUCT.metadata,
    check_specs=[UNMATCHED_CHECK],
)
def shopify_shop_product(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """One product and its inventory item in a shop: by SKU, or as shopify_shop_product.csv states it."""
    with warehouse.transaction() as connection:
        shop = find_shop(shop_of(context), connection)
        match_products(shop.shop_id, connection)
        unmatched = connection.execute(UNMATCHED, {"shop_id": shop.shop_id}).fetchall()
        count, without_item = connection.execute(
            "select count(*), (select count(*) from product) - count(*) from shopify_shop_product where shop_id = $shop_id",
            {"shop_id": shop.shop_id},
        ).fetchall()[0]
    items_unmatched = sum(n for _, n, _ in unmatched)
    metadata: dict[str, Any] = {
        "dagster/partition_row_count": count,
        "products_without_item": without_item,
        "items_unmatched": items_unmatched,
    }
    metadata |= {f"items_{reason}": number for reason, number, _ in unmatched}
    metadata |= {f"example_{reason}": sku[:100] for reason, _, sku in unmatched if sku}
    return dg.MaterializeResult(metadata=metadata, check_results=[_unmatched(shop.shop_id, items_unmatched, count)])


def _unmatched(shop_id: str, unmatched: int, matched: int) -> dg.AssetCheckResult:
    percent = settings.unmatched_max_percent()
    is_right = 100 * unmatched <= percent * (unmatched + matched)
    return dg.AssetCheckResult(
        check_name=UNMATCHED_CHECK.name,
        passed=is_right,
        severity=dg.AssetCheckSeverity.WARN,
        description=None
        if is_right
        else f"{unmatched:,} of {unmatched + matched:,} items of shop {shop_id} are matched to no product, more than {percent} % "
        "(UNMATCHED_MAX_PERCENT): nobody keeps their levels. The job report_worklist lists each with what to do.",
    )


def match_products(shop_id: str, connection: duckdb.DuckDBPyConnection) -> None:
    """Bring `shopify_shop_product` of a shop up to date: what its reference and its last bulk read make of it."""
    values = {"shop_id": shop_id}
    connection.execute(MATCHED, values)
    connection.execute("update sequence set last_value = last_value + 1")
    connection.execute(
        """
        delete from shopify_shop_product as s
        where s.shop_id = $shop_id
            and not exists (
                select 1
                from matched as m
                where m.product_id = s.product_id and m.shopify_inventory_item_id = s.shopify_inventory_item_id
            )
        """,
        values,
    )
    connection.execute(
        """
        merge into shopify_shop_product as s
        using matched as m
        on s.shop_id = $shop_id and s.product_id = m.product_id
        when matched and s.matched_by <> m.matched_by then update set matched_by = m.matched_by
        when not matched then
            insert values ($shop_id, product_id, shopify_inventory_item_id, matched_by, (select last_value from sequence))
        """,
        values,
    )
    connection.execute(MAPPED, values)
