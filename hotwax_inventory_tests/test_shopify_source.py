"""Shopify as the master of stock: its webhooks and its daily read become stock, in whatever order they come."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from hotwax_inventory.files import inbox
from hotwax_inventory.files.inbox import Event
from hotwax_inventory.imports.shopify_levels import WrongLines, last_read, load_levels
from hotwax_inventory.imports.shopify_reset import SyncInventory, register_read
from hotwax_inventory.imports.shops import Shop
from hotwax_inventory.ledger import entries, resets
from hotwax_inventory.resources import Warehouse
from hotwax_inventory.shopify import BulkOperation
from hotwax_inventory.simulator.faults import Fault
from hotwax_inventory_tests.conftest import Place
from hotwax_inventory_tests.dagster_dev import free_port, until
from hotwax_inventory_tests.test_webhook import serving

NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
# beyond 2^53, where two neighbours are the same number to whoever reads numbers as floating point
TEE_S, TEE_M, GIFT_KIT = 9_007_199_254_740_993, 9_007_199_254_740_992, 9_007_199_254_740_994
BROADWAY, BROOKLYN, AGGREGATE = 7116, 7281, 7000
REFERENCE = {
    "shopify_shop": """shop_id,shop_domain,product_store_id,inventory_master,shopify_facility_group_mode
SHOP,shop.myshopify.com,STORE,shopify,exclude
OTHER,other.myshopify.com,STORE,hotwax,exclude
""",
    "shopify_shop_location": """shop_id,facility_id,shopify_location_id
SHOP,_NA_,7000
SHOP,BROADWAY,7116
SHOP,BROOKLYN,7281
OTHER,BROADWAY,7116
""",
    "shopify_shop_product": f"""shop_id,product_id,shopify_inventory_item_id
SHOP,10001,{TEE_S}
SHOP,10002,{TEE_M}
SHOP,10009,{GIFT_KIT}
OTHER,10001,{TEE_S}
""",
}


@pytest.fixture
def place(empty_place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place whose shop SHOP is master of its stock, and whose shop OTHER is not."""
    for name, content in REFERENCE.items():
        empty_place.write_reference(name, content)
    httpx.post(f"{empty_place.simulator.addresses.shopify_url}/simulator/reload")
    for name, value in empty_place.simulator.environment().items():
        monkeypatch.setenv(name, value)
    empty_place.succeed("load_reference")
    return empty_place


def moment(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def body(
    item: object = TEE_S, location: object = BROADWAY, available: object = 5, minutes: float = 0, **others: object
) -> str:
    """An update as Shopify words it, with the offset of the shop's zone; `others` replace what is in it."""
    updated_at = (moment(minutes) - timedelta(hours=5)).strftime("%Y-%m-%dT%H:%M:%S-05:00")
    update = {"inventory_item_id": item, "location_id": location, "available": available, "updated_at": updated_at}
    return json.dumps(update | others)


def event(webhook_id: str, content: str, shop: str = "SHOP", triggered: float | None = None) -> Event:
    triggered_at = moment(triggered).isoformat() if triggered is not None else None
    return Event(shop, webhook_id, triggered_at, moment(60).isoformat(), content)


def imported(place: Place, *events: Event) -> None:
    """Let a batch of events be imported and posted."""
    inbox.write(events)
    place.succeed("import_webhook_updates")


def dispositions(place: Place) -> dict[str, str]:
    return dict(place.rows("select webhook_id, disposition from shopify_webhook_update order by log_id, line_number"))


def test_an_update_resets_atp_at_its_own_time_and_moves_qoh_alike(place: Place) -> None:
    place.put_reset("reset.csv", "Item,externalFacilityId,availableQty,idValue\nTEE-S,116,10,501\n", moment(-60))
    place.succeed("import_inventory")
    imported(
        place,
        event("a", body(available=7)),
        event("b", body(TEE_M, BROOKLYN, 0, 1)),
        event("c", body(available=6, minutes=2)),
    )
    assert place.stock() == {("10001", "BROADWAY"): (6, 6), ("10002", "BROOKLYN"): (0, 0)}
    assert place.rows(
        "select available_to_promise_diff, quantity, effective_at from inventory_item_detail where log_id = 2 order by seq"
    ) == [(-3, 7, moment(0)), (-1, 6, moment(2))]
    assert place.logs()[1] == ("webhooks-000000000002", "finished", 3, 0, 0)
    assert inbox.waiting() == []


def test_every_update_has_a_row_that_says_what_became_of_it(place: Place) -> None:
    imported(
        place,
        event("applied", body()),
        event("null", body(TEE_M, available=None)),
        event("kit", body(GIFT_KIT)),
        event("not_applied", body(), shop="OTHER"),
        event("not_applied too", body(item=1, location=2), shop="OTHER"),
        event("no shop", body(), shop="GONE"),
        event("no item", body(item=TEE_S + 7)),
        event("no location", body(location=7117)),
        event("aggregate", body(location=AGGREGATE)),
        event("not JSON", "\x00nonsense"),
        event("a list", "[" * 5000 + "]" * 5000),
        event("cut", body()[:-3]),
        event("missing", json.dumps({"inventory_item_id": TEE_S, "location_id": BROADWAY})),
        event("no number", body(available="1e3")),
        event("too many", body(available=3_000_000_000)),
        event("too long", body(item=10**30)),
        event("no zone", body(updated_at="2026-03-05T12:00:00")),
        event("no time", body(updated_at="infinity")),
        event("no month", body(updated_at="2026-13-05T12:00:00Z")),
    )
    found = dispositions(place)
    assert [name for name, disposition in found.items() if not name.startswith(disposition)] == [
        name for name, disposition in found.items() if disposition == "refused"
    ]
    assert place.stock() == {("10001", "BROADWAY"): (5, 5)}
    assert place.logs() == [("webhooks-000000000001", "finished_with_errors", 19, 14, 4)]
    reasons = dict(
        place.rows(
            "select webhook_id, reason from data_manager_error join shopify_webhook_update using (log_id, line_number)"
        )
    )
    assert reasons["no item"] == f"Could not find a product of inventory item {TEE_S + 7} of shop SHOP"
    assert reasons["no location"] == "Could not find location 7117 of shop SHOP"
    assert reasons["no shop"] == "Shop GONE is not in shopify_shop.csv"
    assert reasons["no zone"] == reasons["no month"] == "updated_at is not a time with its zone"


def test_updates_count_in_the_order_of_their_times_whatever_order_they_come_in(place: Place) -> None:
    imported(place, event("new", body(available=3, minutes=5)))
    imported(place, event("old", body(available=9, minutes=1)), event("newer", body(available=2, minutes=6)))
    # within Shopify's second the time of the webhook decides, and without that the smaller quantity
    imported(place, event("same second, later", body(TEE_M, available=4, minutes=9), triggered=9.9))
    imported(place, event("same second, earlier", body(TEE_M, available=8, minutes=9), triggered=9.1))
    imported(place, event("tie", body(available=6, minutes=6)), event("smaller tie", body(available=1, minutes=6)))
    assert dispositions(place) == {
        "new": "applied",
        "old": "older",
        "newer": "applied",
        "same second, later": "applied",
        "same second, earlier": "older",
        "tie": "older",
        "smaller tie": "applied",
    }
    assert place.stock() == {("10001", "BROADWAY"): (1, 1), ("10002", "BROADWAY"): (4, 4)}


@pytest.mark.parametrize("batches", ["one", "one each", "one each, backwards"])
def test_updates_of_one_second_end_alike_however_they_come(place: Place, batches: str) -> None:
    place.write_reference("shopify_shop", REFERENCE["shopify_shop"].replace("STORE,hotwax", "STORE,shopify"))
    place.succeed("load_reference")
    events = [
        event("with a time of its own", body(available=7, minutes=9), triggered=9.5),
        event("of another shop at the facility", body(available=9, minutes=9), "OTHER", triggered=9.5),
        event("without", body(available=8, minutes=9)),
        event("refused", body(TEE_M, available=-3_000_000_000, minutes=9)),
        event("right", body(TEE_M, available=6, updated_at=f"{moment(9):%Y-%m-%dT%H:%MZ}")),
    ]
    if batches == "one":
        imported(place, *events)
    for one in {"one each": events, "one each, backwards": events[::-1]}.get(batches, ()):
        imported(place, one)
    assert place.stock() == {("10001", "BROADWAY"): (7, 7), ("10002", "BROADWAY"): (6, 6)}


def test_a_time_that_has_not_come_yet_is_not_believed(place: Place) -> None:
    imported(place, event("far ahead", body(available=3, minutes=60 * 24 * 365)))
    assert place.stock() == {("10001", "BROADWAY"): (3, 3)}
    assert place.rows("select updated_at from shopify_webhook_update") == [(moment(70),)]
    imported(
        place, replace(event("a day later", body(available=9, minutes=1440)), received_at=moment(1440).isoformat())
    )
    assert place.stock() == {("10001", "BROADWAY"): (9, 9)}


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"{}\n", b"\xff\xfe\n", b"[]\n", b'{"shop_id": "SHOP", "received_at": "now"}\n']
)
def test_a_damaged_file_of_the_inbox_keeps_nothing_else_back(place: Place, damage: bytes) -> None:
    inbox.write([event("a", body(available=7)), event("b", body(TEE_M, available=8))])
    (spoilt,) = inbox.waiting()
    spoilt.write_bytes(spoilt.read_bytes() + damage)
    (inbox.inbox() / "alone.jsonl").write_bytes(damage)
    assert inbox.recent_ids() == [("SHOP", "a"), ("SHOP", "b")]
    result = place.succeed("import_webhook_updates")
    assert place.stock() == {("10001", "BROADWAY"): (7, 7), ("10002", "BROADWAY"): (8, 8)}
    assert inbox.waiting() == []
    (check,) = [check for check in result.get_asset_check_evaluations() if check.check_name == "rows_accepted"]
    kept = sorted(path.name for path in inbox.inbox().glob("*.damaged"))
    assert kept == ([spoilt.with_suffix(".damaged").name, "alone.damaged"] if damage else [])
    assert check.passed == (not damage)
    assert all(name in (check.description or "") for name in kept)


def test_an_update_that_comes_again_is_one_update(place: Place) -> None:
    first, other = event("a", body(available=7)), event("b", body(available=None))
    imported(place, first, other, first)
    imported(place, first)
    imported(place, other, event("c", body(item=1)), event("a", body(), shop="OTHER"))
    assert [log[2] for log in place.logs()] == [2, 2]
    assert place.rows("select count(*) from inventory_item_detail") == [(1,)]


def show(place: Place, minutes: float, *levels: tuple[int, int, int, int]) -> None:
    """What SHOP shows from now on, at that time by its own clock: item, location, available, committed. All else is gone."""
    shops = place.simulator.shops
    shops.now = lambda: moment(minutes)
    with shops.transaction() as db:
        db.execute("delete from level where shop_id = 'SHOP'")
    for item, location, available, committed in levels:
        shops.add_item("SHOP", item, f"SKU-{item}")
        shops.set_level("SHOP", item, location, available, committed)


def test_a_whole_read_resets_qoh_by_what_is_on_hand_at_the_time_of_the_read(place: Place) -> None:
    imported(
        place,
        event("before", body(available=1, minutes=-5)),
        event("after", body(TEE_M, BROOKLYN, 2, 5)),
        event("gone from the shop", body(TEE_M, BROADWAY, 8)),
    )
    levels = [(TEE_S, BROADWAY, 7, 2), (TEE_M, BROOKLYN, 20, 3), (TEE_S, BROOKLYN, 0, 0), (GIFT_KIT, BROADWAY, 5, 0)]
    show(place, 0, *levels, (TEE_S, AGGREGATE, 99, 0), (TEE_S + 9, BROADWAY, 4, 0))
    place.succeed("sync_inventory_from_shopify", shop="SHOP")
    # what came after the read stands, and moves both counters as it did
    assert place.stock() == {
        ("10001", "BROADWAY"): (9, 9),
        ("10002", "BROOKLYN"): (2, 2),
        ("10001", "BROOKLYN"): (0, 0),
        ("10002", "BROADWAY"): (8, 8),
    }
    assert place.logs()[1][1:] == ("finished", 6, 0, 3)
    assert place.rows("select effective_at, config_id from data_manager_log where log_id = 2") == [
        (moment(0), "SYNC_SHOPIFY_INV")
    ]
    changed = {"shopify_inventory_reset": {"includeAll": False}}
    place.simulator.shops.add_location("SHOP", 7043)
    show(place, 60, *levels, (TEE_S, 7043, 6, 0))
    place.succeed("sync_inventory_from_shopify", changed, shop="SHOP")
    assert place.logs()[2][1:] == ("finished", 5, 0, 2)
    place.simulator.shops.now = lambda: moment(120)
    place.succeed("sync_inventory_from_shopify", changed, shop="SHOP")
    # what was not mapped then is not what has not changed
    place.simulator.shops.now = lambda: moment(180)
    place.write_reference("shopify_shop_location", f"{REFERENCE['shopify_shop_location']}SHOP,WAREHOUSE,7043\n")
    place.succeed("load_reference")
    place.succeed("sync_inventory_from_shopify", changed, shop="SHOP")
    assert place.logs()[4][1:] == ("finished", 5, 0, 4)
    assert place.stock()["10001", "WAREHOUSE"] == (6, 6)
    # nor is a number that another place has now
    place.simulator.shops.now = lambda: moment(240)
    swapped = (
        REFERENCE["shopify_shop_location"]
        .replace("SHOP,BROADWAY,", "SHOP,?,")
        .replace("SHOP,BROOKLYN,", "SHOP,BROADWAY,")
    )
    place.write_reference("shopify_shop_location", swapped.replace("SHOP,?,", "SHOP,BROOKLYN,"))
    place.succeed("load_reference")
    place.succeed("sync_inventory_from_shopify", changed, shop="SHOP")
    assert {key: counts for key, counts in place.stock().items() if key[0] == "10001"} == {
        ("10001", "BROADWAY"): (0, 0),
        ("10001", "BROOKLYN"): (9, 9),
        ("10001", "WAREHOUSE"): (6, 6),
    }


@pytest.mark.parametrize(
    ("kind", "times", "is_read"),
    [
        ("bulk_failed", 2, True),
        ("bulk_partial", 9, False),
        ("cut_last_line", 1, True),
        ("bulk_expired", 9, False),
        ("duplicate_lines", 1, True),
        ("duplicate_lines", 9, False),
    ],
)
def test_a_read_that_is_not_whole_changes_nothing_and_is_begun_again(
    place: Place, kind: str, times: int, is_read: bool
) -> None:
    show(place, 0, (TEE_S, BROADWAY, 7, 0))
    place.simulator.faults.add(Fault("bulkOperationRunQuery", kind, times=times))
    result = place.run("sync_inventory_from_shopify", shop="SHOP")
    assert result.success is is_read
    assert place.stock() == ({("10001", "BROADWAY"): (7, 7)} if is_read else {})
    if not is_read:
        assert place.logs() == []
        assert "Nothing was changed" in place.failure(result)


def test_a_read_is_registered_once_and_may_be_left_to_the_queue(place: Place) -> None:
    show(place, 0, (TEE_S, BROADWAY, 7, 0))
    place.succeed("sync_inventory_from_shopify", {"shopify_inventory_reset": {"scheduleNow": False}}, shop="SHOP")
    assert place.stock() == {}
    assert place.logs()[0][1:3] == ("pending", 1)
    place.succeed("process_bulk_imported_files", {"data_manager_log": {"config_id": "RESET_INVENTORY"}})
    assert place.stock() == {}
    place.succeed("process_bulk_imported_files", {"data_manager_log": {"config_id": "SYNC_SHOPIFY_INV"}})
    assert place.stock() == {("10001", "BROADWAY"): (7, 7)}
    with Warehouse().transaction() as connection:
        read, shop = last_read("SHOP", connection), Shop("SHOP", "", "STORE", "shopify", "exclude")
        assert register_read(shop, read, SyncInventory.model_validate({}), "again", connection) == (1, {})
    assert len(place.logs()) == 1


def test_a_read_that_empties_the_shop_is_held_until_somebody_approves_the_next_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resets, "FEWEST_STOCKED_KEYS", 1)
    monkeypatch.setattr(entries, "BATCH_ROWS", 1)  # every read is a large one
    levels = [(TEE_S, BROADWAY), (TEE_S, BROOKLYN), (TEE_M, BROADWAY)]
    keys = [("10001", "BROADWAY"), ("10001", "BROOKLYN"), ("10002", "BROADWAY")]
    show(place, 0, *((*level, 7, 1) for level in levels))
    place.succeed("sync_inventory_from_shopify", shop="SHOP")
    imported(place, event("a", body(available=6, minutes=30)), event("b", body(available=8, minutes=10)))
    show(place, 20, *((*level, 0, 0) for level in levels))
    place.succeed("sync_inventory_from_shopify", shop="SHOP")
    assert [log[1] for log in place.logs()] == ["finished", "finished", "held"]
    ((message,),) = place.rows("select message from data_manager_log where status_id = 'held'")
    assert "run sync_inventory_from_shopify for the shop with approve = true" in message
    assert place.stock() == dict.fromkeys(keys, (8, 8)) | {keys[0]: (6, 6)}
    show(place, 25, *((*level, 0, 0) for level in levels))
    place.succeed("sync_inventory_from_shopify", {"shopify_inventory_reset": {"approve": True}}, shop="SHOP")
    assert [log[1] for log in place.logs()] == ["finished", "finished", "cancelled", "finished"]
    # the webhook is newer than both
    assert place.stock() == dict.fromkeys(keys, (0, 0)) | {keys[0]: (6, 6)}
    assert place.rows("select count(*) from shopify_inventory_reset") == [(9,)]
    # when they are old, rows that made no entry go
    place.rows("update data_manager_log set finished_at = finished_at - interval 8 days")
    imported(place, event("c", body(available=5, minutes=40)))
    assert place.rows("select log_id, line_number from shopify_inventory_reset") == place.rows(
        "select log_id, line_number from inventory_item_detail where log_id in (1, 4) order by seq"
    )
    assert sorted(dispositions(place)) == ["a", "c"]


def test_a_level_that_stands_twice_is_found_at_however_many_locations(place: Place) -> None:
    levels = [(item, location) for item in (1, 2) for location in range(130)]

    def read(*again: tuple[int, int], lacking: int = 0) -> int:
        lines = [{"id": f"gid://shopify/InventoryItem/{item}", "sku": str(item), "tracked": True} for item in (1, 2)]
        lines += [
            {
                "id": f"gid://shopify/InventoryLevel/{location}?inventory_item_id={item}",
                "updatedAt": "2026-11-22T10:00:00Z",
                "item": {"id": f"gid://shopify/InventoryItem/{item}"},
                "location": {"id": f"gid://shopify/Location/{location}", "isActive": True},
                "quantities": [{"name": "on_hand", "quantity": location}, {"name": "available", "quantity": item}],
                "__parentId": f"gid://shopify/InventoryItem/{item}",
            }
            for item, location in [*levels, *again]
        ]
        path = place.home / "levels.jsonl"
        path.write_text("\n".join(map(json.dumps, lines)))
        time = "2026-11-22T10:00:00Z"
        objects = len(lines) + lacking
        operation = BulkOperation("1", "COMPLETED", None, time, time, objects, path.stat().st_size, None)
        with Warehouse().transaction() as connection:
            return load_levels("SHOP", operation, datetime.now(UTC), path, connection)

    assert read() == 260
    assert place.rows("select sum(available), sum(on_hand), max(updated_at)::varchar from shopify_inventory_level") == [
        (390, 2 * sum(range(130)), "2026-11-22 10:00:00+00")
    ]
    for again in ((1, 0), (2, 62), (2, 63), (1, 129)):
        with pytest.raises(WrongLines, match="1 items or levels"):
            read(again)
    with pytest.raises(WrongLines, match="262 items and levels of 263 objects"):
        read(lacking=1)


def test_webhooks_of_a_shop_that_is_about_to_be_loaded_wait_for_it(place: Place) -> None:
    place.write_reference("shopify_shop", f"{REFERENCE['shopify_shop']}NEW,new.myshopify.com,STORE,shopify,exclude\n")
    mapped = f"{REFERENCE['shopify_shop_location']}NEW,BROADWAY,{BROADWAY}\n"
    place.write_reference("shopify_shop_location", mapped)
    place.write_reference("shopify_shop_product", f"{REFERENCE['shopify_shop_product']}NEW,10001,{TEE_S}\n")
    inbox.write([event("early", body(), "NEW")])
    assert "Run load_reference, then this again" in place.failure(place.run("import_webhook_updates"))
    assert len(inbox.waiting()) == 1
    place.succeed("load_reference")
    place.succeed("import_webhook_updates")
    assert dispositions(place) == {"early": "applied"}
    assert inbox.waiting() == []


def test_what_another_master_shows_is_recorded_and_never_applied(place: Place) -> None:
    place.succeed("sync_inventory_from_shopify", shop="OTHER")
    assert place.rows("select count(*) > 0 from shopify_inventory_level where shop_id = 'OTHER'") == [(True,)]
    assert place.logs()[0][1] == "finished"
    assert place.logs()[0][2] == place.logs()[0][4] > 0
    # so is a read that waits while its shop gets another master
    show(place, 0, (TEE_S, BROADWAY, 7, 0))
    place.succeed("sync_inventory_from_shopify", {"shopify_inventory_reset": {"schedule_now": False}}, shop="SHOP")
    place.write_reference("shopify_shop", REFERENCE["shopify_shop"].replace("shopify,", "hotwax,"))
    place.succeed("load_reference")
    place.succeed("process_bulk_imported_files")
    assert place.logs()[1][1:] == ("finished", 1, 0, 1)
    # and one that waits while Shopify becomes its master: it has no rows
    place.succeed("sync_inventory_from_shopify", {"shopify_inventory_reset": {"schedule_now": False}}, shop="SHOP")
    place.write_reference("shopify_shop", REFERENCE["shopify_shop"])
    place.succeed("load_reference")
    place.succeed("process_bulk_imported_files")
    assert place.logs()[2][1:] == ("finished", 1, 0, 1)
    assert [message[:42] for (message,) in place.rows("select message from data_manager_log order by log_id")][1:] == [
        "Recorded only: Shopify is not the master o",
        "Recorded only: Shopify was not yet the mas",
    ]
    assert place.stock() == {}


def subscriptions(place: Place) -> list[str]:
    return [uri for (uri,) in place.simulator.shops.rows("select uri from webhook_subscription order by number")]


def test_the_subscription_is_made_once_kept_up_and_ended(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = "https://hooks.example.com/webhooks/shopify/SHOP"

    def switched(**config: str) -> bool:
        """Whether the subscription was still there."""
        result = place.succeed("webhook_subscription", {"shopify_webhook_subscription": config}, shop="SHOP")
        (check,) = result.get_asset_check_evaluations()
        return check.passed

    result = place.run("webhook_subscription", shop="SHOP")
    assert "WEBHOOK_CALLBACK_URL is not set" in place.failure(result)
    monkeypatch.setenv("WEBHOOK_CALLBACK_URL", "https://hooks.example.com/webhooks/shopify/")
    assert [switched(), switched(), subscriptions(place)] == [True, True, [ours]]
    with place.simulator.shops.transaction() as db:
        db.execute("delete from webhook_subscription")
    assert [switched(action="check"), subscriptions(place)] == [False, [ours]]
    elsewhere = "https://elsewhere.example.com/SHOP"
    assert [switched(callback_url=elsewhere), subscriptions(place)] == [True, [elsewhere]]
    with place.simulator.shops.transaction() as db:
        db.execute("create trigger refused before insert on webhook_subscription begin select raise(ignore); end")
    refused = {"shopify_webhook_subscription": {"callback_url": ours}}
    assert "Shopify did not change" in place.failure(place.run("webhook_subscription", refused, shop="SHOP"))
    assert subscriptions(place) == [elsewhere], "the one that works stays"
    with place.simulator.shops.transaction() as db:
        db.execute("drop trigger refused")
    with monkeypatch.context() as unset:
        unset.delenv("WEBHOOK_CALLBACK_URL")
        assert [switched(action="check"), subscriptions(place)] == [True, [elsewhere]]
    with place.simulator.shops.transaction() as db:
        db.execute("create trigger kept before delete on webhook_subscription begin select raise(ignore); end")
    moved = {"shopify_webhook_subscription": {"callback_url": ours}}
    assert "Shopify did not change" in place.failure(place.run("webhook_subscription", moved, shop="SHOP"))
    with place.simulator.shops.transaction() as db:
        db.execute("drop trigger kept")
    assert [switched(callback_url=elsewhere), subscriptions(place)] == [True, [elsewhere, ours]]
    with place.simulator.shops.transaction() as db:
        db.execute("delete from webhook_subscription where uri = ?", [ours])
    assert [switched(action="unsubscribe", callback_url=elsewhere), subscriptions(place)] == [True, []]
    assert [switched(action="check"), subscriptions(place)] == [True, []]
    assert [switched(), subscriptions(place)] == [True, [ours]]


def sent(place: Place, status: int) -> list[tuple[str, int]]:
    """(webhook id, available) of the deliveries that were answered so; 0: not at all."""
    calls = [call for call in place.simulator.shops.calls if call.root_field == "webhooks" and call.status == status]
    return [(call.version, json.loads(call.summary)["available"]) for call in calls]


def test_a_sale_reaches_the_ledger_whatever_happens_to_its_webhook_on_the_way(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    shops, faults, port = place.simulator.shops, place.simulator.faults, free_port()
    monkeypatch.setenv("WEBHOOK_CALLBACK_URL", f"http://127.0.0.1:{port}/webhooks/shopify")
    shops.add_item("SHOP", TEE_S, "TEE-S")
    shops.set_level("SHOP", TEE_S, BROADWAY, 10)
    place.simulator.deliveries.time_scale = 0.01
    place.succeed("webhook_subscription", shop="SHOP")

    def sell(minutes: float, fault: Fault | None = None) -> None:
        """A sale, whose webhook is sent at once unless it is late."""
        before, now = len(shops.calls), moment(minutes)
        shops.now = lambda: now
        if fault:
            faults.add(fault)
        shops.sell("SHOP", TEE_S, BROADWAY, 1)
        held = "select count(*) from webhook_delivery where body is not null and attempts = 0"
        until(lambda: len(shops.calls) > before or shops.rows(held) != [(0,)], "the webhook was sent, or is held back")

    # nobody answers: the same payload comes again, after the one of a later sale
    sell(0)
    assert sent(place, 0)[0][1] == 9
    with serving(port):
        sell(1)
        sell(2, Fault("webhooks", "duplicate"))
        sell(3, Fault("webhooks", "late", value=200))
        sell(4)
        until(lambda: {9, 8, 7, 6, 5} <= {available for _, available in sent(place, 200)}, "all have arrived")
    arrived = [available for _, available in sent(place, 200)]
    assert {webhook_id for webhook_id, available in sent(place, 200) if available == 9} == {sent(place, 0)[0][0]}
    assert arrived.count(7) == 2
    assert arrived.index(6) > arrived.index(5)
    place.succeed("import_webhook_updates")
    assert place.stock() == {("10001", "BROADWAY"): (5, 5)}
    assert sorted(place.rows("select available, disposition from shopify_webhook_update")) == [
        (available, "applied") for available in (5, 6, 7, 8, 9)
    ]
    # a receiver that never answers loses its subscription, which the daily check makes again
    place.simulator.deliveries.time_scale = 0.0
    sell(5)
    until(lambda: not subscriptions(place), "the subscription is gone")
    result = place.succeed("webhook_subscription", {"shopify_webhook_subscription": {"action": "check"}}, shop="SHOP")
    assert [check.passed for check in result.get_asset_check_evaluations()] == [False]
    assert len(subscriptions(place)) == 1
