"""The resources: settings and lifecycle only. What is done with them is in the stages."""

import importlib.util
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
import duckdb
from filelock import FileLock, Timeout
from pydantic import PrivateAttr

from hotwax_inventory import run_lock, settings, tables, torn_blocks
from hotwax_inventory.layout import WarehouseUnusable, bring_up, create, version_of
from hotwax_inventory.sftp import SftpSession
from hotwax_inventory.shopify import ShopifyClient

# DuckDB looks for pandas at each statement with parameters, which takes as long as the statement; that there is none is said once.
if importlib.util.find_spec("pandas") is None:
    sys.modules["pandas"] = None  # pyright: ignore[reportArgumentType]

# Peak memory of a process is this plus what Python, Dagster and buffers outside DuckDB's pool take: together below 1 GiB.
MEMORY_LIMIT = "500MB"
# What work gets that has not had enough: to need more than usual is better than not to be done.
MORE_MEMORY = "1200MB"
# Each processor at work takes its part of the memory, whatever the work is: with 32 of them ten million rows find too little.
THREADS = min(4, os.cpu_count() or 1)
# What stands twice in a query is cheaper computed twice than kept, where it is as large as a table.
NOT_OPTIMIZED = "common_subplan"
ENGINE: dict[str, str | bool | int | float | list[str]] = {
    "memory_limit": MEMORY_LIMIT,
    "threads": THREADS,
    # the newest layout of the file is smaller and faster to write; duckdb is pinned, so nobody older has to read it
    "storage_compatibility_version": "latest",
    "disabled_optimizers": NOT_OPTIMIZED,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}


# A lock of the system's has no queue, and FileLock looks for it every twentieth of a second: who waits has found it free by then.
GIVE_WAY_SECONDS = 0.1
T = TypeVar("T")


class WarehouseBusy(RuntimeError):
    """Somebody else kept the warehouse open for longer than we wait."""


class ShopBusy(RuntimeError):
    """Another run has published to the shop for longer than we could wait."""


class DiskNearlyFull(RuntimeError):
    """There is not enough room for what a run is about to write."""


def require_free_disk(bytes_to_come: int = 0) -> None:
    """Stop a run before it writes what would leave less than DISK_MIN_FREE_MB free. Raises DiskNearlyFull."""
    home, least = settings.folder_of_home(), settings.disk_min_free_mb()
    free = shutil.disk_usage(home).free
    if free - bytes_to_come < least << 20:
        raise DiskNearlyFull(
            f"The disk of {home} has {free >> 20:,} MB free. This run is about to write {bytes_to_come >> 20:,} MB or more, and "
            f"{least:,} MB must stay free (DISK_MIN_FREE_MB). Nothing was written. Make room there (clean_up removes what is older "
            "than LANDING_KEEP_DAYS and OUTBOX_KEEP_DAYS), then run this again."
        )


class Warehouse(dg.ConfigurableResource):
    """The DuckDB file below HOTWAX_HOME. One process has it open at a time, briefly; every write is one transaction."""

    wait_seconds: int = 600
    _run_lock: FileLock | None = PrivateAttr(None)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        if context.run is not None:
            self._run_lock = run_lock.take(context.run.run_id)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        if self._run_lock is not None:
            run_lock.give_back(self._run_lock)

    @property
    def path(self) -> Path:
        return settings.home() / "warehouse.duckdb"

    def with_room(self, work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        """What `work` makes of an open connection, alone; where it finds too little memory, once more with more of it. It begins
        its transactions itself, and leaves nothing behind that it cannot do again. Raises as `connect` does."""
        try:
            with self.connect() as connection:
                return work(connection)
        except duckdb.OutOfMemoryException as error:
            dg.get_dagster_logger().warning(
                f"It is done again with {MORE_MEMORY} of memory: {str(error).splitlines()[0]}"
            )
        with self.connect() as connection, more_memory(connection):
            return work(connection)

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """An open connection, alone; for several transactions in a row.

        A warehouse of an earlier layout is brought up first. Raises WarehouseBusy, WarehouseUnusable, WarehouseTooNew,
        WarehouseTooOld."""
        settings.folder_of_home()
        deadline = time.monotonic() + self.wait_seconds
        with self._alone(deadline), ExitStack() as opened:
            connection = opened.enter_context(self._open(deadline))
            version = version_of(connection)
            if version is None:
                with transaction(connection):
                    create(connection)
            elif version < tables.LAYOUT:
                torn_blocks.keep(connection)
                connection.execute("force checkpoint")
                opened.close()
                self._keep_copy(version)
                connection = opened.enter_context(self._open(deadline))
                with transaction(connection):
                    changed = bring_up(connection)
                dg.get_dagster_logger().info(
                    f"The warehouse has layout {tables.LAYOUT} now; changed: {', '.join(changed)}."
                )
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """An open connection within a transaction, which is committed at the end or, on any exception, rolled back."""
        with self.connect() as connection, transaction(connection):
            yield connection

    def give_way(self) -> None:
        """Let those in who wait for the warehouse, before it is taken again."""
        time.sleep(GIVE_WAY_SECONDS)

    @contextmanager
    def _alone(self, deadline: float) -> Iterator[None]:
        lock = FileLock(f"{self.path}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            dg.get_dagster_logger().info("Waiting for the warehouse: another run is in a transaction.")
            try:
                lock.acquire(timeout=max(0.0, deadline - time.monotonic()))
            except Timeout:
                raise WarehouseBusy(
                    f"Another run kept {self.path} for more than {self.wait_seconds} seconds. See which runs are in progress, "
                    "end the one that hangs, then run this again."
                ) from None
        try:
            yield
        finally:
            lock.release()

    def _keep_copy(self, version: int) -> None:
        """Keep the warehouse as an earlier version left it, beside it. Raises DiskNearlyFull."""
        require_free_disk(2 * self.path.stat().st_size)
        copy = self.path.with_name(f"{self.path.stem}-layout-{version}{self.path.suffix}")
        dg.get_dagster_logger().info(f"The warehouse has layout {version}. A copy of it is kept as {copy}.")
        temporary = copy.with_suffix(".writing")
        shutil.copyfile(self.path, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(copy)

    @contextmanager
    def _open(self, deadline: float) -> Iterator[duckdb.DuckDBPyConnection]:
        engine = _engine(settings.home(), settings.reference_dir(), settings.scratch_dir())
        try:
            self._attach(engine, deadline)
            with closing(engine.cursor()) as connection:
                connection.execute("use warehouse")
                # what one connection has set is not for the next one
                connection.execute("set TimeZone = 'UTC'")
                connection.execute("reset preserve_insertion_order")
                connection.execute(f"set disabled_optimizers = '{NOT_OPTIMIZED}'")
                yield connection
        except BaseException:
            # after some errors DuckDB refuses everything: whatever this one was, the next connection is one of a new start
            _engine.cache_clear()
            raise
        finally:
            try:
                engine.execute("detach database if exists warehouse")
            except duckdb.Error:
                _engine.cache_clear()

    def _attach(self, engine: duckdb.DuckDBPyConnection, deadline: float) -> None:
        path, told = str(self.path).replace("'", "''"), False
        while True:
            try:
                if blocks := torn_blocks.put_back(self.path):
                    dg.get_dagster_logger().warning(
                        f"A process ended while it wrote to {self.path}: {blocks} blocks were put back as they were before."
                    )
                engine.execute(f"attach '{path}' as warehouse")
                break
            except (duckdb.Error, OSError) as error:
                if "Could not set lock" not in str(error):
                    raise WarehouseUnusable(
                        f"{self.path} cannot be opened: {str(error).splitlines()[0]} See that it is ours to read and write, "
                        "and not open in this process already. If it is damaged, end all processes and put the last copy back, as "
                        "README says under Restore."
                    ) from error
                if time.monotonic() > deadline:
                    raise WarehouseBusy(
                        f"Another program has {self.path} open ({error}). Close it there, then run this again."
                    ) from error
                if not told:
                    dg.get_dagster_logger().warning(
                        f"Waiting for the warehouse: another program has it open ({error})."
                    )
                    told = True
                time.sleep(0.5)


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """A transaction on an open connection: committed at the end, rolled back on any exception."""
    connection.begin()
    try:
        yield
        torn_blocks.keep(connection)
    except BaseException:
        # what DuckDB ended of its own accord cannot be rolled back any more, and is not to hide why
        with suppress(duckdb.Error):
            connection.rollback()
        raise
    connection.commit()


@contextmanager
def more_memory(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Let work have MORE_MEMORY until it is done. Where it fails nothing is set back: the engine goes with its connection."""
    connection.execute(f"set memory_limit = '{MORE_MEMORY}'")
    yield
    connection.execute(f"set memory_limit = '{ENGINE['memory_limit']}'")


def scalar(connection: duckdb.DuckDBPyConnection, query: str, values: Mapping[str, Any] | None = None) -> Any:
    """The one value of the one row that a query has."""
    ((value,),) = connection.execute(query, values).fetchall()
    return value


@lru_cache(maxsize=1)
def _engine(home: Path, reference_dir: Path, scratch_dir: Path) -> duckdb.DuckDBPyConnection:
    """DuckDB without the warehouse: it opens one in a fifth of the time that it takes to start. Queries are kept to our own
    folders, for good once external access is off."""
    # an engine that ends empties the folder that it spills to: each has its own, which DuckDB makes when it needs it
    engine = duckdb.connect(config=ENGINE | {"temp_directory": str(scratch_dir / f"spilled-{uuid.uuid4()}")})
    engine.execute("set allowed_directories = $folders", {"folders": [str(home), str(reference_dir)]})
    engine.execute("set enable_external_access = false")
    return engine


def keep_sides_of_joins(connection: duckdb.DuckDBPyConnection) -> None:
    """From here on the connection's joins gather their right sides, as the queries have them. DuckDB expects 42 rows of any file,
    and so would gather a file of millions for the sake of a few products."""
    connection.execute(f"set disabled_optimizers = '{NOT_OPTIMIZED},build_side_probe_side'")


class Sftp(dg.ConfigurableResource):
    """The SFTP server of the SFTP_* variables, or of another prefix."""

    @contextmanager
    def session(self, property_resource: str = "FTP_CONFIG", deadline_seconds: int = 60) -> Iterator[SftpSession]:
        """A session that connects at its first use, and again after a cut, until the deadline."""
        with closing(SftpSession(settings.sftp(property_resource), deadline_seconds)) as session:
            yield session


# The shops that each run of this process publishes to: a run may have more than one resource for them.
_SHOPS_HELD: dict[str, dict[str, FileLock]] = {}


class Shopify(dg.ConfigurableResource):
    """The shops' Admin APIs, and the lock that keeps two runs from publishing to one shop at once."""

    _shops: dict[str, FileLock] = PrivateAttr(default_factory=dict)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        if context.run is not None:
            self._shops = _SHOPS_HELD.setdefault(context.run.run_id, {})

    @contextmanager
    def client(self, shop_id: str, shop_domain: str) -> Iterator[ShopifyClient]:
        """A client for one shop."""
        client = ShopifyClient(
            settings.shop(shop_id, shop_domain), settings.shopify_api_version(), settings.shopify_deadline_seconds()
        )
        with closing(client):
            yield client

    def hold_shop(self, shop_id: str, patience_seconds: float = -1) -> bool:
        """Wait until no other run publishes to the shop, and keep it so until this run ends. False: this run held it before.

        Raises ShopBusy when that takes longer than `patience_seconds`; below zero it takes as long as it takes."""
        # one for all threads of the run: whichever takes it, the end of the run gives it back
        path = settings.outbox() / f"{settings.file_name(shop_id)}.lock"
        lock = self._shops.setdefault(shop_id, FileLock(path, thread_local=False))
        if lock.is_locked:
            return False
        try:
            lock.acquire(timeout=0)
        except Timeout:
            dg.get_dagster_logger().info(f"Waiting: another run is publishing to shop {shop_id}.")
            try:
                lock.acquire(timeout=patience_seconds)
            except Timeout:
                raise ShopBusy(f"Another run is publishing to shop {shop_id}.") from None
        return True

    def release_shop(self, shop_id: str) -> None:
        """Let other runs publish to a shop before this one ends."""
        self._shops.pop(shop_id).release(force=True)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        for lock in self._shops.values():
            lock.release(force=True)
        self._shops.clear()
        if context.run is not None:
            _SHOPS_HELD.pop(context.run.run_id, None)
