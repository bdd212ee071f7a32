"""What is kept goes when its time has come, and not before nobody needs it; a disk that is nearly full stops a run in time."""

import gzip
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from hotwax_inventory import resources, retention, settings
from hotwax_inventory.automation.instance import shops_with_master
from hotwax_inventory.imports import queue
from hotwax_inventory.resources import ENGINE, Warehouse
from hotwax_inventory_tests.conftest import REFERENCE, Place

HEADER = "Item,externalFacilityId,availableQty,idValue\n"
A_MONTH_ON = datetime.now(UTC) + timedelta(days=31)


def landed(place: Place) -> set[str]:
    """The names on SFTP of the files whose bytes are still there, and the failed-records files."""
    names = dict(place.rows("select landed_path, file_name from data_manager_log"))
    paths = [path for path in (place.home / "landing" / "RESET_INVENTORY").iterdir() if path.suffix == ".csv"]
    return {names.get(path.relative_to(place.home).as_posix(), path.name.split("Z-")[-1]) for path in paths}


def test_landed_files_go_after_their_days_and_what_somebody_needs_stays(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hotwax_inventory.ledger.resets.FEWEST_STOCKED_KEYS", 1)
    now = datetime.now(UTC)
    place.put_reset("done.csv", f"{HEADER}TEE-S,43,5,501\nNEW,43,1,999\n", now - timedelta(hours=3))
    place.succeed("import_inventory")
    place.put_reset("held.csv", f"{HEADER}TEE-S,43,0,501\n", now - timedelta(hours=2))
    place.succeed("import_inventory")
    place.put_reset("waits.csv", f"{HEADER}TEE-S,116,5,501\n", now - timedelta(hours=1))
    place.put_reset("again.csv", f"{HEADER}TEE-S,43,5,501\nNEW,43,1,999\n", now - timedelta(hours=2.5))
    place.succeed("import_inventory", {"inventory_reset": {"schedule_now": False, "allow_duplicate_content": True}})
    kept = {"done.csv", "held.csv", "waits.csv", "again.csv", "failed-records-1.csv"}
    assert landed(place) | {"done.csv"} == kept, "the same content is one file"
    retention.remove_landed(Warehouse(), A_MONTH_ON)
    assert landed(place) | {"done.csv"} == kept, "its second arrival still waits"
    place.succeed("process_bulk_imported_files")
    assert retention.remove_landed(Warehouse(), A_MONTH_ON - timedelta(days=2)) == 0
    monkeypatch.setenv("LANDING_KEEP_DAYS", "0")
    monkeypatch.setenv("RESET_ROWS_KEEP_DAYS", "31")
    assert retention.remove_landed(Warehouse(), A_MONTH_ON - timedelta(days=2)) == 0, "the rows are there for longer"
    assert retention.remove_landed(Warehouse(), A_MONTH_ON + timedelta(days=1)) == 2
    assert landed(place) == {"held.csv", "failed-records-1.csv", "failed-records-3.csv"}
    path = "netsuite/inventoryitem/csv/held.csv"
    place.succeed("import_inventory", {"inventory_reset": {"paths": [path], "approve": True}})
    assert place.stock()["10001", "WAREHOUSE"] == (0, 0)


def test_the_bytes_of_a_rule_that_may_yet_mean_something_again_stay(place: Place) -> None:
    header = "product-id,facility-id,facility-safety-stock\n"

    def rule(stock: int, hours: int) -> None:
        name = f"hotwax/available-to-promise/PRODUCT_FACILITY_{hours}.csv"
        place.put(name, f"{header}10001,BROADWAY,{stock}\n", datetime.now(UTC) - timedelta(hours=hours))
        place.succeed("import_product_facility")

    rule(5, 30)
    rule(5, 10)
    retention.remove_landed(Warehouse(), datetime.now(UTC) + timedelta(days=100))
    rule(9, 20)
    assert place.rows("select minimum_stock from product_facility") == [(5,)]
    assert {status for _, status, *_ in place.logs()} == {"finished"}


def test_files_of_deltas_go_and_one_that_was_interrupted_or_waits_for_approval_keeps_its_own(place: Place) -> None:
    now = datetime.now(UTC)
    runs = [(1, "finished"), (2, "planned"), (3, "unfinished"), (4, "abandoned"), (5, "planned")]
    for sync_run_id, status in runs:
        place.rows(
            "insert into sync_run by name select $id as sync_run_id, 'SHOP' as shop_id, 'hard_sync' as job, 'r' as run_id, "
            "'{}' as parameters, $now as observed_at, 0 as upto_seq, $now as created_at, 1 as level_count, 1 as change_count, "
            "'{}' as skipped, $status as status_id",
            id=sync_run_id,
            status=status,
            now=now,
        )
        folder = place.home / "outbox" / "SHOP" / f"{sync_run_id:06}"
        folder.mkdir(parents=True)
        (folder / "delta-0001.jsonl").write_text("{}")
    assert retention.remove_sent(Warehouse(), now + timedelta(days=29)) == 0
    assert retention.remove_sent(Warehouse(), A_MONTH_ON) == 3
    assert sorted(path.name for path in (place.home / "outbox" / "SHOP").iterdir()) == ["000003", "000005"]


def test_old_runs_go_with_their_files_and_the_shops_are_still_known(place: Place, tmp_path: Path) -> None:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        place.instance = instance
        place.succeed("load_reference")
        old = place.run("import_inventory", {"inventory_reset": {"paths": ["gone.csv"]}}).run_id
        place.succeed("clean_up")
        assert len(instance.get_runs()) == 3
        assert retention.remove_runs(instance, A_MONTH_ON + timedelta(days=60)) == 2
        assert [run.job_name for run in instance.get_runs()] == ["load_reference"]
        assert not [path for path in tmp_path.rglob("*") if old in path.name]
        assert shops_with_master(instance, "hotwax") == ["SHOP"]


@pytest.mark.parametrize(
    ("job", "config"),
    [
        ("import_inventory", {}),
        ("process_bulk_imported_files", {}),
        ("hard_sync", {}),
    ],
)
def test_a_nearly_full_disk_stops_a_run_before_it_writes_with_a_sentence(
    place: Place, monkeypatch: pytest.MonkeyPatch, job: str, config: dict[str, dict[str, object]]
) -> None:
    place.put_reset("reset.csv", f"{HEADER}TEE-S,43,5,501\n")
    if job == "process_bulk_imported_files":
        place.succeed("import_inventory", {"inventory_reset": {"schedule_now": False}})
    before = place.logs()
    monkeypatch.setenv("DISK_MIN_FREE_MB", "1000000000")
    result = place.run(job, config, shop="SHOP" if job == "hard_sync" else None)
    assert not result.success
    assert "1,000,000,000 MB must stay free (DISK_MIN_FREE_MB). Nothing was written." in place.failure(result)
    assert place.logs() == before
    assert (place.sftp_directory / "netsuite/inventoryitem/csv/reset.csv").exists() == (not before)
    monkeypatch.delenv("DISK_MIN_FREE_MB")
    if job != "hard_sync":
        place.succeed(job)
        assert place.stock() == {("10001", "WAREHOUSE"): (5, 5)}


@contextmanager
def files_up_to(size_bytes: int) -> Iterator[None]:
    """No file of this process grows beyond a size meanwhile, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_warehouse_that_can_grow_no_more_keeps_what_was_committed_and_goes_on_when_it_can(place: Place) -> None:
    size = Warehouse().path.stat().st_size
    with files_up_to(size), pytest.raises(duckdb.IOException, match="File too large"):
        place.rows("create table large as select hash(n) as number from range(1000000) as row(n)")
    with files_up_to(size):
        # this much goes into the write-ahead log, and from there not into the file
        place.rows("create table small as from range(3000)")
    assert place.rows("select count(*) from small") == [(3000,)]
    assert place.rows("select count(*) from duckdb_tables() where table_name = 'large'") == [(0,)]
    place.put_reset("reset.csv", f"{HEADER}TEE-S,43,5,501\n")
    place.succeed("import_inventory")


def test_a_gzip_file_for_which_there_is_no_room_is_not_taken_for_a_damaged_one(place: Place) -> None:
    rows = "TEE-S,43,5,501\n" * 500_000
    target = place.sftp_directory / "netsuite/inventoryitem/csv/reset.csv"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(gzip.compress((HEADER + rows).encode()))
    with files_up_to(Warehouse().path.stat().st_size + (1 << 20)):
        assert "File too large" in place.failure(place.run("import_inventory"))
    assert place.rows("select status_id from data_manager_log") == [("pending",)]
    place.succeed("import_inventory")
    assert place.stock() == {("10001", "WAREHOUSE"): (5, 5)}


def test_a_process_that_ends_takes_nothing_away_that_another_has_spilled(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "ENGINE", ENGINE | {"memory_limit": "40MB", "threads": 1})
    large = "create or replace temp table large as select hash(range) as a, hash(range + 1) as b from range(3_000_000)"
    with Warehouse().transaction() as connection:
        connection.execute(large)
    ending = resources._engine(settings.home(), settings.reference_dir(), settings.scratch_dir())
    resources._engine.cache_clear()  # the next engine is that of another process
    with Warehouse().transaction() as connection:
        connection.execute(large)
        ending.close()
        assert connection.execute("select count(distinct a) from large").fetchall() == [(3_000_000,)]
    resources._engine.cache_clear()
    assert list(settings.scratch_dir().iterdir()) == []


def test_duckdb_is_started_once_for_all_that_a_run_does(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[bool] = []

    def connect(**options: Any) -> duckdb.DuckDBPyConnection:
        started.append(True)
        return start(**options)

    start = duckdb.connect
    monkeypatch.setattr(duckdb, "connect", connect)
    resources._engine.cache_clear()
    place.put_reset("reset.csv", f"{HEADER}TEE-S,43,5,501\n")
    place.succeed("import_inventory")
    assert len(started) == 1


def test_work_that_finds_too_little_memory_is_done_once_more_with_more(place: Place) -> None:
    limits: list[str] = []

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        limits.append(connection.execute("select current_setting('memory_limit')").fetchall()[0][0])
        with resources.transaction(connection):
            connection.execute("update sequence set last_value = last_value + 1")
            if len(limits) % 2:
                raise duckdb.OutOfMemoryException("Out of Memory Error: no room")
        return len(limits)

    assert [Warehouse().with_room(work) for _ in range(2)] == [2, 4]
    assert limits == [limits[0], limits[1]] * 2
    assert limits[0] != limits[1]
    with pytest.raises(duckdb.OutOfMemoryException):
        Warehouse().with_room(lambda _: (_ for _ in ()).throw(duckdb.OutOfMemoryException("never enough")))


@pytest.mark.parametrize("has_ever_enough", [True, False])
def test_a_file_that_finds_too_little_memory_is_read_once_more_with_more(
    place: Place, monkeypatch: pytest.MonkeyPatch, has_ever_enough: bool
) -> None:
    limits: list[str] = []

    def accepting(*arguments: Any) -> None:
        limits.append(resources.scalar(arguments[3], "select current_setting('memory_limit')"))
        if len(set(limits)) == 1 or not has_ever_enough:
            raise duckdb.OutOfMemoryException("Out of Memory Error: no room")
        accept(*arguments)

    accept = queue.accept_rows
    monkeypatch.setattr(queue, "accept_rows", accepting)
    place.put_reset("reset.csv", f"{HEADER}TEE-S,43,5,501\n")
    assert place.run("import_inventory").success == has_ever_enough
    status, message = place.rows("select status_id, message from data_manager_log")[0]
    if has_ever_enough:
        assert (status, place.stock()) == ("finished", {("10001", "WAREHOUSE"): (5, 5)})
    else:
        assert status == "failed"
        assert "Its rows need more memory than there is. Divide it into several files." in message
    with Warehouse().connect() as connection:
        assert resources.scalar(connection, "select current_setting('memory_limit')") == limits[0]


LARGE = {
    "import_inventory": ("netsuite/inventoryitem/csv/large.csv", HEADER, "NEW,{facility},{n},{product}"),
    "import_product_facility": (
        "hotwax/available-to-promise/PRODUCT_FACILITY_large.csv",
        "facilityExternalId,idValue,facilitySafetyStock,allowBrokering,allowPickup\n",
        "{facility},{product},{n},Y,N",
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("job", LARGE)
def test_a_file_of_a_million_rows_about_fifty_thousand_products_has_room(
    empty_place: Place, monkeypatch: pytest.MonkeyPatch, job: str
) -> None:
    # more of them need more memory
    monkeypatch.setattr(resources, "ENGINE", ENGINE | {"threads": 4})
    monkeypatch.setattr("hotwax_inventory.imports.rows.PARTS", 2)
    products, facilities = 50_000, 20
    path, header, row = LARGE[job]
    for table, rows in {
        "product": (f"P{i},SKU-{i},FINISHED_GOOD,{700_000 + i},," for i in range(products)),
        "facility": (f"F{i},{5_000 + i},Store {i},WAREHOUSE,PHYSICAL_STORE,STORE" for i in range(facilities)),
    }.items():
        empty_place.write_reference(table, REFERENCE[table] + "".join(f"{line}\n" for line in rows))
    empty_place.succeed("load_reference")
    keys = [(facility, product) for product in range(products) for facility in range(facilities)]
    rows = (row.format(facility=5_000 + f, product=700_000 + p, n=1 + (f + p) % 50) for f, p in keys)
    empty_place.put(path, header + "".join(f"{line}\n" for line in rows))
    empty_place.succeed(job)
    assert empty_place.logs()[0][1:3] == ("finished", len(keys))
