"""Files of every feed in any order, in any runs, with failures anywhere: they end where `model` says that they must."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotwax_inventory.imports import queue
from hotwax_inventory.ledger import atp, entries
from hotwax_inventory.publish.target import narrow
from hotwax_inventory.reconcile.past import go_back
from hotwax_inventory.resources import Warehouse
from hotwax_inventory_tests import model
from hotwax_inventory_tests.feed_files import FACILITIES, KINDS, File, Kind, Row, content, named
from hotwax_inventory_tests.model import Dock
from hotwax_inventory_tests.test_properties import examples
from hotwax_inventory_tests.world import NAME, UNBALANCED, Deed, Run, World, opened_world

DAY = datetime(2026, 3, 5, tzinfo=UTC)


# --- the files


def rows_of(kind: Kind) -> st.SearchStrategy[list[Row]]:
    right = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in kind.values.items()})
    faults = st.sampled_from([Row()] * 40 + [fault | {"wrong": "Y"} for fault in kind.faults])
    return st.lists(st.builds(Row.__or__, right, faults), max_size=5)


ROWS = {kind.name + kind.feed.config_id: rows_of(kind) for kind in KINDS}


@st.composite
def meant(draw: st.DrawFn, kinds: list[Kind], number: int) -> File:
    """A file of one of these kinds, at one of a few times, which its name may say."""
    kind = draw(st.sampled_from(kinds))
    rows = draw(ROWS[kind.name + kind.feed.config_id])
    if kind.name == "order":
        rows.sort(key=lambda row: row["shipment"])
    stem = draw(st.sampled_from("aAb"))
    at = DAY + timedelta(hours=draw(st.integers(0, 2)))
    modified_at = at + timedelta(minutes=draw(st.sampled_from([0, 10])))
    if draw(st.booleans()):
        stem += f" {at:%Y-%m-%dT%H:%M:%SZ}"
    else:
        at = modified_at
    return File(kind.name, kind.feed.config_id, named(kind, stem), at, modified_at, content(kind, rows, number), rows)


# What is there before the files of any example: what a kit consists of.
KIT = next(kind for kind in KINDS if kind.name == "kit")
COMPONENTS = [{"product": "10009", "component": component, "quantity": "1"} for component in ("10001", "10002")]
BEFORE = DAY - timedelta(days=1)
LIST = File("kit", KIT.feed.config_id, "list.csv", BEFORE, BEFORE, content(KIT, COMPONENTS, 99), COMPONENTS)


def renamed(file: File) -> File:
    """The same file under another name; a reset that says another time is another reset."""
    stem, suffix = file.name.rsplit(".", 1)
    return replace(file, name=f"{stem} again.{suffix}")


def exported_before(file: File) -> File:
    """The same count, written half an hour before."""
    at = file.at - timedelta(minutes=30)
    return replace(file, at=at, name=f"b {at:%Y-%m-%dT%H:%M:%SZ}.csv")


DEATHS = st.none() | st.tuples(st.integers(1, 9), st.booleans())
NAMES = [*"123", *(f"{name} {place} {year}" for name in "AB" for place in FACILITIES for year in (2026, 2099))]
DEEDS = st.builds(
    Deed,
    st.sampled_from(["receive", "receive", "receive due", "cancel"]),
    st.sampled_from(NAMES),
    st.none() | st.just(1),
    DEATHS,
)


@st.composite
def histories(draw: st.DrawFn) -> list[Run | Deed]:
    """Files, some of them several times, in any order and runs, and what is done with shipments in between."""
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3))
    files = [draw(meant(kinds, n)) for n in range(draw(st.integers(1, 4)))]
    copies = [*files, *map(renamed, files), *(exported_before(f) for f in files if f.kind == "reset" and "Z" in f.name)]
    arriving = draw(st.permutations(files + draw(st.lists(st.sampled_from(copies), max_size=1))))
    cuts = sorted(draw(st.lists(st.integers(0, len(arriving)), max_size=2)))
    steps: list[Run | Deed] = []
    for start, end in zip([0, *cuts], [*cuts, len(arriving)], strict=True):
        steps.append(Run(arriving[start:end], draw(st.integers(0, 3)) > 0, draw(DEATHS)))
        steps += [draw(DEEDS)] if draw(st.integers(0, 3)) == 3 else []
    return steps


# --- where it ends

NUMBERS = {
    "stock": "select (product_id, facility_id), (quantity_on_hand_total, available_to_promise_total) from inventory_item",
    "rules": "select (product_id, facility_id), (minimum_stock, allow_brokering, allow_pickup) from product_facility",
    "lists": "select (product_id, product_id_to), sum(quantity)::bigint from kit_component where thru_date is null group by all "
    "union all select (product_id, 'refused'), arg_max(refused_count, log_id)::bigint as refused from kit_component "
    "where thru_date is null group by all having refused > 0",
    "kits": "select (product_id, facility_id), available_to_promise_total from kit_inventory",
    "at facilities": "select (product_id, facility_id), computed_last_inventory_count from facility_atp",
    "online": "select product_id, online_atp from online_atp",
}


def expected_numbers(
    files: list[File], received: list[tuple[model.Key, int]], queued: dict[str, int]
) -> dict[str, Any]:
    stock, rules, lists = model.stock(files, received), model.rules(files), model.lists(files)
    promised = {key: promise for key, (_, promise) in stock.items()}
    kits = model.kits(promised, lists)
    at, online = model.promises(promised | kits, rules, queued)
    ruled = {
        key: (int(said["quantity"]) if "quantity" in said else None, said.get("brokering"), said.get("pickup"))
        for key, said in rules.items()
    }
    listed = {(kit, component): units for kit, components in lists.items() for component, units in components.items()}
    return {"stock": stock, "rules": ruled, "lists": listed, "kits": kits, "at facilities": at, "online": online}


def numbers(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    return {name: dict(connection.execute(sql).fetchall()) for name, sql in NUMBERS.items()}


def numbers_at(moment: datetime, warehouse: Warehouse) -> dict[str, Any]:
    """The numbers as they are explained for a moment."""
    with warehouse.transaction() as connection:
        connection.execute("create temp table subject as select product_id from product")
        connection.execute("create temp table moved as select product_id from product")
        narrow(connection, stock="*")
        go_back(moment, connection)
        atp.create_views(connection, is_temporary=True)
        return numbers(connection)


def expected_shipments(dock: Dock, files: list[File]) -> dict[str, list[Any]]:
    """{shipment: [status, destination, items]}"""
    stated = dock.stated(files).items()
    return {name: [dock.status(name, items), place or None, items] for name, (place, items) in stated}


def check(world: World, steps: list[Run | Deed], moment: datetime | None) -> None:
    world.begin()
    files = [LIST]
    for step in steps:
        if isinstance(step, Run):
            files += step.files
            world.run(step)
        else:
            world.do(step, files)
    world.recover()
    counted = world.counted(files)
    times = Counter((f.config_id, f.content, f.at) for f in counted)
    assert times.keys() == {(f.config_id, f.content, f.at) for f in files}
    again = {(f.config_id, f.content, f.at) for f in files if may_count_again(f)}
    assert {file for file, count in times.items() if count > 1} <= again
    queued = model.open_orders(counted)
    with world.warehouse.transaction() as connection:
        assert numbers(connection) == expected_numbers(counted, world.dock.received, queued)
        assert connection.execute(UNBALANCED).fetchall() == []
    assert dict(world.rows("select order_id, quantity from virtual_queue_item")) == queued
    assert Counter(world.rows(LOGGED)) == Counter(map(log, counted))
    assert {name: rest for name, *rest in world.rows(SHIPPED)} == expected_shipments(world.dock, counted)
    if moment:
        assert numbers_at(moment, world.warehouse) == expected_numbers(
            [f for f in counted if f.at <= moment], [], queued
        )


def may_count_again(file: File) -> bool:
    """Whether the same file may be read again when it comes again: one of rules or kits, or one without a row that was right."""
    is_state = next(kind.feed.is_state for kind in KINDS if kind.name == file.kind)
    return is_state or (len(file.right()) < len(file.rows) and not file.accepted())


LOGGED = """
select config_id, file_name, sha256, status_id, total_record_count, failed_record_count, ignored_record_count
from data_manager_log
where status_id <> 'duplicate'
"""


def log(file: File) -> tuple[Any, ...]:
    """What is said of a file: its status and its rows, those refused, those ignored."""
    refused = len(file.rows) - len(file.right())
    status = "finished_with_errors" if refused else "finished"
    digest = hashlib.sha256(file.content).hexdigest()
    ignored = len(file.right()) - len(file.accepted())
    return file.config_id, file.name, digest, status, len(file.rows), refused, ignored


SHIPPED = f"""
select {NAME}, status_id, destination_facility_id, list((product_id, quantity) order by shipment_item_seq_id)
from shipment
join shipment_item using (shipment_id)
group by all
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with opened_world(tmp_path_factory.mktemp("world"), LIST) as world, pytest.MonkeyPatch.context() as patch:
        # several transactions for a few files, and resets that count as large
        patch.setattr(queue, "BATCH_FILES", 2)
        patch.setattr(entries, "BATCH_ROWS", 4)
        yield world


@examples(25)
@given(histories(), st.none())
def test_files_of_all_feeds_end_where_the_model_says(world: World, steps: Any, moment: datetime | None) -> None:
    check(world, steps, moment)


# a thousand, in parts that are worked side by side
@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(10))
@examples(100)
@given(histories(), st.sampled_from([None, DAY + timedelta(hours=1), DAY + timedelta(hours=2, minutes=5)]))
def test_very_many_files_of_all_feeds_end_where_the_model_says(
    part: int, world: World, steps: Any, moment: datetime | None
) -> None:
    check(world, steps, moment)
