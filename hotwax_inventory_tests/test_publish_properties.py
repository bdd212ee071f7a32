"""What holds for any order of movements, sales, publications and failures: hypothesis makes them up."""

import os
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotwax_inventory import settings
from hotwax_inventory.imports.shops import find_shop
from hotwax_inventory.publish.compare import keep_delta, levels_to_read, make_delta, read_live
from hotwax_inventory.publish.manifest import HARD_SYNC, RECENT
from hotwax_inventory.publish.resume import interrupted, resume, send
from hotwax_inventory.publish.target import Publication, RecentPublication, Scope
from hotwax_inventory.resources import Warehouse
from hotwax_inventory.shopify import ShopifyClient, ShopifyUnavailable
from hotwax_inventory.simulator.faults import Fault
from hotwax_inventory_tests.conftest import Place
from hotwax_inventory_tests.test_properties import examples
from hotwax_inventory_tests.test_publish import HEADER, STOCK, TARGETS, item, shown

STORES = {7116: "BROADWAY", 7281: "BROOKLYN"}
PRODUCTS = {"TEE-S": "10001", "TEE-M": "10002", "TEE-L": "10003"}
Level = tuple[str, int]


@dataclass(frozen=True)
class Move:
    """Our own number of a level changes."""

    level: Level
    quantity: int


@dataclass(frozen=True)
class Sale:
    """A stranger buys, and nobody tells us."""

    level: Level
    units: int


@dataclass(frozen=True)
class Publish:
    """A job publishes; strangers buy between its read and its write, and one of its calls fails."""

    job: str
    sales: tuple[Sale, ...]
    fault: tuple[str, str, int, str | None] | None


Step = Move | Sale | Publish


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place where every level was published once; its warehouse is kept beside the home."""
    place = Place(tmp_path_factory.mktemp("published"))
    with pytest.MonkeyPatch.context() as patch, place.simulator as simulator, place.instance:
        for name in [name for name in os.environ if name.startswith(("SFTP_", "SHOPIFY_", "HOTWAX_"))]:
            patch.delenv(name)
        values = {"HOTWAX_HOME": str(place.home), "HOTWAX_REFERENCE_DIR": str(place.reference_dir)}
        for name, value in (values | {"SFTP_STABLE_SECONDS": "0"} | simulator.environment()).items():
            patch.setenv(name, value)
        assert place.run("load_reference").success
        place.put_reset("reset.csv", HEADER + STOCK)
        assert place.run("import_inventory").success
        for (sku, location), quantity in TARGETS.items():
            simulator.shops.set_level("SHOP", item(place, sku), location, quantity + 5)
        assert place.run("hard_sync", shop="SHOP").success
        shutil.copy(Warehouse().path, kept(place))
        yield place


def kept(place: Place) -> Path:
    return place.home.parent / "kept.duckdb"


def sell(place: Place, sale: Sale) -> None:
    sku, location = sale.level
    place.simulator.shops.sell("SHOP", item(place, sku), location, sale.units)


def move(change: Move) -> None:
    sku, location = change.level
    with Warehouse().transaction() as connection:
        connection.execute("update sequence set last_value = last_value + 1")
        connection.execute(
            "update inventory_item set available_to_promise_total = $quantity, changed_seq = (select last_value from sequence) "
            "where product_id = $product and facility_id = $facility",
            {"quantity": change.quantity, "product": PRODUCTS[sku], "facility": STORES[location]},
        )


def publish(place: Place, run_id: str, step: Publish, mode: str) -> None:
    """What the job does, without Dagster. A call that fails ends it, as a kill would."""
    warehouse = Warehouse()
    with warehouse.transaction() as connection:
        shop = find_shop("SHOP", connection)
    kind = Publication if step.job == HARD_SYNC else RecentPublication
    scope = Scope(shop, kind.model_validate({"difference_from": mode, "changes_per_line": 2}))
    if step.fault is not None:
        where, fault, call, value = step.fault
        place.simulator.faults.add(Fault(where, fault, at_call=call, value=value))
    client = ShopifyClient(settings.shop("SHOP", ""), settings.shopify_api_version(), deadline_seconds=0)
    try:
        with closing(client):
            with warehouse.transaction() as connection:
                unfinished = interrupted("SHOP", connection)
            if unfinished is not None:
                resume(unfinished, run_id, warehouse, client)
            with warehouse.transaction() as connection:
                asked = levels_to_read(scope, step.job, connection)
            live = read_live(client, asked)
            for sale in step.sales:
                sell(place, sale)
            with warehouse.transaction() as connection:
                delta = make_delta(scope, step.job, run_id, connection, live)
                keep_delta(delta, scope, run_id, connection)
                connection.execute(
                    "update sync_run set status_id = 'sending' where sync_run_id = $id", {"id": delta.sync_run_id}
                )
            send(delta.sync_run_id, warehouse, client)
    except ShopifyUnavailable:
        pass
    place.simulator.faults.clear()


def promised() -> dict[Level, int]:
    with Warehouse().transaction() as connection:
        rows = connection.execute(
            "select product_id, facility_id, computed_last_inventory_count from facility_atp "
            "union all select product_id, '_NA_', online_atp from online_atp where facility_group_id = 'FAC_GRP'"
        ).fetchall()
    locations = {facility: location for location, facility in STORES.items()} | {"_NA_": 7000}
    skus = {product: sku for sku, product in PRODUCTS.items()}
    return {(skus[p], locations[f]): quantity for p, f, quantity in rows if f in locations}


LEVELS = st.sampled_from(sorted(TARGETS))
SALES = st.builds(Sale, LEVELS, st.integers(1, 3))
FAULTS = (
    st.tuples(
        st.just("inventoryAdjustQuantities"),
        st.sampled_from(["reset_after", "reset_before", "http_503"]),
        st.integers(1, 3),
        st.none(),
    )
    | st.tuples(
        st.just("inventoryAdjustQuantities"),
        st.just("user_error"),
        st.integers(1, 2),
        st.sampled_from(
            ["CHANGE_FROM_QUANTITY_STALE", "IDEMPOTENCY_PREVIOUS_ATTEMPT_FAILED", "SERVICE_UNAVAILABLE", "NEW"]
        ),
    )
    | st.tuples(st.just("nodes"), st.just("reset_before"), st.integers(1, 3), st.none())
)
PUBLICATIONS = st.builds(
    Publish,
    st.sampled_from([RECENT, RECENT, HARD_SYNC]),
    st.lists(SALES, max_size=2).map(tuple),
    st.none() | FAULTS,
)
MOVES = st.builds(Move, st.sampled_from([level for level in sorted(TARGETS) if level[1] in STORES]), st.integers(0, 12))
STEPS = st.lists(st.one_of(MOVES, SALES, PUBLICATIONS), min_size=1, max_size=12)


def check(place: Place, steps: list[Step], mode: str) -> None:
    """Work the steps, publish undisturbed, and compare what Shopify shows with our numbers and the strangers' sales."""
    shutil.copy(kept(place), Warehouse().path)
    shops = place.simulator.shops
    for (sku, location), quantity in TARGETS.items():
        shops.set_level("SHOP", item(place, sku), location, quantity)
    before, example = len(shops.adjustments("SHOP")), uuid.uuid4()
    for number, step in enumerate([*steps, Publish(RECENT, (), None), Publish(HARD_SYNC, (), None)]):
        match step:
            case Move():
                move(step)
            case Sale():
                sell(place, step)
            case Publish():
                publish(place, f"{example} {number}", step, mode)
    journal = shops.adjustments("SHOP")[before:]
    names = {item(place, sku): sku for sku in PRODUCTS}
    sold, ours = Counter[Level](), Counter[Level]()
    for entry in journal:
        level = names[entry.item_id], entry.location_id
        (sold if entry.source == "sale" else ours)[level] -= entry.delta
    expected = promised()
    if mode == "last_published":
        expected = {level: quantity - sold[level] for level, quantity in expected.items()}
        assert shown(place) == expected
    recorded = place.rows(
        "select shopify_inventory_item_id, shopify_location_id, sum(delta)::bigint from sync_change "
        "where outcome = 'applied' and sync_run_id > 1 group by all"
    )
    assert {(names[one], location): -delta for one, location, delta in recorded if delta} == {
        level: delta for level, delta in ours.items() if delta
    }


@examples(10)
@given(STEPS)
def test_no_sale_is_put_back_on_sale_and_every_movement_of_ours_arrives_once(
    published: Place, steps: list[Step]
) -> None:
    check(published, steps, "last_published")


@pytest.mark.soak
@pytest.mark.timeout(3600)
@examples(400)
@given(STEPS)
def test_no_sale_is_put_back_on_sale_in_many_examples(published: Place, steps: list[Step]) -> None:
    check(published, steps, "last_published")
