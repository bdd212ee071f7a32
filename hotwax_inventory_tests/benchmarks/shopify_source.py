"""A whole read of a shop that is master of its stock: JSON lines in, ledger and stock out. The floors are DuckDB's bare read of the
lines into a table, and a bare script that makes the same rows, ledger and state of it.

Ten levels an item, each of them a facility's. The first day meets an empty ledger; on the second 3 % of the levels differ."""

from datetime import UTC, datetime
from pathlib import Path

import duckdb

from hotwax_inventory import tables
from hotwax_inventory.imports.shop_products import match_products
from hotwax_inventory.imports.shopify_levels import last_read, load_levels
from hotwax_inventory.imports.shopify_reset import SyncInventory, register_read, work_reads
from hotwax_inventory.imports.shops import find_shop
from hotwax_inventory.ledger.entries import post_imported
from hotwax_inventory.resources import Warehouse
from hotwax_inventory.shopify import BulkOperation
from hotwax_inventory_tests.benchmarks import measure
from hotwax_inventory_tests.benchmarks.catalogue import FACILITIES, QUANTITY, load_reference, write_reference
from hotwax_inventory_tests.benchmarks.hard_sync import SNAPSHOT, STORED
from hotwax_inventory_tests.benchmarks.reset import LEDGER, STATE, TABLES

REPETITIONS = 2

SHOWN = f"""
create or replace table promised as
select
    20000000 + n // {FACILITIES} as item,
    7000 + n % {FACILITIES} as location,
    {QUANTITY.format(n="n")} + if($day > 1 and hash(n + 1) % 1000 < 30, 1, 0) as quantity
from range($levels) as level(n)
"""


def prepare(folder: Path, size: int) -> None:
    """The results of both days, and the warehouse with its reference."""
    reference = folder / "reference"
    write_reference(reference, size // FACILITIES)
    for name, replaced in (("shopify_shop", ("hotwax", "shopify")), ("shopify_shop_location", ("_NA_", "STORE_9"))):
        path = reference / f"{name}.csv"
        path.write_text(path.read_text().replace(*replaced))
    load_reference()
    with duckdb.connect(str(folder / "floor.duckdb")) as connection:
        connection.execute(ITEM, {"items": size // FACILITIES})
        for table in TABLES:
            connection.execute(table.ddl())
    with duckdb.connect(str(folder / "shown.duckdb")) as connection:
        for day in (1, 2):
            connection.execute(SHOWN, {"levels": size, "day": day})
            connection.execute(SNAPSHOT.format(path=folder / "home" / f"{day}.jsonl"))


ITEM = "create table item as select 20000000 + i as item, (10000000 + i)::varchar as product_id from range($items) as item(i)"

ROWS = """
insert into inventory_reset
select $day, row_number() over (), product_id, 'STORE_' || location - 7000, on_hand, 'ATP', null, null
from level
join item using (item)
"""


def floor_read(folder: Path, size: int) -> None:
    """The levels of a day as one table."""
    with duckdb.connect(str(folder / "read.duckdb")) as connection:
        connection.execute(STORED.format(path=folder / "home" / "1.jsonl"))


def floor(folder: Path, day: int) -> None:
    """The levels of a day, and the same three tables as ours, by a bare script."""
    values = {"day": day, "at": datetime(2026, 11, 20 + day, 10, tzinfo=UTC)}
    with duckdb.connect(str(folder / "floor.duckdb")) as connection:
        connection.begin()
        connection.execute(STORED.format(path=folder / "home" / f"{day}.jsonl"))
        connection.execute(ROWS, {"day": day})
        connection.execute(LEDGER, values)
        connection.execute(tables.INVENTORY_ITEM.ddl("inventory_item_next"))
        connection.execute(STATE, values | {"name": f"{day}.jsonl"})
        connection.execute("drop table inventory_item")
        connection.execute("alter table inventory_item_next rename to inventory_item")
        connection.commit()


def ours(folder: Path, size: int, day: int) -> None:
    """What the assets do, in their transactions."""
    lines = folder / "home" / f"{day}.jsonl"
    objects = size + size // FACILITIES
    time = f"2026-11-{20 + day}T10:00:00Z"
    operation = BulkOperation(f"gid://{day}", "COMPLETED", None, time, time, objects, lines.stat().st_size, None)
    warehouse = Warehouse()
    with warehouse.transaction() as connection:
        shop = find_shop("SHOP", connection)
        load_levels(shop.shop_id, operation, datetime.now(UTC), lines, connection)
    with warehouse.transaction() as connection:
        match_products(shop.shop_id, connection)
    with warehouse.transaction() as connection:
        read = last_read(shop.shop_id, connection)
        log_id, skipped = register_read(shop, read, SyncInventory.model_validate({}), "bench", connection)
        work_reads("bench", connection, log_id)
    posted = post_imported(warehouse)
    assert ([file.rows for file in posted], skipped) == ([size], {})


STEPS = {
    "prepare": prepare,
    "floor_read": floor_read,
    "floor_first": lambda folder, size: floor(folder, 1),
    "ours_first": lambda folder, size: ours(folder, size, 1),
    "floor_second": lambda folder, size: floor(folder, 2),
    "ours_second": lambda folder, size: ours(folder, size, 2),
}


def benchmark(folder: Path, size: int) -> list[measure.Line]:
    """Best of the repetitions."""
    databases = (folder / "floor.duckdb", folder / "home" / "warehouse.duckdb")
    found = measure.repeat(__name__, STEPS, folder, size, REPETITIONS, databases)
    return [
        measure.Line(
            f"Shopify read of {size:,} levels, {day} day{title}",
            measure.best(found[floor_step]),
            measure.best(found[f"ours_{day}"]),
            measure.peak(found[f"ours_{day}"]),
            goal=2,
        )
        for day in ("first", "second")
        for floor_step, title in (("floor_read", ", bare read"), (f"floor_{day}", ""))
    ]


if __name__ == "__main__":
    measure.main(STEPS)
