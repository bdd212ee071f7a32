"""The whole way: a file on a real SFTP server in, the right numbers in Shopify out."""

from datetime import UTC, datetime, timedelta

import pytest

from hotwax_inventory_tests.conftest import Place

HEADER = "Item,externalFacilityId,availableQty,idValue\n"


def test_a_reset_file_on_sftp_becomes_the_right_numbers_in_shopify(place: Place) -> None:
    place.put_reset(
        "Tue Mar 05 2024 21:00:12 GMT-0800 (PST)-InventoryItemExport.csv",
        HEADER + "TEE-S,43,10,501\nTEE-S,116,6,501\nTEE-M,281,4,502\nGONE,43,5,999\nGIFT-KIT,43,3,509\n",
    )
    assert place.run("import_inventory").success
    assert place.logs()[0][1:] == ("finished_with_errors", 5, 1, 1)
    assert place.stock() == {
        ("10001", "WAREHOUSE"): (10, 10),
        ("10001", "BROADWAY"): (6, 6),
        ("10002", "BROOKLYN"): (4, 4),
    }
    assert place.run("hard_sync", shop="SHOP").success
    shown = {
        (sku, location): place.simulator.shops.level("SHOP", item, location) for sku, item, location in _levels(place)
    }
    assert shown["TEE-S", 7000].available == 16
    assert shown["TEE-S", 7116].available == 6
    assert shown["TEE-M", 7281].available == 4
    assert place.rows("select distinct outcome from sync_change") == [("applied",)]


def _levels(place: Place) -> list[tuple[str, int, int]]:
    return place.rows(
        "select i.sku, l.shopify_inventory_item_id, l.shopify_location_id from shopify_inventory_level as l "
        "join shopify_inventory_item as i using (shop_id, shopify_inventory_item_id)"
    )


def test_old_reset_rows_that_changed_nothing_go_and_those_that_made_an_entry_stay(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    place.put_reset("first.csv", HEADER + "TEE-S,43,10,501\nTEE-M,43,4,502\n", now - timedelta(hours=2))
    place.put_reset("second.csv", HEADER + "TEE-S,43,10,501\nTEE-M,43,5,502\n", now - timedelta(hours=1))
    assert place.run("import_inventory").success
    monkeypatch.setenv("RESET_ROWS_KEEP_DAYS", "0")
    assert place.run("import_inventory").success
    assert place.rows(
        "select file_name, product_id from inventory_reset join data_manager_log using (log_id) order by all"
    ) == [
        ("first.csv", "10001"),
        ("first.csv", "10002"),
        ("second.csv", "10002"),
    ]
    assert place.stock() == {("10001", "WAREHOUSE"): (10, 10), ("10002", "WAREHOUSE"): (5, 5)}
