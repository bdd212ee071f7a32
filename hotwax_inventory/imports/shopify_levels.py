"""What a shop shows: every level of every item by one bulk read, and which item is which of our products.

A read counts only when it is complete (line count and byte count as Shopify states them); anything else changes nothing."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb

from hotwax_inventory import settings, shopify_documents, tables
from hotwax_inventory.imports.reference import SHOPS
from hotwax_inventory.imports.rows import sql_text
from hotwax_inventory.progress import Progress, Seconds
from hotwax_inventory.resources import Shopify, Warehouse, require_free_disk
from hotwax_inventory.shopify import BulkOperation, ShopifyClient, ShopifyRefused, ShopifyUnavailable

READ_ATTEMPTS = 3
# What DuckDB says of a line that is no JSON, or has no level where one should be.
UNREADABLE = (duckdb.InvalidInputException, duckdb.ConversionException, duckdb.ConstraintException)


class IncompleteRead(RuntimeError):
    """Shopify's result is not whole; nothing of it was used."""


class NothingRead(RuntimeError):
    """There is no complete read of the shop's levels."""


class UnknownShop(ValueError):
    """The partition names a shop that the reference does not have."""


@dataclass(frozen=True)
class Shop:
    """A shop of the reference."""

    shop_id: str
    shop_domain: str
    product_store_id: str
    inventory_master: str
    facility_group_mode: str


FOUND = """
select shop_id, coalesce(shop_domain, ''), product_store_id, inventory_master, shopify_facility_group_mode
from shopify_shop
"""


def find_shop(shop_id: str, warehouse: Warehouse) -> Shop:
    """The shop of a partition. Raises UnknownShop."""
    with warehouse.transaction() as connection:
        found = connection.execute(f"{FOUND} where shop_id = $shop_id", {"shop_id": shop_id}).fetchall()
    if not found:
        raise UnknownShop(f"Shop {shop_id} is not in shopify_shop.csv. Add it there and run load_reference.")
    return Shop(*found[0])


def find_publishing_shops(warehouse: Warehouse) -> list[Shop]:
    """The shops whose numbers are written, not read, and of which we know what they carry."""
    with warehouse.transaction() as connection:
        found = connection.execute(
            f"{FOUND} where inventory_master = 'hotwax' and shop_id in (select shop_id from shopify_bulk_read) order by shop_id"
        ).fetchall()
    return [Shop(*row) for row in found]


@dataclass(frozen=True)
class Read:
    """The last complete bulk read of a shop."""

    operation_id: str
    started_at: datetime
    completed_at: datetime
    object_count: int
    level_count: int
    size_bytes: int


def last_read(shop_id: str, connection: duckdb.DuckDBPyConnection) -> Read:
    """The read that the shop's snapshot comes from. Raises NothingRead."""
    found = connection.execute(
        "select bulk_operation_id, started_at, completed_at, object_count, level_count, size_bytes "
        "from shopify_bulk_read where shop_id = $shop_id",
        {"shop_id": shop_id},
    ).fetchall()
    if not found:
        raise NothingRead(
            f"Shop {shop_id} was never read. Materialise shopify_inventory_level for it first, or run the whole job."
        )
    return Read(*found[0])


@dg.asset(
    group_name="imports",
    kinds={"shopify", "duckdb"},
    partitions_def=SHOPS,
    deps=["shopify_levels", "shopify_shop"],
    metadata=tables.SHOPIFY_INVENTORY_LEVEL.metadata,
)
def shopify_inventory_level(
    context: dg.AssetExecutionContext, shopify: Shopify, warehouse: Warehouse
) -> dg.MaterializeResult:
    """One level (an item at a location) as the shop shows it."""
    shop = find_shop(context.partition_key, warehouse)
    folder = settings.home() / "landing" / "shopify" / settings.file_name(shop.shop_id)
    folder.mkdir(parents=True, exist_ok=True)
    lines, seconds = folder / f"levels-{context.run.run_id}.jsonl", Seconds()
    try:
        with shopify.client(shop.shop_id, shop.shop_domain) as client, seconds.of("reading_shopify"):
            operation = read_levels(client, lines)
        with warehouse.transaction() as connection, seconds.of("loading"):
            count = load_levels(shop.shop_id, operation, lines, connection)
    except UNREADABLE as error:
        raise IncompleteRead(
            f"A line of Shopify's result is not as it should be: {error}. Nothing was changed."
        ) from error
    finally:
        lines.unlink(missing_ok=True)
    return dg.MaterializeResult(
        metadata={
            "dagster/partition_row_count": count,
            "objects": operation.object_count,
            "bytes": operation.file_size,
            "bulk_operation": operation.id,
            **seconds.metadata,
        }
    )


def read_levels(client: ShopifyClient, lines: Path) -> BulkOperation:
    """Run the bulk query and fetch its result into `lines`. A failed or cut read is begun again, a bounded number of times.

    Raises IncompleteRead, ShopifyUnavailable, ShopifyRefused, TooManyOperations, DiskNearlyFull."""
    log = dg.get_dagster_logger()
    require_free_disk()
    progress = Progress("Shopify's bulk read", None, "items and levels")
    problem = ""
    for _ in range(READ_ATTEMPTS):
        operation = client.wait(
            client.run_query(shopify_documents.ALL_LEVELS), lambda o: progress.reached(o.object_count)
        )
        if operation.status != "COMPLETED":
            problem = f"the bulk operation {operation.id} ended as {operation.status} ({operation.error_code})"
        else:
            try:
                problem = _fetch(client, operation, lines)
            except (ShopifyUnavailable, ShopifyRefused) as error:
                # refused: its address has expired in the meantime
                problem = str(error)
        if not problem:
            return operation
        log.warning(f"The read is begun again: {problem}.")
    raise IncompleteRead(
        f"Shopify's levels were not read whole in {READ_ATTEMPTS} attempts: {problem}. Nothing was changed."
    )


def _fetch(client: ShopifyClient, operation: BulkOperation, lines: Path) -> str:
    """Fetch a result; what is wrong with it, or an empty text."""
    if operation.url is None:
        lines.write_bytes(b"")
        return "" if operation.object_count == 0 else f"{operation.object_count} objects, but no address of a result"
    require_free_disk(operation.file_size)
    size = client.download(operation.url, lines, operation.file_size)
    if size != operation.file_size:
        return f"{size:,} of {operation.file_size:,} bytes arrived"
    with lines.open("rb") as file:
        count, last = 0, b"\n"
        while block := file.read(1 << 22):
            count, last = count + block.count(b"\n"), block[-1:]
    count += last != b"\n"
    return "" if count == operation.object_count else f"{count:,} of {operation.object_count:,} lines arrived"


# Items and levels lie mixed in one file; two scans of it are cheaper than keeping both to tell them apart afterwards.
LOAD_ITEMS = """
insert into shopify_inventory_item
select $shop_id, split_part(id, '/', 5)::bigint, nullif(trim(sku), ''), coalesce(tracked, true)
from read_json(
    {lines},
    format = 'newline_delimited',
    columns = {{'id': 'varchar', 'sku': 'varchar', 'tracked': 'boolean', 'location': 'struct(id varchar)'}}
)
where location is null
"""

# The two quantities are those that the query names, in either order.
LOAD_LEVELS = """
insert into shopify_inventory_level
with level as (
    select
        split_part(item.id, '/', 5)::bigint as shopify_inventory_item_id,
        split_part(location.id, '/', 5)::bigint as shopify_location_id,
        split_part(split_part(id, '?', 1), '/', 5)::bigint as shopify_inventory_level_id,
        if(quantities[1].name = 'available', quantities[1], quantities[2]).quantity as available,
        if(quantities[1].name = 'available', quantities[2], quantities[1]).quantity as on_hand,
        "updatedAt" as updated_at
    from read_json(
        {lines},
        format = 'newline_delimited',
        columns = {{
            'id': 'varchar',
            'updatedAt': 'timestamptz',
            'item': 'struct(id varchar)',
            'location': 'struct(id varchar)',
            'quantities': 'struct(name varchar, quantity integer)[]'
        }}
    )
    where location is not null
)
select
    $shop_id, l.shopify_inventory_item_id, l.shopify_location_id, l.shopify_inventory_level_id, u.item_id is null as tracked,
    l.available, l.on_hand, l.updated_at
from level as l
left join (
    select shopify_inventory_item_id as item_id
    from shopify_inventory_item
    where shop_id = $shop_id and not tracked
) as u on u.item_id = l.shopify_inventory_item_id
"""


def load_levels(shop_id: str, operation: BulkOperation, lines: Path, connection: duckdb.DuckDBPyConnection) -> int:
    """Replace the shop's snapshot by a complete result; the number of levels."""
    values = {"shop_id": shop_id}
    connection.execute("set preserve_insertion_order = false")
    for table in ("shopify_inventory_item", "shopify_inventory_level", "shopify_bulk_read"):
        connection.execute(f"delete from {table} where shop_id = $shop_id", values)
    if operation.object_count:
        connection.execute(LOAD_ITEMS.format(lines=sql_text(str(lines))), values)
        connection.execute(LOAD_LEVELS.format(lines=sql_text(str(lines))), values)
    count = connection.execute(
        "select count(*) from shopify_inventory_level where shop_id = $shop_id", values
    ).fetchall()[0][0]
    connection.execute(
        "insert into shopify_bulk_read values ($shop_id, $id, $started::timestamptz, $completed::timestamptz, $objects, $levels, "
        "$size)",
        values
        | {
            "id": operation.id,
            "started": operation.created_at,
            "completed": operation.completed_at or operation.created_at,
            "objects": operation.object_count,
            "levels": count,
            "size": operation.file_size,
        },
    )
    return count


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
anti join stated as s on s.product_id = n.product_id or s.shopify_inventory_item_id = i.shopify_inventory_item_id
where i.item_count = 1 and n.product_count = 1
union all
select product_id, shopify_inventory_item_id, 'csv'
from stated
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
        else 'ambiguous_sku'
    end as reason
from item as i
left join named as n on n.sku = i.sku
anti join shopify_shop_product as m
    on m.shop_id = i.shop_id and m.shopify_inventory_item_id = i.shopify_inventory_item_id
"""
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
    deps=["shopify_inventory_level", "product"],
    metadata=tables.SHOPIFY_SHOP_PRODUCT.metadata,
    check_specs=[UNMATCHED_CHECK],
)
def shopify_shop_product(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """One product and its inventory item in a shop: by SKU, or as shopify_shop_product.csv states it."""
    shop = find_shop(context.partition_key, warehouse)
    with warehouse.transaction() as connection:
        unmatched = match_products(shop.shop_id, connection)
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


def match_products(shop_id: str, connection: duckdb.DuckDBPyConnection) -> list[tuple[str, int, str | None]]:
    """Bring `shopify_shop_product` of a shop up to date; the items matched to nothing, as (reason, count, an example's SKU)."""
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
        insert into shopify_shop_product
        select $shop_id, m.product_id, m.shopify_inventory_item_id, m.matched_by, (select last_value from sequence)
        from matched as m
        anti join (select product_id from shopify_shop_product where shop_id = $shop_id) as s using (product_id)
        """,
        values,
    )
    return connection.execute(UNMATCHED, values).fetchall()
