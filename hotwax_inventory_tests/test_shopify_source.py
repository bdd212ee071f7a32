"""Shopify as the master of stock: its webhooks and its daily read become stock, in whatever order they come."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from hotwax_inventory.files import inbox
from hotwax_inventory.files.inbox import Event
from hotwax_inventory_tests.conftest import Place

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
def place(empty_place: Place) -> Place:
    """A place whose shop SHOP is master of its stock."""
    for name, content in REFERENCE.items():
        empty_place.write_reference(name, content)
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
    )
    found = dispositions(place)
    assert [name for name, disposition in found.items() if not name.startswith(disposition)] == [
        name for name, disposition in found.items() if disposition == "refused"
    ]
    assert place.stock() == {("10001", "BROADWAY"): (5, 5)}
    assert place.logs() == [("webhooks-000000000001", "finished_with_errors", 18, 13, 4)]
    reasons = dict(
        place.rows(
            "select webhook_id, reason from data_manager_error join shopify_webhook_update using (log_id, line_number)"
        )
    )
    assert reasons["no item"] == f"Could not find a product of inventory item {TEE_S + 7} of shop SHOP"
    assert reasons["no location"] == "Could not find location 7117 of shop SHOP"
    assert reasons["no shop"] == "Shop GONE is not in shopify_shop.csv"
    assert reasons["no zone"] == "updated_at is not a time with its zone"


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


def test_an_update_that_comes_again_is_one_update(place: Place) -> None:
    first, other = event("a", body(available=7)), event("b", body(available=None))
    imported(place, first, other, first)
    imported(place, first)
    imported(place, other, event("c", body(item=1)), event("a", body(), shop="OTHER"))
    assert [log[2] for log in place.logs()] == [2, 2]
    assert place.rows("select count(*) from inventory_item_detail") == [(1,)]
