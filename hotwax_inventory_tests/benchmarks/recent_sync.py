"""The recent sync: 1,000 keys have moved among so many, against the same among 10,000. What Shopify would take is not in it.

Everything else is: finding what has moved, comparing, files and manifest, recording the answers, closing."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hotwax_inventory.imports.shops import find_shop
from hotwax_inventory.ledger.atp import create_views
from hotwax_inventory.publish.compare import keep_delta, levels_to_read, make_delta, read_live
from hotwax_inventory.publish.manifest import RECENT
from hotwax_inventory.publish.resume import send
from hotwax_inventory.publish.target import RecentPublication, Scope
from hotwax_inventory.resources import Warehouse, transaction
from hotwax_inventory.settings import ShopSettings
from hotwax_inventory.shopify import ShopifyClient
from hotwax_inventory_tests.benchmarks import measure
from hotwax_inventory_tests.benchmarks.catalogue import FACILITIES, load_reference, write_reference
from hotwax_inventory_tests.benchmarks.hard_sync import STOCK

REPETITIONS = 3
SMALL = 10_000
MOVED = 1_000
FIRST_LEVEL = 300_000_000

# A shop that was synced once: ten levels an item, each of which shows what we promise.
SYNCED = (
    """
insert into shopify_shop_product
select 'SHOP', (10000000 + i)::varchar, 20000000 + i, 'sku', 0 from range($products) as product(i)
""",
    """
insert into shopify_inventory_level by name
with promised as (
    select product_id, 7000 + substr(facility_id, 7)::bigint as location, computed_last_inventory_count as quantity
    from facility_atp
    where facility_id <> 'STORE_9'
    union all
    select product_id, 7009, online_atp from online_atp
)
select
    'SHOP' as shop_id,
    product_id::bigint + 10000000 as shopify_inventory_item_id,
    location as shopify_location_id,
    $first + 10 * (product_id::bigint - 10000000) + location - 7000 as shopify_inventory_level_id,
    true as tracked,
    quantity as available,
    quantity as on_hand,
    current_timestamp as updated_at
from promised
""",
    """
insert into published_level
select shop_id, shopify_inventory_item_id, shopify_location_id, available, 1, current_timestamp from shopify_inventory_level
""",
    """
insert into shopify_bulk_read
select 'SHOP', 'gid://1', current_timestamp, current_timestamp, current_timestamp, 11 * $products, 10 * $products, 10 * $products, 0
""",
    """
insert into sync_run by name
select 1 as sync_run_id, 'SHOP' as shop_id, 'hard_sync' as job, 'bench' as run_id, $parameters as parameters,
    current_timestamp as observed_at, 10 * $products as upto_seq, current_timestamp as created_at, 10 * $products as level_count,
    0 as change_count, '{}' as skipped, 'finished' as status_id, current_timestamp as finished_at
""",
    "insert into sync_watermark select 'SHOP', 1, 10 * $products, current_timestamp",
)

# One key of each of so many products, all over the table.
MOVE = f"""
update inventory_item
set
    available_to_promise_total = available_to_promise_total + 3,
    changed_seq = (select last_value from sequence) + 1 + changed_seq // {FACILITIES}
where facility_id = 'STORE_1'
    and product_id in (select (10000000 + i * ($products // {MOVED}))::varchar from range({MOVED}) as m(i))
"""


class Answering(ShopifyClient):
    """Shopify as it is on a good day: levels show something else than we promise, and every line is applied."""

    def __init__(self) -> None:
        super().__init__(ShopSettings("SHOP", "http://nowhere", "token", None, None), "2026-10", 1)

    def levels(self, levels: Sequence[tuple[int, int]]) -> dict[tuple[int, int], int]:
        return {(item, 7000 + (level - FIRST_LEVEL) % FACILITIES): 1_000_000 for level, item in levels}

    def answer(self, document: str, variables: dict[str, Any]) -> dict[str, Any]:
        return {"data": {"inventoryAdjustQuantities": {"inventoryAdjustmentGroup": {"id": "1"}, "userErrors": []}}}


def prepare_synced(folder: Path, size: int) -> None:
    """A warehouse with reference, stock and a finished hard sync of a shop of so many levels."""
    write_reference(folder / "reference", size // FACILITIES)
    load_reference()
    parameters = RecentPublication.model_validate({}).model_dump_json()
    values = {"products": size // FACILITIES, "first": FIRST_LEVEL, "parameters": parameters}
    with Warehouse().transaction() as connection:
        create_views(connection)
        connection.execute(STOCK, {"levels": size})
        connection.execute("update sequence set last_value = $last", {"last": size})
        for statement in SYNCED:
            connection.execute(statement, {name: value for name, value in values.items() if f"${name}" in statement})


def prepare(folder: Path, size: int) -> None:
    """What has moved since a hard sync."""
    prepare_synced(folder, size)
    with Warehouse().transaction() as connection:
        connection.execute(MOVE, {"products": size // FACILITIES})
        connection.execute("update sequence set last_value = (select max(changed_seq) from inventory_item)")


def ours(folder: Path, size: int) -> None:
    """What the assets do, in their transactions."""
    os.environ["DIRECT_PUSH_LIMIT"] = str(2 * MOVED)
    warehouse = Warehouse()
    client = Answering()
    with warehouse.transaction() as connection:
        scope = Scope(find_shop("SHOP", connection), RecentPublication.model_validate({}))
        asked = levels_to_read(scope, RECENT, connection)
    live = read_live(client, asked)
    with warehouse.connect() as connection:
        delta = make_delta(scope, RECENT, "bench", connection, live)
        with transaction(connection):
            keep_delta(delta, scope, "bench", connection)
            connection.execute(
                "update sync_run set status_id = 'sending' where sync_run_id = $id", {"id": delta.sync_run_id}
            )
    counts = send(delta.sync_run_id, warehouse, client)
    assert counts == {"applied": 2 * MOVED}


STEPS = {"prepare": prepare, "ours": ours}


def benchmark(folder: Path, size: int) -> list[measure.Line]:
    """Best of the repetitions."""
    found = {}
    for levels in (SMALL, size):
        place = folder / str(levels)
        place.mkdir()
        found[levels] = measure.repeat(
            __name__, STEPS, place, levels, REPETITIONS, [place / "home" / "warehouse.duckdb"]
        )["ours"]
    work = f"recent sync of {MOVED:,} among {size:,} keys, or {SMALL:,}"
    return [
        measure.Line(work, measure.best(found[SMALL]), measure.best(found[size]), measure.peak(found[size]), goal=3)
    ]


if __name__ == "__main__":
    measure.main(STEPS)
