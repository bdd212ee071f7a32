"""Each kind of file beside the resets: what it changes, what it refuses, and that its order of arrival does not matter."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from hotwax_inventory.automation.schedules import process_bulk_imported_files_every_5_minutes
from hotwax_inventory.ledger import resets
from hotwax_inventory_tests.conftest import REFERENCE, RESETS, Place, failed_checks

RECEIPTS = "netsuite/itemreceipt/csv"
FULFILLMENTS = "netsuite/salesorder/import/fulfillment"
TRANSFERS = "netsuite/inventorytransfer/import"
ADJUSTMENTS = "netsuite/inventoryadjustment/import"
RULES = "hotwax/available-to-promise"
KITS = "netsuite/product/kit"
SHIPMENTS = "hotwax/inbound-shipment"
SHIPMENTS_V2 = "netsuite/transferorderv2/import/fulfillment-wh"
RESTOCKS = "hotwax/scheduled-restock"
DELTAS = "externalFacilityId,idValue,idType,availableDelta,comments\n"
RESET = "Item,externalFacilityId,availableQty,idValue\n"
DAY = datetime(2026, 3, 5, tzinfo=UTC)


def at(hour: float) -> datetime:
    return DAY + timedelta(hours=hour)


def test_a_receipt_as_netsuite_writes_it_moves_both_counters(place: Place) -> None:
    place.put_reset("reset.csv", f"{RESET}TEE-S,43,10,501\n", at(1))
    place.put(
        f"{RECEIPTS}/2026-03-05T02:00:05.512Z-ItemReceipt.csv",
        f"{DELTAS}43,501,NETSUITE_PRODUCT_ID,12,Inventory Adjusted from ItemReceipt # 884321 in NetSuite \n"
        "43,501,NETSUITE_PRODUCT_ID,3,Two boxes, one wet, both counted \n"
        "43,502,NETSUITE_PRODUCT_ID,4,\n"
        "43,999,NETSUITE_PRODUCT_ID,4,\n"
        "900,501,NETSUITE_PRODUCT_ID,4,\n"
        "43,501,NETSUITE_PRODUCT_ID,many,\n"
        f"43,503,NETSUITE_PRODUCT_ID,1,{'x,' * 16}\n"
        f"43,503,NETSUITE_PRODUCT_ID,1,{'x,' * 17}\n",
        at(2.5),
    )
    place.succeed("import_inventory")
    place.succeed("import_item_receipt")
    stock = {("10001", "WAREHOUSE"): (25, 25), ("10002", "WAREHOUSE"): (4, 4), ("10003", "WAREHOUSE"): (1, 1)}
    assert place.stock() == stock
    assert place.logs()[-1][1:] == ("finished_with_errors", 8, 4, 0)
    assert place.rows(
        "select raw_row from data_manager_error where reason like 'the row has more than 16 commas%'"
    ) == [(f"43,503,NETSUITE_PRODUCT_ID,1,{'x,' * 17}",)]
    assert place.rows(
        "select line_number, quantity, reason_enum_id, description, effective_at from inventory_item_detail "
        "where effect = 'delta' order by seq"
    ) == [
        (
            2,
            12,
            "VAR_INTEGR",
            "Inventory Adjusted from ItemReceipt # 884321 in NetSuite",
            datetime(2026, 3, 5, 2, 0, 5, 512000, UTC),
        ),
        (3, 3, "VAR_INTEGR", "Two boxes, one wet, both counted", datetime(2026, 3, 5, 2, 0, 5, 512000, UTC)),
        (4, 4, "VAR_INTEGR", None, datetime(2026, 3, 5, 2, 0, 5, 512000, UTC)),
        (8, 1, "VAR_INTEGR", "x," * 16, datetime(2026, 3, 5, 2, 0, 5, 512000, UTC)),
    ]


def test_both_sides_of_a_transfer_move_and_what_is_not_there_is_cut(place: Place) -> None:
    place.put_reset("reset.csv", f"{RESET}TEE-S,43,10,501\n", at(1))
    place.put(
        f"{TRANSFERS}/a.csv", f"{DELTAS}116,501,NETSUITE_PRODUCT_ID,25,T\n43,501,NETSUITE_PRODUCT_ID,-25,T\n", at(2)
    )
    place.put(f"{ADJUSTMENTS}/b.csv", f"{DELTAS}116,501,NETSUITE_PRODUCT_ID,-5,broken\n", at(3))
    for job in ("import_inventory", "import_inventory_transfer", "import_inventory_adjustment"):
        place.succeed(job)
    assert place.stock() == {("10001", "WAREHOUSE"): (0, 0), ("10001", "BROADWAY"): (20, 20)}
    assert place.rows(
        "select facility_id, quantity, available_to_promise_diff, description from inventory_item_detail "
        "where effect = 'delta' order by seq"
    ) == [("BROADWAY", 25, 25, "T"), ("WAREHOUSE", -25, -10, "cut: T"), ("BROADWAY", -5, -5, "broken")]


def test_a_reset_that_was_written_before_a_receipt_and_uploaded_after_it_leaves_the_receipt(place: Place) -> None:
    place.put(f"{RECEIPTS}/r.csv", f"{DELTAS}43,501,NETSUITE_PRODUCT_ID,12,\n", datetime(2026, 3, 5, 5, 15, tzinfo=UTC))
    place.succeed("import_item_receipt")
    name = "Thu Mar 05 2026 05:00:00 GMT+0000 (UTC)-InventoryItemExport.csv"
    place.put_reset(name, f"{RESET}TEE-S,43,10,501\n", datetime(2026, 3, 5, 5, 30, tzinfo=UTC))
    place.succeed("import_inventory")
    assert place.stock() == {("10001", "WAREHOUSE"): (22, 22)}
    place.put(f"{RECEIPTS}/late.csv", f"{DELTAS}43,501,NETSUITE_PRODUCT_ID,7,was late\n", at(4))
    place.succeed("import_item_receipt")
    assert place.stock() == {("10001", "WAREHOUSE"): (22, 22)}
    assert place.rows(
        "select quantity, quantity_on_hand_diff, available_to_promise_diff, description from inventory_item_detail "
        "where description like 'before_reset%'"
    ) == [(7, 0, 0, "before_reset: was late")]


def fulfillment(order: str, item: str, quantity: object, facility: str = "43") -> dict[str, object]:
    items = [
        {
            "orderItemSeqId": item,
            "externalFacilityId": facility,
            "shippedDate": "2026-03-05 10:11:12",
            "quantity": quantity,
        }
    ]
    return {"orderMap": {"orderId": order, "items": items}}


QUEUE = "order_id,order_item_seq_id,product_id,facility_id,quantity,product_store_id\n"


def test_a_fulfilment_closes_its_order_item_and_takes_what_was_not_reserved(place: Place) -> None:
    place.write_reference(
        "virtual_queue_item", f"{QUEUE}R,00101,10001,WAREHOUSE,3,STORE\nQ,00101,10002,PARKING,3,STORE\n"
    )
    place.succeed("load_reference")
    place.put_reset("reset.csv", f"{RESET}TEE-S,43,10,501\nTEE-M,43,10,502\n", at(1))
    elements = [
        fulfillment("R", "00101", 1),
        fulfillment("Q", "00101", "2"),
        fulfillment("R", "00101", "1.0"),
        fulfillment("X", "00101", 1),
        fulfillment("R", "00101", None),
        {"orderMap": None},
        7,
    ]
    place.put(f"{FULFILLMENTS}/SalesOrderFulfillment-2026-03-05-02-00-00.json", json.dumps(elements, indent=2), at(2))
    place.succeed("import_inventory")
    place.succeed("import_item_receipt")
    assert place.stock() == {("10001", "WAREHOUSE"): (8, 10), ("10002", "WAREHOUSE"): (8, 8)}
    open_items = "select order_id, quantity from virtual_queue_item order by 1"
    assert place.rows(open_items) == [("Q", 1), ("R", 1)]
    assert place.logs()[-1][1:] == ("finished_with_errors", 7, 4, 0)
    assert place.rows("select line_number, reason, raw_row <> '' from data_manager_error order by 1") == [
        (4, "Could not find item 00101 of order X in virtual_queue_item", True),
        (5, "the quantity is empty", True),
        (6, "the item names no order", True),
        (7, "the item names no order", True),
    ]
    place.succeed("load_reference")
    assert place.rows(open_items) == [("Q", 1), ("R", 1)]
    # a refused row, mended in the failed-records file, is an ordinary file of its own
    (failed,) = (place.home / "landing" / "IMP_ITM_RECEIPT").glob("*failed-records*")
    mended = "\n".join(line.replace("X,00101", "R,00101") for line in failed.read_text().splitlines()[:2])
    place.put(f"{FULFILLMENTS}/{failed.name}", mended, at(9))
    place.succeed("import_item_receipt")
    assert place.stock()["10001", "WAREHOUSE"] == (7, 10)
    assert place.rows(open_items) == [("Q", 1), ("R", 0)]


UNREADABLE = {
    '{"orderMap": {}}': "one JSON object",
    "[1, 2": "has no end",
    '[{"a": 1}{"b": 2}]': "is not JSON",
    '[{"a": 1},]': "is not JSON",
    '[{"a": "\\ud800"}]': "is not JSON",
    "": "is empty",
    "hello": "is missing",
    '[{"a": 1}]'.encode("utf-16")[:-1]: "is neither UTF-8",
    '[{"a": "xx"}]'.encode("utf-16").replace(b"x\0x\0", b"\0\xd8x\0"): "is neither UTF-8",
    b'[{"a": "\xe9 \x81"}]': "is neither UTF-8",
    "x" * 3_000_000: "longer than 2,000,000 bytes",
    "x," * 2000: "has 2,001 columns",
    'orderId,quantity\n"' + "x" * 1_000_000: "is never closed",
}


def test_files_that_cannot_be_read_fail_with_a_sentence_and_leave_the_others_alone(place: Place) -> None:
    for number, content in enumerate(UNREADABLE):
        place.put(f"{FULFILLMENTS}/{number:02}.json", content, at(2))
    place.put(f"{RECEIPTS}/good.csv", f"{DELTAS}43,501,NETSUITE_PRODUCT_ID,12,\n", at(2))
    assert not place.run("import_item_receipt").success
    messages = place.rows("select status_id, message from data_manager_log order by file_name")
    for (status, message), said in zip(messages, UNREADABLE.values(), strict=False):
        assert status == "failed"
        assert said in message
    assert messages[len(UNREADABLE) :] == [("finished", None)]
    assert place.stock() == {("10001", "WAREHOUSE"): (12, 12)}
    place.succeed("import_item_receipt")


def test_json_that_is_odd_but_valid_is_read(place: Place) -> None:
    place.write_reference("virtual_queue_item", f"{QUEUE}R,00101,10001,WAREHOUSE,3,STORE\n")
    place.succeed("load_reference")
    item = '{"orderItemSeqId": "00101", "externalFacilityId": 43, "quantity": 1, "x": %s}'
    deep = f'{{"orderMap": {{"orderId": "R", "items": [{item}]}}}}'
    place.put(f"{FULFILLMENTS}/deep.json", "[" + deep % ("[" * 3000 + "]" * 3000) + "]", at(2))
    place.put(f"{FULFILLMENTS}/bom.json", ("[" + deep % "null" + "]").encode("utf-8-sig"), at(3))
    place.put(f"{FULFILLMENTS}/none.json", "[]", at(3))
    place.put(f"{FULFILLMENTS}/long.json", "[" + deep % f'"{"x" * 5_000_000}"' + "]", at(3))
    place.succeed("import_item_receipt")
    assert place.stock() == {("10001", "WAREHOUSE"): (-3, 0)}


def test_rules_change_what_may_be_promised_and_say_nothing_where_they_are_empty(place: Place) -> None:
    place.put_reset("reset.csv", f"{RESET}TEE-S,43,100,501\nTEE-S,116,100,501\nTEE-S,281,50,501\n", at(1))
    place.succeed("import_inventory")
    place.put(
        f"{RULES}/PRODUCT_FACILITY_1.csv",
        "facility-safety-stock,facility-id,product-id\n10,WAREHOUSE,10001\n10,BROADWAY,10001\n",
        at(2),
    )
    place.put(f"{RULES}/PRODUCT_FACILITY_2.csv", "product-id,facility-id,allow-brokering\n10001,BROOKLYN,N\n", at(3))
    place.put(
        f"{RULES}/PRODUCT_FACILITY_3.csv",
        "facility-safety-stock,facility-id,product-id\n20,CONFIGURATION,10001\n",
        at(3),
    )
    place.put(
        f"{RULES}/PRODUCT_FACILITY_4.csv",
        "facility-id,facility-external-id,product-id,product-sku,facility-safety-stock,reorder-quantity,allow-pickup\n"
        ",116,,TEE-S,,20,N\nNOWHERE,,10001,,1,,\nBROADWAY,,,,1,,\nBROADWAY,,10001,,-1,,\nBROADWAY,,10001,,1,,maybe\n",
        at(4),
    )
    place.put(f"{RULES}/readme.csv", "nothing\n", at(4))
    place.succeed("import_product_facility")
    assert place.rows(
        "select facility_id, minimum_stock, allow_brokering, allow_pickup from product_facility order by 1"
    ) == [
        ("BROADWAY", 10, None, "N"),
        ("BROOKLYN", None, "N", None),
        ("CONFIGURATION", 20, None, None),
        ("WAREHOUSE", 10, None, None),
    ]
    online = "select base_atp, threshold, online_atp from online_atp where product_id = '10001'"
    assert place.rows(online) == [(180, 20, 160)]
    assert place.logs()[-1][1:] == ("finished_with_errors", 5, 4, 0)
    entries = place.rows("select count(*) from inventory_item_detail")
    moved = place.rows("select max(changed_seq) from product_facility")
    place.put(
        f"{RULES}/PRODUCT_FACILITY_0.csv", "facility-safety-stock,facility-id,product-id\n99,WAREHOUSE,10001\n", at(1.5)
    )
    place.put(
        f"{RULES}/PRODUCT_FACILITY_5.csv", "facility-safety-stock,facility-id,product-id\n10,WAREHOUSE,10001\n", at(5)
    )
    place.succeed("import_product_facility")
    assert place.rows(online) == [(180, 20, 160)]
    assert place.rows("select max(changed_seq) from product_facility") == moved
    assert place.rows("select count(*) from inventory_item_detail") == entries


@pytest.mark.parametrize("order", ["1234", "3214", "2341", "1243", "2143"])
def test_rules_said_by_turns_end_alike_in_any_order_of_arrival(place: Place, order: str) -> None:
    for n in order:
        row = f"{'N' if n in '13' else 'Y'},BROADWAY,10001\n"
        place.put(f"{RULES}/PRODUCT_FACILITY_{n}.csv", f"allow-brokering,facility-id,product-id\n{row}", at(int(n)))
        place.succeed("import_product_facility")
    assert place.rows("select allow_brokering from product_facility") == [("Y",)]
    assert {log[1] for log in place.logs()} == {"finished"}


@pytest.mark.parametrize("order", ["1234", "3214", "2341", "4312"])
def test_a_rule_that_is_said_again_counts_once_another_was_said_in_between(place: Place, order: str) -> None:
    for n in order:
        flag = "Y" if n == "2" else "N"
        place.put(
            f"{RULES}/PRODUCT_FACILITY_{n}.csv",
            f"allow-brokering,facility-id,product-id\n{flag},BROADWAY,10001\n",
            at(int(n)),
        )
        place.succeed("import_product_facility")
    assert place.rows("select allow_brokering from product_facility") == [("N",)]
    # the last two say the same, one after the other
    assert [log[1] for log in place.logs()].count("duplicate") == 1


@pytest.mark.parametrize("order", [("1", "2", "mended", "3"), ("1", "mended", "2", "3"), ("1", "2", "product", "3")])
def test_a_kit_list_that_comes_daily_is_whole_once_its_row_was_mended_or_can_be_read(
    place: Place, order: tuple[str, ...]
) -> None:
    place.put_reset("reset.csv", f"{RESET}TEE-S,43,10,501\nTEE-M,43,2,502\n", at(0))
    place.succeed("import_inventory")
    for name in order:
        if name == "mended":
            failed = min((place.home / "landing").rglob("*failed-records*.csv"))
            place.put(f"{KITS}/{failed.name}", failed.read_text().replace("NEW", "TEE-M"), at(3))
        elif name == "product":
            place.write_reference("product", f"{REFERENCE['product']}10050,NEW,FINISHED_GOOD,599,,\n")
            place.succeed("load_reference")
            place.put_reset("new.csv", f"{RESET}NEW,43,2,599\n", at(2.5))
            place.succeed("import_inventory")
        else:
            rows = "509,501,1,\n509,NEW,1,\n"
            place.put(f"{KITS}/{name}.csv", f"productId,productIdTo,quantity,productAssocTypeId\n{rows}", at(int(name)))
        place.succeed("import_kit_component")
    assert place.rows("select facility_id, available_to_promise_total from kit_inventory") == [("WAREHOUSE", 2)]


@pytest.mark.parametrize("is_known", [True, False])
def test_equal_rows_that_two_files_were_refused_of_all_count_once_they_can(place: Place, is_known: bool) -> None:
    """Put back too early they are refused again, and are put back again, as equal as they were."""
    for hour in (1, 2):
        place.put(f"{RECEIPTS}/{hour}.csv", f"{DELTAS}43,NEW,SKU,5,\n43,TEE-S,SKU,{hour},\n", at(hour))
    place.succeed("import_item_receipt")
    for has_product in [True] if is_known else [False, True]:
        if has_product:
            place.write_reference("product", f"{REFERENCE['product']}10050,NEW,FINISHED_GOOD,599,,\n")
            place.succeed("load_reference")
        for failed in newest_failed_records(place):
            place.put(f"{RECEIPTS}/{failed.name}", failed.read_text(), at(3))
        place.succeed("import_item_receipt")
    assert place.stock() == {("10001", "WAREHOUSE"): (3, 3), ("10050", "WAREHOUSE"): (10, 10)}


@pytest.mark.parametrize("order", [("whole", "rest"), ("rest", "whole"), ("both",)])
def test_a_file_that_was_refused_counts_once_whether_it_or_its_refused_rows_come_again(
    place: Place, order: tuple[str, ...]
) -> None:
    rows = f"{DELTAS}43,NEW,SKU,5,\n43,NEWER,SKU,7,\n"
    place.put(f"{RECEIPTS}/first.csv", rows, at(1))
    place.succeed("import_item_receipt")
    (failed,) = newest_failed_records(place)
    place.put(f"{RECEIPTS}/early.csv", rows, at(1.5))
    place.succeed("import_item_receipt")
    products = "10050,NEW,FINISHED_GOOD,599,,\n10051,NEWER,FINISHED_GOOD,600,,\n"
    place.write_reference("product", REFERENCE["product"] + products)
    place.succeed("load_reference")
    for name in order:
        if name != "rest":
            place.put(f"{RECEIPTS}/again.csv", rows, at(2))
        if name != "whole":
            place.put(f"{RECEIPTS}/{failed.name}", failed.read_text(), at(3))
        place.succeed("import_item_receipt")
    assert place.stock() == {("10050", "WAREHOUSE"): (5, 5), ("10051", "WAREHOUSE"): (7, 7)}
    assert sorted(log[1] for log in place.logs()) == ["duplicate", "finished", *["finished_with_errors"] * 2]


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (None,)])
def test_rows_that_were_refused_twice_for_different_reasons_count_once_in_whichever_file_they_come(
    place: Place, order: tuple[int | None, ...]
) -> None:
    place.put(f"{RECEIPTS}/first.csv", f"{DELTAS}43,TEE-S,SKU,1,\n77,NEW,SKU,5,\n", at(1))
    place.succeed("import_item_receipt")
    (first,) = newest_failed_records(place)
    place.write_reference("facility", f"{REFERENCE['facility']}ANNEX,77,Annex,WAREHOUSE,,STORE\n")
    place.succeed("load_reference")
    place.put(f"{RECEIPTS}/{first.name}", first.read_text(), at(2))
    place.succeed("import_item_receipt")
    (second,) = newest_failed_records(place)
    assert first.read_text() != second.read_text()
    place.write_reference("product", f"{REFERENCE['product']}10050,NEW,FINISHED_GOOD,599,,\n")
    place.succeed("load_reference")
    for number in order:
        for path in (first, second) if number is None else [(first, second)[number]]:
            place.put(f"{RECEIPTS}/{path.name}", path.read_text(), at(3))
        place.succeed("import_item_receipt")
    assert place.stock() == {("10001", "WAREHOUSE"): (1, 1), ("10050", "ANNEX"): (5, 5)}


def test_a_mended_row_stays_though_it_is_put_back_once_more_as_it_was(place: Place) -> None:
    rows = "productId,productIdTo,quantity,productAssocTypeId\n509,501,1,\n"
    place.put(f"{KITS}/list.csv", f"{rows}509,TEE-MM,1,\n", at(2))
    place.succeed("import_kit_component")
    (failed,) = newest_failed_records(place)
    as_it_was = failed.read_text()
    for text in (as_it_was.replace("TEE-MM", "TEE-M"), as_it_was):
        place.put(f"{KITS}/{failed.name}", text, at(3 + (text == as_it_was)))
        place.succeed("import_kit_component")
    place.put(f"{KITS}/older.csv", rows, at(1))
    place.succeed("import_kit_component")
    assert place.rows("select product_id_to from kit_component where thru_date is null order by all") == [
        ("10001",),
        ("10002",),
    ]


def test_a_row_that_was_cut_off_is_refused_until_it_is_whole(place: Place) -> None:
    place.put(f"{TRANSFERS}/t.csv", f"{DELTAS}43,NEW,SKU,5,new\n43,501,NETSUITE_PRODUCT_ID,1", at(1))
    place.succeed("import_inventory_transfer")
    place.write_reference("product", f"{REFERENCE['product']}10050,NEW,FINISHED_GOOD,599,,\n")
    place.succeed("load_reference")
    for hour in (2, 3):
        (failed,) = newest_failed_records(place)
        place.put(f"{TRANSFERS}/{failed.name}", failed.read_text(), at(hour))
        place.succeed("import_inventory_transfer")
        assert place.stock() == {("10050", "WAREHOUSE"): (5, 5)}
    (failed,) = newest_failed_records(place)
    assert ",1,(no field)," in failed.read_text()
    place.put(f"{TRANSFERS}/{failed.name}", failed.read_text().replace(",1,(no field)", ",12,"), at(4))
    place.succeed("import_inventory_transfer")
    assert place.stock() == {("10001", "WAREHOUSE"): (12, 12), ("10050", "WAREHOUSE"): (5, 5)}


def newest_failed_records(place: Place) -> list[Path]:
    """Of each file that had refused rows what is left of them now."""
    found = sorted((place.home / "landing").rglob("*failed-records*.csv"), key=lambda path: path.stat().st_mtime_ns)
    return [*{path.stem.split("-failed-records-")[1].split("-")[0]: path for path in found}.values()]


def test_the_refused_rows_of_a_file_that_gives_reasons_of_its_own_come_back(place: Place) -> None:
    header = "productId,facilityId,quantity,reason,comments\n"
    place.put_reset("reset.csv", f"{header}10001,WAREHOUSE,ten,CYCLE,c\n10002,WAREHOUSE,4,CYCLE,c\n", at(1))
    place.succeed("import_inventory")
    (failed,) = newest_failed_records(place)
    place.put_reset(failed.name, failed.read_text().replace("ten", "eleven"), at(2))
    place.succeed("import_inventory")
    (again,) = newest_failed_records(place)
    assert again.read_text().replace("eleven", "ten") == failed.read_text()
    place.put_reset(again.name, again.read_text().replace("eleven", "11"), at(3))
    place.succeed("import_inventory")
    assert place.stock() == {("10001", "WAREHOUSE"): (11, 11), ("10002", "WAREHOUSE"): (4, 4)}


@pytest.mark.parametrize(
    ("wrong", "made"),
    [
        ("509,NEW,1,", 0),
        ("509,509,1,", 0),
        ("509,TEE-M,0,", 0),
        ("509,TEE-M", 0),
        ("509,TEE-M,1,PRODUCT_VARIANT", 6),
        ("501,TEE-M,1,", 6),
    ],
)
def test_a_kit_of_whose_list_a_row_was_refused_cannot_be_made_until_it_has_come_back(
    place: Place, wrong: str, made: int
) -> None:
    place.put_reset("reset.csv", f"{RESET}TEE-S,43,6,501\nTEE-M,43,4,502\nTEE-L,43,9,503\n", at(0))
    header = "productId,productIdTo,quantity,productAssocTypeId\n"
    place.put(f"{KITS}/whole.csv", f"{header}509,501,1,\n509,TEE-L,3,\n", at(1))
    place.succeed("import_inventory")
    place.succeed("import_kit_component")
    kits = "select available_to_promise_total from kit_inventory where product_id = '10009'"
    assert place.rows(kits) == [(3,)]
    place.put(f"{KITS}/list.csv", f"{header}509,501,1,\n{wrong}\n", at(2))
    place.succeed("import_kit_component")
    assert place.rows(kits) == [(made,)]
    assert place.logs()[-1][1:] == ("finished_with_errors", 2, 1, 0)
    place.succeed("report_worklist")
    told = "select name, detail from worklist where kind = 'kit_not_whole'"
    why = "1 rows of its component list were refused, last in list.csv: none can be made"
    assert place.rows(told) == ([] if made else [("GIFT-KIT", why)])
    (failed,) = newest_failed_records(place)
    place.put(f"{KITS}/{failed.name}", f"{header}509,TEE-M,1,\n", at(3))
    place.succeed("import_kit_component")
    assert place.rows(kits) == [(4,)]
    assert place.rows(told) == []


def test_kits_are_what_their_components_make(place: Place) -> None:
    header = "productId,productIdTo,quantity,productAssocTypeId\n"
    place.put_reset(
        "reset.csv", f"{RESET}A,43,5,501\nB,43,0,502\nA,116,3,501\nB,116,2,502\nA,281,1,501\nKIT,43,77,509\n", at(1)
    )
    place.put(f"{KITS}/list.csv", f"{header}GIFT-KIT,10001,1,PRODUCT_COMPONENT\n509,TEE-M,1,PRODUCT_COMPONENT\n", at(2))
    place.put(f"{KITS}/old.csv", f"{header}10009,10003,1,PRODUCT_COMPONENT\n", at(1))
    place.put(f"{KITS}/bad.csv", f"{header}10001,10002,1,\n10009,10009,1,\n10009,10001,0,\n10009,nothing,1,\n", at(3))
    place.succeed("import_inventory")
    assert place.logs()[-1][1:] == ("finished", 6, 0, 1)
    place.succeed("import_kit_component")
    kits = "select facility_id, available_to_promise_total from kit_inventory where product_id = '10009' order by 1"
    assert place.rows(kits) == [("BROADWAY", 2), ("BROOKLYN", 0), ("WAREHOUSE", 0)]
    assert place.rows("select online_atp from online_atp where product_id = '10009'") == [(2,)]
    assert place.logs()[-1][1:] == ("finished_with_errors", 4, 4, 0)
    place.put(f"{TRANSFERS}/t.csv", f"{DELTAS}43,502,NETSUITE_PRODUCT_ID,4,\n", at(4))
    place.succeed("import_inventory_transfer")
    assert place.rows(kits) == [("BROADWAY", 2), ("BROOKLYN", 0), ("WAREHOUSE", 4)]
    place.put(f"{KITS}/newer.csv", f"{header}10009,10001,2,PRODUCT_COMPONENT\n", at(5))
    place.succeed("import_kit_component")
    assert place.rows(kits) == [("BROADWAY", 1), ("BROOKLYN", 0), ("WAREHOUSE", 2)]
    place.succeed("kit_inventory_setup", {"kit_inventory": {"include_all": True}})
    assert place.rows(kits) == [("BROADWAY", 1), ("BROOKLYN", 0), ("WAREHOUSE", 2)]


SHIPMENT = (
    "external-shipment-id,product-sku,quantity,origin-facility-id,destination-facility-id,item-external-id,tracking-number,"
    "shipment-attribute,shipment-type\n"
)


# What cannot be done with a shipment that is no restock and names no destination, and why.
REFUSED_DEEDS: list[tuple[dict[str, str], str]] = [
    ({"shipment_id": "IN-77"}, "names no destination"),
    ({"shipment_id": "IN-77", "facility_id": "999"}, "There is no facility 999"),
    ({"shipment_id": "IN-99"}, "There is no shipment IN-99"),
    ({"action": "cancel"}, "action = cancel needs a shipment_id"),
    ({"action": "rename", "shipment_id": "IN-77"}, "action = rename needs a name"),
    ({"action": "reschedule", "shipment_id": "IN-77", "scheduled_at": "tomorrow"}, "ISO 8601"),
    ({"action": "reschedule", "shipment_id": "IN-77", "scheduled_at": "2026-11-27T09:00:00Z"}, "is no restock"),
]


def test_a_shipment_is_stock_when_it_is_received_and_only_once(place: Place) -> None:
    place.put(
        f"{SHIPMENTS}/a.csv",
        f"{SHIPMENT}INBOUND-1,TEE-S,11,116,281,1,788944217767 | 788944218650,EXTERNAL_ORDER_ID:TO0005374,IN_TRANSFER\n"
        "INBOUND-1,TEE-M,2,116,281,2,,,IN_TRANSFER\nINBOUND-2,TEE-S,1,116,281,1,,,\nINBOUND-2,NOTHING,1,116,281,1,,,\n",
        at(1),
    )
    package = {
        "externalId": "1",
        "itemExternalId": "1-1",
        "productIdType": "NETSUITE_PRODUCT_ID",
        "productIdValue": "501",
        "quantity": 11,
    }
    v2 = {
        "externalId": "77",
        "transferOrderId": "TO",
        "shippedDate": "2026-03-05",
        "packages": [{"trackingNumber": "7889", "items": [package]}, {"trackingNumber": "7890", "items": []}],
    }
    spoilt = {"externalId": "79", "packages": [{"items": [package]}, {"items": {"productIdValue": "502"}}]}
    place.put(
        f"{SHIPMENTS_V2}/ExportWarehouseToFulfillment-2026-03-05-02-00-00.json",
        json.dumps([v2, {"externalId": "78"}, spoilt]),
        at(2),
    )
    place.succeed("import_inbound_shipment")
    assert place.rows("select shipment_id, destination_facility_id, status_id from shipment order by 1") == [
        ("IN-77", None, "PURCH_SHIP_SHIPPED"),
        ("IN-INBOUND-1", "BROOKLYN", "PURCH_SHIP_SHIPPED"),
    ]
    assert place.rows("select reason from data_manager_error order by log_id, line_number") == [
        ("another row of shipment INBOUND-2 is refused: line 5",),
        ("Could not find product with ident type SKU and value NOTHING",),
        ("the row names no product",),
        ("another row of shipment 79 is refused: line 4",),
        ("the row names no product",),
    ]
    assert place.stock() == {}
    place.put(f"{SHIPMENTS}/again.csv", f"{SHIPMENT}INBOUND-1,TEE-S,12,116,281,1,,,IN_TRANSFER\n", at(3))
    place.succeed("import_inbound_shipment")
    place.succeed("schedule_restock", {"shipment_receipt": {"shipment_id": "IN-INBOUND-1"}})
    place.succeed("schedule_restock", {"shipment_receipt": {"shipment_id": "IN-INBOUND-1"}})
    assert place.stock() == {("10001", "BROOKLYN"): (12, 12)}
    place.put(f"{SHIPMENTS}/late.csv", f"{SHIPMENT}INBOUND-1,TEE-S,20,116,281,1,,,IN_TRANSFER\n", at(4))
    (late, *_) = place.succeed("import_inbound_shipment").get_asset_check_evaluations()
    assert (late.passed, late.description) == (
        False,
        "late.csv: Received or cancelled before, and left as it was: INBOUND-1.",
    )
    for asked, said in REFUSED_DEEDS:
        assert said in place.failure(place.run("schedule_restock", {"shipment_receipt": asked})), asked
    assert place.stock() == {("10001", "BROOKLYN"): (12, 12)}
    place.succeed("schedule_restock", {"shipment_receipt": {"shipment_id": "IN-77", "facility_id": "116"}})
    assert place.stock()["10001", "BROADWAY"] == (11, 11)
    assert place.rows("select distinct reason_enum_id, shipment_id from inventory_item_detail order by 2") == [
        ("VAR_SHIP_RECV", "IN-77"),
        ("VAR_SHIP_RECV", "IN-INBOUND-1"),
    ]


def test_a_shipment_may_name_its_destination_by_either_id_and_need_not_name_it_in_each_row(place: Place) -> None:
    rows = [
        f"BOTH,{sku},1,116,{facility},1,,,IN_TRANSFER\n"
        for sku, facility in (("TEE-S", "281"), ("TEE-M", "BROOKLYN"), ("TEE-L", ""))
    ]
    place.put(f"{SHIPMENTS}/both.csv", SHIPMENT + "".join(rows), at(1))
    place.succeed("import_inbound_shipment")
    place.succeed("schedule_restock", {"shipment_receipt": {"shipment_id": "IN-BOTH"}})
    assert place.stock() == {(product, "BROOKLYN"): (1, 1) for product in ("10001", "10002", "10003")}


def test_a_transfer_order_of_thousands_of_items_is_one_shipment(place: Place) -> None:
    item = {"productIdType": "SKU", "productIdValue": "TEE-S", "quantity": 1}
    items = [item | {"itemExternalId": f"7-{number}"} for number in range(5000)]
    shipments = [
        {"externalId": number, "packages": [{"trackingNumber": "1Z" * 50, "items": found}] * 2}
        for number, found in ((7, items), (8, [*items, item | {"quantity": "x"}]))
    ]
    place.put(f"{SHIPMENTS_V2}/long.json", json.dumps(shipments), at(1))
    place.succeed("import_inbound_shipment")
    assert place.rows("select shipment_id, sum(quantity)::int from shipment_item group by 1") == [("IN-7", 10_000)]
    assert place.logs()[-1][1:] == ("finished_with_errors", 20_002, 10_002, 0)
    assert place.rows("select max(length(raw_row)) < 500 from data_manager_error") == [(True,)]


RESTOCK = "Shopify Product SKU,Restock Quantity,Schedule Time,Facility,Product Store,Shopify Store,Restock Name\n"


def test_restocks_are_received_at_their_time_and_can_be_changed_before(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    past, future = (now - timedelta(hours=1)).isoformat(), (now + timedelta(days=1)).isoformat()
    place.put(
        f"{RESTOCKS}/r.csv",
        f"{RESTOCK}TEE-S,100,{past},Broadway,STORE,Demo,Due\nTEE-M,5,{past},116,STORE,Demo,Due\n"
        f"TEE-S,7,{future},Broadway,STORE,Demo,Later\nTEE-S,1,soon,Broadway,STORE,Demo,Due\nTEE-S,0,{past},Broadway,,,Due\n"
        f"TEE-L,9,{future},Brooklyn,STORE,Demo,Never\n"
        "TEE-S,3,0001-01-01T00:00:00+14:00,Broadway,STORE,Demo,Early\nTEE-S,3,9999-12-31T23:00:00-05:00,Broadway,STORE,Demo,Late\n",
    )
    place.succeed("import_scheduled_restock")
    assert place.logs()[-1][1:] == ("finished_with_errors", 8, 4, 0)
    names = dict(place.rows("select name, shipment_id from shipment"))
    assert set(names) == {"Due", "Later", "Never"}
    place.succeed("schedule_restock", {"shipment_receipt": {"limit": 1}})
    assert place.rows("select count(*) from shipment_receipt") == [(1,)]
    place.succeed("schedule_restock")
    assert place.stock() == {("10001", "BROADWAY"): (100, 100), ("10002", "BROADWAY"): (5, 5)}
    place.succeed("schedule_restock", {"shipment_receipt": {"shipment_id": names["Never"], "action": "cancel"}})
    change = {
        "shipment_id": names["Later"],
        "action": "reschedule",
        # as the file's times are read, by the store's zone
        "scheduled_at": (now - timedelta(hours=5, seconds=1)).replace(tzinfo=None).isoformat(),
    }
    monkeypatch.setenv("RESTOCK_TIME_ZONE", "Etc/GMT+5")
    place.succeed("schedule_restock", {"shipment_receipt": change})
    place.succeed(
        "schedule_restock", {"shipment_receipt": {"shipment_id": names["Later"], "action": "rename", "name": "Now"}}
    )
    place.succeed("schedule_restock")
    assert place.stock()["10001", "BROADWAY"] == (107, 107)
    assert ("10003", "BROOKLYN") not in place.stock()
    refused = place.run("schedule_restock", {"shipment_receipt": {"shipment_id": names["Never"]}})
    assert "was cancelled" in place.failure(refused)
    never = change | {"scheduled_at": "9999-12-31T23:59:59-05:00"}
    assert "needs scheduled_at in ISO 8601" in place.failure(place.run("schedule_restock", {"shipment_receipt": never}))


def test_a_row_that_comes_after_its_restock_was_received_is_refused(place: Place) -> None:
    row = "{},{},2026-03-05T09:00:00Z,Broadway,STORE,Demo,Drop\n"
    place.put(f"{RESTOCKS}/r.csv", RESTOCK + row.format("TEE-S", 5) + row.format("NONE", 7), at(1))
    place.succeed("import_scheduled_restock")
    place.succeed("schedule_restock")
    (failed,) = (place.home / "landing").rglob("*failed-records*.csv")
    place.put(f"{RESTOCKS}/{failed.name}", failed.read_text().replace("NONE", "TEE-M"), at(2))
    place.put(f"{RESTOCKS}/all.csv", RESTOCK + row.format("TEE-M", 7) + row.format("TEE-S", 5), at(3))
    place.succeed("import_scheduled_restock")
    assert [log[1:] for log in place.logs()] == [
        ("finished_with_errors", 2, 1, 0),
        ("finished_with_errors", 1, 1, 0),
        ("finished_with_errors", 2, 1, 0),
    ]
    (reason,) = place.rows("select distinct reason from data_manager_error where log_id > 1")[0]
    assert reason.startswith("its restock was received, in part at least, or cancelled before, without this row: ")
    again = max((place.home / "landing").rglob("*failed-records*.csv"), key=lambda path: path.stat().st_mtime_ns)
    place.put(f"{RESTOCKS}/{again.name}", again.read_text().replace(",Drop,", ",Rest,"), at(4))
    place.succeed("import_scheduled_restock")
    place.succeed("schedule_restock")
    assert place.stock() == {("10001", "BROADWAY"): (5, 5), ("10002", "BROADWAY"): (7, 7)}


def test_what_a_received_restock_has_is_not_refused_and_what_it_has_not_is(place: Place) -> None:
    row = "{},{},2026-03-05T09:00:00Z,Broadway,STORE,Demo,Drop\n"
    rows = RESTOCK + row.format("TEE-S", 5) + row.format("GIFT-KIT", 2)
    place.put(f"{RESTOCKS}/r.csv", rows + row.format("NONE", 5), at(2))
    place.succeed("import_scheduled_restock")
    place.succeed("schedule_restock")
    (failed,) = (place.home / "landing").rglob("*failed-records*.csv")
    place.put(f"{RESTOCKS}/{failed.name}", failed.read_text().replace("NONE", "TEE-S"), at(3))
    place.put(f"{RESTOCKS}/older.csv", RESTOCK + row.format("TEE-M", 6), at(1))
    place.put(f"{RESTOCKS}/again.csv", rows, at(4))
    place.succeed("import_scheduled_restock")
    assert {name: counts for name, *counts in place.logs()[1:]} == {
        failed.name: ["finished_with_errors", 1, 1, 0],
        "older.csv": ["finished", 1, 0, 0],
        "again.csv": ["finished", 2, 0, 1],
    }


@pytest.mark.parametrize(
    ("uploaded", "stated", "expected"),
    [
        ("2026-03-07T12:00:00+00:00", "09:00:00", "2026-03-07T14:00:00+00:00"),
        ("2026-03-07T15:00:00+00:00", "09:00", "2026-03-08T13:00:00+00:00"),
        ("2026-10-31T15:00:00+00:00", "9:00:00", "2026-11-01T14:00:00+00:00"),
        ("2026-03-07T12:00:00+00:00", "2026-03-09 09:00:00", "2026-03-09T13:00:00+00:00"),
        # an hour that does not occur, and one that occurs twice
        ("2026-03-08T06:00:00+00:00", "02:30:00", "2026-03-08T07:30:00+00:00"),
        ("2026-11-01T05:00:00+00:00", "01:30:00", "2026-11-01T05:30:00+00:00"),
        ("2026-11-01T05:45:00+00:00", "01:30:00", "2026-11-01T06:30:00+00:00"),
        ("2026-10-31T15:00:00+00:00", "01:30:00", "2026-11-01T05:30:00+00:00"),
        ("2026-10-31T15:00:00+00:00", "2026-11-01T01:30:00", "2026-11-01T05:30:00+00:00"),
        # where clocks are put back by half an hour, and by two
        ("2026-03-07T12:00:00+00:00", "2026-04-05 01:45 in Australia/Lord_Howe", "2026-04-04T14:45:00+00:00"),
        ("2026-03-07T12:00:00+00:00", "2026-10-25 01:30 in Antarctica/Troll", "2026-10-24T23:30:00+00:00"),
        ("2026-03-07T12:00:00+00:00", "2026-03-09T09:00:00Z", "2026-03-09T09:00:00+00:00"),
        ("2026-03-07T12:00:00+00:00", "2026-03-09T09:00Z", "2026-03-09T09:00:00+00:00"),
        ("2026-03-07T12:00:00+00:00", "2026-03-09 09:00 -0530", "2026-03-09T14:30:00+00:00"),
    ],
)
def test_a_time_of_day_is_the_stores(
    place: Place, monkeypatch: pytest.MonkeyPatch, uploaded: str, stated: str, expected: str
) -> None:
    clock, _, place_of_clock = stated.partition(" in ")
    monkeypatch.setenv("RESTOCK_TIME_ZONE", place_of_clock or "America/New_York")
    place.put(f"{RESTOCKS}/r.csv", f"{RESTOCK}TEE-S,1,{clock},Broadway,,,X\n", datetime.fromisoformat(uploaded))
    place.succeed("import_scheduled_restock")
    assert place.rows("select scheduled_at from shipment") == [(datetime.fromisoformat(expected),)]


LISTED = (
    "productId,productIdTo,quantity,productAssocTypeId\n509,501,1,PRODUCT_COMPONENT\n509,TEE-X,5,PRODUCT_COMPONENT\n"
)
DUE = f"{RESTOCK}TEE-S,100,2026-03-05T08:00:00Z,Broadway,,,Due\nTEE-X,50,2026-03-05T08:00:00Z,Broadway,,,Due\n"


@pytest.mark.parametrize(
    ("job", "path", "text", "mends", "found", "expected"),
    [
        (
            "import_kit_component",
            f"{KITS}/Z.csv",
            LISTED,
            {"TEE-X,5": "TEE-L,50", "TEE-X": "TEE-L"},
            "select available_to_promise_total from kit_inventory",
            [(2,)],
        ),
        (
            "import_scheduled_restock",
            f"{RESTOCKS}/Z.csv",
            DUE,
            {"TEE-X,50": "TEE-L,500", "TEE-X": "TEE-L"},
            "select product_id, quantity from shipment_item order by 1",
            [("10001", 100), ("10003", 50)],
        ),
        (
            "import_product_facility",
            f"{RULES}/PRODUCT_FACILITY_1.csv",
            "facility-safety-stock,facility-id,product-sku\n5,BROADWAY,TEE-X\n",
            {"TEE-X": "TEE-L"},
            "select product_id, minimum_stock from product_facility",
            [("10003", 5)],
        ),
    ],
    ids=["kit", "restock", "rule"],
)
def test_mended_rows_become_part_of_the_file_that_they_were_refused_of(
    place: Place, job: str, path: str, text: str, mends: dict[str, str], found: str, expected: list[tuple[object, ...]]
) -> None:
    place.put_reset("reset.csv", f"{RESET}A,43,10,501\nB,43,10,503\n", at(1))
    place.put(path, text, at(2))
    place.succeed("import_inventory")
    place.succeed(job)
    ((at_fault,),) = place.rows("select distinct column_name from data_manager_error")
    assert at_fault in text.splitlines()[0].split(","), "as the file spells it"
    (failed,) = (place.home / "landing").rglob("*failed-records*.csv")
    assert ":" not in failed.name, "a person's file system may not take it"
    refused = failed.read_text()
    for n, (old, new) in enumerate(mends.items()):
        # the second time more than a week after
        place.put(f"{path.rpartition('/')[0]}/{failed.name}", refused.replace(old, new), at(10 + 300 * n))
        place.succeed(job)
    assert place.rows(found) == expected


@pytest.mark.parametrize(
    ("job", "directory", "header", "row"),
    [
        ("import_inventory", RESETS, RESET, "X,43,5,{}\n"),
        ("import_item_receipt", RECEIPTS, DELTAS, "43,{},NETSUITE_PRODUCT_ID,5,\n"),
        (
            "import_scheduled_restock",
            RESTOCKS,
            "sku,quantity,scheduleTime,facility\n",
            "{},5,2030-01-01T09:00:00Z,43\n",
        ),
        ("import_kit_component", KITS, "productId,productIdTo,quantity\n", "509,{},1\n"),
    ],
)
def test_mended_rows_and_a_new_file_come_in_one_run(
    place: Place, job: str, directory: str, header: str, row: str
) -> None:
    good = ("TEE-S", "TEE-M", "TEE-L") if directory == RESTOCKS else ("501", "502", "503")
    place.put(f"{directory}/first.csv", header + row.format(good[0]) + row.format("NONE"), at(1))
    place.succeed(job)
    (failed,) = (place.home / "landing").rglob("*failed-records*.csv")
    place.put(f"{directory}/{failed.name}", failed.read_text().replace("NONE", good[1]), at(2))
    place.put(f"{directory}/next.csv", header + row.format(good[2]), at(3))
    place.succeed(job)
    assert [log[1:] for log in place.logs()] == [
        ("finished_with_errors", 2, 1, 0),
        ("finished", 1, 0, 0),
        ("finished", 1, 0, 0),
    ]


def test_mended_rows_are_read_as_they_were_before(place: Place) -> None:
    place.put_reset("reset.csv", f"{RESET}A,43,6,501\n", at(1))
    place.put(f"{SHIPMENTS_V2}/s.json", json.dumps([{"externalId": "S", "items": None}], indent=2), at(1))
    place.put_reset("qoh.csv", f'{RESET}A,43,"1\n1",TEE-S\n', at(3))
    place.succeed("import_inventory", {"inventory_reset": {"remote_filename": "reset.csv"}})
    place.succeed("import_inbound_shipment")
    place.succeed("import_inventory", {"inventory_reset": {"id_type": "SKU", "reset_by": "QOH"}})
    (failed,) = (place.home / "landing" / "RESET_INVENTORY").glob("*failed-records*.csv")
    place.put_reset(failed.name, failed.read_text().replace('"1\n1"', "7"), at(4))
    place.succeed("import_inventory")
    assert place.rows("select product_id, quantity, reset_by from inventory_reset order by log_id") == [
        ("10001", 6, "ATP"),
        ("10001", 7, "QOH"),
    ]
    raw = [row for (row,) in place.rows("select raw_row from data_manager_error order by log_id")]
    assert raw == ['{\n    "externalId": "S",\n    "items": null\n  }', 'A,43,"1\n1",TEE-S']


def test_what_a_run_is_told_in_vain_it_says(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    vain = {"id_type": "SKU", "approve": True, "location_seq_id": "A-1"}
    place.succeed("import_kit_component", {"kit_component": vain})
    place.put(f"{SHIPMENTS}/s.csv", f"{SHIPMENT}S-1,TEE-S,5,,BROADWAY,,,,\n", at(1))
    place.succeed("import_inbound_shipment")
    told = {"shipment_id": "IN-S-1", "facility_id": "WAREHOUSE", "name": "vain"}
    place.succeed("schedule_restock", {"shipment_receipt": told | {"shipment_id": "S-1"}})
    place.succeed("schedule_restock", {"shipment_receipt": told})
    said = " ".join(record.getMessage() for record in caplog.records)
    for name in vain:
        assert f"{name} means nothing to import_kit_component" in said
    assert "name means nothing without action = rename" in said
    assert "Shipment IN-S-1 names BROADWAY, and is received there" in said
    assert "Nothing of shipment IN-S-1 was left to receive" in said
    assert place.stock() == {("10001", "BROADWAY"): (5, 5)}
    late = place.run("schedule_restock", {"shipment_receipt": told | {"action": "cancel"}})
    assert "is PURCH_SHIP_RECEIVED already" in place.failure(late)


def test_kits_follow_the_reference(place: Place) -> None:
    place.put_reset("reset.csv", f"{RESET}A,43,10,501\nA,116,4,501\n", at(1))
    place.put(f"{KITS}/list.csv", "productId,productIdTo,quantity\n509,501,2\n", at(2))
    place.succeed("import_inventory")
    place.succeed("import_kit_component")
    kits = "select facility_id, last_inventory_count from facility_atp where product_id = '10009' order by 1"
    assert place.rows(kits) == [("BROADWAY", 2), ("WAREHOUSE", 5)]
    of_a_kit = REFERENCE["product"].replace("TEE-S,FINISHED_GOOD", "TEE-S,MARKETING_PKG_PICK")
    for reference, expected in (
        (of_a_kit, [("BROADWAY", 0), ("WAREHOUSE", 0)]),
        (REFERENCE["product"], [("BROADWAY", 2), ("WAREHOUSE", 5)]),
    ):
        place.write_reference("product", reference)
        place.succeed("load_reference")
        assert place.rows(kits) == expected
    place.write_reference("product", REFERENCE["product"].replace("MARKETING_PKG_PICK", "FINISHED_GOOD"))
    place.succeed("load_reference")
    place.put_reset("counted.csv", f"{RESET}KIT,43,77,509\n", at(3))
    place.succeed("import_inventory")
    assert place.rows(kits) == [("WAREHOUSE", 77)]


def test_a_product_that_was_taken_for_a_kit_has_its_stock_back_with_the_next_reference(place: Place) -> None:
    place.put_reset("reset.csv", f"{RESET}L,43,7,503\n", at(1))
    place.succeed("import_inventory")
    for kind, expected in (("MARKETING_PKG_PICK", 0), ("FINISHED_GOOD", 7)):
        place.write_reference("product", REFERENCE["product"].replace("TEE-L,FINISHED_GOOD", f"TEE-L,{kind}"))
        place.succeed("load_reference")
        assert place.rows("select last_inventory_count from facility_atp") == [(expected,)]
        assert place.told("facility_atp")["dagster/row_count"] == 1


def test_what_netsuite_has_counted_of_a_kit_is_nothing_once_kits_are_derived(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KIT_INVENTORY", "netsuite")
    place.put_reset("reset.csv", f"{RESET}KIT,43,5,509\nA,43,10,501\n", at(1))
    place.succeed("import_inventory")
    kit = "select facility_id, last_inventory_count from facility_atp where product_id = '10009'"
    assert place.rows(kit) == [("WAREHOUSE", 5)]
    monkeypatch.setenv("KIT_INVENTORY", "components")
    place.succeed("kit_inventory_setup")
    assert place.rows(kit) == [("WAREHOUSE", 0)], "nobody says what it is made of"
    place.put(f"{KITS}/list.csv", "productId,productIdTo,quantity\n509,501,2\n", at(2))
    place.succeed("import_kit_component")
    assert place.rows(kit) == [("WAREHOUSE", 5)]


def test_files_that_were_only_landed_are_worked_off_later(place: Place) -> None:
    def looked_for() -> object:
        moment = datetime(2026, 3, 5, 12, 15, tzinfo=UTC)
        context = dg.build_schedule_context(instance=place.instance, scheduled_execution_time=moment)
        return process_bulk_imported_files_every_5_minutes(context)

    assert looked_for() == dg.SkipReason("No file waits.")
    place.put_reset("reset.csv", f"{RESET}TEE-S,43,10,501\n,43,5,999\n", at(1))
    place.put(f"{RECEIPTS}/r.csv", f"{DELTAS}43,501,NETSUITE_PRODUCT_ID,12,\n", at(2))
    place.succeed("import_inventory", {"inventory_reset": {"schedule_now": False}})
    place.succeed("import_item_receipt", {"item_receipt": {"scheduleNow": False}})
    assert [log[1] for log in place.logs()] == ["pending", "pending"]
    unknown = place.run("process_bulk_imported_files", {"data_manager_log": {"config_id": "IMP_RECEIPT"}})
    assert "take one of IMP_INCOMING_SHPMNT, IMP_INV_ADJUST" in place.failure(unknown)
    place.succeed("process_bulk_imported_files", {"data_manager_log": {"config_id": "IMP_ITM_RECEIPT"}})
    assert [log[1] for log in place.logs()] == ["pending", "finished"]
    shown = place.instance.get_latest_materialization_event(dg.AssetKey("data_manager_log"))
    assert shown is not None
    assert shown.asset_materialization is not None
    assert "`finished`" in str(shown.asset_materialization.metadata["files_of_the_last_day"].value), (
        "as posting left it"
    )
    assert isinstance(looked_for(), dg.RunRequest)
    worked = place.succeed("process_bulk_imported_files")
    (refused,) = failed_checks(worked).values()
    assert "1 of 2 rows were refused. First: reset.csv line 3: Could not find product" in refused
    assert place.stock() == {("10001", "WAREHOUSE"): (22, 22)}
    assert looked_for() == dg.SkipReason("No file waits.")
    place.rows("update sequence set last_value = last_value + 1")
    assert looked_for() == dg.SkipReason("No file waits.")
    place.rows("update inventory_item set changed_seq = (select last_value from sequence)")
    assert isinstance(looked_for(), dg.RunRequest), "a run has died before the kits"


# job, asset, a parameter in HotWax's spelling
SPELLED = [
    (
        "import_inventory",
        "inventory_reset",
        {"configID": "RESET_INVENTORY", "importpath": f"/{RESETS}/", "idType": "SKU", "resetBy": "QOH"},
    ),
    ("process_bulk_imported_files", "data_manager_log", {"configId": "RESET_INVENTORY"}),
    ("kit_inventory_setup", "kit_inventory", {"includeAll": True}),
]


@pytest.mark.parametrize(("job", "asset", "told"), SPELLED)
def test_hotwaxs_spellings_are_understood(place: Place, job: str, asset: str, told: dict[str, Any]) -> None:
    place.put_reset("reset.csv", "externalFacilityId,availableQty,idValue\n43,10,TEE-S\n")
    place.succeed(job, {asset: told})
    assert place.stock() == ({("10001", "WAREHOUSE"): (10, 10)} if job == "import_inventory" else {})
    assert place.rows("select remote_path from data_manager_log where remote_path like '/%'") == []
    refused = place.run("schedule_restock", {"shipment_receipt": {"shipmentId": "IN-1", "facilityId": "WAREHOUSE"}})
    assert "There is no shipment IN-1" in place.failure(refused)


def test_a_kits_order_item_closes_when_it_is_fulfilled_though_no_stock_moves(place: Place) -> None:
    place.write_reference("virtual_queue_item", QUEUE + "O1,00101,10009,_NA_,3,STORE\n")
    place.succeed("load_reference")
    place.put_reset("reset.csv", f"{RESET}TEE-S,43,10,501\n", at(1))
    place.put(f"{KITS}/kit.csv", "productId,productIdTo,quantity\n10009,10001,1\n", at(1))
    place.succeed("import_inventory")
    place.succeed("import_kit_component")
    online = "select online_atp from online_atp where product_id = '10009'"
    assert place.rows(online) == [(7,)]
    order = {"orderId": "O1", "items": [{"orderItemSeqId": "00101", "externalFacilityId": "43", "quantity": "2"}]}
    place.put(f"{FULFILLMENTS}/f.json", json.dumps([{"orderMap": order}]), at(2))
    place.succeed("import_item_receipt")
    assert place.rows(online) == [(9,)]
    assert place.logs()[-1][1:] == ("finished", 1, 0, 0)
    place.succeed("load_reference")
    assert place.rows(online) == [(9,)]
    for still_open in (1, 3, 0):  # an export after the fulfilment, one of before, one when it is closed
        place.write_reference("virtual_queue_item", f"{QUEUE}O1,00101,10009,_NA_,{still_open},STORE\n")
        place.succeed("load_reference")
        assert place.rows(online) == [(10 - min(still_open, 1),)]
    assert place.stock() == {("10001", "WAREHOUSE"): (10, 10)}


@pytest.mark.parametrize(
    ("steps", "still_open"),
    [
        ("5 f2 5 3 3", 3),
        ("5 f2 3 - 3 3", 3),
        ("5 3 f3 3", 0),
        ("5 3 f2 2", 2),
        ("5 f5 5 - 5", 0),
        ("5 - 5", 5),
    ],
)
def test_what_is_open_of_an_order_item_follows_its_file_and_its_fulfilments(
    place: Place, steps: str, still_open: int
) -> None:
    """Each step is what the file states (`-`: it lacks the item), or how many units are fulfilled."""
    for number, step in enumerate(steps.split()):
        if step.startswith("f"):
            item = {"orderItemSeqId": "00101", "externalFacilityId": "43", "quantity": step[1:]}
            order = {"orderId": "O1", "items": [item]}
            place.put(f"{FULFILLMENTS}/{number}.json", json.dumps([{"orderMap": order}]), at(number))
            place.succeed("import_item_receipt")
        else:
            row = "" if step == "-" else f"O1,00101,10001,PARKING,{step},STORE\n"
            place.write_reference("virtual_queue_item", QUEUE + row)
            place.succeed("load_reference")
    assert place.rows("select quantity from virtual_queue_item") == [(still_open,)]


def test_of_two_servers_that_hold_a_file_of_one_path_only_the_one_that_was_named_is_approved(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resets, "FEWEST_STOCKED_KEYS", 1)
    for variable in ("HOST", "PORT", "USERNAME", "PASSWORD", "KNOWN_HOSTS_FILE"):
        monkeypatch.setenv(f"PARTNER_SFTP_{variable}", os.environ[f"SFTP_{variable}"])
    monkeypatch.setenv("PARTNER_SFTP_ROOT", "/partner")
    rows = "".join(f"X,43,{{}},{product}\n" for product in ("501", "502", "503"))
    path, partner = f"{RESETS}/day.csv", {"property_resource": "PARTNER"}
    place.put_reset("first.csv", RESET + rows.format(9, 9, 9), at(1))
    place.succeed("import_inventory")
    place.put(path, RESET + rows.format(0, 0, 4), at(2))
    place.succeed("import_inventory")
    place.put(f"partner/{path}", RESET + rows.format(0, 0, 0), at(3))
    place.succeed("import_inventory", {"inventory_reset": partner})
    (message,) = place.rows("select message from data_manager_log where property_resource = 'PARTNER'")[0]
    assert f'paths = ["{path}"], property_resource = "PARTNER" and approve = true' in message
    place.succeed("import_inventory", {"inventory_reset": {"paths": [path], "approve": True}})
    assert [log[1] for log in place.logs()] == ["finished", "finished", "held"]
    place.succeed("import_inventory", {"inventory_reset": partner | {"paths": [path], "approve": True}})
    assert place.stock() == {(product, "WAREHOUSE"): (0, 0) for product in ("10001", "10002", "10003")}


def test_of_two_held_files_of_one_name_the_newer_is_approved(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resets, "FEWEST_STOCKED_KEYS", 1)
    rows = [f"X,43,{{}},{product}\n" for product in ("501", "502", "503")]
    for hour, quantity, lines in ((1, 5, rows), (2, 0, rows), (3, 0, rows[:2])):
        place.put_reset("day.csv", RESET + "".join(lines).format(*[quantity] * len(lines)), at(hour))
        place.succeed("import_inventory")
    assert [log[1] for log in place.logs()] == ["finished", "held", "held"]
    place.succeed("import_inventory", {"inventory_reset": {"paths": [f"{RESETS}/day.csv"], "approve": True}})
    assert [log[1] for log in place.logs()] == ["finished", "cancelled", "finished"]
    assert {product: on_hand for (product, _), (on_hand, _) in place.stock().items()} == {
        "10001": 0,
        "10002": 0,
        "10003": 5,
    }


def test_the_mended_rest_of_a_held_reset_leaves_it_to_be_approved(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resets, "FEWEST_STOCKED_KEYS", 2)
    place.put_reset("0.csv", f"{RESET}X,43,5,501\nX,43,5,502\n", at(1))
    place.put_reset("1.csv", f"{RESET}X,43,0,501\nX,43,0,502\nX,43,many,503\n", at(2))
    place.succeed("import_inventory")
    (failed,) = (place.home / "landing").rglob("*failed-records*.csv")
    place.put_reset(failed.name, failed.read_text().replace(",many,", ",8,"), at(3))
    place.succeed("import_inventory")
    assert [log[1] for log in place.logs()] == ["finished", "held", "finished"]
    place.succeed("import_inventory", {"inventory_reset": {"paths": [f"{RESETS}/1.csv"], "approve": True}})
    assert {product: on_hand for (product, _), (on_hand, _) in place.stock().items()} == {
        "10001": 0,
        "10002": 0,
        "10003": 8,
    }


def test_an_approval_with_a_wrong_path_approves_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resets, "FEWEST_STOCKED_KEYS", 1)
    for hour, quantity in ((1, 5), (2, 0)):
        place.put_reset(f"{hour}.csv", f"{RESET}X,43,{quantity},501\nX,43,{quantity},502\n", at(hour))
        place.succeed("import_inventory")
    paths = [f"{RESETS}/2.csv", f"{RESETS}/typo.csv"]
    failed = place.run("import_inventory", {"inventory_reset": {"paths": paths, "approve": True}})
    assert "typo.csv is not a regular file" in place.failure(failed)
    place.succeed("import_inventory")
    assert [log[1] for log in place.logs()] == ["finished", "held"]


def test_what_is_received_counts_though_a_count_is_ahead_of_our_clock(place: Place) -> None:
    now = datetime.now(UTC)
    place.put_reset("ahead.csv", f"{RESET}X,116,10,501\n", now + timedelta(minutes=10))
    place.succeed("import_inventory")
    place.put(
        f"{RESTOCKS}/r.csv", f"{RESTOCK}TEE-S,5,{now - timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ},116,STORE,Demo,Now\n"
    )
    place.succeed("import_scheduled_restock")
    place.succeed("schedule_restock")
    assert place.stock() == {("10001", "BROADWAY"): (15, 15)}
    place.put_reset("wrong.csv", f"{RESET}X,116,11,501\n", now + timedelta(days=1))
    assert "is to come, and counts as it stands" in failed_checks(place.run("import_inventory"))["rows_accepted"]
    place.put_reset("next.csv", f"{RESET}X,116,3,501\n", now)
    assert "wrong.csv is dated" in failed_checks(place.run("import_inventory"))["no_count_is_to_come"]


def test_a_column_that_is_called_reason_is_one_of_the_file(place: Place) -> None:
    header = "productId,facilityId,quantity,reason,comments"
    place.put_reset("five.csv", f"{header}\n10001,WAREHOUSE,ten,RECOUNT,'=c\n10002,WAREHOUSE,4,DAMAGED,'=c\n", at(1))
    place.succeed("import_inventory")
    assert place.rows("select comments from inventory_reset") == [("'=c",)]
    (failed,) = (place.home / "landing" / "RESET_INVENTORY").glob("*failed-records*.csv")
    title, row = failed.read_text().splitlines()
    assert title == f"{header},reason"
    assert row.startswith("10001,WAREHOUSE,ten,RECOUNT,''=c,")


def test_a_reset_that_looks_wrong_is_held_until_it_is_approved_or_overtaken(place: Place) -> None:
    products = "".join(f"{n},SKU-{n},FINISHED_GOOD,{n},,\n" for n in range(20000, 21200))
    place.write_reference(
        "product", "product_id,internal_name,product_type_id,netsuite_product_id,upca,tags\n" + products
    )
    place.succeed("load_reference")

    def reset(quantity: int, hour: float) -> None:
        rows = "".join(f"{hour},43,{quantity},{n}\n" for n in range(20000, 21200))
        place.put_reset(f"{hour}.csv", RESET + rows, at(hour))

    def total() -> int:
        return place.rows("select sum(available_to_promise_total)::bigint from inventory_item")[0][0]

    reset(5, 1)
    place.succeed("import_inventory")
    reset(0, 2)
    result = place.succeed("import_inventory")
    assert list(failed_checks(result)) == ["no_reset_is_held"]
    assert place.logs()[-1][1] == "held"
    assert total() == 6000
    place.put(f"{RECEIPTS}/r.csv", f"{DELTAS}43,20000,NETSUITE_PRODUCT_ID,12,\n", at(3))
    place.succeed("import_item_receipt")
    assert total() == 6012
    approve = {"inventory_reset": {"paths": ["netsuite/inventoryitem/csv/2.csv"], "approve": True}}
    run_id = place.succeed("import_inventory", approve).run_id
    assert total() == 12
    assert place.rows("select message from data_manager_log where file_name = '2.csv'") == [
        (f"Approved by run {run_id}.",)
    ]
    reset(7, 4)
    place.succeed("import_inventory")
    reset(0, 5)
    place.succeed("import_inventory")
    place.put_reset("5a.csv", f"{RESET}5a,43,9,20000\n", at(5.2))
    result = place.succeed("import_inventory")
    assert list(failed_checks(result)) == ["no_reset_is_held"], "one of a single product leaves the others uncounted"
    reset(6, 6)
    place.succeed("import_inventory")
    assert [log[1] for log in place.logs()[-4:]] == ["finished", "cancelled", "finished", "finished"]
    assert total() == 7200
    place.put_reset("7.csv", RESET + "".join(f"7,43,0,{n}\n" for n in range(20000, 21200)), at(6))
    place.succeed("import_inventory")
    assert place.logs()[-1][1] == "held", "of files of one second the name says which is newer"
    place.put_reset("8.csv", RESET + "".join(f"8,43,0,{n}\n" for n in range(20000, 21200)), at(5.5))
    place.succeed("import_inventory")
    assert place.logs()[-1][1] == "cancelled", "it would have been, had it come in time"
    assert total() == 7200
