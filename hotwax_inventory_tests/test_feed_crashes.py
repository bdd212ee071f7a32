"""Runs of every feed that die by kill -9 at each of their steps, death upon death: whatever runs next ends where it must."""

import os
import random
import signal
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hotwax_inventory.imports import queue
from hotwax_inventory.ledger import entries, kits, receiving
from hotwax_inventory.resources import Sftp, Warehouse
from hotwax_inventory_tests import model
from hotwax_inventory_tests.conftest import Place
from hotwax_inventory_tests.feed_files import KINDS, PAST, TABLES, File, Kind, Row, content, named, open_stock
from hotwax_inventory_tests.model import Dock
from hotwax_inventory_tests.test_crashes import OWNERS, PRELOADED, PROCESSES, Point, _arm, ended, told
from hotwax_inventory_tests.test_feed_properties import (
    DAY,
    LOGGED,
    SHIPPED,
    expected_numbers,
    expected_shipments,
    log,
    numbers,
)
from hotwax_inventory_tests.world import UNBALANCED, receive, work

PRELOADED.append("hotwax_inventory_tests.test_feed_crashes")
OWNERS |= {"kits": kits, "receiving": receiving, "receiver": receiving.Receiver}

# Where a run dies. The last point leaves a file that is imported and not posted, which any job finishes.
MOVING = (
    *("before landing.register", "after landing.register"),
    *("before kits.compute_kits", "after kits.compute_kits"),
    *("before entries._post", "before entries.apply_events", "after entries.apply_events"),
    *("before entries.transaction", "after entries.transaction"),
    *("before queue.accept_rows", "after queue.accept_rows"),
    *("before queue.transaction", "after queue.transaction"),
)
OTHER = tuple(point for point in MOVING if "entries" not in point)
RECEIVING = (
    *("before receiving.receive", "before receiving.apply_events"),
    *("after receiving.apply_events", "after receiving.receive"),
)


@dataclass(frozen=True)
class Case:
    """What comes before each run, where the runs die, and what all rows say."""

    config_ids: tuple[str, ...]
    points: tuple[str, ...]
    said: Row = field(default_factory=dict)
    # what the run does with shipments
    action: str = ""
    asked: dict[str, Any] = field(default_factory=dict)


CASES = {
    "receipts": Case(("IMP_ITM_RECEIPT",), MOVING),
    "transfers": Case(("IMP_INV_TRANS",), MOVING),
    "adjustments": Case(("IMP_INV_ADJUST",), MOVING),
    "rules": Case(("IMP_PROD_FACILITY",), OTHER),
    "kits": Case(("MDM_PRODUCT_ASSOC",), OTHER),
    "shipments": Case(("IMP_TO_SHPMNT",), OTHER),
    "restocks": Case(("IMP_INCOMING_SHPMNT",), OTHER),
    "restocks received": Case(
        ("IMP_INCOMING_SHPMNT",), (*RECEIVING, "after receiver.receive_at"), {"time": PAST}, "receive due"
    ),
    "a shipment received": Case(
        ("IMP_TO_SHPMNT",),
        (*RECEIVING, "after receiving._receive_one"),
        {"shipment": "1"},
        "receive",
        {"shipment_id": "IN-1", "facility_id": "BROADWAY"},
    ),
}


def _run(environment: dict[str, str], case: Case, point: Point | None) -> None:
    os.environ.update(environment)
    # many small steps instead of few large ones: more to be interrupted
    queue.BATCH_FILES = 1
    entries.BATCH_ROWS = 1
    if point is not None:
        _arm(point)
    work(set(case.config_ids), Sftp(), Warehouse())
    if case.action:
        receive(case.action, case.asked, Warehouse())


def ran(case: Case, point: Point | None = None) -> int:
    """How a process ends that does what the jobs of the case do."""
    process = PROCESSES.Process(target=_run, args=(told(), case, point))
    process.start()
    return ended(process)


def drawn(kind: Kind, said: Row, number: int, draw: random.Random) -> File:
    """A file with at least one row that is accepted."""
    at = DAY + timedelta(minutes=draw.randint(0, 240))
    while True:
        rows = [{name: draw.choice(values) for name, values in kind.values.items()} for _ in range(draw.randint(1, 5))]
        for row in rows:
            row |= said
            if draw.random() < 0.1:
                row |= draw.choice(kind.faults) | {"wrong": "Y"}
        if kind.name == "order":
            rows.sort(key=lambda row: row["shipment"])
        name = named(kind, f"{number} of {kind.name}")
        file = File(kind.name, kind.feed.config_id, name, at, at, content(kind, rows, number), rows)
        if file.accepted():
            return file


def put(place: Place, case: Case, number: int, draw: random.Random) -> list[File]:
    """Lay a file of each kind of the case onto SFTP."""
    files = []
    for kind in KINDS:
        if kind.feed.config_id in case.config_ids:
            file = drawn(kind, case.said, number, draw)
            place.put(f"{kind.feed.directories[0]}/{file.name}", file.content, file.modified_at)
            files.append(file)
    return files


@pytest.fixture
def place(empty_place: Place, kept: Path) -> Place:
    """A place with stock."""
    for name, text in TABLES.items():
        empty_place.write_reference(name, text)

    def prepare() -> None:
        empty_place.succeed("load_reference")
        with Warehouse().transaction() as connection:
            open_stock(connection)

    empty_place.begin_with(kept / "feeds.duckdb", prepare)
    return empty_place


@pytest.mark.parametrize(
    "seed", [pytest.param(n, marks=[pytest.mark.soak, pytest.mark.long][n == 0]) for n in range(3)]
)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_deaths_at_every_step_lose_and_double_nothing(place: Place, case: Case, seed: int) -> None:
    draw = random.Random(f"{case} {seed}")
    begun = Case(("RESET_INVENTORY", "MDM_PRODUCT_ASSOC"), ())
    files = put(place, begun, 0, draw)
    assert ran(begun) == 0
    for number, point in enumerate(case.points, 1):
        files += put(place, case, number, draw)
        when, name = point.split()
        assert ran(case, Point(name, 1, when)) == -signal.SIGKILL, f"{point} was not reached"
    place.succeed("process_bulk_imported_files")
    if case.action:
        receive(case.action, case.asked, Warehouse())

    dock = Dock()
    for shipment in model.shipments(files) if case.action else ():
        if shipment.endswith("2026") or shipment == "1":
            dock.receive(shipment, files, place="BROADWAY")
    queued = model.open_orders(files)
    with Warehouse().transaction() as connection:
        assert numbers(connection) == expected_numbers(files, dock.received, queued)
        assert connection.execute(UNBALANCED).fetchall() == []
    assert Counter(place.rows(LOGGED)) == Counter(map(log, files))
    assert dict(place.rows("select order_id, quantity from virtual_queue_item")) == queued
    assert {name: rest for name, *rest in place.rows(SHIPPED)} == expected_shipments(dock, files)
