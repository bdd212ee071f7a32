"""Bulk operations: started by a call, worked in the background, asked for by id.

An operation is a row that outlives the simulator's process. After a restart an open one starts over; the lines of a
mutation that were applied before answer from their idempotency keys then.
"""

import json
import secrets
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path

from hotwax_inventory.simulator import bulk_query
from hotwax_inventory.simulator.bulk_search import matching
from hotwax_inventory.simulator.connections import connection
from hotwax_inventory.simulator.documents import Answer, Value, read_document
from hotwax_inventory.simulator.faults import BULK_KINDS, Faults
from hotwax_inventory.simulator.gids import gid, number_of
from hotwax_inventory.simulator.graphql_errors import Refused
from hotwax_inventory.simulator.graphql_values import Arguments
from hotwax_inventory.simulator.shop_store import ShopStore
from hotwax_inventory.simulator.storage import UPLOAD_LIMIT, Storage

SLOTS = 5
FIRST_NUMBER = 7_201_250_000_000
URL_LIFE = timedelta(days=7)
OPEN = ("CREATED", "RUNNING", "CANCELING")
COLUMNS = (
    "number, shop_id, type, status, error_code, created_at, completed_at, object_count, root_object_count, file_size,"
    " document, staged_key, version, token, is_partial, fault"
)
OPERATIONS = f"select {COLUMNS}\nfrom bulk_operation\n"
INSERT = """
insert into bulk_operation (number, shop_id, type, status, created_at, document, staged_key, version, token, fault)
select coalesce(max(number), ?) + 1, ?, ?, 'CREATED', ?, ?, ?, ?, ?, ?
from bulk_operation
returning number
"""
TOO_MANY = "A bulk {} operation for this app and shop is already in progress: {}"


class BulkOperations:
    """The operations of all shops; `start` is told the number of each new one."""

    def __init__(self, shops: ShopStore, storage: Storage, faults: Faults, schema_file: Path | None) -> None:
        self._shops = shops
        self._storage = storage
        self._faults = faults
        self._schema_file = schema_file
        self.start: Callable[[int], None] = lambda number: None

    def run_query(self, shop_id: str, version: str, arguments: Arguments) -> Answer:
        """`bulkOperationRunQuery`."""
        text = str(arguments.get("query"))
        payload = "BulkOperationRunQueryPayload"
        if len(text.encode()) > 65_535:
            return _payload(payload, None, "INVALID", ["query"], "The query is longer than 65,535 bytes.")
        try:
            problem = bulk_query.check(read_document(text, self._schema_file))
        except Refused as refused:
            problem = "; ".join(str(one["message"]) for one in refused.errors)
        if problem:
            return _payload(payload, None, "INVALID", ["query"], f"Invalid bulk query: {problem}")
        return self._started(payload, shop_id, "QUERY", version, text, None)

    def run_mutation(self, shop_id: str, version: str, arguments: Arguments) -> Answer:
        """`bulkOperationRunMutation`."""
        text, key = str(arguments.get("mutation")), str(arguments.get("stagedUploadPath"))
        payload = "BulkOperationRunMutationPayload"
        problem = self._mutation_problem(text, arguments.get("clientIdentifier"))
        if problem:
            code, field, message = problem
            return _payload(payload, None, code, [field], message)
        file = self._storage.staged_file(shop_id, key)
        if file is None or not file.exists():
            message = (
                "The JSONL file could not be found. Try uploading the file again, and check that the path is right."
            )
            return _payload(payload, None, "NO_SUCH_FILE", ["stagedUploadPath"], message)
        size = file.stat().st_size
        if size == 0 or size > UPLOAD_LIMIT:
            reason = "file is empty." if size == 0 else "file size exceeds the maximum allowed size of 100 MB."
            return _payload(payload, None, "INVALID_STAGED_UPLOAD_FILE", None, f"The input {reason}")
        return self._started(payload, shop_id, "MUTATION", version, text, key)

    def _mutation_problem(self, text: str, client: object) -> tuple[str | None, str, str] | None:
        if isinstance(client, str) and not 10 <= len(client) <= 255:
            return "INVALID_MUTATION", "clientIdentifier", "The client identifier must have 10 to 255 characters."
        try:
            document = read_document(text, self._schema_file)
        except Refused as refused:
            messages = "; ".join(str(one["message"]) for one in refused.errors)
            return "INVALID_MUTATION", "mutation", f"Failed to parse the mutation - {messages}"
        fields = document.root_fields({})
        if not document.is_mutation or len(fields) != 1:
            return None, "mutation", "You must specify a single top level mutation."
        if fields[0].name in ("bulkOperationRunQuery", "bulkOperationRunMutation"):
            return None, "mutation", "You must use an allowed mutation name."
        return None

    def _started(
        self, payload: str, shop_id: str, kind: str, version: str, document: str, staged_key: str | None
    ) -> Answer:
        root_field = "bulkOperationRunQuery" if kind == "QUERY" else "bulkOperationRunMutation"
        with self._shops.transaction() as db:
            taken = db.execute(
                "select number from bulk_operation where shop_id = ? and type = ? and status in (?, ?, ?)",
                [shop_id, kind, *OPEN],
            ).fetchall()
            if len(taken) >= SLOTS:
                ids = ", ".join(gid("BulkOperation", number) for (number,) in taken)
                return _payload(payload, None, "OPERATION_IN_PROGRESS", None, TOO_MANY.format(kind.lower(), ids))
            fault = self._faults.take(root_field, BULK_KINDS, shop_id)
            (number,) = db.execute(
                INSERT,
                [
                    FIRST_NUMBER,
                    shop_id,
                    kind,
                    self._shops.timestamp(),
                    document,
                    staged_key,
                    version,
                    secrets.token_urlsafe(24),
                    json.dumps(asdict(fault)) if fault else None,
                ],
            ).fetchone()
        answer = _payload(payload, self.answer(shop_id, number), None, None, None)
        self.start(number)
        return answer

    def cancel(self, shop_id: str, arguments: Arguments) -> Answer:
        """`bulkOperationCancel`."""
        number = number_of(arguments.get("id"), "BulkOperation")
        payload = "BulkOperationCancelPayload"
        with self._shops.transaction() as db:
            operation = None if number is None else self.answer(shop_id, number)
            if operation is None:
                return _payload(payload, None, None, ["id"], "Bulk operation does not exist")
            if operation["status"] not in OPEN:
                status = str(operation["status"]).lower()
                message = f"A bulk operation cannot be canceled when it is {status}"
                return _payload(payload, operation, None, None, message)
            db.execute("update bulk_operation set status = 'CANCELING' where number = ?", [number])
        return _payload(payload, operation | {"status": "CANCELING"}, None, None, None)

    def one(self, shop_id: str, arguments: Arguments) -> Value:
        """`bulkOperation(id:)`."""
        number = number_of(arguments.get("id"), "BulkOperation")
        return None if number is None else self.answer(shop_id, number)

    def many(self, shop_id: str, arguments: Arguments) -> Value:
        """`bulkOperations`, by creation."""
        rows = self._shops.rows(f"{OPERATIONS}where shop_id = ? order by number", [shop_id])
        found = [self._operation(row) for row in rows]
        return connection("BulkOperation", matching(found, arguments.get("query")), arguments)

    def answer(self, shop_id: str, number: int) -> dict[str, Value] | None:
        """One BulkOperation."""
        found = self._shops.rows(f"{OPERATIONS}where shop_id = ? and number = ?", [shop_id, number])
        return self._operation(found[0]) if found else None

    def _operation(self, row: tuple) -> dict[str, Value]:
        values = dict(zip(COLUMNS.split(", "), row, strict=True))
        status, completed_at, token = values["status"], values["completed_at"], values["token"]
        expired = completed_at and self._shops.now() - datetime.fromisoformat(completed_at) > URL_LIFE
        if expired and status == "COMPLETED":
            status = "EXPIRED"
        url = self._storage.result_url(values["number"], token)
        has_file = bool(values["file_size"]) and not expired
        return {
            "__typename": "BulkOperation",
            "id": gid("BulkOperation", values["number"]),
            "type": values["type"],
            "status": status,
            "errorCode": values["error_code"],
            "createdAt": values["created_at"],
            "completedAt": completed_at,
            "objectCount": str(values["object_count"]),
            "rootObjectCount": str(values["root_object_count"]),
            "fileSize": None if values["file_size"] is None else str(values["file_size"]),
            "url": url if has_file and status == "COMPLETED" else None,
            "partialDataUrl": url if has_file and values["is_partial"] else None,
            "query": values["document"],
        }


def _payload(
    type_name: str, operation: Answer | None, code: str | None, field: list[str] | None, message: str | None
) -> Answer:
    errors: list[Value] = []
    if message is not None:
        error_type = "UserError" if "Cancel" in type_name else type_name.replace("RunQueryPayload", "UserError")
        errors.append({"__typename": error_type, "code": code, "field": field, "message": message})
    return {"__typename": type_name, "bulkOperation": operation, "userErrors": errors}
