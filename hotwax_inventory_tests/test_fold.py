"""The fold of events, which goes by windows and stretches in SQL, beside the same one event after the other (design 8.12)."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotwax_inventory import tables
from hotwax_inventory.ledger import fold, refold
from hotwax_inventory_tests.conftest import OPENED, STOCKED
from hotwax_inventory_tests.model import after
from hotwax_inventory_tests.test_properties import examples

DAY = datetime(2026, 3, 5, tzinfo=UTC)
# quantity on hand and available to promise before any event
OPENING = {"P": (3, 1), "Q": (0, 0)}


@dataclass(frozen=True)
class File:
    """Where the events of one file stand: `number` makes its content its own."""

    number: int
    at: datetime
    name: str
    modified_at: datetime
    config_id: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(str(self.number).encode()).hexdigest()


@dataclass(frozen=True)
class Event:
    """A row of a file; its time of effect is the file's, or its own before that."""

    file: File
    line: int
    at: datetime
    product: str
    effect: str
    quantity: int
    reset_by: str

    @property
    def position(self) -> tuple[object, ...]:
        file = self.file
        return self.at, file.name, file.modified_at, self.line, file.config_id, file.sha256


# Histories of unlike kinds: what makes the fold hard are cut deltas, and stock below nothing, between late events.
MIXTURES = (
    ("reset", "delta", "delta", "delta", "movement", "on_hand"),
    ("delta",) * 9 + ("reset",),
    ("delta", "delta", "movement", "on_hand"),
    ("delta", "on_hand"),
)


@st.composite
def histories(draw: st.DrawFn) -> list[list[Event]]:
    """Files of events, in the runs in which they are posted."""
    effects = st.sampled_from(draw(st.sampled_from(MIXTURES)))
    rows = st.lists(
        st.tuples(st.sampled_from("PPQ"), effects, st.integers(-6, 9), st.sampled_from(["ATP", "QOH"])),
        min_size=1,
        max_size=8,
    )
    files = []
    for number in range(1, 1 + draw(st.integers(1, 6))):
        at = DAY + timedelta(hours=draw(st.integers(0, 3)))
        modified_at = at + timedelta(minutes=draw(st.sampled_from([0, 1])))
        file = File(number, at, draw(st.sampled_from("ab")), modified_at, draw(st.sampled_from("cd")))
        has_own_times = draw(st.integers(0, 6)) == 6
        files.append(
            [
                Event(file, line, at - timedelta(minutes=draw(st.integers(0, 90)) if has_own_times else 0), *row)
                for line, row in enumerate(draw(rows), 2)
            ]
        )
    arriving = draw(st.permutations(files))
    cuts = sorted(draw(st.lists(st.integers(0, len(files)), max_size=5)))
    runs = [arriving[start:end] for start, end in zip([0, *cuts], [*cuts, len(files)], strict=True)]
    return [[event for file in run for event in file] for run in runs if run]


def state(product: str, events: list[Event]) -> tuple[int, int]:
    reached = OPENING[product]
    for event in sorted(events, key=lambda e: e.position):
        reached = after(reached, event.effect, event.quantity, event.reset_by)
    return reached


Entry = tuple[str, int, int, int, int, int, int, str | None]


def expected(runs: list[list[Event]]) -> list[Entry]:
    """The entries that the runs make: what each event changes in the fold of all that is known by then."""
    known: dict[str, list[Event]] = {product: [] for product in OPENING}
    entries: list[Entry] = []
    for run in runs:
        for event in sorted(run, key=lambda e: e.position):
            events = known[event.product]
            before = state(event.product, events)
            is_late = any(other.effect == "reset" and other.position > event.position for other in events)
            events.append(event)
            reached = state(event.product, events)
            diffs = reached[0] - before[0], reached[1] - before[1]
            mark = "cut" if event.effect == "delta" and diffs[0] != event.quantity else None
            if is_late and event.effect in ("delta", "movement"):
                mark = "before_reset"
            if event.effect != "reset" or diffs != (0, 0):
                entries.append((event.product, event.file.number, event.line, *diffs, *reached, mark))
    return entries


LOGGED = """
insert into data_manager_log by name
select
    $1 as log_id, $2 as effective_at, $3 as file_name, $4 as remote_modified_at, $5 as config_id, $6 as sha256,
    '' as remote_path, 0 as size_bytes, '' as landed_path, 'imported' as status_id, $2 as registered_at, '' as run_id,
    'FTP_CONFIG' as property_resource, '{}' as parameters
"""
ARRIVED = """
create or replace temp table arrived as
select *
from (values {rows}) as r(seq, product_id, effect, quantity, reset_by, effective_at, log_id, line_number)
"""
EVENTS = """
select
    seq, product_id, 'F' as facility_id, effect, quantity::bigint as quantity, reset_by, 'R' as reason_enum_id, effective_at,
    log_id::bigint as log_id, line_number::bigint as line_number, null::varchar as shipment_id, null::varchar as order_id,
    null::varchar as comments
from arrived
"""
ENTRIES = """
select
    product_id, log_id, line_number, quantity_on_hand_diff::bigint, available_to_promise_diff::bigint,
    last_quantity_on_hand::bigint, last_available_to_promise::bigint, description
from inventory_item_detail
where log_id > 0
order by seq
"""


def posted(runs: list[list[Event]], connection: duckdb.DuckDBPyConnection) -> list[Entry]:
    """The entries that the ledger makes of them."""
    for table in (tables.INVENTORY_ITEM, tables.INVENTORY_ITEM_DETAIL, tables.DATA_MANAGER_LOG):
        connection.execute(table.ddl())
    for seq, (product, numbers) in enumerate(OPENING.items(), 1):
        connection.execute(OPENED, [seq, product, "F", *numbers])
        connection.execute(STOCKED, [seq, product, "F", *numbers])
    seq = 100
    for run in runs:
        for file in {event.file: 0 for event in run}:
            values = [file.number, file.at, file.name, file.modified_at, file.config_id, file.sha256]
            connection.execute(LOGGED, values)
        rows = [
            (
                seq + n,
                e.product,
                e.effect,
                e.quantity,
                e.reset_by if e.effect == "reset" else None,
                e.at,
                e.file.number,
                e.line,
            )
            for n, e in enumerate(run, 1)
        ]
        marks = ", ".join(["(?, ?, ?, ?, ?::varchar, ?::timestamptz, ?, ?)"] * len(rows))
        connection.execute(ARRIVED.format(rows=marks), [value for row in rows for value in row])
        fold.apply_events(EVENTS, connection)
        seq += len(rows)
    return connection.execute(ENTRIES).fetchall()


def check(runs: list[list[Event]], most_elements: int) -> None:
    with pytest.MonkeyPatch.context() as patch, duckdb.connect(config={"threads": 1}) as connection:
        patch.setattr(refold, "MOST_ELEMENTS", most_elements)
        connection.execute("set TimeZone = 'UTC'")
        made, meant = posted(runs, connection), expected(runs)
        for product in OPENING:
            assert [entry for entry in made if entry[0] == product] == [entry for entry in meant if entry[0] == product]
        stock = "select product_id, (quantity_on_hand_total, available_to_promise_total) from inventory_item"
        events = [event for run in runs for event in run]
        assert dict(connection.execute(stock).fetchall()) == {
            product: state(product, [event for event in events if event.product == product]) for product in OPENING
        }


# how many elements the lists of the fold row by row may have at a time
MOST_ELEMENTS = st.sampled_from([1, 5, refold.MOST_ELEMENTS])


@examples(30)
@given(histories(), MOST_ELEMENTS)
def test_each_entry_is_what_its_event_changes_in_the_fold(runs: Any, most_elements: int) -> None:
    check(runs, most_elements)


@pytest.mark.long
@pytest.mark.timeout(600)
@examples(100)
@given(histories(), MOST_ELEMENTS)
def test_each_entry_of_many_histories_is_what_its_event_changes_in_the_fold(runs: Any, most_elements: int) -> None:
    check(runs, most_elements)
