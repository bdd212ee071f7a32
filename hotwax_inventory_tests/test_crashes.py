"""Real processes that die by kill -9 at a named point, or work side by side: nothing lost, nothing doubled, sums right.

A server process imports the project once and forks a child for every run, so that a death costs no two seconds of imports.
The points are reached from outside: the child wraps a function and dies before or after its nth call."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from hotwax_inventory import resources, run_lock
from hotwax_inventory.automation.instance import end_dead_runs
from hotwax_inventory.definitions import defs
from hotwax_inventory.files import landing
from hotwax_inventory.imports import queue
from hotwax_inventory.layout import WarehouseUnusable
from hotwax_inventory.ledger import entries
from hotwax_inventory.publish import resume, sending, settling
from hotwax_inventory.publish.sending import Sender
from hotwax_inventory.resources import Warehouse, transaction
from hotwax_inventory.sftp import SftpSession
from hotwax_inventory.shopify import ShopifyClient
from hotwax_inventory.torn_blocks import BLOCK_BYTES, HEADERS_BYTES
from hotwax_inventory_tests.conftest import RESETS, SPARED, Place

HEADER = "Item,externalFacilityId,availableQty,idValue\n"
PRODUCTS = {501: "10001", 502: "10002", 503: "10003"}
FACILITIES = {43: "WAREHOUSE", 116: "BROADWAY", 281: "BROOKLYN"}
FIRST_EXPORT = int(datetime(2024, 3, 6, 5, tzinfo=UTC).timestamp())
# a few jobs on a machine that does much else
RUN_SECONDS = 180

PAGE_BYTES = 4096

PROCESSES = multiprocessing.get_context("forkserver")
# What the server imports before its first child; other modules add themselves. Most of it is what Dagster and DuckDB import at
# their first use.
PRELOADED = [
    "hotwax_inventory_tests.test_crashes",
    *("alembic.command", "sqlalchemy.dialects.sqlite", "dagster._daemon", "structlog", "rich.traceback", "tqdm"),
    "upath.implementations.local",
]
PROCESSES.set_forkserver_preload(PRELOADED)
# what a child is told of the test's environment
TOLD = ("HOTWAX_", "SFTP_", "SHOPIFY_", "DIRECT_")

OWNERS: dict[str, object] = {
    "landing": landing,
    "session": SftpSession,
    "path": Path,
    "queue": queue,
    "entries": entries,
    "resources": resources,
    "client": ShopifyClient,
    "sender": Sender,
    "sending": sending,
    "settling": settling,
    "resume": resume,
}


@dataclass(frozen=True)
class Point:
    """Where a process dies: at the nth call of a function, `before` or `after` it; of a transaction, its commit."""

    name: str
    call: int
    when: str

    def __str__(self) -> str:
        return f"{self.when} {self.name} {self.call}"


@dataclass(frozen=True)
class Meeting:
    """Before a function of the landing stage is called, a process says where it is and waits for a word: files in a folder."""

    function: str
    says: Path
    awaits: Path


@dataclass(frozen=True)
class Job:
    """A job, what its assets are told, and the shop that it is of."""

    name: str
    config: dict[str, dict[str, Any]] = field(default_factory=dict)
    shop: str | None = None


# --- what happens in the child


def _run(environment: dict[str, str], jobs: Sequence[Job], point: Point | None, meeting: Meeting | None) -> None:
    # the server that the child is forked from keeps the environment of the test that started it
    for name in [name for name in os.environ if name.startswith(TOLD)]:
        del os.environ[name]
    os.environ.update(environment)
    # many small steps instead of few large ones: more to be interrupted
    landing.FILES_PER_REGISTRATION = 2
    queue.BATCH_FILES = 2
    entries.BATCH_ROWS = 1
    for name, value in SPARED.items():
        pytest.MonkeyPatch().setattr(name, value)
    if point is not None:
        _arm(point)
    if meeting is not None:
        _arrange(meeting)
    with dg.DagsterInstance.ephemeral() as instance:
        for job in jobs:
            if job.shop is not None:
                instance.add_dynamic_partitions("shop", [job.shop])
            defs.resolve_job_def(job.name).execute_in_process(
                instance=instance,
                run_config={"ops": {asset: {"config": values} for asset, values in job.config.items()}},
                tags={"dagster/partition": job.shop} if job.shop else None,
            )


def _arm(point: Point) -> None:
    module, _, name = point.name.partition(".")
    owner = OWNERS[module]
    real = getattr(owner, name)
    calls = 0

    def die_if(when: str) -> None:
        if calls == point.call and when == point.when:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        die_if("before")
        result = real(*arguments, **named)
        die_if("after")
        return result

    @contextmanager
    def wrapped_transaction(connection: Any) -> Iterator[None]:
        nonlocal calls
        calls += 1
        with real(connection):
            yield
            die_if("before")
        die_if("after")

    setattr(owner, name, wrapped_transaction if name == "transaction" else wrapped)


def _arrange(meeting: Meeting) -> None:
    real = getattr(landing, meeting.function)

    def wrapped(*arguments: Any) -> Any:
        meeting.says.touch()
        assert appears(meeting.awaits), f"{meeting.awaits.name} is not said"
        return real(*arguments)

    setattr(landing, meeting.function, wrapped)


def appears(path: Path) -> bool:
    """Whether a file is there, or comes within seconds."""
    deadline = time.monotonic() + RUN_SECONDS
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return path.exists()


# --- what happens in the test


def told() -> dict[str, str]:
    """What a child is told of the test's environment."""
    return {name: value for name, value in os.environ.items() if name.startswith(TOLD)}


def started(*jobs: str | Job, point: Point | None = None, meeting: Meeting | None = None, **config: Any) -> BaseProcess:
    """A process that runs jobs one after the other; `config` is that of the import of resets."""
    configs = {"import_inventory": {"inventory_reset": config}} if config else {}
    stated = [job if isinstance(job, Job) else Job(job, configs.get(job, {})) for job in jobs]
    process = PROCESSES.Process(target=_run, args=(told(), stated, point, meeting))
    process.start()
    return process


def ended(process: BaseProcess) -> int:
    """How a process ended."""
    process.join(RUN_SECONDS)
    code = process.exitcode
    if code is None:
        process.kill()
        pytest.fail(f"a run hangs for {RUN_SECONDS} seconds")
    return code


def test_a_run_whose_process_was_killed_holds_up_no_other_and_one_that_lives_is_left_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "YOUNG_SECONDS", 0)
    put_resets(place, 1)
    assert ended(started("import_inventory", point=Point("landing.register", 1, "before"))) == -signal.SIGKILL
    ((killed, _),) = run_lock.left_behind()
    alive = run_lock.take("11111111-1111-1111-1111-111111111111")
    with dg.instance_for_test() as instance:
        runs = [killed, "11111111-1111-1111-1111-111111111111"]
        for run_id in runs:
            instance.add_run(dg.DagsterRun("import_inventory", run_id, status=dg.DagsterRunStatus.STARTED))
        end_dead_runs(instance)
        statuses = [instance.get_run_by_id(run_id).status for run_id in runs]  # pyright: ignore[reportOptionalMemberAccess]
        assert statuses == [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.STARTED]
    run_lock.give_back(alive)
    place.succeed("import_inventory")
    assert list((place.home / "runs").iterdir()) == []


def put_resets(place: Place, seed: int, first: int = 0) -> dict[str, list[tuple[int, int, int]]]:
    """Five small files of random rows, uploaded in another order than they were exported in, one row of each refused."""
    draw = random.Random(seed)
    files = {}
    for number in range(first, first + 5):
        keys = draw.sample([(p, f) for p in PRODUCTS for f in FACILITIES], draw.randint(2, 5))
        rows = [(product, facility, draw.randint(0, 40)) for product, facility in keys]
        exported = FIRST_EXPORT + draw.randint(0, 10_000) * 60
        content = "".join(f"ITEM,{facility},{quantity},{product}\n" for product, facility, quantity in rows)
        name = f"{datetime.fromtimestamp(exported, UTC):%Y-%m-%dT%H:%M:%SZ}-{number}.csv"
        place.put_reset(name, f"{HEADER}{content}UNKNOWN,43,{number},999\n", exported + 1800)
        files[name] = rows
    return files


def expected_stock(files: dict[str, list[tuple[int, int, int]]]) -> dict[tuple[str, str], tuple[int, int]]:
    """The fold of design 8.12: names begin with the time of effect, so they sort by it."""
    stock = {}
    for name in sorted(files):
        for product, facility, quantity in files[name]:
            stock[PRODUCTS[product], FACILITIES[facility]] = (quantity, quantity)
    return stock


def assert_nothing_is_lost_or_doubled(place: Place, files: dict[str, list[tuple[int, int, int]]]) -> None:
    """The end of an undisturbed run, whatever happened on the way."""
    assert sorted(place.logs()) == sorted(
        (name, "finished_with_errors", len(rows) + 1, 1, 0) for name, rows in files.items()
    )
    assert place.stock() == expected_stock(files)
    assert_the_ledger_adds_up(place)
    remote = place.sftp_directory / RESETS
    assert {path.name for path in remote.iterdir()} == {"archive"}
    assert {path.name for path in (remote / "archive").iterdir()} == set(files)
    registered = place.rows("select log_id, landed_path, size_bytes from data_manager_log")
    for log_id, path, size in registered:
        assert (place.home / path).stat().st_size == size
        (failed_records,) = (place.home / "landing" / "RESET_INVENTORY").glob(f"*-failed-records-{log_id}.csv")
        header, *rows = failed_records.read_text().splitlines()
        assert header == f"{HEADER.strip()},reason"
        assert [row.split(",")[3] for row in rows] == ["999"]


def assert_the_ledger_adds_up(place: Place) -> None:
    """Stock is the sum of its entries, nothing is there twice, and every row of a reset is accounted for."""
    unequal = place.rows(
        "select * from inventory_item as i full join ("
        " select product_id, facility_id, sum(quantity_on_hand_diff) as on_hand, sum(available_to_promise_diff) as promise"
        " from inventory_item_detail group by all) as l using (product_id, facility_id)"
        " where coalesce(quantity_on_hand_total, 0) <> coalesce(on_hand, 0)"
        " or coalesce(available_to_promise_total, 0) <> coalesce(promise, 0)"
    )
    assert unequal == [], "state = sum of the ledger"
    for doubled in (
        "select seq from inventory_item_detail group by all having count(*) > 1",
        "select log_id, line_number from inventory_item_detail group by all having count(*) > 1",
        "select log_id, line_number from inventory_reset group by all having count(*) > 1",
        "select log_id, line_number from data_manager_error group by all having count(*) > 1",
        "select product_id, facility_id from inventory_item group by all having count(*) > 1",
        "select log_id from data_manager_log group by all having count(*) > 1",
    ):
        assert place.rows(doubled) == [], doubled
    counted = place.rows(
        "select l.log_id from data_manager_log as l where l.config_id = 'RESET_INVENTORY'"
        " and (total_record_count is distinct from failed_record_count + ignored_record_count"
        " + (select count(*) from inventory_reset as r where r.log_id = l.log_id)"
        " or failed_record_count <> (select count(*) from data_manager_error as e where e.log_id = l.log_id))"
    )
    assert counted == [], "rows = applied + refused + ignored"


# landing, import and posting, each step before and after
POINTS = (
    Point("session.listing", 1, "after"),
    Point("session.fetch", 2, "after"),
    Point("path.replace", 2, "after"),
    Point("resources.transaction", 1, "before"),
    Point("landing.register", 1, "after"),
    Point("session._move", 2, "after"),
    Point("landing.archive", 2, "before"),
    Point("resources.transaction", 4, "before"),
    Point("landing.archive", 3, "after"),
    Point("queue.accept_rows", 1, "after"),
    Point("queue.write_failed_records", 2, "after"),
    Point("queue.transaction", 1, "after"),
    Point("entries._post", 1, "after"),
    Point("entries.transaction", 1, "after"),
    Point("entries.transaction", 2, "before"),
)
MORE_POINTS = (
    Point("session.fetch", 1, "before"),
    Point("path.replace", 2, "before"),
    Point("landing.fsync_folder", 3, "after"),
    Point("landing.register", 1, "before"),
    Point("resources.transaction", 1, "after"),
    Point("resources.transaction", 2, "before"),
    Point("resources.transaction", 2, "after"),
    Point("session.archive", 1, "before"),
    Point("session.archive", 1, "after"),
    Point("queue.accept_rows", 2, "before"),
    Point("queue.write_failed_records", 1, "before"),
    Point("queue.transaction", 1, "before"),
    Point("queue.transaction", 3, "after"),
    Point("entries._post", 1, "before"),
    Point("entries._post", 2, "after"),
)
SEEDS = (1, 2, 3)
EVERYDAY = [(point, SEEDS[number % len(SEEDS)]) for number, point in enumerate(POINTS) if number % 2 == 0]
IN_CI = [(point, SEEDS[number % len(SEEDS)]) for number, point in enumerate(MORE_POINTS) if number % 3 == 0]
OTHERS = [(point, seed) for point in (*POINTS, *MORE_POINTS) for seed in SEEDS if (point, seed) not in EVERYDAY + IN_CI]


@pytest.mark.parametrize(
    ("point", "seed"),
    [
        *EVERYDAY,
        *(pytest.param(*case, marks=pytest.mark.long) for case in IN_CI),
        *(pytest.param(*case, marks=pytest.mark.soak) for case in OTHERS),
    ],
    ids=str,
)
def test_a_run_after_one_that_was_killed_ends_where_an_undisturbed_run_ends(
    place: Place, point: Point, seed: int
) -> None:
    files = put_resets(place, seed)
    assert ended(started("import_inventory", point=point)) == -signal.SIGKILL, "the point was not reached"
    assert ended(started("import_inventory")) == 0
    assert_nothing_is_lost_or_doubled(place, files)


def test_an_undisturbed_run_ends_there_too(place: Place) -> None:
    files = put_resets(place, seed=1)
    assert ended(started("import_inventory")) == 0
    assert_nothing_is_lost_or_doubled(place, files)


@pytest.mark.parametrize(
    "point",
    [
        Point("resources.transaction", 1, "before"),  # the tables are being made
        Point("resources.transaction", 1, "after"),
        Point("resources.transaction", 2, "before"),  # the reference is loaded
        Point("resources.transaction", 2, "after"),
    ],
    ids=str,
)
def test_the_first_run_of_all_may_be_killed_too(empty_place: Place, point: Point) -> None:
    files = put_resets(empty_place, seed=4)
    assert ended(started("load_reference", point=point)) == -signal.SIGKILL
    assert ended(started("load_reference", "import_inventory")) == 0
    assert_nothing_is_lost_or_doubled(empty_place, files)


@pytest.mark.parametrize("point", [Point("session.fetch", 2, "after"), Point("queue.accept_rows", 1, "after")], ids=str)
def test_what_a_killed_run_was_writing_does_not_stay_behind(place: Place, point: Point) -> None:
    files = put_resets(place, seed=5)
    assert ended(started("import_inventory", point=point)) == -signal.SIGKILL
    for path in [*(place.home / "landing").rglob("*.part"), *(place.home / "scratch").rglob("*")]:
        os.utime(path, (0, 0))  # whoever tells a dead run's files from a living one's by their age may do so
    assert ended(started("import_inventory")) == 0
    assert_nothing_is_lost_or_doubled(place, files)
    landed = {Path(path).name for (path,) in place.rows("select landed_path from data_manager_log")}
    found = {path.name for path in (place.home / "landing" / "RESET_INVENTORY").iterdir()}
    assert {n for n in found - landed if not n.startswith("looks-") and "-failed-records-" not in n} == set()
    assert list((place.home / "scratch").iterdir()) == []


@pytest.mark.parametrize(
    "point", [Point("session.archive", 2, "after"), Point("session.archive", 1, "before")], ids=str
)
def test_a_file_that_was_archived_by_a_killed_run_is_known_as_archived(place: Place, point: Point) -> None:
    put_resets(place, seed=6)
    assert ended(started("import_inventory", point=point)) == -signal.SIGKILL
    assert ended(started("import_inventory")) == 0
    assert place.rows("select file_name from data_manager_log where archived_at is null") == []


def test_a_file_that_comes_back_after_a_kill_is_registered_again(place: Place) -> None:
    put_resets(place, seed=7)
    assert ended(started("import_inventory", point=Point("session.archive", 1, "after"))) == -signal.SIGKILL
    assert ended(started("import_inventory")) == 0
    archive = place.sftp_directory / RESETS / "archive"
    back = sorted(path.name for path in archive.iterdir())
    for name in back:
        (archive / name).rename(archive.parent / name)
    config = {"inventory_reset": {"allow_duplicate_content": True}}
    assert place.run("import_inventory", config).success
    registered = place.rows("select file_name, count(*) from data_manager_log group by all order by all")
    assert registered == [(name, 2) for name in back], "moved back by hand to be applied again"


@pytest.mark.long
@pytest.mark.parametrize(
    ("job", "seed"), [*(("import_inventory", n) for n in range(3)), ("process_bulk_imported_files", 3)]
)
def test_two_runs_at_once_import_every_file_once(place: Place, job: str, seed: int) -> None:
    files = put_resets(place, seed)
    if job != "import_inventory":
        place.succeed("import_inventory", {"inventory_reset": {"schedule_now": False}})
    both = [started(job) for _ in range(2)]
    assert [ended(process) for process in both] == [0, 0]
    assert_nothing_is_lost_or_doubled(place, files)


@pytest.mark.parametrize("allow_duplicate_content", [False, True])
def test_two_runs_that_have_fetched_the_same_files_register_them_once(
    place: Place, tmp_path: Path, allow_duplicate_content: bool
) -> None:
    files = put_resets(place, seed=8)
    here, there = tmp_path / "here", tmp_path / "there"
    both = [
        started("import_inventory", meeting=meeting, allow_duplicate_content=allow_duplicate_content)
        for meeting in (Meeting("register", here, there), Meeting("register", there, here))
    ]
    assert [ended(process) for process in both] == [0, 0]
    assert_nothing_is_lost_or_doubled(place, files)


@pytest.mark.parametrize("allow_duplicate_content", [False, True])
def test_a_run_that_looks_between_the_registration_and_the_archive_of_another_registers_nothing_again(
    place: Place, tmp_path: Path, allow_duplicate_content: bool
) -> None:
    files = put_resets(place, seed=8)
    registered, fetched, archived = (tmp_path / word for word in ("registered", "fetched", "archived"))
    first = started("import_inventory", meeting=Meeting("archive", registered, fetched))
    assert appears(registered)
    second = started(
        "import_inventory",
        meeting=Meeting("register", fetched, archived),
        allow_duplicate_content=allow_duplicate_content,
    )
    assert ended(first) == 0
    archived.touch()
    assert ended(second) == 0
    assert_nothing_is_lost_or_doubled(place, files)


def test_a_run_that_is_killed_beside_another_one_harms_it_not(place: Place) -> None:
    files = put_resets(place, seed=9)
    killed = started("import_inventory", point=Point("queue.transaction", 1, "before"))
    other = started("import_inventory")
    assert ended(killed) in (-signal.SIGKILL, 0)
    assert ended(other) == 0
    assert ended(started("import_inventory")) == 0
    assert_nothing_is_lost_or_doubled(place, files)


@pytest.mark.parametrize("last", [1, -1])
def test_a_block_that_a_killed_process_left_half_written_is_put_back(place: Place, last: int) -> None:
    """The files are made as a kill within a checkpoint's write leaves them, which happens once in a thousand kills."""
    for count in (5, 6):
        place.put_reset(f"{count}.csv", f"{HEADER}TEE-S,43,{count},501\n")
        place.succeed("import_inventory")
    warehouse = Warehouse().path
    log = warehouse.with_name("warehouse.duckdb.wal")
    before = warehouse.read_bytes()
    with Warehouse().connect() as connection:
        with transaction(connection):
            connection.execute("update inventory_item set available_to_promise_total = 7")
        in_log = log.read_bytes()
        kept = {path: path.read_bytes() for path in warehouse.parent.glob("warehouse.duckdb.*") if path != log}
    # all that the checkpoint wrote, but not the header that puts it in force
    written = before[:HEADERS_BYTES] + warehouse.read_bytes()[HEADERS_BYTES:]
    torn = bytearray(written)
    for start in range(HEADERS_BYTES, len(before), BLOCK_BYTES):
        pages = range(start, start + BLOCK_BYTES, PAGE_BYTES)
        differing = [at for at in pages if before[at : at + PAGE_BYTES] != written[at : at + PAGE_BYTES]]
        if differing:
            rest = slice(differing[last], pages.stop)
            torn[rest] = before[rest]
    for path, content in {**kept, warehouse: bytes(torn), log: in_log}.items():
        path.write_bytes(content)
    assert place.rows("select available_to_promise_total from inventory_item") == [(7,)]
    for path, content in {warehouse: bytes(torn), log: in_log}.items():
        path.write_bytes(content)
    for path in kept:
        path.unlink(missing_ok=True)
    with pytest.raises(WarehouseUnusable, match="checksum"):
        place.rows("select 1")
