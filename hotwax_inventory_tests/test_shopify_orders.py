"""A webhook, a whole read, a NetSuite reset and the echo of a push of ours for the same levels end in one state, in any order."""

import itertools
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hotwax_inventory.files import inbox
from hotwax_inventory.files.inbox import Event
from hotwax_inventory_tests import test_shopify_source
from hotwax_inventory_tests.conftest import Place
from hotwax_inventory_tests.test_shopify_source import BROADWAY, BROOKLYN, TEE_M, TEE_S, dispositions, imported, show

HEADER = "Item,externalFacilityId,availableQty,idValue\n"
STEPS = ("webhook", "read", "reset", "echo")
ORDERS = list(itertools.permutations(STEPS))
EVERYDAY = [ORDERS[n] for n in (0, 9, 23)]


@dataclass(frozen=True)
class Morning:
    """A warehouse in which everything has happened and nothing has been worked yet; the times are counted from `began_at`."""

    warehouse: Path
    began_at: datetime


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Morning:
    """What the first test makes for all others."""
    return Morning(tmp_path_factory.mktemp("morning") / "warehouse.duckdb", datetime.now(UTC).replace(microsecond=0))


@pytest.fixture
def morning(empty_place: Place, made: Morning) -> Morning:
    """Ten units of two products at two facilities, two of them held back. The shop is read while it shows others; then it is
    given ours, eight of each. From then on Shopify is its master."""
    for name, content in test_shopify_source.REFERENCE.items():
        empty_place.write_reference(name, content)
    empty_place.begin_with(made.warehouse, lambda: _prepare(empty_place, made))
    return made


def _prepare(place: Place, found: Morning) -> None:
    def master(name: str) -> None:
        shops = test_shopify_source.REFERENCE["shopify_shop"].replace("STORE,shopify", f"STORE,{name}")
        place.write_reference("shopify_shop", shops)
        place.succeed("load_reference")

    levels = [(TEE_S, BROADWAY, 9, 3), (TEE_S, BROOKLYN, 12, 0), (TEE_M, BROADWAY, 10, 1), (TEE_M, BROOKLYN, 10, 0)]
    master("shopify")
    stock = "".join(f"X,{facility},10,{product}\n" for facility in (116, 281) for product in (501, 502))
    place.put_reset("opening.csv", HEADER + stock, found.began_at - timedelta(minutes=60))
    place.succeed("import_inventory")
    place.rows(
        "insert into product_facility by name select product_id, facility_id, 2 as minimum_stock, 1 as changed_seq "
        "from inventory_item"
    )
    show(place, 0, *levels)
    place.simulator.shops.now = lambda: found.began_at - timedelta(minutes=30)
    place.succeed("sync_inventory_from_shopify", {"shopify_inventory_reset": {"schedule_now": False}}, shop="SHOP")
    place.simulator.shops.now = lambda: datetime.now(UTC)
    master("hotwax")
    place.succeed("hard_sync", shop="SHOP")
    shown = place.simulator.shops.levels("SHOP")
    assert {shown[item, location] for item, location, *_ in levels} == {8}
    master("shopify")


def update(webhook_id: str, level: tuple[int, int], available: int, updated_at: datetime) -> Event:
    content = {
        "inventory_item_id": level[0],
        "location_id": level[1],
        "available": available,
        "updated_at": updated_at.isoformat(timespec="seconds"),
    }
    return Event("SHOP", webhook_id, None, datetime.now(UTC).isoformat(), json.dumps(content))


@pytest.mark.parametrize(
    "order",
    [
        *EVERYDAY,
        # .ci/run has time for a third of them
        *(
            pytest.param(order, marks=pytest.mark.soak if n % 3 else pytest.mark.long)
            for n, order in enumerate(ORDERS)
            if order not in EVERYDAY
        ),
    ],
    ids=" ".join,
)
def test_all_orders_end_in_one_state(empty_place: Place, morning: Morning, order: tuple[str, ...]) -> None:
    place = empty_place
    levels = [(item, location) for item in (TEE_S, TEE_M) for location in (BROADWAY, BROOKLYN)]
    for step in order:
        match step:
            case "webhook":
                # after the reset, before the read, between both
                imported(
                    place,
                    update("w1", levels[0], 8, morning.began_at - timedelta(minutes=10)),
                    update("w2", levels[1], 7, morning.began_at - timedelta(minutes=40)),
                    update("w3", levels[2], 6, morning.began_at - timedelta(minutes=25)),
                )
            case "read":
                place.succeed("process_bulk_imported_files")
            case "reset":
                place.put_reset(
                    "reset.csv", HEADER + "X,116,5,501\nX,116,3,502\n", morning.began_at - timedelta(minutes=20)
                )
                place.succeed("import_inventory")
            case "echo":
                (pushed_at,) = place.rows("select max(sent_at) from sync_file")[0]
                imported(place, *(update(f"e{n}", level, 8, pushed_at) for n, level in enumerate(levels)))
    assert place.stock() == {
        ("10001", "BROADWAY"): (8, 8),
        ("10001", "BROOKLYN"): (12, 12),
        ("10002", "BROADWAY"): (3, 3),
        ("10002", "BROOKLYN"): (10, 10),
    }
    assert dispositions(place) == {f"w{n}": "applied" for n in (1, 2, 3)} | {f"e{n}": "echo" for n in range(4)}
    assert inbox.waiting() == []


# Updates as (seconds after our first write, available, whether our write has caused it); what we write is 8, then 10, then 12. The
# level showed BEFORE.
BEFORE = 9
WRITTEN = {
    "each write has its echo": [(0, 8, True), (1, 10, True), (2, 12, True)],
    "what we wrote comes once more, by others": [(0, 8, True), (10, BEFORE, False), (20, 8, False)],
    "back to what an earlier write was": [(0, 8, True), (1, 10, True), (9, 8, False)],
}


@pytest.mark.parametrize("updates", WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize("order", ["forwards", "backwards", "at once"])
def test_an_echo_is_what_our_write_has_caused_and_nothing_later(
    empty_place: Place, morning: Morning, updates: list[tuple[int, int, bool]], order: str
) -> None:
    place, level = empty_place, (TEE_S, BROADWAY)
    (pushed_at,) = place.rows("select max(sent_at) from sync_file")[0]
    assert place.rows(f"select min(observed_quantity) from sync_change where shopify_inventory_item_id = {TEE_S}") == [
        (BEFORE,)
    ]
    for nth, quantity in enumerate([units for _, units, is_echo in updates if is_echo][1:], 1):
        at = {"nth": nth, "observed": quantity - 2}
        place.rows(
            "insert into sync_file by name "
            "select * replace (sync_run_id + $nth as sync_run_id, sent_at + to_seconds($nth) as sent_at) from sync_file "
            "where sync_run_id = (select min(sync_run_id) from sync_file)",
            nth=nth,
        )
        place.rows(
            "insert into sync_change by name select * replace (sync_run_id + $nth as sync_run_id, $observed as observed_quantity, "
            "2 as delta) from sync_change where sync_run_id = (select min(sync_run_id) from sync_change)",
            **at,
        )
    events = [update(f"{at}", level, units, pushed_at + timedelta(seconds=at)) for at, units, _ in updates]
    batches = {
        "forwards": [[one] for one in events],
        "backwards": [[one] for one in reversed(events)],
        "at once": [events],
    }
    for batch in batches[order]:
        imported(place, *batch)
    assert dispositions(place) == {f"{at}": "echo" if is_echo else "applied" for at, _, is_echo in updates}
    assert place.stock()["10001", "BROADWAY"][1] == (10 if updates[-1][2] else updates[-1][1])


@pytest.mark.parametrize("order", itertools.permutations(range(3)), ids=str)
def test_of_one_second_the_last_counts_whenever_it_turns_out_to_be_no_echo(
    empty_place: Place, morning: Morning, order: tuple[int, ...]
) -> None:
    (pushed_at,) = empty_place.rows("select max(sent_at) from sync_file")[0]
    updates = [(9, 9.0, 7), (10, 10.1, 6), (10, 10.5, 8)]  # the last shows what we wrote
    for nth in order:
        at, triggered, units = updates[nth]
        event = update(f"{nth}", (TEE_S, BROADWAY), units, pushed_at + timedelta(seconds=at))
        triggered_at = (pushed_at + timedelta(seconds=triggered)).isoformat()
        imported(empty_place, replace(event, triggered_at=triggered_at))
    assert empty_place.stock()["10001", "BROADWAY"][1] == 8


@pytest.mark.parametrize("order", [["between", "echo"], ["echo", "between"], ["both"]], ids=" ".join)
def test_what_came_between_a_write_and_its_echo_counts_in_any_order(
    empty_place: Place, morning: Morning, order: list[str]
) -> None:
    (pushed_at,) = empty_place.rows("select max(sent_at) from sync_file")[0]
    between = update("between", (TEE_S, BROADWAY), 15, pushed_at - timedelta(seconds=30))
    echo = update("echo", (TEE_S, BROADWAY), 8, pushed_at + timedelta(seconds=1))
    for step in order:
        imported(empty_place, *{"between": [between], "echo": [echo], "both": [between, echo]}[step])
    assert empty_place.stock()["10001", "BROADWAY"] == (8, 8)
    assert dispositions(empty_place) == {"between": "applied", "echo": "applied"}
    assert sum(log[2] for log in empty_place.logs() if log[0].startswith("webhooks")) == 2
