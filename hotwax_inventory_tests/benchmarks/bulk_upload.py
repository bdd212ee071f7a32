"""A large delta through the bulk route: what it takes beside the time that Shopify takes, against writing the delta file bare.

Every level differs. The simulator works the delta once, which says how many changes an hour come through it; then its results are
given again at once, so that what is measured is comparing, files and manifest, recording the answers, closing."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import duckdb

from hotwax_inventory import settings
from hotwax_inventory.imports.shops import find_shop
from hotwax_inventory.publish.compare import keep_delta, make_delta
from hotwax_inventory.publish.manifest import HARD_SYNC
from hotwax_inventory.publish.resume import send
from hotwax_inventory.publish.target import Publication, Scope
from hotwax_inventory.resources import Warehouse, transaction
from hotwax_inventory.settings import ShopSettings
from hotwax_inventory.shopify import BulkOperation, ShopifyClient
from hotwax_inventory.simulator import Simulator
from hotwax_inventory_tests.benchmarks import measure
from hotwax_inventory_tests.benchmarks.catalogue import FACILITIES
from hotwax_inventory_tests.benchmarks.hard_sync import PROMISED
from hotwax_inventory_tests.benchmarks.recent_sync import prepare_synced

REPETITIONS = 3
MOST_CHANGES = 300_000
CHANGES_PER_LINE = 100
# What every level shows more than we promise.
TOO_MANY = 7

LEVEL = f"create table level as select item, location, quantity + {TOO_MANY} as available from promised"

FLOOR = f"""
copy (
    with change as (
        select item, location, available, quantity - available as delta, row_number() over (order by item, location) - 1 as n
        from level
        join promised using (item, location)
        where quantity <> available
    )
    select
        uuid() as "idempotencyKey",
        {{{{
            'changes': list({{{{
                'changeFromQuantity': available,
                'delta': delta,
                'inventoryItemId': 'gid://shopify/InventoryItem/' || item,
                'locationId': 'gid://shopify/Location/' || location
            }}}} order by n),
            'name': 'available',
            'reason': 'correction',
            'referenceDocumentUri': 'gid://hotwax-inventory/SyncRun/2'
        }}}} as input
    from change
    group by n // {CHANGES_PER_LINE}
) to '{{path}}' (format json)
"""


class Repeating(ShopifyClient):
    """Shopify as it answered before, at once."""

    def __init__(self, results: Path) -> None:
        super().__init__(ShopSettings("SHOP", "http://nowhere", "token", None, None), "2026-10", 1)
        self._results = results

    def stage(self, path: Path) -> str:
        return path.stem

    def run_mutation(self, mutation: str, staged_path: str) -> str:
        return staged_path

    def wait(self, operation_id: str, report: Callable[[BulkOperation], None] = lambda _: None) -> BulkOperation:
        return BulkOperation(operation_id, "COMPLETED", None, "", "", 0, 0, f"{operation_id}.result.jsonl")

    def download(self, url: str, path: Path, size_bytes: int | None = None) -> int:
        shutil.copyfile(self._results / url, path)
        return path.stat().st_size


def prepare(folder: Path, size: int) -> None:
    """A shop whose every level shows something else than we promise, and what the simulator answers to its delta."""
    prepare_synced(folder, size)
    warehouse = Warehouse()
    with warehouse.transaction() as connection:
        connection.execute("update shopify_inventory_level set available = available + $more", {"more": TOO_MANY})
    with duckdb.connect(str(folder / "floor.duckdb")) as connection:
        connection.execute(PROMISED, {"levels": size})
        connection.execute(LEVEL)
        levels = connection.execute("select item, location, available from level").fetchall()
    kept = shutil.copyfile(warehouse.path, folder / "before.duckdb")
    with Simulator(folder / "simulator", folder / "nothing") as simulator:
        simulator.shops.add_shop("SHOP")
        for j in range(FACILITIES):
            simulator.shops.add_location("SHOP", 7000 + j)
        simulator.shops.bulk_load("SHOP", levels, {(item, str(item)) for item, _, _ in levels})
        os.environ |= simulator.environment()
        started = time.perf_counter()
        upload(size, ShopifyClient(settings.shop("SHOP", ""), settings.shopify_api_version(), 120))
        (folder / "seconds").write_text(str(time.perf_counter() - started))
        assert all(a.source == "adjust" and a.delta == -TOO_MANY for a in simulator.shops.adjustments("SHOP"))
    (folder / "results").mkdir()
    for result in settings.outbox().rglob("*.result.jsonl"):
        result.rename(folder / "results" / result.name)
    shutil.copyfile(kept, warehouse.path)


def floor(folder: Path, size: int) -> None:
    with duckdb.connect(str(folder / "floor.duckdb")) as connection:
        connection.execute(FLOOR.format(path=folder / "floor.jsonl"))


def upload(size: int, client: ShopifyClient) -> None:
    """What the assets do, in their transactions."""
    os.environ["DIRECT_PUSH_LIMIT"] = "0"
    warehouse = Warehouse()
    publication = Publication.model_validate({"changes_per_line": CHANGES_PER_LINE})
    with warehouse.connect() as connection:
        scope = Scope(find_shop("SHOP", connection), publication)
        delta = make_delta(scope, HARD_SYNC, "bench", connection)
        with transaction(connection):
            keep_delta(delta, scope, "bench", connection)
            connection.execute(
                "update sync_run set status_id = 'sending' where sync_run_id = $id", {"id": delta.sync_run_id}
            )
    assert send(delta.sync_run_id, warehouse, client) == {"applied": size}


def ours(folder: Path, size: int) -> None:
    upload(size, Repeating(folder / "results"))


STEPS = {"prepare": prepare, "floor": floor, "ours": ours}


def benchmark(folder: Path, size: int) -> list[measure.Line]:
    """Best of the repetitions."""
    changes = min(size, MOST_CHANGES)
    found = measure.repeat(
        __name__, STEPS, folder, changes, REPETITIONS, [folder / "home" / "warehouse.duckdb", folder / "floor.duckdb"]
    )
    an_hour = 3600 * changes / float((folder / "seconds").read_text())
    return [
        measure.Line(
            f"upload of {changes:,} changes, Shopify's time apart",
            measure.best(found["floor"]),
            measure.best(found["ours"]),
            measure.peak(found["ours"]),
            goal=2,
        ),
        measure.Line(f"through the simulator: {an_hour:,.0f} changes an hour"),
    ]


if __name__ == "__main__":
    measure.main(STEPS)
