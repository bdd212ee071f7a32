"""The hard sync: a shop's snapshot as JSON lines in, delta files out; against DuckDB's bare join and copy.

Ten levels an item, one of them the aggregate location; 3 % differ. The first day meets a shop that was never read."""

from datetime import UTC, datetime
from pathlib import Path

import duckdb

from hotwax_inventory.imports.shop_products import match_products
from hotwax_inventory.imports.shopify_levels import load_levels
from hotwax_inventory.imports.shops import find_shop
from hotwax_inventory.publish.compare import keep_delta, make_delta
from hotwax_inventory.publish.target import Publication, Scope
from hotwax_inventory.resources import Warehouse, transaction
from hotwax_inventory.shopify import BulkOperation
from hotwax_inventory_tests.benchmarks import measure
from hotwax_inventory_tests.benchmarks.catalogue import FACILITIES, QUANTITY, load_reference, write_reference

REPETITIONS = 2

STOCK = f"""
insert into inventory_item by name
select
    (10000000 + n // {FACILITIES})::varchar as product_id,
    'STORE_' || n % {FACILITIES} as facility_id,
    {QUANTITY.format(n="n")} as quantity_on_hand_total,
    quantity_on_hand_total as available_to_promise_total,
    n + 1 as changed_seq
from range($levels) as stock(n)
"""

# What each level should show: the stock of nine stores, and the sum of all ten at the aggregate location.
PROMISED = f"""
create table promised as
select
    20000000 + n // {FACILITIES} as item,
    7000 + n % {FACILITIES} as location,
    case when n % {FACILITIES} < {FACILITIES - 1}
        then {QUANTITY.format(n="n")}
        else {" + ".join(QUANTITY.format(n=f"(n - {j})") for j in range(FACILITIES))}
    end as quantity
from range($levels) as level(n)
"""

# Slashes are escaped as in Shopify's files. Each item's line comes before its levels'.
SNAPSHOT = f"""
copy (
    with numbered as (
        select item, location, quantity + case when hash(rowid) % 1000 < 30 then 7 else 0 end as shown, rowid as n
        from promised
    )
    select unnest(
        case when n % {FACILITIES} = 0 then [
            '{{{{"id":"gid:\\/\\/shopify\\/InventoryItem\\/' || item
                || '","sku":"SKU-' || (item - 20000000) || '","tracked":true}}}}'
        ] else [] end || [
            '{{{{"id":"gid:\\/\\/shopify\\/InventoryLevel\\/' || (300000000 + n) || '?inventory_item_id=' || item
                || '","updatedAt":"2026-11-22T10:00:00Z","item":{{{{"id":"gid:\\/\\/shopify\\/InventoryItem\\/' || item
                || '"}}}},"location":{{{{"id":"gid:\\/\\/shopify\\/Location\\/' || location
                || '"}}}},"quantities":[{{{{"name":"available","quantity":' || shown
                || '}}}},{{{{"name":"on_hand","quantity":' || shown
                || '}}}}],"__parentId":"gid:\\/\\/shopify\\/InventoryItem\\/' || item || '"}}}}'
        ]
    )
    from numbered
) to '{{path}}' (format csv, header false, delimiter '\x1f', quote '', escape '')
"""

FLOOR = """
copy (
    with level as (
        select
            split_part(item.id, '/', 5)::bigint as item,
            split_part(location.id, '/', 5)::bigint as location,
            quantities[1].quantity as available
        from read_json(
            '{path}',
            format = 'newline_delimited',
            columns = {{
                'item': 'struct(id varchar)',
                'location': 'struct(id varchar)',
                'quantities': 'struct(name varchar, quantity integer)[]'
            }}
        )
        where item is not null
    )
    select item, location, available as "changeFromQuantity", quantity - available as delta
    from level
    join promised using (item, location)
    where quantity <> available
) to '{delta}' (format json)
"""


def prepare(folder: Path, size: int) -> None:
    """The snapshot, what is promised as the floor's plain table, and the warehouse with reference and stock."""
    write_reference(folder / "reference", size // FACILITIES)
    load_reference()
    with Warehouse().transaction() as connection:
        connection.execute(STOCK, {"levels": size})
        connection.execute("update sequence set last_value = $last", {"last": size})
    with duckdb.connect(str(folder / "floor.duckdb")) as connection:
        connection.execute(PROMISED, {"levels": size})
        connection.execute(SNAPSHOT.format(path=folder / "home" / "levels.jsonl"))


def floor(folder: Path, size: int) -> None:
    with duckdb.connect(str(folder / "floor.duckdb")) as connection:
        connection.execute(FLOOR.format(path=folder / "home" / "levels.jsonl", delta=folder / "floor.jsonl"))


STORED = """
create or replace table level as
select
    split_part(item.id, '/', 5)::bigint as item,
    split_part(location.id, '/', 5)::bigint as location,
    split_part(split_part(id, '?', 1), '/', 5)::bigint as level,
    quantities[1].quantity as available,
    quantities[2].quantity as on_hand,
    "updatedAt" as updated_at
from read_json(
    '{path}',
    format = 'newline_delimited',
    columns = {{
        'id': 'varchar',
        'updatedAt': 'timestamptz',
        'item': 'struct(id varchar)',
        'location': 'struct(id varchar)',
        'quantities': 'struct(name varchar, quantity integer)[]'
    }}
)
where item is not null
"""

FROM_STORED = """
copy (
    select item, location, available as "changeFromQuantity", quantity - available as delta
    from level
    join promised using (item, location)
    where quantity <> available
) to '{delta}' (format json)
"""


def floor_stored(folder: Path, size: int) -> None:
    """The same, with the snapshot kept as a table, as ours is."""
    with duckdb.connect(str(folder / "floor.duckdb")) as connection:
        connection.execute(STORED.format(path=folder / "home" / "levels.jsonl"))
        connection.execute(FROM_STORED.format(delta=folder / "floor.jsonl"))


def ours(folder: Path, size: int) -> None:
    """What the assets do, in their transactions."""
    lines = folder / "home" / "levels.jsonl"
    objects = size + size // FACILITIES
    time = "2026-11-22T10:00:00Z"
    operation = BulkOperation("gid://1", "COMPLETED", None, time, time, objects, lines.stat().st_size, None)
    warehouse = Warehouse()
    with warehouse.transaction() as connection:
        shop = find_shop("SHOP", connection)
        levels = load_levels(shop.shop_id, operation, datetime.now(UTC), lines, connection)
    with warehouse.transaction() as connection:
        match_products(shop.shop_id, connection)
    scope = Scope(shop, Publication.model_validate({}))
    with warehouse.connect() as connection:
        delta = make_delta(scope, "hard_sync", "bench", connection)
        with transaction(connection):
            keep_delta(delta, scope, "bench", connection)
    assert (levels, delta.compared_count, delta.skipped) == (size, size, {})


def check(folder: Path, size: int) -> None:
    """Ours has the floor's changes."""
    with Warehouse().transaction() as connection:
        changes = connection.execute("select count(*) from sync_change where sync_run_id = 1").fetchall()[0][0]
    with (folder / "floor.jsonl").open() as lines:
        assert sum(1 for _ in lines) == changes


STEPS = {
    "prepare": prepare,
    "floor": floor,
    "floor_stored": floor_stored,
    "ours_first": ours,
    "ours_second": ours,
    "check": check,
}


def benchmark(folder: Path, size: int) -> list[measure.Line]:
    """Best of the repetitions."""
    found = measure.repeat(__name__, STEPS, folder, size, REPETITIONS, [folder / "home" / "warehouse.duckdb"])
    return [
        measure.Line(
            f"hard sync of {size:,} levels, {day} day{title}",
            measure.best(found[floor_step]),
            measure.best(found[f"ours_{day}"]),
            measure.peak(found[f"ours_{day}"]),
            goal=2,
        )
        for day in ("first", "second")
        for floor_step, title in (("floor", ""), ("floor_stored", ", stored"))
    ]


if __name__ == "__main__":
    measure.main(STEPS)
