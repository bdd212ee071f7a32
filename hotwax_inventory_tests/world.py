"""A retailer in memory, whose runs may die: what a thousand examples need, since files and servers take their time.

The jobs' own code works on an SFTP server and a warehouse that are in memory; what is Dagster's is left out."""

import contextlib
import hashlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from pydantic import PrivateAttr

from hotwax_inventory import layout, resources
from hotwax_inventory.imports import queue, reference
from hotwax_inventory.imports.feeds import IMPORTS
from hotwax_inventory.ledger import atp, entries, kits, receiving
from hotwax_inventory.resources import Sftp, Warehouse
from hotwax_inventory.sftp import RemoteFile, SftpSession
from hotwax_inventory_tests import model
from hotwax_inventory_tests.feed_files import KINDS, TABLES, File, open_stock
from hotwax_inventory_tests.model import Dock


@dataclass(frozen=True)
class Run:
    """Files that come to SFTP, and a run of their jobs; it may die just before or after its nth commit."""

    files: list[File]
    schedule_now: bool
    dies: tuple[int, bool] | None


@dataclass(frozen=True)
class Deed:
    """What somebody does with shipments."""

    action: str
    shipment: str
    most: int | None
    dies: tuple[int, bool] | None


# where two files of one name may be at once
DIRECTORIES = 9


class Session(SftpSession):
    """An SFTP server without a server."""

    def __init__(self, files: dict[str, File]) -> None:
        self._files = files

    def log_in(self) -> None:
        return

    def listing(self, directory: str) -> list[RemoteFile]:
        found = [path for path in sorted(self._files) if path.rpartition("/")[0] == directory]
        return [file for path in found if (file := self.look(path))]

    def look(self, path: str) -> RemoteFile | None:
        file = self._files.get(path)
        return file and RemoteFile(path, len(file.content), int(file.modified_at.timestamp()))

    def fetch(self, file: RemoteFile, local: Path) -> str:
        local.write_bytes(self._files[file.path].content)
        return hashlib.sha256(self._files[file.path].content).hexdigest()

    def archive(self, file: RemoteFile) -> str | None:
        del self._files[file.path]

    def close(self) -> None:
        pass


class Server(Sftp):
    """What is on SFTP."""

    _files: dict[str, File] = PrivateAttr(default_factory=dict)

    @contextmanager
    def session(self, property_resource: str = "FTP_CONFIG", deadline_seconds: int = 60) -> Iterator[SftpSession]:
        yield Session(self._files)

    def put(self, file: File) -> None:
        paths = (f"{file.config_id}/{number}/{file.name}" for number in range(DIRECTORIES))
        self._files[next(path for path in paths if path not in self._files)] = file

    def config_ids(self) -> set[str]:
        return {path.partition("/")[0] for path in self._files}


class MemoryWarehouse(Warehouse):
    """A warehouse that is no file, since a thousand examples open it ten times each."""

    _database: duckdb.DuckDBPyConnection = PrivateAttr(default_factory=lambda: duckdb.connect(config={"threads": 1}))

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with closing(self._database.cursor()) as connection:
            # small statements are planned in half the time without it; the other tests have it
            connection.execute("pragma disable_optimizer")
            yield connection


IMPORTS_OF = {imports[0].feed.config_id: imports for _, imports in IMPORTS}
# the tables that files fill
FILLED = (
    *(
        "data_manager_log",
        "data_manager_error",
        "inventory_item",
        "inventory_item_detail",
        "sequence",
        "virtual_queue_item",
    ),
    *("product_facility", "kit_inventory", "shipment", "shipment_item", "shipment_receipt"),
    *(spec.table.name for _, imports in IMPORTS for spec in imports),
)


class Died(Exception):
    """A run has died."""


@contextmanager
def dying(dies: tuple[int, bool] | None) -> Iterator[None]:
    """Let what runs within die at its nth commit: before it, so that it is rolled back, or after it. Nothing follows."""
    number, is_after = dies or (0, False)
    real, commits = resources.transaction, 0

    @contextmanager
    def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        nonlocal commits
        commits += 1
        with real(connection):
            yield
            if commits == number and not is_after:
                raise Died
        if commits == number:
            raise Died

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Died):
        for module in (resources, queue, entries):
            patch.setattr(module, "transaction", transaction)
        yield


def work(config_ids: set[str], sftp: Sftp, warehouse: Warehouse, schedule_now: bool = True) -> None:
    """What the jobs of these feeds do."""
    for kind in {kind.feed.config_id: kind for kind in KINDS if kind.feed.config_id in config_ids}.values():
        config = kind.config.model_validate({"schedule_now": schedule_now})
        queue.run_import(IMPORTS_OF[kind.feed.config_id], config, "run", sftp, warehouse)
    settle(warehouse)


def settle(warehouse: Warehouse) -> None:
    """What every import runs on to."""
    entries.post_imported(warehouse)
    with warehouse.transaction() as connection:
        kits.compute_kits(connection, include_all=False)


def receive(action: str, asked: dict[str, Any], warehouse: Warehouse) -> None:
    """Do with shipments what schedule_restock does when it is asked so; to refuse it is right, too."""
    config = receiving.ScheduleRestock.model_validate(asked)
    with contextlib.suppress(receiving.ReceivingRefused):
        if action == "receive due":
            run = dg.DagsterRun(job_name="schedule_restock")
            receiving._receive_due(config, run, receiving.Receiver(), warehouse)
        elif action == "cancel":
            receiving._change(config.model_copy(update={"action": receiving.Action.cancel}), warehouse)
        else:
            receiving._receive_one(config, asked["shipment_id"], warehouse)


class World:
    """A retailer in memory: an SFTP server, a warehouse, and what was done with shipments."""

    def __init__(self, folder: Path, before: list[File]) -> None:
        self.server, self.warehouse, self.dock = Server(), MemoryWarehouse(), Dock()
        self.has_more_to_do = False
        for name, text in TABLES.items():
            (folder / f"{name}.csv").write_text(text)
        with self.warehouse.connect() as connection:
            connection.execute("set global TimeZone = 'UTC'")
        with self.warehouse.transaction() as connection:
            layout.create(connection)
            atp.create_views(connection)
            for file in reference.REFERENCE_FILES:
                reference.load_file(file, folder, folder, connection)
            reference._identify(connection)
            open_stock(connection)
        self.run(Run(before, True, None))
        with self.warehouse.transaction() as connection:
            connection.execute("create schema opening")
            for table in FILLED:
                connection.execute(f"create table opening.{table} as from {table}")
            counts = {table: connection.execute(f"select count(*) from {table}").fetchall() for table in FILLED}
        self.opened = [table for table, count in counts.items() if count != [(0,)]]

    def begin(self) -> None:
        """Be as at first."""
        self.server, self.dock, self.has_more_to_do = Server(), Dock(), False
        with self.warehouse.transaction() as connection:
            for table in FILLED:
                connection.execute(f"delete from {table}")
            for table in self.opened:
                connection.execute(f"insert into {table} from opening.{table}")

    def run(self, run: Run) -> None:
        for file in run.files:
            self.server.put(file)
        with dying(run.dies):
            self.work({file.config_id for file in run.files}, run.schedule_now)
        self.has_more_to_do |= run.dies is not None

    def work(self, config_ids: set[str], schedule_now: bool = True) -> None:
        work(config_ids, self.server, self.warehouse, schedule_now)

    def recover(self) -> None:
        """What the jobs do when nothing goes wrong any more."""
        if self.has_more_to_do:
            self.work(self.server.config_ids())
            self.has_more_to_do = False
        pending = self.rows("select distinct config_id from data_manager_log where status_id = 'pending'")
        for (config_id,) in pending:
            queue.import_pending(IMPORTS_OF[config_id], None, "run", self.warehouse)
        if pending:
            settle(self.warehouse)

    def do(self, deed: Deed, files: list[File]) -> None:
        """Do something with shipments as they are once all that has come is worked off; again in case that it has died."""
        self.recover()
        counted = self.counted(files)
        shipment_id = dict(self.rows(f"select {NAME}, shipment_id from shipment")).get(deed.shipment, "none")
        named = {"shipment_id": shipment_id, "limit": deed.most, "facility_id": "BROADWAY"}
        self.has_more_to_do = True
        for dies in (None,) if deed.most else (deed.dies, None):
            with dying(dies):
                receive(deed.action, {} if deed.action == "receive due" else named, self.warehouse)
        if deed.action == "receive due":
            for name in model.shipments(counted):
                if name.endswith("2026"):
                    self.dock.receive(name, counted)
        elif deed.action == "cancel":
            self.dock.cancel(deed.shipment, counted)
        else:
            self.dock.receive(deed.shipment, counted, deed.most, "BROADWAY")

    def counted(self, files: list[File]) -> list[File]:
        """The files that are registered and no duplicates; which of equal ones that is, was a matter of their arrival."""
        known = self.rows("select config_id, file_name, sha256 from data_manager_log where status_id <> 'duplicate'")
        by_name = {(file.config_id, file.name, hashlib.sha256(file.content).hexdigest()): file for file in files}
        return [by_name[row] for row in known]

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with self.warehouse.connect() as connection:
            return connection.execute(sql).fetchall()


@contextmanager
def opened_world(folder: Path, *before: File) -> Iterator[World]:
    """One world for all examples, which each begins anew: with some stock, and what the files `before` make of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOTWAX_HOME", str(folder / "home"))
        patch.setenv("HOTWAX_REFERENCE_DIR", str(folder))
        patch.setenv("SFTP_STABLE_SECONDS", "0")
        for kind in KINDS:
            directories = ",".join(f"{kind.feed.config_id}/{number}" for number in range(DIRECTORIES))
            patch.setenv(f"{kind.feed.config_id}_IMPORT_PATH", directories)
        yield World(folder, list(before))


NAME = "coalesce(shipment.external_id, concat_ws(' ', name, destination_facility_id, year(scheduled_at)))"
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
