"""The recent job: what has moved is sent at the cost of what has moved, and sales in flight stand where that is asked for."""

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from hotwax_inventory import shopify_documents
from hotwax_inventory.automation.schedules import upload_recent_inventory_changes_quarter_hourly
from hotwax_inventory.publish import decisions, sending, settling
from hotwax_inventory.resources import Warehouse
from hotwax_inventory.shopify import ShopifyClient, ShopifyUnavailable
from hotwax_inventory.simulator.faults import Fault
from hotwax_inventory_tests.conftest import REFERENCE, Place
from hotwax_inventory_tests.test_feeds import KITS, QUEUE
from hotwax_inventory_tests.test_publish import (
    HEADER,
    TARGETS,
    calls,
    item,
    materialised,
    outcomes,
    show,
    shown,
    stocked,
)

__all__ = ["stocked"]

RECENT = "upload_recent_inventory_changes"
KIT_HEADER = "productId,productIdTo,quantity,productAssocTypeId\n"
LAST_PUBLISHED = {"difference_from": "last_published"}


@pytest.fixture
def synced(stocked: Place, kept: Path) -> Place:
    """A place whose shop shows what we promise."""
    warehouse = kept / "synced.duckdb"
    if warehouse.exists():
        show(stocked, 0)
    stocked.begin_with(warehouse, lambda: stocked.succeed("hard_sync", shop="SHOP"))
    assert shown(stocked) == TARGETS
    return stocked


def reset(place: Place, name: str, *rows: tuple[str, int, str]) -> None:
    content = "".join(f",{facility},{quantity},{product}\n" for facility, quantity, product in rows)
    place.put_reset(f"{name}.csv", HEADER + content)
    assert place.run("import_inventory").success


def move(sql: str) -> None:
    """Change a table by hand, with `{seq}` as the new position in the one sequence."""
    with Warehouse().transaction() as connection:
        connection.execute("update sequence set last_value = last_value + 1")
        (seq,) = connection.execute("select last_value from sequence").fetchall()[0]
        connection.execute(sql.format(seq=seq))


def test_where_nothing_has_moved_shopify_is_not_called(synced: Place) -> None:
    synced.simulator.shops.set_available("SHOP", item(synced, "TEE-L"), 7281, 77)
    before = len(synced.simulator.shops.calls)
    assert synced.run(RECENT, shop="SHOP").success
    assert len(synced.simulator.shops.calls) == before
    assert synced.rows("select count(*) from sync_run") == [(1,)]


def test_what_has_moved_is_sent_and_nothing_else(synced: Place) -> None:
    synced.simulator.shops.set_available("SHOP", item(synced, "TEE-L"), 7281, 77)
    reset(synced, "later", ("116", 9, "501"))
    before = len(synced.simulator.shops.calls)
    assert synced.run(RECENT, shop="SHOP").success
    moved = {("TEE-S", 7116): 9, ("TEE-S", 7000): 23}
    assert shown(synced) == TARGETS | moved | {("TEE-L", 7281): 77}
    assert synced.rows("select observed_quantity, target_quantity, outcome from sync_change where sync_run_id = 2") == [
        (20, 23, "applied"),
        (6, 9, "applied"),
    ]
    made = [call.root_field for call in synced.simulator.shops.calls[before:]]
    assert made == ["currentAppInstallation", "nodes", "currentAppInstallation", "inventoryAdjustQuantities", "nodes"]
    assert synced.rows("select max(seq) = (select last_value from sequence) from sync_watermark") == [(True,)]


def test_without_a_watermark_everything_is_compared(stocked: Place) -> None:
    stocked.succeed(RECENT, shop="SHOP")
    assert shown(stocked) == TARGETS, "a shop that was never read is read first"
    assert stocked.run("hard_sync", {"hard_sync_delta": {"use_valid_atp": False}}, shop="SHOP").success
    stocked.simulator.shops.set_available("SHOP", item(stocked, "TEE-L"), 7281, 77)
    assert stocked.run(RECENT, shop="SHOP").success, "that sync was of other numbers"
    assert shown(stocked) == TARGETS


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (
            "insert into product_facility values ('10001', 'BROADWAY', 4, null, null, {seq})",
            {("TEE-S", 7116): 2, ("TEE-S", 7000): 16},
        ),
        (
            "insert into product_facility values ('10003', 'CONFIGURATION', 30, null, null, {seq})",
            {("TEE-L", 7000): 11},
        ),
        (
            "insert into virtual_queue_item values ('O1', '1', '10002', 'PARKING', 5, 'STORE', 5, 5, {seq})",
            {("TEE-M", 7000): 17},
        ),
        (
            "insert into kit_inventory values ('10009', 'BROADWAY', 3, {seq})",
            {("GIFT-KIT", 7116): 3, ("GIFT-KIT", 7000): 3},
        ),
    ],
    ids=["rule", "threshold", "queue", "kit"],
)
def test_rules_queue_and_kits_move_a_level_as_stock_does(
    synced: Place, sql: str, expected: dict[tuple[str, int], int]
) -> None:
    move(sql)
    assert synced.run(RECENT, shop="SHOP").success
    for (sku, location), quantity in expected.items():
        assert synced.simulator.shops.level("SHOP", item(synced, sku), location).available == quantity
    assert len(synced.rows("select 1 from sync_change where sync_run_id = 2")) == len(expected)


def test_a_dry_run_changes_nothing_that_a_later_sync_goes_by(synced: Place) -> None:
    before = synced.rows("from published_level order by all")
    synced.simulator.shops.set_available(
        "SHOP", item(synced, "TEE-S"), 7116, 4
    )  # two are sold, of which nobody has told
    reset(synced, "later", ("116", 4, "501"))
    assert materialised(
        synced, "hard_sync", "shopify_inventory_level", "shopify_shop_product", "hard_sync_delta"
    ).success
    assert synced.rows("from published_level order by all") == before
    synced.succeed(RECENT, {"recent_change_delta": {"difference_from": "last_published"}}, shop="SHOP")
    assert shown(synced)["TEE-S", 7116] == 2, "both sales count"


def shows_what_nobody_wrote(place: Place) -> None:
    """Let the shop show our numbers without that we ever had to write any."""
    place.rows("delete from published_level")
    place.succeed("hard_sync", shop="SHOP")


@pytest.mark.parametrize("is_written", [True, False], ids=["written", "shown before"])
def test_products_that_have_left_their_channel_by_the_clock_go_from_the_aggregate_location(
    synced: Place, is_written: bool
) -> None:
    if not is_written:
        shows_what_nobody_wrote(synced)
    synced.rows("update facility_group set thru_date = current_timestamp where facility_id <> 'CONFIGURATION'")
    synced.succeed(RECENT, shop="SHOP")
    assert shown(synced) == TARGETS | dict.fromkeys([("TEE-S", 7000), ("TEE-M", 7000), ("TEE-L", 7000)], 0)
    before = len(synced.simulator.shops.calls), synced.rows("from sequence")
    synced.succeed(RECENT, shop="SHOP")
    assert (len(synced.simulator.shops.calls), synced.rows("from sequence")) == before


def test_a_shop_that_takes_the_other_side_of_its_group_has_moved(synced: Place) -> None:
    synced.write_reference("facility_group", f"{REFERENCE['facility_group']}OWN,OTHER,BROADWAY,2024-01-01,\n")
    synced.write_reference("shopify_shop", REFERENCE["shopify_shop"].replace("exclude", "include"))
    synced.succeed("load_reference")
    group = {"shopify_facility_group_id": "OWN"}
    synced.succeed("hard_sync", {"hard_sync_delta": group}, "SHOP")
    synced.simulator.shops.set_available("SHOP", item(synced, "TEE-S"), 7281, 77)
    synced.write_reference("shopify_shop", REFERENCE["shopify_shop"])
    synced.succeed("load_reference")
    synced.succeed(RECENT, {"recent_change_delta": group}, "SHOP")
    assert shown(synced) == TARGETS


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        (
            "facility_group",
            "FAC_GRP,CHANNEL_FAC_GROUP,WAREHOUSE,2024-01-01,\n",
            "",
            {("TEE-S", 7000): 10, ("TEE-M", 7000): 2, ("TEE-L", 7000): 11},
        ),
        (
            "facility",
            "Broadway,RETAIL_STORE,PHYSICAL_STORE",
            "Broadway,GENERAL,VIRTUAL_FACILITY",
            {("TEE-S", 7000): 14, ("TEE-L", 7000): 38},
        ),
        ("product_store", "STORE,Y,N", "STORE,Y,Y", {("TEE-S", 7000): 0}),
        ("product_store", "STORE,Y,N", "STORE,N,N", {}),
    ],
)
def test_what_a_new_reference_makes_of_a_channel_is_sent_as_what_has_moved(
    synced: Place, file: str, old: str, new: str, expected: dict[tuple[str, int], int]
) -> None:
    synced.write_reference("virtual_queue_item", f"{QUEUE}O1,1,10001,PARKING,5,STORE\n")
    synced.succeed("load_reference")
    synced.succeed(RECENT, shop="SHOP")
    assert shown(synced) == TARGETS | {("TEE-S", 7000): 15}
    if file != "product_store":
        (synced.reference_dir / "virtual_queue_item.csv").unlink()
    synced.write_reference(file, REFERENCE[file].replace(old, new))
    synced.succeed("load_reference")
    synced.succeed(RECENT, shop="SHOP")
    assert shown(synced) == TARGETS | expected
    synced.succeed("hard_sync", shop="SHOP")
    assert synced.rows("select change_count from sync_run order by sync_run_id desc limit 1") == [(0,)]


def test_what_has_left_one_channel_goes_though_another_was_published_there_first(synced: Place) -> None:
    others = [line.replace("FAC_GRP", "OTHER") for line in REFERENCE["facility_group"].splitlines()[1:]]
    synced.write_reference("facility_group", "\n".join([REFERENCE["facility_group"].rstrip(), *others, ""]))
    synced.succeed("load_reference")
    for _ in range(2):
        synced.succeed("hard_sync", {"hard_sync_delta": {"facility_group_id": "OTHER"}}, "SHOP")
        assert synced.rows("select change_count from sync_run order by sync_run_id desc limit 1") == [(0,)]
    ended = "update facility_group set thru_date = current_timestamp where facility_group_id = 'OTHER'"
    synced.rows(f"{ended} and facility_id <> 'CONFIGURATION'")
    synced.succeed("hard_sync", {"hard_sync_delta": {"facility_group_id": "OTHER"}}, "SHOP")
    assert shown(synced) == TARGETS | {key: 0 for key in TARGETS if key[1] == 7000}


@pytest.mark.parametrize("is_written", [True, False], ids=["written", "shown before"])
def test_a_kit_that_nothing_makes_any_longer_is_on_sale_nowhere(synced: Place, is_written: bool) -> None:
    kit = item(synced, "GIFT-KIT")

    def shows(*expected: int) -> None:
        synced.succeed(RECENT, shop="SHOP")
        assert [synced.simulator.shops.level("SHOP", kit, n).available for n in (7000, 7116, 7281)] == list(expected)

    synced.put(f"{KITS}/1.csv", f"{KIT_HEADER}GIFT-KIT,10001,1,PRODUCT_COMPONENT\n", datetime(2026, 3, 5, tzinfo=UTC))
    synced.succeed("import_kit_component")
    shows(20, 6, 4)
    for kind, expected in (("MARKETING_PKG_PICK", (0, 0, 0)), ("FINISHED_GOOD", (20, 6, 4))):
        synced.write_reference("product", REFERENCE["product"].replace("TEE-S,FINISHED_GOOD", f"TEE-S,{kind}"))
        synced.succeed("load_reference")
        shows(*expected)
    never_counted = f"{REFERENCE['product']}10004,TEE-XL,FINISHED_GOOD,504,,\n"
    synced.write_reference("product", never_counted)
    synced.succeed("load_reference")
    if not is_written:
        shows_what_nobody_wrote(synced)
    synced.put(f"{KITS}/2.csv", f"{KIT_HEADER}GIFT-KIT,10004,1,PRODUCT_COMPONENT\n", datetime(2026, 3, 6, tzinfo=UTC))
    synced.succeed("import_kit_component")
    shows(0, 0, 0)


def test_kits_that_are_ordinary_products_from_now_on_show_what_netsuite_has_counted(
    synced: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced.put(f"{KITS}/1.csv", f"{KIT_HEADER}GIFT-KIT,10001,1,PRODUCT_COMPONENT\n", datetime(2026, 3, 5, tzinfo=UTC))
    synced.succeed("import_kit_component")
    synced.succeed(RECENT, shop="SHOP")
    kit = item(synced, "GIFT-KIT")
    kits = {location: synced.simulator.shops.level("SHOP", kit, location).available for location in (7000, 7116, 7281)}
    assert kits == {7000: 20, 7116: 6, 7281: 4}
    monkeypatch.setenv("KIT_INVENTORY", "netsuite")
    reset(synced, "kits", ("116", 5, "509"))
    synced.succeed(RECENT, shop="SHOP")
    synced.succeed("hard_sync", shop="SHOP")
    kits = {location: synced.simulator.shops.level("SHOP", kit, location).available for location in kits}
    assert kits == {7000: 5, 7116: 5, 7281: 4}, "of Brooklyn nobody has said anything"


def test_what_has_gone_from_queue_and_kits_moves_the_channel_as_what_has_come(synced: Place) -> None:
    products = (synced.reference_dir / "product.csv").read_text()
    synced.write_reference("product", f"{products}10010,BAND,FINISHED_GOOD,510,,\n")
    synced.write_reference("virtual_queue_item", f"{QUEUE}O1,1,10002,PARKING,5,STORE\n")
    synced.put(f"{KITS}/1.csv", f"{KIT_HEADER}GIFT-KIT,10001,1,PRODUCT_COMPONENT\n", datetime(2026, 3, 5, tzinfo=UTC))
    for job in ("load_reference", "import_kit_component"):
        synced.succeed(job)
    reset(synced, "band", ("116", 6, "510"))
    synced.succeed(RECENT, shop="SHOP")
    kit = item(synced, "GIFT-KIT")
    kits = {location: synced.simulator.shops.level("SHOP", kit, location).available for location in (7000, 7116, 7281)}
    assert kits == {7000: 20, 7116: 6, 7281: 4}
    assert shown(synced) == TARGETS | {("TEE-M", 7000): 17}
    (synced.reference_dir / "virtual_queue_item.csv").unlink()
    synced.put(f"{KITS}/2.csv", f"{KIT_HEADER}GIFT-KIT,10010,1,PRODUCT_COMPONENT\n", datetime(2026, 3, 6, tzinfo=UTC))
    for job in ("load_reference", "import_kit_component"):
        synced.succeed(job)
    synced.succeed(RECENT, shop="SHOP")
    kits = {location: synced.simulator.shops.level("SHOP", kit, location).available for location in kits}
    assert kits == {7000: 6, 7116: 6, 7281: 0}, "the band is at one store, and as many as before"
    assert shown(synced) == TARGETS
    before = len(synced.simulator.shops.calls)
    synced.succeed("load_reference")
    synced.succeed(RECENT, shop="SHOP")
    assert len(synced.simulator.shops.calls) == before, "what has gone goes once"


@pytest.mark.parametrize(
    ("later", "expected"),
    [("10001,BROADWAY,5,STORE", {}), ("10002,_NA_,5,STORE", {("TEE-M", 7000): 17}), ("10001,_NA_,5,OTHER", {})],
    ids=["brokered", "another product", "another store"],
)
def test_an_order_item_that_leaves_its_queue_gives_back_what_it_held(
    synced: Place, later: str, expected: dict[tuple[str, int], int]
) -> None:
    synced.write_reference("product_store", f"{REFERENCE['product_store']}OTHER,Y,N\n")
    for row, levels in (("10001,_NA_,5,STORE", {("TEE-S", 7000): 15}), (later, expected)):
        synced.write_reference("virtual_queue_item", f"{QUEUE}O1,1,{row}\n")
        synced.succeed("load_reference")
        synced.succeed(RECENT, shop="SHOP")
        assert shown(synced) == TARGETS | levels


@pytest.mark.parametrize("job", [RECENT, "hard_sync"])
def test_a_channel_that_is_not_the_shops_leaves_alone_what_another_has_put_on_sale(synced: Place, job: str) -> None:
    groups = f"{REFERENCE['facility_group']}EU_GRP,CHANNEL_FAC_GROUP,BERLIN,2024-01-01,\n"
    synced.write_reference("facility", f"{REFERENCE['facility']}BERLIN,500,Berlin,,PHYSICAL_STORE,OTHER\n")
    synced.write_reference("product_store", f"{REFERENCE['product_store']}OTHER,Y,N\n")
    synced.write_reference("facility_group", groups)
    synced.succeed("load_reference")
    reset(synced, "next", ("116", 7, "501"))
    delta = "recent_change_delta" if job == RECENT else "hard_sync_delta"
    synced.succeed(job, {delta: {"facility_group_id": "EU_GRP"}}, "SHOP")
    assert shown(synced) == TARGETS | {("TEE-S", 7116): 7}, "the channel's number is as FAC_GRP has published it"


def test_what_a_sync_of_other_numbers_has_put_there_is_brought_back(synced: Place) -> None:
    move("insert into product_facility values ('10001', 'BROADWAY', 5, null, null, {seq})")
    synced.succeed(RECENT, shop="SHOP")
    assert shown(synced)["TEE-S", 7116] == TARGETS["TEE-S", 7116] - 5
    synced.succeed("hard_sync", {"hard_sync_delta": {"use_valid_atp": False}}, "SHOP")
    assert shown(synced)["TEE-S", 7116] == TARGETS["TEE-S", 7116]
    synced.succeed(RECENT, shop="SHOP")
    assert shown(synced)["TEE-S", 7116] == TARGETS["TEE-S", 7116] - 5


def test_a_new_mapping_publishes_the_product_to_its_item(stocked: Place) -> None:
    shops = stocked.simulator.shops
    shops.add_item("SHOP", 901, "TEE-S")
    shops.set_level("SHOP", 901, 7116, 50)
    assert stocked.run("hard_sync", shop="SHOP").success
    mapping = f"shop_id,product_id,shopify_inventory_item_id\nSHOP,10001,{item(stocked, 'TEE-S')}\n"
    stocked.write_reference("shopify_shop_product", mapping)
    assert stocked.run("load_reference").success
    assert materialised(stocked, "hard_sync", "shopify_inventory_level", "shopify_shop_product").success
    assert stocked.run(RECENT, shop="SHOP").success
    assert shown(stocked) == TARGETS
    assert shops.level("SHOP", 901, 7116).available == 50


def test_buffer_minutes_look_back_from_the_newest_watermark(synced: Place) -> None:
    reset(synced, "later", ("116", 9, "501"))
    assert synced.run(RECENT, shop="SHOP").success
    reset(synced, "latest", ("281", 1, "502"))
    assert synced.run(RECENT, shop="SHOP").success
    with Warehouse().transaction() as connection:
        for sync_run_id, minutes in ((1, 60), (2, 30)):
            connection.execute(
                f"update sync_watermark set at_time = at_time - interval {minutes} minutes where sync_run_id = {sync_run_id}"
            )
    shops, tee = synced.simulator.shops, item(synced, "TEE-S")
    shops.set_available("SHOP", tee, 7116, 50)
    shops.set_available("SHOP", item(synced, "TEE-M"), 7281, 50)
    assert synced.run(RECENT, {"recent_change_delta": {"buffer_minutes": 20}}, shop="SHOP").success
    assert (shown(synced)["TEE-S", 7116], shown(synced)["TEE-M", 7281]) == (50, 1)
    assert synced.run(RECENT, {"recent_change_delta": {"bufferTime": 40}}, shop="SHOP").success
    assert shown(synced)["TEE-S", 7116] == 9


def test_the_watermark_stays_until_every_change_has_an_outcome(synced: Place) -> None:
    reset(synced, "later", ("116", 9, "501"))
    code = "IDEMPOTENCY_CONCURRENT_REQUEST"
    synced.simulator.faults.add(Fault("inventoryAdjustQuantities", "user_error", at_call=0, value=code))
    result = synced.run(RECENT, shop="SHOP")
    assert code in synced.failure(result)
    assert outcomes(synced) == {"retryable": 2}
    assert synced.rows("select count(*) from sync_watermark") == [(1,)]
    synced.simulator.faults.clear()
    assert synced.run(RECENT, shop="SHOP").success
    assert shown(synced) == TARGETS | {("TEE-S", 7116): 9, ("TEE-S", 7000): 23}
    assert synced.rows("select status_id from sync_run order by sync_run_id") == [("finished",), ("finished",)]


def test_an_answer_with_fewer_levels_than_were_asked_for_is_none(
    synced: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    reset(synced, "later", ("116", 9, "501"))
    answer = ShopifyClient.answer

    def without_the_last(client: ShopifyClient, document: str, variables: dict[str, Any]) -> dict[str, Any]:
        found = answer(client, document, variables)
        if document == shopify_documents.READ_LEVELS:
            found["data"]["nodes"].pop()
        return found

    with monkeypatch.context() as patched:
        patched.setattr(ShopifyClient, "answer", without_the_last)
        assert "asked for 2 levels, Shopify answers 1" in synced.failure(synced.run(RECENT, shop="SHOP"))
    synced.succeed(RECENT, shop="SHOP")
    assert shown(synced) == TARGETS | {("TEE-S", 7116): 9, ("TEE-S", 7000): 23}


def test_a_sale_that_nobody_told_us_of_stands_when_only_our_movement_is_sent(synced: Place) -> None:
    shops, tee = synced.simulator.shops, item(synced, "TEE-S")
    shops.sell("SHOP", tee, 7116, 2)
    reset(synced, "later", ("116", 9, "501"))
    assert synced.run(RECENT, {"recent_change_delta": LAST_PUBLISHED}, shop="SHOP").success
    assert shown(synced)["TEE-S", 7116] == 7, "9 - 2"
    reset(synced, "latest", ("116", 8, "501"))
    assert synced.run("hard_sync", {"hard_sync_delta": LAST_PUBLISHED}, shop="SHOP").success
    assert shown(synced)["TEE-S", 7116] == 6, "8 - 2"
    assert synced.run("hard_sync", shop="SHOP").success
    assert shown(synced)["TEE-S", 7116] == 8


@pytest.mark.parametrize("is_committed", [True, False])
def test_a_sale_stands_though_nobody_learns_what_became_of_our_change(
    synced: Place, monkeypatch: pytest.MonkeyPatch, is_committed: bool
) -> None:
    shops, tee, answer = synced.simulator.shops, item(synced, "TEE-S"), ShopifyClient.answer

    def without_payload(client: ShopifyClient, document: str, variables: dict[str, Any]) -> dict[str, Any]:
        if document != shopify_documents.ADJUST:
            return answer(client, document, variables)
        if is_committed:
            answer(client, document, variables)
        return {"data": {"inventoryAdjustQuantities": None}}

    monkeypatch.setattr(settling, "PAUSE_SECONDS", 0)
    shops.sell("SHOP", tee, 7116, 3)
    reset(synced, "later", ("116", 9, "501"))
    with monkeypatch.context() as patched:
        patched.setattr(ShopifyClient, "answer", without_payload)
        assert not synced.run(RECENT, {"recent_change_delta": LAST_PUBLISHED}, shop="SHOP").success
        assert shown(synced)["TEE-S", 7116] == (6 if is_committed else 3)
        synced.run(RECENT, {"recent_change_delta": LAST_PUBLISHED}, shop="SHOP")
    synced.succeed(RECENT, {"recent_change_delta": LAST_PUBLISHED}, shop="SHOP")
    assert shown(synced)["TEE-S", 7116] == 6, "9 - 3"


FAILED_BEFORE = "IDEMPOTENCY_PREVIOUS_ATTEMPT_FAILED"


@pytest.mark.parametrize(
    ("quantity", "faults", "sold", "expected"),
    [
        # made, and its answer lost
        (9, [("reset_after", 1, None), ("user_error", 2, FAILED_BEFORE)], 1, 8),
        # not made, and strangers buy as much as it was to take away
        (4, [("user_error", 1, FAILED_BEFORE)], 2, 2),
    ],
)
def test_a_sale_stands_though_it_hides_whether_our_change_was_made(
    synced: Place, monkeypatch: pytest.MonkeyPatch, quantity: int, faults: list[Any], sold: int, expected: int
) -> None:
    shops, tee, read = synced.simulator.shops, item(synced, "TEE-S"), ShopifyClient.levels
    reset(synced, "later", ("116", quantity, "501"))
    for kind, call, value in faults:
        synced.simulator.faults.add(Fault("inventoryAdjustQuantities", kind, at_call=call, value=value))

    def read_after_a_sale(client: ShopifyClient, levels: list[tuple[int, int]]) -> dict[tuple[int, int], int]:
        if calls(synced, "inventoryAdjustQuantities") and not any(
            a.source == "sale" for a in shops.adjustments("SHOP")
        ):
            shops.sell("SHOP", tee, 7116, sold)
        return read(client, levels)

    shops.calls.clear()
    monkeypatch.setattr(ShopifyClient, "levels", read_after_a_sale)
    for _ in range(2):
        synced.run(RECENT, {"recent_change_delta": LAST_PUBLISHED}, shop="SHOP")
    assert shown(synced)["TEE-S", 7116] == expected


@pytest.mark.parametrize(("quantity", "is_first"), [(9, False), (4, True)])
def test_a_sale_stands_though_shopify_has_forgotten_our_change(
    synced: Place, monkeypatch: pytest.MonkeyPatch, quantity: int, is_first: bool
) -> None:
    shops, tee = synced.simulator.shops, item(synced, "TEE-S")
    if is_first:  # the level never had a number from us
        synced.rows("delete from published_level")
    reset(synced, "later", ("116", quantity, "501"))
    synced.simulator.faults.add(Fault("inventoryAdjustQuantities", "reset_after", times=20))
    with monkeypatch.context() as patched:
        patched.setenv("SHOPIFY_DEADLINE_SECONDS", "1")
        assert not synced.run(RECENT, {"recent_change_delta": LAST_PUBLISHED}, shop="SHOP").success
    assert shown(synced)["TEE-S", 7116] == quantity
    synced.simulator.faults.clear()
    synced.rows("update sync_file set sent_at = sent_at - interval 1 day")
    shops.sell("SHOP", tee, 7116, 1)
    for _ in range(2):
        synced.run(RECENT, {"recent_change_delta": LAST_PUBLISHED}, shop="SHOP")
    assert shown(synced)["TEE-S", 7116] == (quantity - 1 if quantity > TARGETS["TEE-S", 7116] else 1)


def test_what_is_refused_of_a_delta_that_was_interrupted_is_told(
    synced: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    reset(synced, "later", ("116", 9, "501"))
    synced.simulator.faults.add(Fault("inventoryAdjustQuantities", "http_503", times=20))
    with monkeypatch.context() as patched:
        patched.setenv("SHOPIFY_DEADLINE_SECONDS", "1")
        assert not synced.run(RECENT, shop="SHOP").success
    synced.simulator.faults.clear()
    code = "NON_MUTABLE_INVENTORY_ITEM"
    synced.simulator.faults.add(Fault("inventoryAdjustQuantities", "user_error", at_call=0, value=code))
    assert code in synced.failure(synced.run(RECENT, shop="SHOP"))


def _unavailable() -> dict[str, Any]:
    raise ShopifyUnavailable("HTTP 504")


@pytest.mark.parametrize(
    "answered",
    [_unavailable, lambda: {"errors": [{"message": "boom"}]}, lambda: user_error("SERVICE_UNAVAILABLE")],
    ids=["not at all", "by something else", "not now"],
)
@pytest.mark.parametrize("lines_at_once", [10, 1])
def test_a_line_that_is_never_answered_well_keeps_nothing_else_back_for_longer_than_a_run(
    synced: Place, monkeypatch: pytest.MonkeyPatch, lines_at_once: int, answered: Callable[[], dict[str, Any]]
) -> None:
    tee, answer = f"gid://shopify/InventoryItem/{item(synced, 'TEE-M')}", ShopifyClient.answer

    def without_one(client: ShopifyClient, document: str, variables: dict[str, Any]) -> dict[str, Any]:
        if document == shopify_documents.ADJUST and tee in json.dumps(variables):
            return answered()
        return answer(client, document, variables)

    monkeypatch.setattr(settling, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(decisions, "TOGETHER", 3)
    # where it is one, the first line without an answer looks as if Shopify had none for any
    monkeypatch.setattr(sending, "LINES_AT_ONCE", lines_at_once)
    with monkeypatch.context() as patched:
        patched.setattr(ShopifyClient, "answer", without_one)
        for more in (10, 20):
            rows = (("116", 6 + more, "501"), ("116", more, "502"), ("116", 3 + more, "503"), ("281", 8 + more, "503"))
            reset(synced, f"more-{more}", *rows)
            for _ in range(2 if lines_at_once > 1 else 4):
                assert not synced.run(RECENT, shop="SHOP").success
            promised = {"TEE-S": (20 + more, 6 + more, 4), "TEE-L": (41 + 2 * more, 3 + more, 8 + more)}
            for sku, quantities in promised.items():
                assert tuple(shown(synced)[sku, location] for location in (7000, 7116, 7281)) == quantities
            assert shown(synced)["TEE-M", 7116] == 0
    synced.succeed(RECENT, shop="SHOP")
    assert shown(synced)["TEE-M", 7116] == 20


def user_error(code: str) -> dict[str, Any]:
    error = {"code": code, "field": None, "message": ""}
    return {"data": {"inventoryAdjustQuantities": {"inventoryAdjustmentGroup": None, "userErrors": [error]}}}


@pytest.mark.parametrize("is_overtaken", [False, True])
@pytest.mark.parametrize("changes_per_line", [1, 100])
@pytest.mark.parametrize("difference_from", ["shopify", "last_published"])
def test_a_line_that_was_given_up_and_is_worked_all_the_same_counts_once(
    synced: Place, monkeypatch: pytest.MonkeyPatch, difference_from: str, changes_per_line: int, is_overtaken: bool
) -> None:
    parameters = {"difference_from": difference_from, "changes_per_line": changes_per_line}
    moved = (("116", 16, "501"), ("116", 7, "502"), ("281", 1, "503"))
    answer, worked_late = ShopifyClient.answer, dict[str, dict[str, Any]]()
    is_first_run = True

    def late(client: ShopifyClient, document: str, variables: dict[str, Any]) -> dict[str, Any]:
        if document != shopify_documents.ADJUST:
            return answer(client, document, variables)
        if is_first_run:
            worked_late[variables["idempotencyKey"]] = variables
        if variables["idempotencyKey"] in worked_late:
            return user_error("IDEMPOTENCY_CONCURRENT_REQUEST")
        while worked_late:
            answer(client, document, worked_late.popitem()[1])
        return answer(client, document, variables)

    monkeypatch.setattr(settling, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(ShopifyClient, "answer", late)
    reset(synced, "later", *moved)
    assert not synced.run(RECENT, {"recent_change_delta": parameters}, shop="SHOP").success
    assert shown(synced) == TARGETS
    is_first_run = False
    if is_overtaken:
        reset(synced, "still-later", ("116", 18, "501"))
    for _ in range(2):
        synced.run(RECENT, {"recent_change_delta": parameters}, shop="SHOP")
    tees = 16 + 2 * is_overtaken
    changed = {("TEE-S", 7000): 14 + tees, ("TEE-S", 7116): tees, ("TEE-M", 7000): 29, ("TEE-M", 7116): 7}
    assert shown(synced) == TARGETS | changed | {("TEE-L", 7000): 34, ("TEE-L", 7281): 1}


def test_an_answer_without_a_sign_of_the_change_is_no_success(synced: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, is_done = ShopifyClient.answer, False

    def nothing_said(client: ShopifyClient, document: str, variables: dict[str, Any]) -> dict[str, Any]:
        if document == shopify_documents.ADJUST:
            if is_done:
                answer(client, document, variables)
            return {"data": {"inventoryAdjustQuantities": {"inventoryAdjustmentGroup": None, "userErrors": []}}}
        return answer(client, document, variables)

    monkeypatch.setattr(settling, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(ShopifyClient, "answer", nothing_said)
    reset(synced, "later", ("116", 9, "501"))
    for _ in range(2):
        assert not synced.run(RECENT, shop="SHOP").success
    assert shown(synced) == TARGETS
    is_done = True
    synced.succeed(RECENT, shop="SHOP")
    assert shown(synced)["TEE-S", 7116] == 9


@pytest.mark.parametrize("is_unmapped", [False, True], ids=["moved", "unmapped"])
def test_a_change_that_only_its_level_tells_of_is_what_it_was_whatever_has_moved_since(
    synced: Place, monkeypatch: pytest.MonkeyPatch, is_unmapped: bool
) -> None:
    answer, done = ShopifyClient.answer, list[str]()

    def says_nothing_once(client: ShopifyClient, document: str, variables: dict[str, Any]) -> dict[str, Any]:
        answered = answer(client, document, variables)
        if document != shopify_documents.ADJUST or done:
            return answered
        done.append(document)
        if is_unmapped:
            synced.rows("delete from shopify_shop_product where product_id = '10001'")
        else:
            reset(synced, "between", ("116", 7, "501"))
        return {"data": {"inventoryAdjustQuantities": {"inventoryAdjustmentGroup": None, "userErrors": []}}}

    monkeypatch.setattr(settling, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(ShopifyClient, "answer", says_nothing_once)
    reset(synced, "later", ("116", 9, "501"))
    for _ in range(2):
        synced.succeed(RECENT, {"recent_change_delta": LAST_PUBLISHED}, shop="SHOP")
    assert shown(synced)["TEE-S", 7116] == (9 if is_unmapped else 7)


def test_a_delta_whose_group_has_gone_is_brought_to_its_end_all_the_same(
    synced: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = "OTHER,X,WAREHOUSE,2024-01-01,\nOTHER,X,BROADWAY,2024-01-01,\n"
    synced.write_reference("facility_group", REFERENCE["facility_group"] + others)
    synced.succeed("load_reference")
    with monkeypatch.context() as unplugged:
        unplugged.setenv("SHOPIFY_DEADLINE_SECONDS", "1")
        synced.simulator.faults.add(Fault("inventoryAdjustQuantities", "http_503", at_call=0))
        assert not synced.run("hard_sync", {"hard_sync_delta": {"facility_group_id": "OTHER"}}, "SHOP").success
        synced.simulator.faults.clear()
    synced.write_reference("facility_group", REFERENCE["facility_group"])
    synced.succeed("load_reference")
    synced.succeed("hard_sync", shop="SHOP")
    assert shown(synced) == TARGETS


def test_a_sale_between_read_and_write_stands_too(synced: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    shops, tee, started = synced.simulator.shops, item(synced, "TEE-S"), synced.simulator.shops.log_call

    def sell_before_the_first_mutation(call: Any) -> None:
        if call.root_field == "nodes" and calls(synced, "nodes") == 1:
            shops.sell("SHOP", tee, 7116, 1)
        started(call)

    reset(synced, "later", ("116", 9, "501"))
    shops.calls.clear()
    monkeypatch.setattr(shops, "log_call", sell_before_the_first_mutation)
    assert synced.run(RECENT, {"recent_change_delta": LAST_PUBLISHED}, shop="SHOP").success
    sold = [a for a in shops.adjustments("SHOP") if a.source == "sale"]
    assert shown(synced)["TEE-S", 7116] == 9 - len(sold)
    assert sold


def test_what_a_person_maps_otherwise_is_followed_before_the_next_read(synced: Place) -> None:
    shops = synced.simulator.shops
    shops.add_item("SHOP", 901, "OTHER")
    shops.set_level("SHOP", 901, 7116, 50)
    shops.add_location("SHOP", 7999)
    for sku in ("TEE-S", "TEE-M", "TEE-L"):
        shops.set_level("SHOP", item(synced, sku), 7999, 1)
    synced.succeed("hard_sync", shop="SHOP")
    synced.write_reference("shopify_shop_product", "shop_id,product_id,shopify_inventory_item_id\nSHOP,10001,901\n")
    locations = REFERENCE["shopify_shop_location"] + "SHOP,WAREHOUSE,7999\n"
    synced.write_reference("shopify_shop_location", locations)
    synced.succeed("load_reference")
    synced.succeed(RECENT, shop="SHOP")
    assert shops.level("SHOP", 901, 7116).available == TARGETS["TEE-S", 7116]
    found = [shops.level("SHOP", item(synced, sku), 7999).available for sku in ("TEE-S", "TEE-M", "TEE-L")]
    assert found == [1, 20, 30], "the first is an item of nobody now"
    reset(synced, "later", ("116", 9, "501"))
    synced.succeed(RECENT, shop="SHOP")
    assert shops.level("SHOP", 901, 7116).available == 9
    assert shown(synced) == TARGETS
    made = len(shops.calls)
    synced.succeed("load_reference")
    synced.succeed(RECENT, shop="SHOP")
    assert len(shops.calls) == made


def test_what_others_have_moved_while_they_were_master_is_not_moved_again(synced: Place) -> None:
    for master, quantity in (("shopify", 50), ("hotwax", 51)):
        synced.write_reference("shopify_shop", REFERENCE["shopify_shop"].replace("hotwax,", f"{master},"))
        synced.succeed("load_reference")
        synced.simulator.shops.set_available("SHOP", item(synced, "TEE-S"), 7116, 50)
        reset(synced, f"to {quantity}", ("116", quantity, "501"))
    synced.succeed(RECENT, {"recent_change_delta": LAST_PUBLISHED}, shop="SHOP")
    assert shown(synced)["TEE-S", 7116] == 51


def test_what_others_have_kept_from_its_number_is_sent_by_the_next_run(synced: Place) -> None:
    reset(synced, "later", ("116", 9, "501"))
    synced.simulator.faults.add(
        Fault("inventoryAdjustQuantities", "user_error", at_call=0, value="CHANGE_FROM_QUANTITY_STALE")
    )
    assert "Run upload_recent_inventory_changes again" in synced.failure(synced.run(RECENT, shop="SHOP"))
    assert outcomes(synced) == {"contested": 2}
    synced.simulator.faults.clear()
    synced.succeed(RECENT, shop="SHOP")
    assert shown(synced) == TARGETS | {("TEE-S", 7116): 9, ("TEE-S", 7000): 23}


def test_what_has_moved_and_no_level_shows_is_counted_by_reason(synced: Place) -> None:
    synced.rows("delete from shopify_shop_product where product_id = '10001'")
    synced.rows("delete from shopify_inventory_level where shopify_location_id = 7281")
    reset(synced, "later", ("116", 9, "501"), ("281", 9, "502"))
    synced.succeed(RECENT, shop="SHOP")
    assert shown(synced)["TEE-M", 7000] == TARGETS["TEE-M", 7000] + 7
    left_out = synced.told("recent_change_delta")["left_out"]
    assert "`level_not_known` | 1" in left_out
    assert "`product_not_matched` | 1" in left_out
    reset(synced, "last", ("116", 8, "501"))
    synced.succeed(RECENT, shop="SHOP")
    assert "`product_not_matched` | 1" in synced.told("recent_change_delta")["left_out"]


def test_what_no_facility_of_the_channel_has_any_more_is_not_on_sale_there(synced: Place) -> None:
    groups = [line for line in REFERENCE["facility_group"].splitlines(keepends=True) if "CONFIGURATION" not in line]
    groups = [line.replace("2024-01-01,\n", "2024-01-01,2025-01-01\n") for line in groups]
    synced.write_reference("facility_group", "".join(groups))
    synced.succeed("load_reference")
    synced.succeed("hard_sync", shop="SHOP")
    assert shown(synced) == TARGETS | {key: 0 for key in TARGETS if key[1] == 7000}


GONE = (
    "update level set is_active = 0 where item_id = $tee_s and location_id = 7116",
    "update item set tracked = 0 where item_id = $tee_m",
    "update location set is_active = 0 where location_id = 7281",
)


def test_what_shopify_does_not_count_any_more_is_not_written(synced: Place) -> None:
    with synced.simulator.shops.transaction() as db:
        for change in GONE:
            db.execute(change, {"tee_s": item(synced, "TEE-S"), "tee_m": item(synced, "TEE-M")})
    before = shown(synced)
    reset(
        synced, "later", *((facility, 9, product) for facility in ("116", "281") for product in ("501", "502", "503"))
    )
    for job in (RECENT, "hard_sync"):
        synced.succeed(job, shop="SHOP")
        written = {key for key, quantity in shown(synced).items() if quantity != before[key]}
        assert written == {("TEE-S", 7000), ("TEE-L", 7000), ("TEE-L", 7116)}, job


def test_what_shopify_begins_to_count_is_published_by_a_sync_of_what_has_moved(synced: Place) -> None:
    tees = {"tee_s": item(synced, "TEE-S"), "tee_m": item(synced, "TEE-M")}

    def let(is_counted: int) -> None:
        with synced.simulator.shops.transaction() as db:
            for change in GONE:
                db.execute(change.replace("= 0", f"= {is_counted}"), tees)
        synced.succeed("hard_sync", {"hard_sync_delta": {"include_all": False}}, shop="SHOP")

    let(0)
    synced.simulator.shops.set_available("SHOP", tees["tee_m"], 7116, 77)
    reset(
        synced, "later", *((facility, 9, product) for facility in ("116", "281") for product in ("501", "502", "503"))
    )
    for job in (RECENT, "hard_sync"):
        synced.succeed(job, shop="SHOP")
    let(1)
    assert shown(synced) == {key: quantity if key[1] == 7000 else 9 for key, quantity in shown(synced).items()}
    synced.succeed("hard_sync", shop="SHOP")
    assert synced.rows("select change_count from sync_run order by sync_run_id desc limit 1") == [(0,)]


def test_a_group_that_goes_while_its_delta_is_sent_is_no_zero(synced: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    synced.write_reference("facility_group", REFERENCE["facility_group"] + "OTHER,X,BROADWAY,2024-01-01,\n")
    synced.succeed("load_reference")
    other = {"hard_sync_delta": {"facility_group_id": "OTHER"}}
    synced.succeed("hard_sync", other, "SHOP")
    reset(synced, "later", ("116", 9, "501"))
    answer, tee = ShopifyClient.answer, item(synced, "TEE-S")

    def without_group(client: ShopifyClient, document: str, variables: dict[str, Any]) -> dict[str, Any]:
        if document == shopify_documents.ADJUST and synced.rows(
            "from facility_group where facility_group_id = 'OTHER'"
        ):
            synced.rows("delete from facility_group where facility_group_id = 'OTHER'")
            synced.simulator.shops.sell("SHOP", tee, 7000, 1)
        return answer(client, document, variables)

    monkeypatch.setattr(ShopifyClient, "answer", without_group)
    assert not synced.run("hard_sync", other, "SHOP").success
    assert shown(synced)["TEE-S", 7000] == 5


def test_a_shop_whose_row_was_missing_once_has_published_what_it_has(synced: Place) -> None:
    synced.simulator.shops.sell("SHOP", item(synced, "TEE-S"), 7116, 2)
    for shops in (REFERENCE["shopify_shop"].replace("SHOP,", "NEXT,"), REFERENCE["shopify_shop"]):
        synced.write_reference("shopify_shop", shops)
        synced.write_reference(
            "shopify_shop_location", REFERENCE["shopify_shop_location"].replace("SHOP,", shops.split("\n")[1][:5])
        )
        synced.succeed("load_reference")
    synced.succeed("hard_sync", {"hard_sync_delta": LAST_PUBLISHED}, shop="SHOP")
    assert shown(synced)["TEE-S", 7116] == 4


def test_a_shop_that_is_given_to_shopify_is_reported_of_although_its_last_group_has_gone(synced: Place) -> None:
    synced.write_reference("facility_group", REFERENCE["facility_group"] + "OTHER,X,WAREHOUSE,2024-01-01,\n")
    synced.succeed("load_reference")
    synced.succeed("hard_sync", {"hard_sync_delta": {"shopify_facility_group_id": "OTHER"}}, shop="SHOP")
    synced.write_reference("facility_group", REFERENCE["facility_group"])
    synced.write_reference("shopify_shop", REFERENCE["shopify_shop"].replace("hotwax", "shopify"))
    synced.succeed("load_reference")
    synced.succeed("sync_inventory_from_shopify", shop="SHOP")


@pytest.mark.parametrize("is_sending", [False, True], ids=["interrupted", "while it is sent"])
def test_what_was_published_before_shopify_was_master_is_forgotten_for_good(
    synced: Place, monkeypatch: pytest.MonkeyPatch, is_sending: bool
) -> None:
    def master(name: str) -> None:
        synced.write_reference("shopify_shop", REFERENCE["shopify_shop"].replace("hotwax", name))
        synced.succeed("load_reference")

    answer = ShopifyClient.answer

    def half(client: ShopifyClient, document: str, variables: dict[str, Any]) -> dict[str, Any]:
        if document == shopify_documents.ADJUST:
            if is_sending:
                synced.rows("update shopify_shop set inventory_master = 'shopify'")
            if len(variables["input"]["changes"]) == 1 and variables["input"]["changes"][0]["delta"] == 1:
                raise ShopifyUnavailable("cut")
        return answer(client, document, variables)

    reset(synced, "later", ("116", 9, "501"), ("281", 3, "502"))
    with monkeypatch.context() as cut:
        cut.setattr(settling, "PAUSE_SECONDS", 0)
        cut.setattr(ShopifyClient, "answer", half)
        lines = {"recent_change_delta": LAST_PUBLISHED | {"changes_per_line": 1}}
        assert not synced.run(RECENT, lines, shop="SHOP").success
    sent = synced.rows("select outcome, count(*) from sync_change where sync_run_id = 2 group by 1 order by 1")
    assert sent == [("applied", 2), ("unknown", 2)]
    materialised(synced, "hard_sync", "hard_sync_delta")  # a delta that waits for somebody to send it
    master("shopify")
    for sku, location in TARGETS:
        synced.simulator.shops.set_available("SHOP", item(synced, sku), location, 50)
    synced.succeed("sync_inventory_from_shopify", shop="SHOP")
    master("hotwax")
    assert not materialised(synced, "hard_sync", "hard_sync_upload").success
    for job, asset in ((RECENT, "recent_change_delta"), ("hard_sync", "hard_sync_delta")):
        synced.succeed(job, {asset: LAST_PUBLISHED}, shop="SHOP")
    assert {key: quantity for key, quantity in shown(synced).items() if key[1] != 7000} == {
        key: 50 for key in TARGETS if key[1] != 7000
    }


def test_a_run_is_requested_for_each_shop_that_we_publish_to(place: Place) -> None:
    shops = "shop_id,shop_domain,product_store_id,inventory_master,shopify_facility_group_mode\n"
    shops += "SHOP,a,STORE,hotwax,\nOUTLET,c,STORE,hotwax,\nPOS,d,STORE,shopify,\n"
    place.write_reference("shopify_shop", shops)

    def asked(instance: dg.DagsterInstance) -> list[Any]:
        moment = datetime(2026, 3, 5, 12, 15, tzinfo=UTC)
        context = dg.build_schedule_context(instance=instance, scheduled_execution_time=moment)
        requests = upload_recent_inventory_changes_quarter_hourly(context)
        assert isinstance(requests, Iterable)
        return list(requests)

    with dg.instance_for_test() as instance:
        place.instance = instance
        (skipped,) = asked(instance)
        assert place.run("load_reference").success
        requests = asked(instance)
    assert "Run load_reference" in skipped.skip_message
    assert [request.partition_key for request in requests] == ["OUTLET", "SHOP"]
    assert len({request.run_key for request in requests}) == 2
