"""What holds for any files in any order: hypothesis makes them up, and a few lines of Python say what must come out."""

import gzip
import hashlib
import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotwax_inventory.files import landing
from hotwax_inventory.imports import reference, reset
from hotwax_inventory.imports import rows as reading
from hotwax_inventory.imports.queue import import_pending
from hotwax_inventory.ledger.entries import post_imported
from hotwax_inventory.publish.target import narrow
from hotwax_inventory.reconcile.past import go_back
from hotwax_inventory.resources import Warehouse
from hotwax_inventory.sftp import RemoteFile
from hotwax_inventory_tests.conftest import OPENED, REFERENCE, STOCKED

FEED = reset.FEED
DAY = datetime(2026, 3, 5, tzinfo=UTC)
PRODUCTS = {"501": "10001", "502": "10002", "503": "10003"}
FACILITIES = {"43": "WAREHOUSE", "116": "BROADWAY", "281": "BROOKLYN"}
# (product, facility): quantity on hand and available to promise before any reset
OPENING = {("10001", "WAREHOUSE"): (10, 5), ("10001", "BROADWAY"): (3, 3), ("10002", "WAREHOUSE"): (4, -2)}


# facility, product, quantity, basis
Lines = list[tuple[str, str, str, str]]
# time of effect, name, time of modification, lines
Reset = tuple[datetime, str, datetime, Lines]


@dataclass(frozen=True)
class File:
    name: str
    modified_at: datetime
    content: bytes


def examples(number: int) -> settings:
    return settings(max_examples=number, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def opening(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the reference and the opening stock, to be copied for each example."""
    folder = tmp_path_factory.mktemp("opening")
    for name, content in REFERENCE.items():
        (folder / f"{name}.csv").write_text(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOTWAX_HOME", str(folder / "home"))
        patch.setenv("HOTWAX_REFERENCE_DIR", str(folder))
        with Warehouse().transaction() as connection:
            for file in reference.REFERENCE_FILES:
                reference.load_file(file, folder, folder, connection)
            reference._identify(connection)
            for seq, ((product, facility), numbers) in enumerate(OPENING.items(), 1):
                connection.execute(OPENED, [seq, product, facility, *numbers])
                connection.execute(STOCKED, [seq, product, facility, *numbers])
            connection.execute("update sequence set last_value = 100")
    return folder


@pytest.fixture(autouse=True)
def reference_dir(opening: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTWAX_REFERENCE_DIR", str(opening))


def work(files: list[File]) -> None:
    """Land, import and post files in one run, as the job does once they are downloaded."""
    warehouse, config = Warehouse(), reset.ResetFiles.model_validate({})
    looked_at = datetime.now(UTC)
    folder = landing._landing_folder(FEED.config_id)
    landed = []
    for file in files:
        digest = hashlib.sha256(file.content).hexdigest()
        (folder / f"{digest}.csv").write_bytes(file.content)
        remote = RemoteFile(f"{FEED.directories[0]}/{file.name}", len(file.content), int(file.modified_at.timestamp()))
        landed.append(landing.Landed(remote, folder / f"{digest}.csv", digest, *landing.effective_at(remote)))
    landing._register(FEED, config.source(FEED), landed, looked_at, "run", warehouse, landing.Landing())
    with warehouse.transaction() as connection:
        connection.execute("update data_manager_log set archived_at = current_timestamp where archived_at is null")
    import_pending((reset.IMPORT,), FEED.config_id, "run", warehouse)
    post_imported(warehouse)


def rows(sql: str) -> list[tuple[Any, ...]]:
    with Warehouse().transaction() as connection:
        return connection.execute(sql).fetchall()


UNBALANCED = """
select i.*, d.*
from inventory_item as i
full join (
    select
        product_id,
        facility_id,
        sum(quantity_on_hand_diff) as on_hand,
        sum(available_to_promise_diff) as promise,
        arg_max(last_quantity_on_hand, seq) as last_on_hand,
        arg_max(last_available_to_promise, seq) as last_promise,
        max(seq) as last_seq,
        count(*) - count(distinct seq) as repeated
    from inventory_item_detail
    group by product_id, facility_id
) as d using (product_id, facility_id)
where i.product_id is null
    or i.quantity_on_hand_total <> coalesce(d.on_hand, 0)
    or i.available_to_promise_total <> coalesce(d.promise, 0)
    or i.quantity_on_hand_total <> coalesce(d.last_on_hand, 0)
    or i.available_to_promise_total <> coalesce(d.last_promise, 0)
    or i.changed_seq < d.last_seq
    or d.repeated > 0
"""

MISCOUNTED = """
select *
from data_manager_log as l
left join (select log_id, count(*) as accepted, max(line_number) as last_line from inventory_reset group by all) using (log_id)
left join (select log_id, count(*) as refused from data_manager_error group by all) using (log_id)
where status_id <> 'duplicate' and (
    total_record_count <> coalesce(accepted, 0) + failed_record_count + ignored_record_count
    or failed_record_count <> coalesce(refused, 0)
    or status_id <> case
        when message like '%Nothing of it was applied.%' then 'failed'
        when failed_record_count > 0 then 'finished_with_errors'
        else 'finished'
    end
    or status_id = 'failed' and total_record_count > 0
)
"""


# {key: (quantity on hand, available to promise)}: each row of each file in order of effect sets the counter that it states
def fold(files: list[Reset]) -> dict[tuple[str, str], tuple[int, int]]:
    state = dict(OPENING)
    for *_, lines in sorted(files):
        for facility, product, quantity, basis in lines:
            if facility in FACILITIES and product in PRODUCTS and re.fullmatch("-?[0-9]+", quantity):
                key = PRODUCTS[product], FACILITIES[facility]
                on_hand, promise = state.get(key, (0, 0))
                diff = int(quantity) - (on_hand if basis == "QOH" else promise)
                state[key] = on_hand + diff, promise + diff
    return state


def stock_at(moment: datetime) -> dict[tuple[str, str], tuple[int, int]]:
    """The stock that is explained for a moment."""
    with Warehouse().transaction() as connection:
        connection.execute("create temp table subject as select product_id from product")
        connection.execute("create temp table moved as select product_id from product")
        narrow(connection)
        go_back(moment, connection)
        found = connection.execute(
            "select product_id, facility_id, quantity_on_hand_total, available_to_promise_total from inventory_item"
        ).fetchall()
    return {(product, facility): (on_hand, promise) for product, facility, on_hand, promise in found}


LINES = st.lists(
    st.tuples(
        st.sampled_from([*FACILITIES, *FACILITIES, *FACILITIES, "999"]),
        st.sampled_from([*PRODUCTS, *PRODUCTS, *PRODUCTS, "509", "999"]),
        st.integers(-3, 12).map(str) | st.just("ten"),
        st.sampled_from(["ATP", "QOH", ""]),
    ),
    max_size=6,
)
FILES = st.lists(
    st.tuples(st.sampled_from("aAbc"), st.integers(0, 3), st.sampled_from([0, 10]), st.booleans(), LINES),
    min_size=1,
    max_size=6,
    unique_by=lambda file: file[:4],
)


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[Reset], list[list[File]]]:
    """Resets, and the runs in which they arrive: in any order, some of them twice."""
    meant, files = [], []
    for letter, hour, minute, has_time_in_name, lines in draw(FILES):
        at, modified_at = DAY + timedelta(hours=hour), DAY + timedelta(hours=hour, minutes=minute)
        name = f"{letter} {at:%Y-%m-%dT%H:%M:%SZ}.csv" if has_time_in_name else f"{letter}.csv"
        head = f"externalFacilityId,idValue,quantity,resetBy,{letter}{hour}{minute}{has_time_in_name}\n"
        content = head + "".join(",".join(line) + ",\n" for line in lines)
        meant.append((at if has_time_in_name else modified_at, name, modified_at, lines))
        files.append(File(name, modified_at, content.encode()))
    arriving = draw(st.permutations(files + draw(st.lists(st.sampled_from(files), max_size=3))))
    cuts = sorted(draw(st.lists(st.integers(0, len(arriving)), max_size=2)))
    runs = [arriving[start:end] for start, end in zip([0, *cuts], [*cuts, len(arriving)], strict=True)]
    return meant, [run for run in runs if run]


def check_delivery(
    opening: Path, delivery: tuple[list[Reset], list[list[File]]], moments: tuple[datetime, ...] = ()
) -> None:
    meant, runs = delivery
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        shutil.copytree(opening / "home", folder, dirs_exist_ok=True)
        patch.setenv("HOTWAX_HOME", folder)
        for run in runs:
            work(run)
        stock = rows(
            "select product_id, facility_id, quantity_on_hand_total, available_to_promise_total from inventory_item"
        )
        assert {(product, facility): tuple(numbers) for product, facility, *numbers in stock} == fold(meant)
        for moment in moments:
            assert stock_at(moment) == fold([file for file in meant if file[0] <= moment])
        assert rows(UNBALANCED) == []
        assert rows(MISCOUNTED) == []
        applied = rows(
            "select file_name, total_record_count from data_manager_log where status_id <> 'duplicate' order by all"
        )
        assert applied == sorted((name, len(lines)) for _, name, _, lines in meant)


@examples(40)
@given(deliveries())
def test_resets_in_any_order_and_number_of_runs_end_in_the_fold_of_their_rows(opening: Path, delivery: Any) -> None:
    check_delivery(opening, delivery)


@pytest.mark.long
@pytest.mark.timeout(3600)
@examples(150)
@given(deliveries())
def test_many_resets_in_any_order_end_in_the_fold_of_their_rows_and_so_does_the_past(
    opening: Path, delivery: Any
) -> None:
    check_delivery(opening, delivery, (DAY + timedelta(hours=1), DAY + timedelta(hours=2, minutes=5)))


PIECES = st.sampled_from(
    [
        *(
            "501",
            "502",
            "999",
            "43",
            "116",
            "5",
            "5",
            "-3",
            "5.0",
            "1e3",
            " 7 ",
            "2000000001",
            "",
            "",
            " ",
            "TEE",
            "é",
            "'",
        ),
        *(
            '"',
            '""',
            '"a"',
            '"a\nb"',
            ",",
            ",,",
            "\n",
            "\r",
            "\r\n",
            "\n\n",
            ";",
            "\t",
            "\x1c",
            "\x1e",
            "\x1f",
            "\x7f",
            "\\",
            "👕",
        ),
    ]
)
HEADS = st.sampled_from(
    [
        "Item,externalFacilityId,availableQty,idValue",
        "externalFacilityId,idValue,quantity,comments",
        '"externalFacilityId","idValue","quantity"',
        "idValue,resetByAtp,externalFacilityId,availableQty,idType",
    ]
)


@st.composite
def tables(draw: st.DrawFn) -> str:
    """A reset file, more or less."""
    lines = draw(st.lists(st.lists(PIECES, max_size=6).map(",".join), max_size=5))
    return draw(HEADS) + "\n" + "".join(line + draw(st.sampled_from(["\n", "\n", "\r\n", "\r", ""])) for line in lines)


@st.composite
def mutated(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes with a few of them changed, cut out, put in or doubled."""
    content = draw(whole)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 8)))
        put_in = draw(st.binary(max_size=3) | st.sampled_from([b'"', b"\0", b"\n", b"\xff", content[start:end] * 2]))
        content = content[:start] + put_in + content[end:]
    return content


ENCODED = st.tuples(tables(), st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "cp1252"])).map(
    lambda case: case[0].encode(case[1], errors="replace")
)
CONTENTS = st.binary(max_size=100) | ENCODED | mutated(ENCODED) | mutated(ENCODED.map(gzip.compress))


# what may or may not make a blank line
ODD_BLANKS = [bytes([code]) for code in (0x0B, 0x0C, 0x1C, 0x1D, 0x1E, 0x1F, 0x85, 0xA0)]


def check_contents(opening: Path, contents: list[bytes]) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        shutil.copytree(opening / "home", folder, dirs_exist_ok=True)
        patch.setenv("HOTWAX_HOME", folder)
        work([File(f"{number}.csv", DAY, content) for number, content in enumerate(contents)])
        assert rows(UNBALANCED) == []
        assert rows(MISCOUNTED) == []
        for name, count in rows(
            "select file_name, total_record_count from data_manager_log where status_id in ('finished', 'finished_with_errors')"
        ):
            content = contents[int(name.removesuffix(".csv"))].removeprefix(b"\xef\xbb\xbf")
            if any(mark in content for mark in (b'"', *ODD_BLANKS)) or content.startswith(
                (b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b")
            ):
                continue
            lines = [line for line in re.split(rb"\r\n|\r|\n", content) if line.strip(b" \t")]
            assert count == len(lines) - 1


@examples(30)
@given(st.lists(CONTENTS, min_size=3, max_size=8))
def test_any_bytes_end_as_a_file_whose_rows_add_up(opening: Path, contents: list[bytes]) -> None:
    check_contents(opening, contents)


@pytest.mark.long
@pytest.mark.timeout(3600)
@examples(300)
@given(st.lists(CONTENTS, min_size=3, max_size=8))
def test_very_many_bytes_end_as_files_whose_rows_add_up(opening: Path, contents: list[bytes]) -> None:
    check_contents(opening, contents)


def quoted(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


VALUES = st.sampled_from(
    ["501", "502", "999", "43", "116", "5", "-3", " 7 ", "ten", "", "a, b", 'the "M"', '"', "é", "=1"]
)
# a line in ten has a quote where it is only read with care, or none where it should be
FIELD = VALUES.map(quoted) | VALUES.filter(lambda value: not set('",') & set(value)) | VALUES.map(quoted) | VALUES


@st.composite
def quoted_files(draw: st.DrawFn) -> bytes:
    lines = [
        draw(HEADS),
        *draw(st.lists(st.lists(FIELD, min_size=3, max_size=6).map(",".join), min_size=1, max_size=8)),
    ]
    end = draw(st.sampled_from(["\n", "\r\n"]))
    return (end.join(lines) + draw(st.sampled_from(["", end]))).encode()


@examples(40)
@given(st.lists(quoted_files(), min_size=1, max_size=4, unique=True))
def test_quoted_files_are_read_alike_with_and_without_a_decoded_copy(opening: Path, contents: list[bytes]) -> None:
    seen = []
    for is_copied in (False, True):
        with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            shutil.copytree(opening / "home", folder, dirs_exist_ok=True)
            patch.setenv("HOTWAX_HOME", folder)
            if is_copied:
                patch.setattr(reading, "_needs_decoding", lambda *_: True)
            work([File(f"{number}.csv", DAY, content) for number, content in enumerate(contents)])
            seen.append(
                (
                    rows("from inventory_reset order by log_id, line_number"),
                    rows("from data_manager_error order by log_id, line_number"),
                    rows(
                        "select file_name, status_id, total_record_count, message from data_manager_log order by log_id"
                    ),
                    sorted((path.name, path.read_bytes()) for path in Path(folder).rglob("*failed*")),
                )
            )
    assert seen[0] == seen[1]
