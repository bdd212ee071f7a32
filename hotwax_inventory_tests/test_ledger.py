"""Accepted rows become ledger entries and stock, and stock becomes numbers that may be promised."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hotwax_inventory.ledger import atp, entries
from hotwax_inventory.ledger.resets import REBUILD_ONE_IN
from hotwax_inventory.resources import Warehouse
from hotwax_inventory_tests.conftest import OPENED, STOCKED

DAY = datetime(2026, 3, 5, tzinfo=UTC)


IMPORTED = """
insert into data_manager_log by name
select
    $log_id as log_id, 'RESET_INVENTORY' as config_id, $name as remote_path, $name as file_name, $sent as remote_modified_at,
    0 as size_bytes, '' as sha256, '' as landed_path, 'imported' as status_id, $rows as total_record_count,
    0 as failed_record_count, 0 as ignored_record_count, $at as effective_at, $at as registered_at, '' as run_id,
    'FTP_CONFIG' as property_resource, '{}' as parameters
"""


class Books:
    """A warehouse without files: rows go straight into the tables that the ledger reads."""

    def run(self, sql: str, **values: object) -> list[tuple[Any, ...]]:
        with Warehouse().transaction() as connection:
            return connection.execute(sql, values).fetchall()

    def insert(self, **rows: Iterable[tuple[object, ...]]) -> None:
        """Put rows into tables, in one transaction."""
        with Warehouse().transaction() as connection:
            for table, values in rows.items():
                for row in values:
                    connection.execute(f"insert into {table} values ({', '.join('?' * len(row))})", row)

    def stock(self, *rows: tuple[str, str, int, int]) -> None:
        """Stock as it stood before any reset: product, facility, quantity on hand, available to promise."""
        with Warehouse().transaction() as connection:
            for seq, row in enumerate(rows, 1):
                connection.execute(OPENED, [seq, *row])
                connection.execute(STOCKED, [seq, *row])
            connection.execute("update sequence set last_value = ?", [len(rows)])

    def imported(
        self, name: str, hour: float, *rows: tuple[str, str, int] | tuple[str, str, int, str], sent_after: int = 0
    ) -> int:
        """A reset file of that hour whose rows (product, facility, quantity, ATP unless it says QOH) are accepted.

        It was put onto SFTP `sent_after` minutes after its time of effect."""
        log_id = self.run("select coalesce(max(log_id), 0) + 1 from data_manager_log")[0][0]
        at = DAY + timedelta(hours=hour)
        sent = at + timedelta(minutes=sent_after)
        self.run(IMPORTED, log_id=log_id, name=name, at=at, sent=sent, rows=len(rows))
        numbered = enumerate(rows, 2)
        self.insert(
            inventory_reset=[(log_id, line, *row[:3], *(row[3:] or ["ATP"]), None, None) for line, row in numbered]
        )
        return log_id

    def post(self) -> None:
        entries.post_imported(Warehouse())

    def totals(self) -> dict[tuple[str, str], tuple[int, int]]:
        """{(product, facility): (quantity on hand, available to promise)}, which the ledger must add up to."""
        columns = "select product_id, facility_id,"
        state = self.run(
            f"{columns} quantity_on_hand_total, available_to_promise_total from inventory_item order by 1, 2"
        )
        summed = self.run(
            f"{columns} coalesce(sum(quantity_on_hand_diff), 0)::bigint, coalesce(sum(available_to_promise_diff), 0)::bigint "
            "from inventory_item left join inventory_item_detail using (product_id, facility_id) group by all order by 1, 2"
        )
        assert state == summed
        return {(product, facility): (on_hand, promise) for product, facility, on_hand, promise in state}

    def entries(self) -> list[tuple[Any, ...]]:
        """Of every reset's entry: product, diffs of QOH and ATP, both after it, the quantity stated, file and line."""
        return self.run(
            "select product_id, quantity_on_hand_diff, available_to_promise_diff, last_quantity_on_hand, "
            "last_available_to_promise, quantity, log_id, line_number "
            "from inventory_item_detail where reason_enum_id = 'VAR_EXT_RESET' order by seq"
        )


@pytest.fixture
def books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Books:
    monkeypatch.setenv("HOTWAX_HOME", str(tmp_path))
    monkeypatch.setenv("HOTWAX_REFERENCE_DIR", str(tmp_path))
    with Warehouse().transaction() as connection:
        atp.create_views(connection)
    return Books()


@pytest.fixture(params=[entries.BATCH_ROWS, 1], ids=["by the fold", "by joins"])
def books_either_way(books: Books, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Books:
    """A warehouse whose resets are small, or so large that they are joined with the state."""
    monkeypatch.setattr(entries, "BATCH_ROWS", request.param)
    return books


def test_resets_move_both_counters_by_what_the_stated_one_lacks(books_either_way: Books) -> None:
    books = books_either_way
    books.stock(
        ("R1", "F", 10, 5),
        ("R2", "F", 10, 5),
        ("R3", "F", 15, 10),
        ("R4", "F", 2, 1),
        ("R5 ATP", "F", 10, 5),
        ("R5 QOH", "F", 10, 5),
    )
    log_id = books.imported(
        "reset.csv",
        5,
        ("R1", "F", 4, "ATP"),
        ("R2", "F", 4, "QOH"),
        ("R3", "F", 20, "QOH"),
        ("R4", "F", 6, "QOH"),
        ("R5 ATP", "F", 5, "ATP"),
        ("R5 QOH", "F", 10, "QOH"),
        ("NEW", "F", 7, "QOH"),
        ("NEW AT ZERO", "F", 0, "ATP"),
        ("NEW BELOW ZERO", "F", -2, "ATP"),
    )
    books.post()
    assert books.totals() == {
        ("R1", "F"): (9, 4),
        ("R2", "F"): (4, -1),
        ("R3", "F"): (20, 15),
        ("R4", "F"): (6, 5),
        ("R5 ATP", "F"): (10, 5),
        ("R5 QOH", "F"): (10, 5),
        ("NEW", "F"): (7, 7),
        ("NEW AT ZERO", "F"): (0, 0),
        ("NEW BELOW ZERO", "F"): (-2, -2),
    }
    assert books.entries() == [
        ("R1", -1, -1, 9, 4, 4, log_id, 2),
        ("R2", -6, -6, 4, -1, 4, log_id, 3),
        ("R3", 5, 5, 20, 15, 20, log_id, 4),
        ("R4", 4, 4, 6, 5, 6, log_id, 5),
        ("NEW", 7, 7, 7, 7, 7, log_id, 8),
        ("NEW BELOW ZERO", -2, -2, -2, -2, -2, log_id, 10),
    ]
    assert books.run("select distinct status_id from data_manager_log") == [("finished",)]


def test_a_reset_that_changes_nothing_leaves_no_trace_for_watermarks_but_is_the_newest(
    books_either_way: Books,
) -> None:
    books = books_either_way
    books.stock(("A", "F", 10, 5))
    before = books.run("select changed_seq from inventory_item")
    books.imported("evening.csv", 20, ("A", "F", 5))
    books.post()
    assert books.run("select changed_seq from inventory_item") == before
    books.imported("morning.csv", 6, ("A", "F", 1))
    books.post()
    assert books.entries() == []
    assert books.totals() == {("A", "F"): (10, 5)}


def test_the_last_of_several_rows_of_a_key_wins_and_absent_keys_are_left_alone(
    books_either_way: Books,
) -> None:
    books = books_either_way
    books.stock(("A", "F", 10, 10), ("A", "G", 3, 3))
    log_id = books.imported("reset.csv", 5, ("A", "F", 1), ("A", "F", 2), ("B", "F", 9), ("A", "F", 7), ("B", "F", 0))
    books.post()
    assert books.totals() == {("A", "F"): (7, 7), ("A", "G"): (3, 3), ("B", "F"): (0, 0)}
    assert books.entries() == [("A", -3, -3, 7, 7, 7, log_id, 5)]


def test_at_however_many_facilities_the_last_row_of_a_key_wins_with_what_it_says(books_either_way: Books) -> None:
    books = books_either_way
    facilities, again = [f"F{n}" for n in range(130)], ("F0", "F63", "F64", "F129")
    books.imported(
        "reset.csv",
        5,
        *((product, facility, 5) for product in ("A", "B") for facility in facilities),
        *(("A", facility, 1) for facility in again),
    )
    books.run("update inventory_reset set comments = 'counted ' || line_number where line_number > 200")
    books.post()
    assert books.totals() == {
        (product, facility): (1, 1) if product == "A" and facility in again else (5, 5)
        for product in ("A", "B")
        for facility in facilities
    }
    assert books.run("select count(*), count(distinct seq) from inventory_item_detail") == [(260, 260)]
    assert books.run(
        "select count(*) from inventory_item_detail "
        "where description is distinct from if(line_number > 200, 'counted ' || line_number, null)"
    ) == [(0,)]


@pytest.mark.parametrize(("counted", "least", "status"), [(5, 0, "held"), (6, 0, "finished"), (5, 4, "held")])
def test_a_suspicious_reset_is_one_that_leaves_nothing_to_sell_after_what_is_reserved(
    books_either_way: Books, monkeypatch: pytest.MonkeyPatch, counted: int, least: int, status: str
) -> None:
    monkeypatch.setattr("hotwax_inventory.ledger.resets.FEWEST_STOCKED_KEYS", 1)
    monkeypatch.setenv("RESET_MAX_ZEROED_PERCENT", "30")
    books = books_either_way
    reserved = ("RESERVED", "RESERVED TOO")
    books.stock(*((product, "F", 10, 5) for product in reserved), *((product, "F", 10, 10) for product in "ABC"))
    books.imported(
        "reset.csv",
        5,
        *((product, "F", counted, "QOH") for product in reserved),
        ("A", "F", least, "QOH"),
        ("B", "F", 7, "QOH"),
        ("C", "F", 5),
    )
    books.post()
    assert books.run("select status_id from data_manager_log") == [(status,)]


# name and hour of a file, and of one that is newer
OLD_AND_NEW = {
    "time": (("z.csv", 5), ("a.csv", 6)),
    "a second": (("b.csv", 5), ("B.csv", 5 + 1 / 3600)),
    "name": (("a.csv", 5), ("b.csv", 5)),
    "name, not number": (("10.csv", 5), ("9.csv", 5)),
}


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("order", ["old first", "new first"])
def test_the_newer_reset_counts_in_whatever_order_files_come(books_either_way: Books, order: str, runs: int) -> None:
    books = books_either_way
    old = [
        (*file, [(case, "F", 100), (case, "OLD ONLY", 5), (case, "F", 101)]) for case, (file, _) in OLD_AND_NEW.items()
    ]
    new = [(*file, [(case, "F", 7), (case, "NEW ONLY", 6)]) for case, (_, file) in OLD_AND_NEW.items()]
    for files in (old, new) if order == "old first" else (new, old):
        for name, hour, rows in files:
            books.imported(name, hour, *rows)
        if runs == 2:
            books.post()
    books.post()
    for case in OLD_AND_NEW:
        found = {facility: numbers for (product, facility), numbers in books.totals().items() if product == case}
        assert found == {"F": (7, 7), "NEW ONLY": (6, 6), "OLD ONLY": (5, 5)}, case
    told = "Products that stand more than once at a facility: 1. The last row of each counts."
    assert dict(books.run("select message, count(*) from data_manager_log group by all")) == {
        told: len(old),
        None: len(new),
    }


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("order", ["first sent first", "corrected first"])
def test_a_corrected_file_sent_later_under_the_same_name_counts(books_either_way: Books, order: str, runs: int) -> None:
    books = books_either_way
    # NetSuite's name carries the export time, so both files have one time of effect; lines of different files say nothing
    sent = {30: [("B", "F", 1), ("A", "F", 1)], 90: [("A", "F", 20)]}
    for minutes in sorted(sent, reverse=order == "corrected first"):
        books.imported("export.csv", 5, *sent[minutes], sent_after=minutes)
        if runs == 2:
            books.post()
    books.post()
    assert books.totals() == {("A", "F"): (20, 20), ("B", "F"): (1, 1)}


def test_posting_again_and_posting_nothing_change_nothing(books: Books) -> None:
    books.imported("reset.csv", 5, ("A", "F", 4))
    books.imported("hollow.csv", 6)
    books.post()
    before = books.totals(), books.entries(), books.run("from sequence")
    books.post()
    assert (books.totals(), books.entries(), books.run("from sequence")) == before
    assert books.run("select file_name, status_id from data_manager_log order by 1") == [
        ("hollow.csv", "finished"),
        ("reset.csv", "finished"),
    ]


def test_resets_of_many_and_of_few_keys_take_different_ways_to_the_same_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "BATCH_ROWS", 1)  # all of these are large
    known = [(f"P{i:02}", "F", i, i - 3) for i in range(40)]
    resets = [(f"P{i:02}", "F", i * 7 % 11, "QOH" if i % 2 else "ATP") for i in range(0, 60, 3)]
    states = []
    for way, files in (("rebuild", [resets]), ("merge", [resets[i : i + 5] for i in range(0, 20, 5)])):
        monkeypatch.setenv("HOTWAX_HOME", str(tmp_path / way))
        monkeypatch.setenv("HOTWAX_REFERENCE_DIR", str(tmp_path))
        books = Books()
        books.stock(*known)
        for number, rows in enumerate(files):
            assert (len(rows) * REBUILD_ONE_IN > len(known)) == (way == "rebuild")
            books.imported(f"{number}.csv", 5, *rows)
            books.post()
        states.append((books.totals(), [entry[:6] for entry in books.entries()]))
    assert states[0] == states[1]
    assert len(states[0][0]) == 40 + 6


def test_numbers_are_positions_in_one_sequence(books: Books) -> None:
    books.imported("one.csv", 5, ("A", "F", 1), ("B", "F", 2), ("A", "F", 3))
    books.imported("two.csv", 6, ("C", "F", 4), ("A", "F", 5))
    books.post()
    books.imported("three.csv", 7, ("B", "F", 6))
    books.post()
    positions = [seq for (seq,) in books.run("select seq from inventory_item_detail order by log_id, line_number")]
    assert positions == sorted(set(positions))
    assert books.run("select product_id, changed_seq from inventory_item order by 1") == books.run(
        "select product_id, max(seq) from inventory_item_detail group by 1 order by 1"
    )
    assert books.run("select last_value >= (select max(seq) from inventory_item_detail) from sequence") == [(True,)]


NOW = datetime.now(UTC)
PAST, FUTURE = NOW - timedelta(days=400), NOW + timedelta(days=400)
PHYSICAL, VIRTUAL = "PHYSICAL_STORE", "VIRTUAL_FACILITY"
# facility, type, parent type, product store
FACILITIES = [
    *((f, "RETAIL_STORE", PHYSICAL, "STORE") for f in ("A", "B", "C", "D", "E", "EXPIRED", "COMING", "OUTSIDE")),
    ("OTHER", "RETAIL_STORE", PHYSICAL, "OTHER STORE"),
    ("CONFIG", "CONFIGURATION", VIRTUAL, "STORE"),
    ("CONFIG 2", "CONFIGURATION", VIRTUAL, "STORE"),
    ("OLD CONFIG", "CONFIGURATION", VIRTUAL, "STORE"),
    ("_NA_", "NA", VIRTUAL, "STORE"),
    ("PRE", "PRE_ORDER", VIRTUAL, "STORE"),
    ("BACK", "BACKORDER", VIRTUAL, "STORE"),
]
MEMBERS = [
    *((f, PAST, None) for f in ("A", "B", "C", "D", "E", "OTHER", "CONFIG", "CONFIG 2", "_NA_")),
    ("A", NOW - timedelta(days=30), FUTURE),  # overlaps
    ("EXPIRED", PAST, NOW - timedelta(days=1)),
    ("OLD CONFIG", PAST, NOW - timedelta(days=1)),
    ("COMING", FUTURE, None),
]


@pytest.fixture
def channel(books: Books) -> Books:
    """The channel G of STORE, with the memberships and facilities above; HOLDING holds pre-orders, FREE reserves nothing."""
    books.insert(
        product_store=[("STORE", "Y", "N"), ("OTHER STORE", None, None)],
        facility=[(f, None, f, kind, parent, store) for f, kind, parent, store in FACILITIES],
        facility_group=[("G", "CHANNEL_FAC_GROUP", f, start, end) for f, start, end in MEMBERS],
    )
    return books


Rule = tuple[int | None, str | None]
# a product's ATP by facility, its rules (minimum stock, allow brokering) by facility, its parked units by facility
Given = tuple[dict[str, int], dict[str, Rule], dict[str, int]]
# what a channel of STORE may promise of it: base, raw, threshold, queue, online ATP
CHANNEL_VECTORS: dict[str, tuple[dict[str, int], dict[str, Rule], dict[str, int], tuple[int, ...] | None]] = {
    "T1": ({"A": 10, "B": 5}, {"A": (2, "Y"), "B": (10, "Y"), "CONFIG": (3, None)}, {"_NA_": 1}, (8, 15, 3, 1, 4)),
    "T2": ({"A": 10, "B": -4}, {}, {}, (10, 6, 0, 0, 10)),
    "T3": ({"A": 3, "B": -4}, {}, {}, (3, -1, 0, 0, 0)),
    "T4": ({"A": 10, "B": 7}, {"A": (None, "N"), "CONFIG": (2, "Y")}, {}, (7, 7, 2, 0, 5)),
    "T5": ({"A": 10}, {"CONFIG": (None, "N")}, {}, (10, 10, 0, 0, 0)),
    "T7": ({"A": 10}, {"CONFIG": (20, None)}, {}, (10, 10, 20, 0, 0)),
    "S1": (
        {"A": 100, "B": 100, "C": 50},
        {"A": (10, None), "B": (10, None), "C": (10, None), "CONFIG": (10, None)},
        {},
        (220, 250, 10, 0, 210),
    ),
    "S2": (dict.fromkeys("ABCDE", 20), dict.fromkeys("ABCDE", (5, "Y")), {}, (75, 100, 0, 0, 75)),
    "a facility counts once": ({"A": 10}, {"A": (1, None)}, {"_NA_": 2}, (9, 10, 0, 2, 7)),
    "not members now": ({"A": 1, "EXPIRED": 100, "COMING": 100, "OUTSIDE": 100}, {}, {}, (1, 1, 0, 0, 1)),
    "virtual facilities hold nothing": ({"A": 1, "_NA_": 100, "CONFIG": 100}, {}, {}, (1, 1, 0, 0, 1)),
    "the largest of two thresholds": (
        {"A": 10},
        {"CONFIG": (3, "Y"), "CONFIG 2": (4, "Y"), "OLD CONFIG": (9, "N")},
        {},
        (10, 10, 4, 0, 6),
    ),
    "one of two switches": ({"A": 10}, {"CONFIG": (3, "Y"), "CONFIG 2": (1, "N")}, {}, (10, 10, 3, 0, 0)),
    "every virtual queue counts": ({"A": 10}, {}, {"_NA_": 1, "PRE": 2, "BACK": 3}, (10, 10, 0, 6, 4)),
    "reservations do not": ({"A": 10}, {}, {"A": 4, "B": 3}, (10, 10, 0, 0, 10)),
    "more parked than there": ({"A": 10}, {}, {"_NA_": 11}, (10, 10, 0, 11, 0)),
    "no facility sells online": ({"A": 10, "B": -1}, {"A": (0, "N"), "B": (0, "N")}, {}, (0, 0, 0, 0, 0)),
    "negative where nothing is sold": ({"A": 10, "B": -20}, {"B": (None, "N")}, {}, (10, 10, 0, 0, 10)),
    "known and zero": ({"A": 0}, {}, {}, (0, 0, 0, 0, 0)),
    "of another store only": ({"OTHER": 9}, {}, {}, None),
    "unknown": ({}, {"CONFIG": (3, None)}, {"_NA_": 1}, None),
}


def fill(books: Books, **products: Given) -> None:
    books.stock(*((p, f, promise, promise) for p, (stock, _, _) in products.items() for f, promise in stock.items()))
    books.insert(
        product_facility=[(p, f, *rule, None, 1) for p, (_, rules, _) in products.items() for f, rule in rules.items()],
        virtual_queue_item=[
            (f"{p} {f}", "1", p, f, units, "STORE", units, units, 1)
            for p, (*_, parked) in products.items()
            for f, units in parked.items()
        ],
    )


def online(books: Books, store: str = "STORE") -> dict[str, tuple[int, ...]]:
    rows = books.run(
        "select product_id, base_atp, raw_atp, threshold, queue_quantity, online_atp from online_atp "
        "where facility_group_id = 'G' and product_store_id = $store",
        store=store,
    )
    assert len({product for product, *_ in rows}) == len(rows)
    return {product: tuple(numbers) for product, *numbers in rows}


def test_a_channel_may_promise_what_the_vectors_say(channel: Books) -> None:
    fill(channel, **{product: vector[:3] for product, vector in CHANNEL_VECTORS.items()})
    assert online(channel) == {product: answer for product, (*_, answer) in CHANNEL_VECTORS.items() if answer}
    assert online(channel, "OTHER STORE") == {"of another store only": (9, 9, 0, 0, 9)}


@pytest.mark.parametrize(("setting", "queue"), [("N", 0), ("n", 0), ("False", 0), ("Y", 6), ("true", 6), (None, 6)])
def test_t6_a_store_that_does_not_reserve_ignores_the_queue(channel: Books, setting: str | None, queue: int) -> None:
    fill(channel, T6=({"A": 10}, {}, {"_NA_": 6}))
    channel.run("update product_store set reserve_inventory = $setting", setting=setting)
    assert online(channel) == {"T6": (10, 10, 0, queue, 10 - queue)}


@pytest.mark.parametrize(
    ("setting", "held"), [("Y", True), ("true", True), ("N", False), ("false", False), (None, False)]
)
def test_parked_pre_orders_hold_a_product_where_the_store_says_so(
    channel: Books, setting: str | None, held: bool
) -> None:
    channel.run("update product_store set hold_preorder_physical_inventory = $setting", setting=setting)
    fill(
        channel,
        pre_ordered=({"A": 10}, {}, {"PRE": 1}),
        back_ordered=({"A": 10}, {}, {"BACK": 1}),
        closed=({"A": 10}, {}, {"PRE": 0}),
        brokering=({"A": 10}, {}, {"_NA_": 1}),
    )
    assert {product: numbers[-1] for product, numbers in online(channel).items()} == {
        "pre_ordered": 0 if held else 9,
        "back_ordered": 0 if held else 9,
        "closed": 10,
        "brokering": 9,
    }


def test_parked_orders_of_another_store_reduce_only_its_own_numbers(channel: Books) -> None:
    fill(channel, P=({"A": 10, "OTHER": 10}, {}, {}))
    channel.insert(virtual_queue_item=[("O", "1", "P", "_NA_", 3, "OTHER STORE", 3, 3, 1)])
    assert online(channel) == {"P": (10, 10, 0, 0, 10)}
    assert online(channel, "OTHER STORE") == {"P": (10, 10, 0, 3, 7)}


def test_a_facility_may_promise_what_is_above_its_minimum_stock(channel: Books) -> None:
    fill(
        channel,
        above=({"A": 50}, {"A": (5, None)}, {}),
        at_it=({"A": 5}, {"A": (5, "N")}, {}),
        below=({"A": 4}, {"A": (5, "Y")}, {}),
        negative=({"A": -4}, {"A": (0, None)}, {}),
        no_rule=({"A": 7}, {}, {}),
        zero=({"A": 0}, {"A": (None, None)}, {}),
    )
    found = channel.run(
        "select product_id, last_inventory_count, minimum_stock, computed_last_inventory_count from facility_atp order by 1"
    )
    assert found == [
        ("above", 50, 5, 45),
        ("at_it", 5, 5, 0),
        ("below", 4, 5, 0),
        ("negative", -4, 0, 0),
        ("no_rule", 7, 0, 7),
        ("zero", 0, 0, 0),
    ]


def test_a_kit_has_numbers_like_any_product(channel: Books) -> None:
    channel.insert(kit_inventory=[("KIT", "A", 6, 1), ("KIT", "B", 3, 1), ("KIT", "OTHER", 9, 1)])
    fill(channel, KIT=({}, {"A": (2, None), "CONFIG": (1, None)}, {"_NA_": 1}))
    assert online(channel) == {"KIT": (7, 9, 1, 1, 5)}
    assert channel.run("select facility_id, computed_last_inventory_count from facility_atp order by 1") == [
        ("A", 4),
        ("B", 3),
        ("OTHER", 9),
    ]
