"""Reference CSVs are loaded all or nothing."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from hotwax_inventory.automation.sensors import load_reference_files
from hotwax_inventory_tests.conftest import REFERENCE, Place

TABLES = ("product", "good_identification", "facility", "facility_group", "product_store", "shopify_shop")
MAPPINGS = ("shopify_shop_location", "shopify_shop_product_mapping", "virtual_queue_item")
OPTIONAL = {
    "shopify_shop_product": "shop_id,product_id,shopify_inventory_item_id\nSHOP,10001,9001\n",
    "virtual_queue_item": "order_id,order_item_seq_id,product_id,facility_id,quantity,product_store_id\n"
    "SO1,01,10001,_NA_,2,STORE\n",
}
HEADERS = {name: content.split("\n", 1)[0] for name, content in (REFERENCE | OPTIONAL).items()}


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place without a network, whose reference is loaded, optional files included."""
    with pytest.MonkeyPatch.context() as patch:
        place = Place(tmp_path_factory.mktemp("office"))
        patch.setenv("HOTWAX_HOME", str(place.home))
        patch.setenv("HOTWAX_REFERENCE_DIR", str(place.reference_dir))
        for name, content in OPTIONAL.items():
            place.write_reference(name, content)
        with place.instance:
            assert place.run("load_reference").success
            yield place


def in_force(place: Place) -> dict[str, object]:
    """Every row of the reference, and the shops that are partitions."""
    tables = {name: place.rows(f"select * from {name} order by all") for name in (*TABLES, *MAPPINGS)}
    return {**tables, "partitions": sorted(place.instance.get_dynamic_partitions("shop"))}


def failure(run: dg.ExecuteInProcessResult) -> str:
    (event,) = run.get_step_failure_events()
    error = event.step_failure_data.error
    assert error is not None
    assert error.cause is not None
    return error.cause.message


# file, its rows below the header, and where and why it is refused
BAD_ROWS = [
    (
        "product",
        "10001,A,,,,\n10002,B,,,,\n10001,C,,,,\n",
        'product.csv, line 4, column product_id: "10001" repeats the key',
    ),
    ("product", "10001,A,,,,\n,B,,,,\n", "product.csv, line 3, column product_id: is empty"),
    (
        "product",
        "10001,A,,,,\n10002,B\n",
        'product.csv, line 3, column product_id: "10002" has fewer fields than the header',
    ),
    ("product", "10001,A,,,,,\n", 'product.csv, line 2, column product_id: "10001" has more fields than the header'),
    (
        "product",
        '10001,"A\nB",,,,\n\n10002\n',
        'product.csv, line 5, column product_id: "10002" has fewer fields than the header',
    ),
    ("product_store", "STORE,maybe,\n", 'product_store.csv, line 2, column reserve_inventory: "maybe" takes Y or N'),
    ("facility", "A,1,,,,GONE\n", 'facility.csv, line 2, column product_store_id: "GONE" is not in product_store.csv'),
    ("facility_group", "G,,GONE,,\n", 'facility_group.csv, line 2, column facility_id: "GONE" is not in facility.csv'),
    (
        "facility_group",
        "G,,BROADWAY,5 March,\n",
        'facility_group.csv, line 2, column from_date: "5 March" is not an ISO 8601 date',
    ),
    (
        "facility_group",
        "G,,BROADWAY,2024-01-01T00:00Z,2024-02-30\n",
        'line 2, column thru_date: "2024-02-30" is not an ISO 8601 date',
    ),
    ("facility_group", "G,,BROADWAY,,03/05/2024\n", 'line 2, column thru_date: "03/05/2024" is not an ISO 8601 date'),
    ("facility_group", "G,,BROADWAY,,infinity\n", 'line 2, column thru_date: "infinity" is not an ISO 8601 date'),
    (
        "facility_group",
        "G,,BROADWAY,,\nG,,BROADWAY,,2030-01-01\n",
        "facility_group.csv, line 3, column from_date: repeats the key",
    ),
    (
        "shopify_shop",
        "SHOP,d,GONE,,\n",
        'shopify_shop.csv, line 2, column product_store_id: "GONE" is not in product_store.csv',
    ),
    ("shopify_shop", "SHOP,d,STORE,netsuite,\n", 'column inventory_master: "netsuite" takes hotwax or shopify'),
    ("shopify_shop", "SHOP,d,STORE,,only\n", 'column shopify_facility_group_mode: "only" takes exclude or include'),
    (
        "shopify_shop_location",
        "GONE,BROADWAY,1\n",
        'shopify_shop_location.csv, line 2, column shop_id: "GONE" is not in shopify_shop.csv',
    ),
    (
        "shopify_shop_location",
        "SHOP,GONE,1\n",
        'shopify_shop_location.csv, line 2, column facility_id: "GONE" is not in facility.csv',
    ),
    (
        "shopify_shop_location",
        "SHOP,BROADWAY,1\nSHOP,BROADWAY,2\n",
        'line 3, column facility_id: "BROADWAY" repeats the key',
    ),
    (
        "shopify_shop_location",
        "SHOP,BROADWAY,1\nSHOP,BROOKLYN,1\n",
        'column shopify_location_id: "1" is the location of two facilities',
    ),
    ("shopify_shop_location", "SHOP,BROADWAY,gid://1\n", 'column shopify_location_id: "gid://1" is not a whole number'),
    (
        "shopify_shop_product",
        "SHOP,GONE,1\n",
        'shopify_shop_product.csv, line 2, column product_id: "GONE" is not in product.csv',
    ),
    (
        "shopify_shop_product",
        "SHOP,10001,1\nSHOP,10002,1\n",
        'column shopify_inventory_item_id: "1" is the item of two products',
    ),
    (
        "shopify_shop",
        "A_SHOP,,STORE,,\na-shop,,STORE,,\n",
        'shopify_shop.csv, line 2, column shop_id: "A_SHOP" has the variables SHOPIFY_<SHOP>_… of another shop, too.',
    ),
    ("virtual_queue_item", "O,1,10001,_NA_,-1,STORE\n", 'column quantity: "-1" is not a whole number of units'),
    ("virtual_queue_item", "O,1,10001,_NA_,,STORE\n", "virtual_queue_item.csv, line 2, column quantity: is empty"),
    (
        "virtual_queue_item",
        "O,1,10001,GONE,1,STORE\n",
        'virtual_queue_item.csv, line 2, column facility_id: "GONE" is not in facility.csv',
    ),
]
BAD_FILES = [
    ("product", HEADERS["product"], "product.csv has a header and no rows, where 4 are in force"),
    (
        "product",
        "product_id,internal_name\n10001,A\n",
        "product.csv, line 1: column product_type_id, netsuite_product_id, upca, tags is missing",
    ),
    ("product", "", "product.csv: The file is empty: not even a header."),
    (
        "product",
        HEADERS["product"] + ",product_id\n1,A,,,,,2\n",
        "product.csv: The header names a column twice: product_id.",
    ),
    (
        "facility",
        HEADERS["facility"] + '\nA,"1,,,,STORE\n',
        "facility.csv: The quote that opens in line 2 is never closed.",
    ),
    ("facility", HEADERS["facility"] + "\nA,\0,,,,STORE\n", "facility.csv: The file has a NUL byte at offset"),
    ("product_store", None, "product_store.csv is missing"),
]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [*BAD_FILES, *((name, f"{HEADERS[name]}\n{rows}", reason) for name, rows, reason in BAD_ROWS)],
    ids=lambda value: "" if value is None or "\n" in value else value,
)
def test_a_bad_reference_says_where_and_leaves_the_previous_one_in_force(
    office: Place, name: str, content: str | None, reason: str
) -> None:
    before = in_force(office)
    # whatever else is new is not taken either
    office.write_reference("shopify_shop", REFERENCE["shopify_shop"] + "NEW_SHOP,new.myshopify.com,STORE,,\n")
    office.write_reference("product", REFERENCE["product"].replace("TEE-S", "NEW-SKU"))
    try:
        if content is None:
            (office.reference_dir / f"{name}.csv").unlink()
        else:
            office.write_reference(name, content)
        run = office.run("load_reference")
        assert not run.success
        assert reason in failure(run)
        assert failure(run).rstrip().endswith("The previous reference stays in force.")
        assert in_force(office) == before
    finally:
        for file_name, original in (REFERENCE | OPTIONAL).items():
            office.write_reference(file_name, original)


@pytest.fixture
def new_office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A place without a network and with nothing loaded; only the files that must be there are."""
    place = Place(tmp_path)
    monkeypatch.setenv("HOTWAX_HOME", str(place.home))
    monkeypatch.setenv("HOTWAX_REFERENCE_DIR", str(place.reference_dir))
    with place.instance:
        yield place


def test_the_first_reference_makes_shops_partitions_and_products_known_by_every_value(new_office: Place) -> None:
    assert new_office.run("load_reference").success
    assert in_force(new_office)["partitions"] == ["SHOP"]
    assert in_force(new_office)["virtual_queue_item"] == []
    assert new_office.rows("select * from good_identification where product_id = '10009' order by 1") == [
        ("NETSUITEPRODUCTID", "509", "10009", "MARKETING_PKG_PICK", 1),
        ("PRODUCTID", "10009", "10009", "MARKETING_PKG_PICK", 1),
        ("SKU", "GIFT-KIT", "10009", "MARKETING_PKG_PICK", 1),
        ("UPCA", "840009", "10009", "MARKETING_PKG_PICK", 1),
    ]


def test_a_file_that_has_lost_all_its_rows_is_told_once(new_office: Place) -> None:
    def emptied() -> list[str]:
        result = new_office.succeed("load_reference")
        (check,) = [one for one in result.get_asset_check_evaluations() if one.check_name == "no_file_is_emptied"]
        assert check.passed == (not check.description)
        return re.findall(r"(\w+).csv has no rows now, where (\d+) were in force", check.description or "")

    for name, content in OPTIONAL.items():
        new_office.write_reference(name, content)
    assert emptied() == []
    new_office.write_reference("virtual_queue_item", HEADERS["virtual_queue_item"])
    assert emptied() == [], "no order need be open"
    new_office.write_reference("virtual_queue_item", OPTIONAL["virtual_queue_item"])
    assert emptied() == []
    for name in OPTIONAL:
        (new_office.reference_dir / f"{name}.csv").unlink()
    new_office.write_reference("shopify_shop_location", HEADERS["shopify_shop_location"])
    assert sorted(emptied()) == [
        ("shopify_shop_location", "3"),
        ("shopify_shop_product", "1"),
        ("virtual_queue_item", "1"),
    ]
    assert emptied() == []


def test_a_new_reference_replaces_the_old_one(new_office: Place) -> None:
    for name, content in OPTIONAL.items():
        new_office.write_reference(name, content)
    assert new_office.run("load_reference").success
    for name in OPTIONAL:
        (new_office.reference_dir / f"{name}.csv").unlink()
    new_office.write_reference(
        "shopify_shop", HEADERS["shopify_shop"] + "\nSHOP,shop.example,STORE,shopify,include\nSECOND,,STORE,,\n"
    )
    new_office.write_reference("product", HEADERS["product"] + "\n10001,TEE-S,FINISHED_GOOD,701,,\n10004,CAP,,,,\n")
    assert new_office.run("load_reference").success
    found = in_force(new_office)
    assert found["product"] == [
        ("10001", "TEE-S", "FINISHED_GOOD", "701", None, None),
        ("10004", "CAP", None, None, None, None),
    ]
    assert found["shopify_shop"] == [
        ("SECOND", None, "STORE", "hotwax", "exclude"),
        ("SHOP", "shop.example", "STORE", "shopify", "include"),
    ]
    assert found["partitions"] == ["SECOND", "SHOP"]
    assert new_office.rows("select quantity from virtual_queue_item") == [(0,)]
    assert found["shopify_shop_product_mapping"] == []
    assert new_office.rows("select id_value from good_identification order by 1") == [
        ("10001",),
        ("10004",),
        ("701",),
        ("CAP",),
        ("TEE-S",),
    ]


def test_a_reference_may_come_in_any_dress(new_office: Place) -> None:
    crlf = REFERENCE["facility"].replace("\n", "\r\n")
    (new_office.reference_dir / "facility.csv").write_bytes(b"\xef\xbb\xbf" + crlf.encode())
    (new_office.reference_dir / "product.csv").write_bytes(
        "upca,tags,product_id,colour,internal_name,product_type_id,netsuite_product_id\n\n"
        '840001,"new, sale", 10001 ,red,"TEE ""S""",,00501\n'.encode("utf-16")
    )
    (new_office.reference_dir / "product_store.csv").write_bytes(
        (HEADERS["product_store"] + "\nSTORE,Y,N\nGRÜN,,\n").encode("cp1252")
    )
    assert new_office.run("load_reference").success
    assert new_office.rows("select * from product") == [("10001", 'TEE "S"', None, "00501", "840001", "new, sale")]
    assert new_office.rows("select product_store_id from product_store order by 1") == [("GRÜN",), ("STORE",)]
    assert new_office.rows("select distinct product_store_id from facility") == [("STORE",)]


def test_an_order_item_that_is_loaded_again_unchanged_moves_no_watermark(new_office: Place) -> None:
    new_office.write_reference("virtual_queue_item", OPTIONAL["virtual_queue_item"])
    assert new_office.run("load_reference").success
    before = new_office.rows("from virtual_queue_item")
    assert new_office.run("load_reference").success
    assert new_office.rows("from virtual_queue_item") == before


def test_each_state_of_the_files_is_asked_for_until_it_is_loaded_an_earlier_one_that_comes_back_too(
    place: Place,
) -> None:
    path, cursor, keys = place.reference_dir / "product.csv", None, []

    def looked() -> Any:
        """What the second of two looks says."""
        nonlocal cursor
        with dg.build_sensor_context(instance=place.instance, cursor=cursor) as context:
            load_reference_files(context)
            found = load_reference_files(context)
            cursor = context.cursor
        return found

    def state(content: str, seconds: int) -> None:
        path.write_text(content)
        os.utime(path, (seconds, seconds))

    for content, seconds in (
        ("product_id\n", 1),
        (REFERENCE["product"], 2),
        ("product_id\n", 1),
        (REFERENCE["product"], 3),
    ):
        state(content, seconds)
        keys += [looked().run_key, looked().run_key]
        if content == REFERENCE["product"]:
            place.succeed("load_reference")
            assert looked().skip_message == "The reference files are loaded."
    assert len(set(keys)) == 4, "one run a state"


def test_kits_are_what_a_new_reference_makes_of_them(place: Place) -> None:
    place.put_reset("reset.csv", "Item,externalFacilityId,availableQty,idValue\nX,43,8,501\nX,116,8,501\n")
    place.put("netsuite/product/kit/kit.csv", "productId,productIdTo,quantity\n10009,10001,2\n")
    place.succeed("import_inventory")
    place.succeed("import_kit_component")
    kits = "select facility_id, available_to_promise_total from kit_inventory order by 1"
    assert place.rows(kits) == [("BROADWAY", 4), ("WAREHOUSE", 4)]
    virtual = "BROADWAY,116,Broadway,RETAIL_STORE,VIRTUAL_FACILITY"
    facilities = REFERENCE["facility"].replace("BROADWAY,116,Broadway,RETAIL_STORE,PHYSICAL_STORE", virtual)
    place.write_reference("facility", facilities)
    place.succeed("load_reference")
    assert place.rows(kits) == [("WAREHOUSE", 4)]
    place.write_reference("product", REFERENCE["product"].replace("MARKETING_PKG_PICK", "FINISHED_GOOD"))
    place.succeed("load_reference")
    assert place.rows(kits) == []
