"""The background work of bulk operations: one thread an operation, one result file each."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from hotwax_inventory.simulator.bulk_query import BulkQuery, json_line
from hotwax_inventory.simulator.documents import Document, read_document
from hotwax_inventory.simulator.faults import Fault
from hotwax_inventory.simulator.graphql_values import Arguments
from hotwax_inventory.simulator.inventory_rules import KEY_REQUIRED_FROM
from hotwax_inventory.simulator.shop_store import ShopStore
from hotwax_inventory.simulator.storage import Storage

Execute = Callable[[Document, Arguments, str, str], dict[str, object]]
OPEN_OPERATIONS = (
    "select number from bulk_operation where status in ('CREATED', 'RUNNING', 'CANCELING') order by number"
)
OPERATION = (
    "select shop_id, type, status, document, staged_key, version, token, fault from bulk_operation where number = ?"
)
FINISH = """
update bulk_operation
set status = ?, error_code = ?, completed_at = ?, object_count = ?, root_object_count = ?, file_size = ?, is_partial = ?
where number = ?
"""
LOOK_SECONDS = 0.05
STATUS_AFTER = {
    "bulk_failed": "FAILED",
    "bulk_partial": "FAILED",
    "bulk_canceled": "CANCELED",
    "bulk_expired": "EXPIRED",
}


class Canceled(Exception):
    """The operation was canceled through the API."""


class Stopped(Exception):
    """The simulator stops; the operation goes on when it starts again."""


@dataclass(frozen=True)
class Operation:
    """What a worker needs to know of its operation."""

    number: int
    shop_id: str
    type: str
    document: str
    staged_key: str | None
    version: str
    token: str
    fault: Fault | None


@dataclass
class Progress:
    """Lines written so far."""

    lines: int = 0
    roots: int = 0


class BulkWorkers:
    """Works operations; `delay_seconds` is how long even an empty one takes."""

    def __init__(
        self, shops: ShopStore, storage: Storage, execute: Execute, schema_file: Path | None, delay_seconds: float = 0.2
    ) -> None:
        self.delay_seconds = delay_seconds
        self._shops = shops
        self._storage = storage
        self._execute = execute
        self._schema_file = schema_file
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, number: int) -> None:
        """Work one operation in its own thread."""
        thread = threading.Thread(target=self._work, args=[number], name=f"bulk-{number}", daemon=True)
        self._threads = [*(old for old in self._threads if old.is_alive()), thread]
        thread.start()

    def resume(self) -> None:
        """Start the operations over that an earlier process left open."""
        for (number,) in self._shops.rows(OPEN_OPERATIONS):
            self.start(number)

    def stop(self) -> None:
        """Stop all work between two lines."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=10)

    def _operation(self, number: int) -> tuple[Operation, str]:
        ((shop_id, kind, status, document, staged_key, version, token, fault),) = self._shops.rows(OPERATION, [number])
        told = Fault(**json.loads(fault)) if fault else None
        return Operation(number, shop_id, kind, document, staged_key, version, token, told), status

    def _work(self, number: int) -> None:
        operation, status = self._operation(number)
        progress = Progress()
        try:
            if status != "CREATED" and operation.type == "MUTATION" and operation.version < KEY_REQUIRED_FROM:
                # without keys nobody can tell which lines were applied before the restart
                self._finish(operation, progress, "FAILED", "INTERNAL_SERVER_ERROR")
                return
            self._pause(operation, self.delay_seconds / 2)
            with self._shops.transaction() as db:
                db.execute(
                    "update bulk_operation set status = 'RUNNING' where number = ? and status = 'CREATED'", [number]
                )
            self._pause(operation, self.delay_seconds / 2)
            status = self._write_result(operation, progress)
            self._finish(operation, progress, status, "INTERNAL_SERVER_ERROR" if status == "FAILED" else None)
        except Canceled:
            self._finish(operation, progress, "CANCELED", None)
        except Stopped:
            return
        except Exception:
            self._finish(operation, progress, "FAILED", "INTERNAL_SERVER_ERROR")
            raise

    def _write_result(self, operation: Operation, progress: Progress) -> str:
        """Write all lines, or as many as the fault lets through; the status in the end."""
        kind = operation.fault.kind if operation.fault else ""
        with self._storage.result_file(operation.number, operation.token).open("wb") as file:
            lines, total = self._lines(operation)
            for is_root, line in islice(lines, _line_limit(operation.fault, total)):
                self._check(operation, every=progress.lines % 100 == 0)
                file.write(line)
                progress.lines += 1
                progress.roots += is_root
        while kind == "bulk_stuck":
            self._pause(operation, LOOK_SECONDS)
        return STATUS_AFTER.get(kind, "COMPLETED")

    def _lines(self, operation: Operation) -> tuple[Iterator[tuple[bool, bytes]], int]:
        document = read_document(operation.document, self._schema_file)
        if operation.type == "QUERY":
            query = BulkQuery(document)
            (total,) = self._shops.rows("select count(*) from level where shop_id = ?", [operation.shop_id])[0]
            return query.lines(self._shops, operation.shop_id, operation.number), total
        file = self._storage.staged_file(operation.shop_id, operation.staged_key or "")
        content = file.read_bytes() if file else b""
        inputs = content.split(b"\n")
        if inputs and not inputs[-1].strip():
            inputs.pop()
        return self._mutation_lines(operation, document, inputs), len(inputs)

    def _mutation_lines(
        self, operation: Operation, document: Document, inputs: list[bytes]
    ) -> Iterator[tuple[bool, bytes]]:
        order = list(range(len(inputs)))
        random.Random(operation.number).shuffle(order)
        for line_number in order:
            answer = self._mutated(operation, document, inputs[line_number])
            yield True, json_line({**answer, "__lineNumber": line_number})

    def _mutated(self, operation: Operation, document: Document, line: bytes) -> dict[str, object]:
        try:
            variables = json.loads(line)
        except ValueError as problem:
            return {"errors": [{"message": f"Invalid JSON: {problem}", "extensions": {"code": "INVALID_JSON"}}]}
        if not isinstance(variables, dict):
            return {"errors": [{"message": "A line must be one JSON object", "extensions": {"code": "INVALID_JSON"}}]}
        return self._execute(document, variables, operation.shop_id, operation.version)

    def _finish(self, operation: Operation, progress: Progress, status: str, error_code: str | None) -> None:
        file = self._storage.result_file(operation.number, operation.token)
        objects, size = progress.lines, file.stat().st_size if file.exists() else 0
        if operation.fault is not None:
            objects, size = _damage(file, operation.fault, objects, size)
        partial = status in ("FAILED", "CANCELED") and progress.lines > 0
        partial = partial and (operation.fault is None or operation.fault.kind != "bulk_failed")
        counts = [objects, progress.roots, size]
        with self._shops.transaction() as db:
            db.execute(FINISH, [status, error_code, self._shops.timestamp(), *counts, partial, operation.number])

    def _pause(self, operation: Operation, seconds: float) -> None:
        until = time.monotonic() + seconds
        while True:
            self._check(operation)
            left = until - time.monotonic()
            if left <= 0:
                return
            self._stopping.wait(min(left, LOOK_SECONDS))

    def _check(self, operation: Operation, *, every: bool = True) -> None:
        if self._stopping.is_set():
            raise Stopped
        if every:
            ((status,),) = self._shops.rows("select status from bulk_operation where number = ?", [operation.number])
            if status == "CANCELING":
                raise Canceled


def _line_limit(fault: Fault | None, total: int) -> int | None:
    """How many lines are worked before the operation ends early; None for all."""
    if fault is None or fault.kind not in ("bulk_failed", "bulk_partial", "bulk_canceled", "bulk_stuck"):
        return None
    return int(fault.number(total // 2 if fault.kind == "bulk_partial" else 0))


def _damage(file: Path, fault: Fault, objects: int, size: int) -> tuple[int, int]:
    """Damage the file as the fault says; the count and size that the operation then states.

    Lost and cut lines leave count and size as they should have been; a line twice is counted twice.
    """
    count = int(fault.number(1))
    match fault.kind:
        case "wrong_object_count":
            return objects + count, size
        case "drop_lines":
            lines = file.read_bytes().splitlines(keepends=True)
            file.write_bytes(b"".join(lines[count:]))
        case "duplicate_lines":
            lines = file.read_bytes().splitlines(keepends=True)
            file.write_bytes(b"".join(lines + lines[:count]))
            return len(lines) + len(lines[:count]), file.stat().st_size
        case "cut_last_line":
            content = file.read_bytes()
            start = content.rstrip(b"\n").rfind(b"\n") + 1
            file.write_bytes(content[: (start + len(content)) // 2])
    return objects, size
