"""What a shop shows: every level of every item by one bulk read.

A read counts only when it is complete (line count and byte count as Shopify states them); anything else changes nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import dagster as dg
import duckdb

from hotwax_inventory import layout, settings, shopify_documents, tables
from hotwax_inventory.imports.quoting import sql_text
from hotwax_inventory.imports.shops import SHOPS, find_shop, shop_of
from hotwax_inventory.progress import Progress, Seconds
from hotwax_inventory.resources import Shopify, Warehouse, keep_sides_of_joins, require_free_disk, scalar
from hotwax_inventory.shopify import BulkOperation, ShopifyClient, ShopifyRefused, ShopifyUnavailable

READ_ATTEMPTS = 3
T = TypeVar("T")


class WrongLines(ValueError):
    """A result has an item or level twice, or lacks some."""


# What DuckDB says of a line that is no JSON, or has no level where one should be; and wrong lines.
UNREADABLE = (duckdb.InvalidInputException, duckdb.ConversionException, duckdb.ConstraintException, WrongLines)


class IncompleteRead(RuntimeError):
    """Shopify's result is not whole; nothing of it was used."""


class NothingRead(RuntimeError):
    """There is no complete read of the shop's levels."""


@dataclass(frozen=True)
class Read:
    """The last complete bulk read of a shop."""

    operation_id: str
    started_at: datetime
    completed_at: datetime
    object_count: int
    level_count: int
    mapped_count: int
    size_bytes: int


def was_read(shop_id: str, connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether there is a snapshot of the shop's levels."""
    return scalar(connection, "select exists (from shopify_bulk_read where shop_id = $shop_id)", {"shop_id": shop_id})


def last_read(shop_id: str, connection: duckdb.DuckDBPyConnection) -> Read:
    """The read that the shop's snapshot comes from. Raises NothingRead."""
    found = connection.execute(
        # whichever clock is behind, ours or Shopify's; a read of an earlier layout says nothing of ours
        f"select bulk_operation_id, least(started_at, nullif(asked_at, {layout.VALUES[tables.TIME]})), completed_at, "
        "object_count, level_count, coalesce(mapped_count, level_count), size_bytes from shopify_bulk_read "
        "where shop_id = $shop_id",
        {"shop_id": shop_id},
    ).fetchall()
    if not found:
        raise NothingRead(
            f"Shop {shop_id} was never read. Run hard_sync for it first, which reads every level (where Shopify is its master, "
            "sync_inventory_from_shopify); for a dry run materialise shopify_inventory_level and shopify_shop_product alone."
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
    with warehouse.transaction() as connection:
        shop = find_shop(shop_of(context), connection)
    seconds = Seconds()
    with shopify.client(shop.shop_id, shop.shop_domain) as client:
        operation, count = read_shop(shop.shop_id, client, warehouse, seconds)
    return dg.MaterializeResult(
        metadata={
            "dagster/partition_row_count": count,
            "objects": operation.object_count,
            **({} if operation.file_size is None else {"bytes": operation.file_size}),
            "bulk_operation": operation.id,
            **seconds.metadata,
        }
    )


def read_shop(shop_id: str, client: ShopifyClient, warehouse: Warehouse, seconds: Seconds) -> tuple[BulkOperation, int]:
    """Read all levels of a shop into its snapshot: the operation, and how many there are. Items that Shopify counts at other
    locations than before have moved then.

    Raises IncompleteRead, ShopifyUnavailable, ShopifyRefused, DiskNearlyFull."""

    def load(operation: BulkOperation, asked_at: datetime, lines: Path) -> int:
        values = {"shop_id": shop_id}
        with seconds.of("loading"), warehouse.transaction() as connection:
            connection.execute(COUNTED_AT.format(name="counted_before"), values)
            count = load_levels(shop_id, operation, asked_at, lines, connection)
            connection.execute(COUNTED_AT.format(name="counted_now"), values)
            if scalar(connection, APPEARED, values):
                connection.execute("update sequence set last_value = last_value + 1")
            return count

    return read_levels(client, load, seconds)


def read_levels(
    client: ShopifyClient, load: Callable[[BulkOperation, datetime, Path], T], seconds: Seconds
) -> tuple[BulkOperation, T]:
    """Run the bulk query, fetch its result and `load` it: the operation, the time before it was asked for, and the file of its
    lines, which goes afterwards. What `load` returns comes beside the operation.

    A read that fails, is cut or is not as it should be is begun again, a bounded number of times. Raises IncompleteRead,
    ShopifyUnavailable, ShopifyRefused, DiskNearlyFull."""
    log = dg.get_dagster_logger()
    require_free_disk()
    progress = Progress("Shopify's bulk read", None, "items and levels")
    problem = ""
    with settings.temporary_folder() as scratch:
        lines = Path(scratch) / "levels.jsonl"
        for _ in range(READ_ATTEMPTS):
            asked_at = datetime.now(UTC)
            with seconds.of("reading_shopify"):
                started = client.run_query(shopify_documents.ALL_LEVELS)
                operation = client.wait(started, lambda o: progress.reached(o.object_count))
                problem = _fetch(client, operation, lines)
            if not problem:
                try:
                    return operation, load(operation, asked_at, lines)
                except UNREADABLE as error:
                    problem = f"a line of Shopify's result is not as it should be: {error}"
            log.warning(f"The read is begun again: {problem}.")
    raise IncompleteRead(
        f"Shopify's levels were not read whole in {READ_ATTEMPTS} attempts: {problem}. Nothing was changed."
    )


def _fetch(client: ShopifyClient, operation: BulkOperation, lines: Path) -> str:
    """Fetch the result of an operation that has ended; what is wrong with it, or an empty text."""
    if operation.status != "COMPLETED":
        rights = ": see the access scopes of the app" if operation.error_code == "ACCESS_DENIED" else ""
        return f"the bulk operation {operation.id} ended as {operation.status} ({operation.error_code}){rights}"
    if operation.url is None:
        lines.write_bytes(b"")
        return "" if operation.object_count == 0 else f"{operation.object_count} objects, but no address of a result"
    require_free_disk(operation.file_size or 0)
    try:
        size = client.download(operation.url, lines, operation.file_size)
    except (ShopifyUnavailable, ShopifyRefused) as error:
        # refused: its address has expired in the meantime
        return str(error)
    if operation.file_size is not None and size != operation.file_size:
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

# The two quantities are those that the query names, in either order; at a location that is closed nothing is counted. The functions
# are those that DuckDB is quickest with: they are most of the time of a large read.
LOAD_LEVELS = """
insert into shopify_inventory_level
with level as (
    select
        replace(item.id, 'gid://shopify/InventoryItem/', '')::bigint as shopify_inventory_item_id,
        replace(location.id, 'gid://shopify/Location/', '')::bigint as shopify_location_id,
        replace(split_part(id, '?', 1), 'gid://shopify/InventoryLevel/', '')::bigint as shopify_inventory_level_id,
        location."isActive" is distinct from false as is_open,
        if(quantities[1].name = 'available', quantities[1].quantity, quantities[2].quantity) as available,
        if(quantities[1].name = 'available', quantities[2].quantity, quantities[1].quantity) as on_hand,
        "updatedAt"::timestamptz as updated_at
    from read_json(
        {lines},
        format = 'newline_delimited',
        columns = {{
            'id': 'varchar',
            'updatedAt': 'varchar',
            'item': 'struct(id varchar)',
            'location': 'struct(id varchar, "isActive" boolean)',
            'quantities': 'struct(name varchar, quantity integer)[]'
        }}
    )
    where location is not null
)
select
    $shop_id, l.shopify_inventory_item_id, l.shopify_location_id, l.shopify_inventory_level_id, u.item_id is null as tracked,
    if(l.is_open, l.available, null), if(l.is_open, l.on_hand, null), l.updated_at
from level as l
left join (
    select shopify_inventory_item_id as item_id
    from shopify_inventory_item
    where shop_id = $shop_id and not tracked
) as u on u.item_id = l.shopify_inventory_item_id
"""


# Whether a thing stands twice at a place is cheaper to see by a group a thing than by one a place of it: numbered places are bits.
PLACES = 63
DIFFERENT_PLACES = f"bit_count(bit_or(1::bigint << ({{}} % {PLACES})::integer))"

# At which locations an item is counted, as one number.
COUNTED_AT = """
create or replace temp table {name} as
select shopify_inventory_item_id, bit_xor(hash(shopify_location_id)) as locations
from shopify_inventory_level
where shop_id = $shop_id and tracked and available is not null
group by shopify_inventory_item_id
"""
# What is counted at other locations than before has moved, though no number of ours has.
APPEARED = """
update shopify_shop_product as p
set changed_seq = (select last_value + 1 from sequence)
from (
    select n.shopify_inventory_item_id
    from counted_now as n
    left join counted_before as b using (shopify_inventory_item_id)
    where b.locations is distinct from n.locations
) as m
where p.shop_id = $shop_id and p.shopify_inventory_item_id = m.shopify_inventory_item_id
"""

READ = """
insert into shopify_bulk_read by name
select
    $shop_id as shop_id,
    $operation_id as bulk_operation_id,
    $asked_at as asked_at,
    $started_at::timestamptz as started_at,
    $completed_at::timestamptz as completed_at,
    $objects as object_count,
    $levels as level_count,
    $size_bytes as size_bytes
"""

# Items and levels that stand in a result more than once.
REPEATED = f"""
with place as (
    select shopify_location_id, row_number() over () - 1 as number
    from (
        select distinct shopify_location_id
        from shopify_inventory_level
        where shop_id = $shop_id
    )
),
shown as (
    select count(*) as lines, {DIFFERENT_PLACES.format("p.number")} as levels
    from shopify_inventory_level as l
    join place as p on p.shopify_location_id = l.shopify_location_id
    where l.shop_id = $shop_id
    group by l.shopify_inventory_item_id, p.number // {PLACES}
)
select
    (
        select count(*) - count(distinct shopify_inventory_item_id)
        from shopify_inventory_item
        where shop_id = $shop_id
    ) + (select coalesce(sum(lines - levels), 0) from shown)
"""


def load_levels(
    shop_id: str, operation: BulkOperation, asked_at: datetime, lines: Path, connection: duckdb.DuckDBPyConnection
) -> int:
    """Replace the shop's snapshot by a complete result; the number of levels. Raises one of UNREADABLE when it is damaged."""
    values = {"shop_id": shop_id}
    connection.execute("set preserve_insertion_order = false")
    keep_sides_of_joins(connection)
    for table in ("shopify_inventory_item", "shopify_inventory_level", "shopify_bulk_read"):
        connection.execute(f"delete from {table} where shop_id = $shop_id", values)
    if operation.object_count:
        connection.execute(LOAD_ITEMS.format(lines=sql_text(str(lines))), values)
        connection.execute(LOAD_LEVELS.format(lines=sql_text(str(lines))), values)
        repeated = scalar(connection, REPEATED, values)
        if repeated:
            raise WrongLines(f"{repeated:,} items or levels stand in it twice")
    items, levels = connection.execute(
        "select (select count(*) from shopify_inventory_item where shop_id = $shop_id), "
        "(select count(*) from shopify_inventory_level where shop_id = $shop_id)",
        values,
    ).fetchall()[0]
    if items + levels != operation.object_count:
        raise WrongLines(f"{items + levels:,} items and levels of {operation.object_count:,} objects stand in it")
    connection.execute(
        READ,
        values
        | {
            "operation_id": operation.id,
            "asked_at": asked_at,
            "started_at": operation.created_at,
            "completed_at": operation.completed_at or operation.created_at,
            "objects": operation.object_count,
            "levels": levels,
            "size_bytes": lines.stat().st_size,
        },
    )
    return levels
