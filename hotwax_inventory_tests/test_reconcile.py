"""What a person is told: why a number is what it is, where Shopify and we differ, and what is to be mended."""

import csv
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hotwax_inventory.publish.guards import number_alarms
from hotwax_inventory.publish.manifest import RECENT, Delta, Observation
from hotwax_inventory.reconcile import verification
from hotwax_inventory.resources import Warehouse
from hotwax_inventory.simulator.faults import Fault
from hotwax_inventory_tests.conftest import Place, failed_checks
from hotwax_inventory_tests.test_feeds import ADJUSTMENTS, DELTAS, KITS, RECEIPTS, RULES, at
from hotwax_inventory_tests.test_publish import HEADER, TARGETS, calls, item, materialised, stocked

__all__ = ["stocked"]


def explained(place: Place, **config: str) -> str:
    (event,) = place.succeed("explain", {"inventory_explanation": config}).asset_materializations_for_node(
        "inventory_explanation"
    )
    return str(event.metadata["explanation"].value)


def lines(text: str, title: str) -> list[list[str]]:
    """The cells of the table below a title, without the head."""
    part = text.split(f"## {title}\n")[1].split("\n## ")[0]
    return [
        [cell.strip().strip("`") for cell in line.strip("|").split(" | ")]
        for line in part.splitlines()
        if line.startswith("|")
    ][2:]


def made_history(place: Place) -> None:
    """Ten by a reset, five by a receipt, three less by an adjustment that came late; and rows without effect, a minimum stock."""
    place.put_reset("first.csv", HEADER + ",116,10,501\n,43,7,501\n,116,ten,501\n,999,4,501\n", at(1))
    place.put(f"{RECEIPTS}/receipt.csv", f"{DELTAS}116,501,NETSUITE_PRODUCT_ID,5,two boxes\n", at(3))
    place.put(f"{RULES}/PRODUCT_FACILITY_1.csv", "facilityId,productSku,facilitySafetyStock\nBROADWAY,TEE-S,4\n", at(1))
    for job in ("import_inventory", "import_item_receipt", "import_product_facility"):
        place.succeed(job)
    place.put(f"{ADJUSTMENTS}/late.csv", f"{DELTAS}116,501,NETSUITE_PRODUCT_ID,-3,broken\n", at(2))
    place.succeed("import_inventory_adjustment")
    place.put_reset("older.csv", HEADER + ",116,99,501\n", at(0.5))
    place.put_reset("same.csv", HEADER + ",116,12,501\n", at(4))
    place.succeed("import_inventory")


@pytest.fixture
def history(place: Place, kept: Path) -> Place:
    """A place whose numbers have a history."""
    place.begin_with(kept / "history.duckdb", lambda: made_history(place))
    return place


def test_a_number_is_explained_by_file_and_line_of_every_unit_each_term_and_what_shopify_said(history: Place) -> None:
    history.simulator.shops.set_level("SHOP", item(history, "TEE-S"), 7116, 3)
    history.succeed("hard_sync", shop="SHOP")
    text = explained(history, product="TEE-S", facility_id="BROADWAY")
    assert "8 may be promised: ATP 12, minimum stock 4." in text
    ledger = lines(text, "Ledger")
    assert [(line[1].rsplit("/", 1)[1], line[2], line[5], line[6], line[7]) for line in ledger] == [
        ("late.csv", "2", "-3", "-3", "12"),
        ("receipt.csv", "2", "5", "5", "15"),
        ("first.csv", "2", "10", "10", "10"),
    ]
    assert all("/runs/" in line[3] for line in ledger)
    assert [(line[1].rsplit("/", 1)[1], line[-1]) for line in lines(text, "Resets without an entry")] == [
        ("same.csv", "no change: the stock is what it would be without it"),
        ("older.csv", "superseded: a newer reset was known when it came"),
    ]
    assert [(line[2], line[-1]) for line in lines(text, "Refused rows")] == [("4", ",116,ten,501"), ("5", ",999,4,501")]
    (rule,) = lines(text, "Rules as files stated them")
    assert rule[1:3] == [f"{RULES}/PRODUCT_FACILITY_1.csv", "2"]
    (sent,) = lines(text, "What was sent to Shopify")
    assert sent[6:10] == ["8", "3", "5", "applied"]
    (shop,) = lines(text, "What Shopify showed when it was last read")
    assert shop[:5] == ["SHOP", "7116", str(item(history, "TEE-S")), "8", "3"]
    for name in ("10001", "TEE-S", "501", "840001"):
        assert "# TEE-S (product 10001) at BROADWAY" in explained(history, product=name, facility_id="116")
    result = history.run("explain", {"inventory_explanation": {"product": "TEE-SS"}})
    assert "No product has the id, SKU, NetSuite id or UPC 'TEE-SS'. Near it: TEE-S (product 10001)" in history.failure(
        result
    )
    result = history.run("explain", {"inventory_explanation": {"product": "TEE-S", "facility_id": "BRODWAY"}})
    assert "Near it: BROADWAY (Broadway)" in history.failure(result)
    for moment in ("yesterday", "0001-01-01T00:00:00+14:00"):
        result = history.run("explain", {"inventory_explanation": {"product": "TEE-S", "as_of": moment}})
        assert "as_of takes a time in ISO 8601" in history.failure(result)
    assert "# TEE-S (product 10001)" in explained(history), "without parameters what moved last"
    assert "# TEE-S (product 10001) at WAREHOUSE" in explained(history, facility_id="43")


def test_the_past_is_the_fold_of_what_took_effect_until_then_beside_what_was_known(history: Place) -> None:
    moments = {0.6: (99, 99), 1.5: (10, 6), 2.5: (7, 3), 3.5: (12, 8)}
    for hour, (atp, promised) in moments.items():
        text = explained(history, product="TEE-S", facility_id="BROADWAY", as_of=at(hour).isoformat())
        minimum = 0 if hour < 1 else 4
        assert f"{promised} may be promised: ATP {atp}, minimum stock {minimum}." in text
        assert "Nothing had been posted by then." in text
        assert "What was sent to Shopify\n\nNothing was sent until then." in text
    text = explained(history, product="TEE-S", facility_id="BROADWAY", as_of=at(3.5).isoformat())
    assert lines(text, "Ledger")[1][1].endswith("late.csv"), "in order of effect, not of arrival"
    assert "may be missing here" not in text
    history.rows("update data_manager_log set rows_removed_at = current_timestamp where file_name = 'same.csv'")
    for hour, is_certain in ((3.5, False), (4.5, True)):
        text = explained(history, product="TEE-S", facility_id="BROADWAY", as_of=at(hour).isoformat())
        assert ("a count that came late may be missing here" in text) is not is_certain
    now = datetime.now(UTC)
    history.put(f"{ADJUSTMENTS}/later.csv", f"{DELTAS}116,501,NETSUITE_PRODUCT_ID,-2,\n", now - timedelta(hours=1))
    history.succeed("import_inventory_adjustment")
    text = explained(history, product="TEE-S", facility_id="BROADWAY", as_of=now.isoformat())
    assert "ATP 10, minimum stock 4" in text
    assert [line[:2] for line in lines(text, "What was known then")] == [["12", "12"]]
    assert history.stock()["10001", "BROADWAY"] == (10, 10), "explaining changes nothing"
    result = history.run("explain", {"inventory_explanation": {"product": "TEE-S", "as_of": "2999-01-01"}})
    assert "is yet to come" in history.failure(result)


def test_where_nothing_has_moved_an_explanation_says_so(place: Place) -> None:
    (event,) = place.succeed("explain").get_asset_materialization_events()
    said = event.step_materialization_data.materialization.metadata["explanation"].value
    assert "Nothing has moved yet" in str(said)


def test_a_channel_is_explained_by_its_facilities_and_a_kit_by_its_components(history: Place) -> None:
    history.write_reference(
        "virtual_queue_item",
        "order_id,order_item_seq_id,product_id,facility_id,quantity,product_store_id\nSO1,01,10001,PARKING,2,STORE\n",
    )
    history.succeed("load_reference")
    history.put(f"{RULES}/PRODUCT_FACILITY_2.csv", "facilityId,productSku,facilitySafetyStock\nCONFIGURATION,TEE-S,3\n")
    history.put(f"{KITS}/kit.csv", "productId,productIdTo,quantity\nGIFT-KIT,TEE-S,5\nGIFT-KIT,TEE-M,1\n", at(2))
    history.put_reset("second.csv", HEADER + ",116,6,502\n", at(5))
    for job in ("import_product_facility", "import_kit_component", "import_inventory"):
        history.succeed(job)
    text = explained(history, product="TEE-S")
    assert "10 may be promised by STORE: base 15, threshold 3, queue 2." in text
    assert [line[0] for line in lines(text, "Facilities of the channel")] == [
        "BROADWAY",
        "BROOKLYN",
        "CONFIGURATION",
        "WAREHOUSE",
    ]
    assert lines(text, "Parked orders") == [["SO1", "01", "PARKING", "PRE_ORDER", "2", "STORE"]]
    assert {line[1] for line in lines(text, "Ledger")} == {"BROADWAY", "WAREHOUSE"}
    text = explained(history, product="GIFT-KIT", facility_id="BROADWAY")
    assert "2 may be promised: ATP 2, minimum stock 0." in text
    assert [line[:4] for line in lines(text, "Components of the kit")] == [
        ["TEE-S", "5", "12", "2"],
        ["TEE-M", "1", "6", "6"],
    ]
    text = explained(history, product="GIFT-KIT", facility_id="BROADWAY", as_of=at(4).isoformat())
    assert "0 may be promised" in text, "one component was not known there yet"


def test_the_terminal_says_the_same_and_a_spreadsheet_finds_no_formula(history: Place) -> None:
    history.put(f"{ADJUSTMENTS}/formula.csv", f"{DELTAS}116,501,NETSUITE_PRODUCT_ID,-1,=cmd()\x1b[2J|`<b>\n", at(6))
    history.succeed("import_inventory_adjustment")
    command = [sys.executable, "-m", "hotwax_inventory.reconcile.explanation"]
    done = subprocess.run([*command, "TEE-S", "BROADWAY"], capture_output=True, text=True, env=os.environ, check=True)
    text = explained(history, product="TEE-S", facility_id="BROADWAY")
    for title in ("Ledger", "Refused rows", "What was sent to Shopify"):
        assert len(lines(done.stdout, title)) == len(lines(text, title))
    assert "7 may be promised" in done.stdout
    assert "\x1b" not in done.stdout + text
    with (history.home / "reports" / "explanation-10001-BROADWAY.csv").open(newline="") as file:
        (newest, *_) = csv.DictReader(file)
    assert (newest["note"][:6], newest["stated"], newest["line"]) == ("'=cmd(", "-1", "2")
    unknown = subprocess.run([*command, "NOWHERE"], capture_output=True, text=True, env=os.environ, check=False)
    assert unknown.returncode == 2
    assert "No product has the id" in unknown.stderr
    assert "Traceback" not in unknown.stderr


def drift(place: Place) -> tuple[dict[str, Any], dict[tuple[str, int], tuple[object, ...]]]:
    """What the last report says in numbers, and its rows by (SKU, location)."""
    rows = place.rows(
        "select p.internal_name, d.shopify_location_id, d.target_quantity, d.observed_quantity, d.current_quantity, d.cause, "
        "d.oversold_quantity from inventory_drift as d join product as p using (product_id) order by all"
    )
    return place.told("inventory_drift"), {(sku, location): tuple(row) for sku, location, *row in rows}


def test_drift_says_who_has_moved_a_level_and_what_is_left_of_it(
    stocked: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    shops = stocked.simulator.shops
    first = stocked.succeed("hard_sync", shop="SHOP")
    numbers, rows = drift(stocked)
    assert (numbers["levels_compared"], numbers["levels_found"], rows) == (9, 0, {}), "a first publication is no drift"
    assert "nothing_is_oversold" not in failed_checks(first)
    tee, large = item(stocked, "TEE-S"), item(stocked, "TEE-L")
    shops.sell("SHOP", tee, 7116, 2)
    shops.set_available("SHOP", large, 7281, 20)
    shops.set_available("SHOP", large, 7116, -1)
    stocked.put_reset("later.csv", HEADER + ",281,9,501\n")
    stocked.succeed("import_inventory")
    materialised(stocked, "hard_sync", "shopify_inventory_level", "shopify_shop_product", "inventory_drift")
    numbers, rows = drift(stocked)
    assert rows == {
        ("TEE-L", 7116): (3, -1, -1, "sold since", 1),
        ("TEE-L", 7281): (8, 20, 20, "edited by someone", 12),
        ("TEE-S", 7000): (25, 20, 20, "not yet sent", 0),
        ("TEE-S", 7116): (6, 4, 4, "sold since", 0),
        ("TEE-S", 7281): (9, 4, 4, "not yet sent", 0),
    }
    assert numbers["units_left"] == 28
    since = dict(stocked.rows("select shopify_location_id, since from inventory_drift where cause = 'sold since'"))
    stocked.simulator.faults.add(
        Fault("inventoryAdjustQuantities", "user_error", at_call=0, value="NON_MUTABLE_INVENTORY_ITEM")
    )
    result = stocked.run("hard_sync", shop="SHOP")
    assert not result.success
    assert "NON_MUTABLE_INVENTORY_ITEM" in failed_checks(result)["changes_confirmed"]
    verified, read = stocked.told("sync_verification"), stocked.rows("from shopify_bulk_read")
    assert "| `refused` | `NON_MUTABLE_INVENTORY_ITEM` |" in verified["different"]
    # very many levels are looked at by a read of the whole shop, which is not the one that deltas compare with
    with monkeypatch.context() as many:
        many.setattr(verification, "MOST_ASKED_FOR", 4)
        reads, moved = calls(stocked, "bulkOperationRunQuery"), stocked.rows("from sequence")
        materialised(stocked, "hard_sync", "sync_verification")
        assert stocked.rows("from sequence") == moved, "nothing counts as moved by it"
        assert calls(stocked, "bulkOperationRunQuery") == reads + 1
        assert stocked.told("sync_verification") == verified
        assert stocked.rows("from shopify_bulk_read") == read
    numbers, rows = drift(stocked)
    assert {row[3] for row in rows.values()} == {"refused"}
    assert numbers["levels_left"] == 5
    assert (
        dict(stocked.rows("select shopify_location_id, since from inventory_drift where product_id = '10001'"))[7116]
        == since[7116]
    ), "age is carried on"
    assert "5 of 9 levels still show another number" in failed_checks(result)["few_levels_differ"]
    stocked.simulator.faults.clear()
    result = stocked.succeed("hard_sync", shop="SHOP")
    numbers, rows = drift(stocked)
    assert rows == {
        ("TEE-L", 7116): (3, -1, 3, "sold since", 1),
        ("TEE-L", 7281): (8, 20, 8, "edited by someone", 0),
        ("TEE-S", 7116): (6, 4, 6, "sold since", 0),
    }, "what others did, mended by now"
    assert (numbers["levels_left"], numbers["levels_oversold"]) == (0, 1)
    assert set(failed_checks(result)) == {"nothing_is_oversold"}
    stocked.succeed("hard_sync", shop="SHOP")
    assert drift(stocked)[1] == {}


def test_sales_that_stand_are_drift_that_is_left(stocked: Place) -> None:
    stocked.succeed("hard_sync", shop="SHOP")
    stocked.simulator.shops.sell("SHOP", item(stocked, "TEE-S"), 7116, 2)
    stocked.put_reset("later.csv", HEADER + ",116,9,501\n")
    stocked.succeed("import_inventory")
    stocked.succeed("hard_sync", {"hard_sync_delta": {"difference_from": "last_published"}}, shop="SHOP")
    numbers, rows = drift(stocked)
    assert rows == {("TEE-S", 7116): (9, 4, 7, "sold since", 0)}
    assert (numbers["levels_left"], numbers["units_left"], numbers["levels_sold_since"]) == (1, 2, 1)


def test_the_worklist_says_what_a_person_must_mend_and_a_spreadsheet_can_read_it(
    stocked: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hotwax_inventory.ledger.resets.FEWEST_STOCKED_KEYS", 1)
    shops = stocked.simulator.shops
    shops.add_item("SHOP", 901, "TEE-S")
    shops.add_item("SHOP", 902, '=HYPERLINK("x")')
    locations = (stocked.reference_dir / "shopify_shop_location.csv").read_text()
    stocked.write_reference("shopify_shop_location", f"{locations}SHOP,WAREHOUSE,7043\n")
    stocked.succeed("load_reference")
    stocked.put_reset("broken.csv", "no,such,columns\n1,2,3\n")
    stocked.put_reset("zeros.csv", HEADER + "".join(f",{f},0,{p}\n" for f in (43, 116, 281) for p in (501, 502, 503)))
    assert not stocked.run("import_inventory").success
    stocked.put_reset("broken.csv", "no,such,columns\n1,2,4\n")
    assert not stocked.run("import_inventory").success
    stocked.simulator.faults.add(
        Fault("inventoryAdjustQuantities", "user_error", at_call=0, value="NON_MUTABLE_INVENTORY_ITEM")
    )
    result = stocked.run("hard_sync", shop="SHOP")
    assert not result.success
    assert "3 of 6 items of shop SHOP are matched to no product" in failed_checks(result)["few_items_are_unmatched"]
    (event,) = stocked.succeed("report_worklist").asset_materializations_for_node("worklist")
    kinds = dict(stocked.rows("select kind, count(*) from worklist group by kind"))
    assert kinds == {
        "unmatched_item": 3,
        "unmapped_product": 1,
        "level_not_stocked": 2,
        "never_reset": 1,
        "file_failed": 1,
        "file_held": 1,
        "change_refused": 6,
    }
    assert {kind: event.metadata[kind].value for kind in kinds} == kinds
    with Path(str(event.metadata["worklist_csv"].value)).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(kinds.values())
    assert '\'=HYPERLINK("x")' in [row["name"] for row in rows]
    assert [row["detail"] for row in rows if row["kind"] == "level_not_stocked"] == [
        "30 units may be promised",
        "20 units may be promised",
    ]
    assert all(row["what_to_do"] for row in rows)
    stocked.simulator.faults.clear()
    for (sku, location), quantity in TARGETS.items():
        stocked.simulator.shops.set_available("SHOP", item(stocked, sku), location, quantity)
    stocked.succeed("hard_sync", {"hard_sync_delta": {"shopify_facility_group_id": "FAC_GRP"}}, shop="SHOP")
    refused = "select count(*) from worklist where kind = 'change_refused'"
    stocked.succeed("report_worklist")
    assert stocked.rows(refused) == [(6,)], "not every level was looked at"
    stocked.succeed("hard_sync", shop="SHOP")
    stocked.succeed("report_worklist")
    assert stocked.rows(refused) == [(0,)], "somebody has done it by hand"


def test_what_a_shop_refused_that_is_no_longer_ours_is_not_on_the_worklist(stocked: Place) -> None:
    stocked.simulator.faults.add(
        Fault("inventoryAdjustQuantities", "user_error", at_call=0, value="NON_MUTABLE_INVENTORY_ITEM")
    )
    assert not stocked.run("hard_sync", shop="SHOP").success
    stocked.succeed("report_worklist")
    of_shops = "select count(*) > 0 from worklist where shop_id is not null"
    assert stocked.rows(of_shops) == [(True,)]
    for path in stocked.reference_dir.glob("shopify_shop*.csv"):
        header, *_ = path.read_text().splitlines()
        path.write_text(f"{header}\n")
    stocked.succeed("load_reference")
    assert stocked.rows(of_shops) == [(False,)]


def test_a_run_that_names_no_shop_says_how_to_name_one(stocked: Place) -> None:
    for job in ("hard_sync", "upload_recent_inventory_changes", "sync_inventory_from_shopify", "webhook_subscription"):
        assert '--tags \'{"dagster/partition": "SHOP"}\'' in stocked.failure(stocked.run(job)), job


def test_stock_that_is_not_the_sum_of_its_entries_is_not_published(stocked: Place) -> None:
    with Warehouse().transaction() as connection:
        connection.execute(
            "update inventory_item set available_to_promise_total = available_to_promise_total + 1 "
            "where product_id = '10002' and facility_id = 'BROOKLYN'"
        )
    result = stocked.run("hard_sync", shop="SHOP")
    assert not result.success
    assert "10002 at BROOKLYN is not the sum" in failed_checks(result)["ledger_adds_up"]
    assert stocked.rows("select count(*) from sync_run") == [(0,)], "there is nothing that could be approved"
    assert calls(stocked, "inventoryAdjustQuantities") == 0


def test_a_level_goes_below_zero_only_where_raw_numbers_are_asked_for() -> None:
    live = Observation(None, datetime.now(UTC), 1, 9)
    delta = Delta(1, RECENT, live, 9, 9, 2, 7, 2, 2, False, {})
    assert "2 levels would get a number below zero" in number_alarms(delta, use_valid_atp=True)["nothing_below_zero"]
    assert number_alarms(delta, use_valid_atp=False) == {}
