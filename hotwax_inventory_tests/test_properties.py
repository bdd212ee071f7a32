"""What holds for any bytes: hypothesis makes up what may or may not be a file, and its rows add up."""

import gzip
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotwax_inventory.imports import reading
from hotwax_inventory.imports.reset import FEED
from hotwax_inventory.settings import home
from hotwax_inventory_tests.feed_files import File
from hotwax_inventory_tests.world import UNBALANCED, Run, World, opened_world


def examples(number: int) -> settings:
    """The same ones every time: what was green stays so."""
    return settings(
        max_examples=number,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with opened_world(tmp_path_factory.mktemp("world")) as world:
        yield world


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


DAY = datetime(2026, 3, 5, tzinfo=UTC)
READ = """
select file_name, total_record_count
from data_manager_log
where status_id in ('finished', 'finished_with_errors')
"""


def deliver(world: World, contents: list[bytes]) -> None:
    world.begin()
    files = [File("reset", FEED.config_id, f"{n}.csv", DAY, DAY, content, []) for n, content in enumerate(contents)]
    world.run(Run(files, True, None))


def check_contents(world: World, contents: list[bytes]) -> None:
    deliver(world, contents)
    assert world.rows(UNBALANCED) == []
    assert world.rows(MISCOUNTED) == []
    for name, count in world.rows(READ):
        content = contents[int(name.removesuffix(".csv"))].removeprefix(b"\xef\xbb\xbf")
        if any(mark in content for mark in (b'"', *ODD_BLANKS)) or content.startswith(
            (b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b")
        ):
            continue
        lines = [line for line in re.split(rb"\r\n|\r|\n", content) if line.strip(b" \t")]
        assert count == len(lines) - 1


@examples(30)
@given(st.lists(CONTENTS, min_size=3, max_size=8))
def test_any_bytes_end_as_a_file_whose_rows_add_up(world: World, contents: list[bytes]) -> None:
    check_contents(world, contents)


@pytest.mark.long
@pytest.mark.timeout(3600)
@examples(100)
@given(st.lists(CONTENTS, min_size=3, max_size=8))
def test_very_many_bytes_end_as_files_whose_rows_add_up(world: World, contents: list[bytes]) -> None:
    check_contents(world, contents)


def quoted(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


VALUES = st.sampled_from(
    ["501", "502", "999", "43", "116", "5", "-3", " 7 ", "ten", "", "a, b", 'the "M"', '"', "é", "=1"]
)
# now and then a quote stands where it should not
FIELD = VALUES.map(quoted) | VALUES.filter(lambda value: not set('",') & set(value)) | VALUES.map(quoted) | VALUES


@st.composite
def quoted_files(draw: st.DrawFn) -> bytes:
    lines = st.lists(st.lists(FIELD, min_size=3, max_size=6).map(",".join), min_size=1, max_size=8)
    end = draw(st.sampled_from(["\n", "\r\n"]))
    return (end.join([draw(HEADS), *draw(lines)]) + draw(st.sampled_from(["", end]))).encode()


@examples(25)
@given(st.lists(quoted_files(), min_size=1, max_size=4, unique=True))
def test_quoted_files_are_read_alike_with_and_without_a_decoded_copy(world: World, contents: list[bytes]) -> None:
    seen = []
    for is_copied in (False, True):
        shutil.rmtree(home() / "landing", ignore_errors=True)
        with pytest.MonkeyPatch.context() as patch:
            if is_copied:
                patch.setattr(reading, "_needs_decoding", lambda *_: True)
            deliver(world, contents)
        seen.append(
            (
                world.rows("from inventory_reset order by log_id, line_number"),
                world.rows("from data_manager_error order by log_id, line_number"),
                world.rows(
                    "select log_id, status_id, total_record_count, message from data_manager_log order by log_id"
                ),
                sorted((path.name, path.read_bytes()) for path in home().rglob("*failed-records*")),
            )
        )
    assert seen[0] == seen[1]
