"""A warehouse that another version of this project wrote: an older one is brought up, a newer one is left alone."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from hotwax_inventory import layout, tables
from hotwax_inventory.imports.shopify_levels import last_read
from hotwax_inventory.layout import WarehouseTooNew, WarehouseTooOld, WarehouseUnusable
from hotwax_inventory.resources import Warehouse
from hotwax_inventory.tables import Column, Table
from hotwax_inventory_tests.conftest import Place

SECOND = (Path(__file__).parent / "layouts" / "layout-2.sql").read_text()
# A row of each table that has some, whatever its columns.
ROWS = ("product", "facility", "data_manager_log", "inventory_reset", "inventory_item", "inventory_item_detail")


@pytest.fixture
def earlier(empty_place: Place) -> Place:
    """A place with a warehouse of layout 2."""
    empty_place.home.mkdir()
    with duckdb.connect(str(Warehouse().path)) as connection:
        connection.execute(SECOND)
    return empty_place


def contents(path: Path) -> dict[str, list[dict[str, object]]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        connection.execute("set TimeZone = 'UTC'")
        found = {
            table: connection.execute(f"select {table} from {table}").fetchall()
            for table in (*ROWS, "warehouse_version")
        }
        return {table: [row for (row,) in rows] for table, rows in found.items()}


def test_a_warehouse_of_layout_2_is_brought_up_with_all_its_rows_and_a_copy_is_kept(earlier: Place) -> None:
    before = contents(Warehouse().path)
    found = earlier.rows(
        "select table_name, column_name, lower(data_type), is_nullable from duckdb_columns() where not internal"
    )
    actual: dict[str, list[tuple[object, ...]]] = {}
    for table, *column in found:
        actual.setdefault(table, []).append(tuple(column))
    for table in tables.TABLES:
        if table not in tables.VIEWS:
            assert actual[table.name] == [(c.name, c.type, c.optional) for c in table.columns], table.name
    after = contents(Warehouse().path)
    for table, rows in (before | {"warehouse_version": [{"version": tables.LAYOUT}]}).items():
        assert [{name: row[name] for name in old} for row, old in zip(after[table], rows, strict=True)] == rows, table
    assert earlier.rows("select bulk_operation_id, level_count, size_bytes from shopify_bulk_read") == [
        ("gid://shopify/BulkOperation/1", 9, 0)
    ]
    with Warehouse().transaction() as connection:
        assert last_read("SHOP", connection).started_at.year > 1970
    assert contents(earlier.home / "warehouse-layout-2.duckdb") == before
    earlier.succeed("load_reference")
    earlier.put_reset("next.csv", "Item,externalFacilityId,availableQty,idValue\nTEE-S,43,9,501\nTEE-M,116,3,502\n")
    earlier.succeed("import_inventory")
    earlier.succeed("hard_sync", shop="SHOP")
    assert earlier.stock() == {("10001", "WAREHOUSE"): (9, 9), ("10002", "BROADWAY"): (3, 3)}


def test_tables_that_have_changed_are_another_layout() -> None:
    """Whoever changes a table raises LAYOUT, and puts here what is then said."""
    shape = [(t.name, [(c.name, c.type, c.optional) for c in t.columns]) for t in layout._tables()]
    digest = hashlib.sha256(json.dumps(sorted(shape)).encode()).hexdigest()[:16]
    assert (tables.LAYOUT, digest) == (7, "bd2a874c65af1160")


NOTE = Table("note", "One note.", (Column("text", "varchar", "what it says"),), key=("text",))


def changed(table: Table) -> Table:
    """The table with columns in the middle, one of which must have a value, without its last, and with a wider one."""
    first, *middle, _ = table.columns
    added = (Column("is_counted", "boolean", "a new one"), Column("checked_at", tables.TIME, "another", optional=True))
    wider = [replace(column, type="bigint") if column.type == "integer" else column for column in middle]
    return replace(table, columns=(first, *added, *wider))


def test_tables_and_columns_that_another_change_brings_are_taken_up(
    earlier: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    reset = changed(tables.INVENTORY_RESET)
    later = [reset if table is tables.INVENTORY_RESET else table for table in tables.TABLES]
    monkeypatch.setattr(tables, "TABLES", (*later, NOTE))
    assert earlier.rows("from inventory_reset") == [(1, False, None, 2, "10001", "WAREHOUSE", 7, "ATP", None)]
    assert earlier.rows(
        "select data_type from duckdb_columns() where table_name = 'inventory_reset' and column_name = 'quantity'"
    ) == [("BIGINT",)]
    assert earlier.rows("from note") == []


def test_a_change_that_breaks_off_leaves_the_warehouse_as_it_was_and_the_next_run_does_it(
    earlier: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(Warehouse().path)
    broken = replace(NOTE, name="a broken one")
    with monkeypatch.context() as patch:
        patch.setattr(tables, "TABLES", (changed(tables.INVENTORY_RESET), broken))
        with pytest.raises(duckdb.ParserException):
            earlier.rows("select 1")
    assert contents(Warehouse().path) == before
    assert earlier.rows("select version from warehouse_version") == [(tables.LAYOUT,)]


@pytest.mark.parametrize("kind", ["empty", "text", "another program's"])
def test_a_file_that_is_no_warehouse_is_named_and_left_as_it_is(empty_place: Place, kind: str) -> None:
    path = Warehouse().path
    path.parent.mkdir()
    if kind == "another program's":
        with duckdb.connect(str(path)) as connection:
            connection.execute("create table orders as select 1 as id")
    else:
        path.write_text("" if kind == "empty" else "product_id,quantity\n")
    before = path.read_bytes()
    said = (
        "Set HOTWAX_HOME to a folder of our own" if kind == "another program's" else "warehouse.duckdb cannot be opened"
    )
    with pytest.raises(WarehouseUnusable, match=said):
        empty_place.rows("select 1")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("version", "error", "said"),
    [
        (tables.LAYOUT + 1, WarehouseTooNew, "Install the version that wrote it"),
        (1, WarehouseTooOld, f"the oldest that can be brought up is {layout.OLDEST}. Move the file away"),
    ],
)
def test_a_warehouse_that_cannot_be_used_is_refused_and_left_as_it_is(
    earlier: Place, version: int, error: type[Exception], said: str
) -> None:
    with duckdb.connect(str(Warehouse().path)) as connection:
        connection.execute("update warehouse_version set version = $version", {"version": version})
    before = contents(Warehouse().path)
    with pytest.raises(error, match=said):
        earlier.rows("select 1")
    assert said in earlier.failure(earlier.run("import_inventory"))
    assert contents(Warehouse().path) == before
