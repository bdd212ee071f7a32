"""The SQLite file behind the simulated shops: one connection, one lock, transactions that nest."""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from hotwax_inventory.simulator.shop_tables import SCHEMA


class Database:
    """Usable from any thread; what is committed survives a killed process."""

    def __init__(self, file: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.now = now
        self._lock = threading.RLock()
        self._is_open = False
        self._db = sqlite3.connect(file, check_same_thread=False, isolation_level=None, cached_statements=256)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = normal")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """The connection inside one transaction (the outermost, when nested), held by one thread at a time."""
        with self._lock:
            if self._is_open:
                yield self._db
                return
            self._db.execute("begin immediate")
            self._is_open = True
            try:
                yield self._db
            except BaseException:
                self._db.execute("rollback")
                raise
            else:
                self._db.execute("commit")
            finally:
                self._is_open = False

    def timestamp(self) -> str:
        """Now, as Shopify writes times."""
        return self.now().strftime("%Y-%m-%dT%H:%M:%SZ")

    def rows(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple]:
        """All rows of a statement."""
        with self._lock:
            return self._db.execute(statement, parameters).fetchall()
