"""A whole read of a shop that is master of its stock: JSON lines in, ledger and stock out; against DuckDB's bare read of the lines.

Ten levels an item, each of them a facility's. The first day meets an empty ledger; on the second 3 % of the levels differ."""

from pathlib import Path

import duckdb

from hotwax_inventory.imports.shopify_levels import find_shop, last_read, load_levels, match_products
from hotwax_inventory.imports.shopify_reset import SyncInventory, register_read, work_reads
from hotwax_inventory.ledger.entries import post_imported
from hotwax_inventory.resources import Warehouse
from hotwax_inventory.shopify import BulkOperation
from hotwax_inventory_tests.benchmarks import measure
from hotwax_inventory_tests.benchmarks.catalogue import FACILITIES, QUANTITY, load_reference, write_reference
from hotwax_inventory_tests.benchmarks.hard_sync import SNAPSHOT, STORED

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
    with duckdb.connect(str(folder / "shown.duckdb")) as connection:
        for day in (1, 2):
            connection.execute(SHOWN, {"levels": size, "day": day})
            connection.execute(SNAPSHOT.format(path=folder / "home" / f"{day}.jsonl"))


def floor(folder: Path, size: int) -> None:
    """The levels of the first day as one table."""
    with duckdb.connect(str(folder / "floor.duckdb")) as connection:
        connection.execute(STORED.format(path=folder / "home" / "1.jsonl"))


def ours(folder: Path, size: int, day: int) -> None:
    """What the assets do, in their transactions."""
    lines = folder / "home" / f"{day}.jsonl"
    objects = size + size // FACILITIES
    time = f"2026-11-{20 + day}T10:00:00Z"
    operation = BulkOperation(f"gid://{day}", "COMPLETED", None, time, time, objects, lines.stat().st_size, None)
    warehouse = Warehouse()
    shop = find_shop("SHOP", warehouse)
    with warehouse.transaction() as connection:
        load_levels(shop.shop_id, operation, lines, connection)
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
    "floor": floor,
    "ours_first": lambda folder, size: ours(folder, size, 1),
    "ours_second": lambda folder, size: ours(folder, size, 2),
}


def benchmark(folder: Path, size: int) -> list[measure.Line]:
    """Best of the repetitions."""
    found = measure.repeat(__name__, STEPS, folder, size, REPETITIONS, [folder / "home" / "warehouse.duckdb"])
    return [
        measure.Line(
            f"Shopify read of {size:,} levels, {day} day",
            measure.best(found["floor"]),
            measure.best(found[f"ours_{day}"]),
            measure.peak(found[f"ours_{day}"]),
            goal=2,
        )
        for day in ("first", "second")
    ]


if __name__ == "__main__":
    measure.main(STEPS)
