"""Sending delta files: by bulk mutation or by direct ones, and recording what Shopify made of every line.

Before the first byte of a file leaves, its changes are marked unknown; only Shopify's own word for a line says more. So whatever
ends a run, and whenever, the next one finds out what is certain and what is not."""

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

import dagster as dg
import duckdb

from hotwax_inventory import settings, shopify_documents
from hotwax_inventory.progress import Progress
from hotwax_inventory.publish.batch import ASKED_IN_VAIN, OPEN_OUTCOMES, SAME_KEY, LineOutcome, classify, results
from hotwax_inventory.resources import Warehouse, scalar
from hotwax_inventory.shopify import BulkOperation, ShopifyClient, ShopifyRefused, ShopifyUnavailable

OPERATIONS_AT_ONCE = 5
LINES_AT_ONCE = 10
# So many lines without an answer, or as many as are asked at once before any is answered, are no matter of the lines.
MOST_UNANSWERED = 100
# So many changes of a later round go directly, whatever DIRECT_PUSH_LIMIT says of the first.
DIRECT_AGAIN = 1000

BEGUN = """
update sync_file
set sent_at = coalesce(sent_at, current_timestamp)
where sync_run_id = $sync_run_id and file_name in (select unnest($names))
"""

IN_FLIGHT = f"""
update sync_change
set
    outcome = 'unknown',
    error_code = if(error_code = '{ASKED_IN_VAIN}', error_code, 'NO_ANSWER'),
    decided_at = current_timestamp
where sync_run_id = $sync_run_id
    and file_name in (select unnest($names))
    and (outcome is null or outcome = 'unknown')
"""

IN_VAIN = f"""
update sync_change
set error_code = '{ASKED_IN_VAIN}', outcome = 'unknown'
where sync_run_id = $sync_run_id
    and file_name = $file_name
    and line_number in (select unnest($line_numbers))
    and outcome in {OPEN_OUTCOMES}
"""

# A refusal, for good or by a code that is not known, is its row's where it names one; the others of the line go again. One for good
# that names none is its line's where the line has one change.
OUTCOMES = f"""
update sync_change as c
set
    outcome = case
        when c.error_code = '{ASKED_IN_VAIN}' and o.code in {SAME_KEY} then 'unknown'
        when o.outcome = 'permanent' and len(o.faulty) = 0 and o.size > 1 then 'retryable'
        when len(o.faulty) > 0 and not list_contains(o.faulty, c.line_position) then 'retryable'
        else o.outcome
    end,
    error_code = if(
        c.error_code = '{ASKED_IN_VAIN}'
            and (o.outcome = 'stale' or o.code in {SAME_KEY}),
        c.error_code,
        o.code
    ),
    decided_at = current_timestamp
from (
    select n.*, l.size
    from (
        select
            unnest(c.line_numbers) as line_number,
            unnest(c.outcomes) as outcome,
            unnest(c.codes) as code,
            unnest(c.faulty) as faulty
        from (
            select from_json(
                $columns,
                '{{"line_numbers": ["BIGINT"], "outcomes": ["VARCHAR"], "codes": ["VARCHAR"], "faulty": [["BIGINT"]]}}'
            ) as c
        )
    ) as n
    join (
        select line_number, count(*) as size
        from sync_change
        where sync_run_id = $sync_run_id and file_name = $file_name
        group by line_number
    ) as l on l.line_number = n.line_number
) as o
where c.sync_run_id = $sync_run_id
    and c.file_name = $file_name
    and c.line_number = o.line_number
    and c.outcome in {OPEN_OUTCOMES}
"""


class LineUnanswered(ShopifyUnavailable):
    """Shopify answers, but not to some lines."""


class Sender:
    """Sends files of one delta."""

    def __init__(self, sync_run_id: int, warehouse: Warehouse, client: ShopifyClient) -> None:
        self._sync_run_id = sync_run_id
        self._warehouse = warehouse
        self._client = client
        self._log = dg.get_dagster_logger()

    def deliver(self, names: Sequence[str], change_count: int, is_first: bool = True) -> None:
        """Send whole files that were not sent yet. Raises ShopifyUnavailable, ShopifyRefused."""
        self._begin(names)
        self.deliver_begun(names, change_count, is_first)

    def deliver_begun(self, names: Sequence[str], change_count: int, is_first: bool = True) -> None:
        """Send whole files that `begin` has marked. Raises ShopifyUnavailable, ShopifyRefused."""
        if change_count > _direct_limit(is_first):
            self._send_in_bulk(names)
        else:
            self._send_each(dict.fromkeys(names))

    def deliver_again(self, lines: dict[str, set[int]], change_count: int) -> None:
        """Send lines that were not answered again, the same bytes with the same keys: what was worked answers as it did then."""
        if change_count > _direct_limit(is_first=False):
            self._begin(list(lines))
            self._send_in_bulk(list(lines))
        else:
            self._send_each(lines)

    def collect(self, name: str, operation_id: str) -> None:
        """Wait for a file's operation and record what its result says; a line that it does not speak of stays unknown.

        Raises ShopifyUnavailable when nothing is to be heard of the operation."""

        line_count = self._line_count(name)
        progress = Progress(f"Lines of {name} that Shopify has worked", line_count, "lines")

        def report(operation: BulkOperation) -> None:
            progress.reached(operation.object_count)

        status, found = "UNREADABLE", list[LineOutcome]()
        try:
            operation = self._client.wait(operation_id, report)
            status = operation.status
            found = self._result(name, line_count, operation)
        except ShopifyRefused as error:
            self._log.warning(f"What became of {name} cannot be read, its lines are asked for again: {error}")
        with self._warehouse.transaction() as connection:
            self._record(name, found, connection)
            connection.execute(
                "update sync_change set error_code = $code "
                "where sync_run_id = $id and file_name = $name and outcome = 'unknown' and error_code = 'NO_ANSWER'",
                {"id": self._sync_run_id, "name": name, "code": f"NO_RESULT_{status}"},
            )

    def _result(self, name: str, line_count: int, operation: BulkOperation) -> list[LineOutcome]:
        """What a result says, also one that ends early. Raises ShopifyRefused when there is none to be had."""
        url = operation.url or operation.partial_url
        if url is None:
            return []
        result = settings.outbox() / f"{name.removesuffix('.jsonl')}.result.jsonl"
        try:
            self._client.download(url, result)
        except ShopifyUnavailable as error:
            raise ShopifyRefused(str(error)) from error
        return results(result, line_count)

    def _line_count(self, name: str) -> int:
        with self._warehouse.transaction() as connection:
            return scalar(
                connection,
                "select line_count from sync_file where sync_run_id = $id and file_name = $name",
                {"id": self._sync_run_id, "name": name},
            )

    def _begin(self, names: Sequence[str]) -> None:
        with self._warehouse.transaction() as connection:
            begin(self._sync_run_id, names, connection)

    def _send_in_bulk(self, names: Sequence[str]) -> None:
        """Up to five files at once; each operation's id is stored before it is waited for."""
        for start in range(0, len(names), OPERATIONS_AT_ONCE):
            started = {name: self._start(name) for name in names[start : start + OPERATIONS_AT_ONCE]}
            for name, operation_id in started.items():
                self.collect(name, operation_id)

    def _start(self, name: str) -> str:
        path = self._client.stage(settings.outbox() / name)
        operation_id = self._client.run_mutation(bulk_document(name), path)
        store_operation(self._sync_run_id, name, operation_id, self._warehouse)
        self._log.info(f"{name} was sent: {operation_id}.")
        return operation_id

    def _send_each(self, lines: Mapping[str, set[int] | None]) -> None:
        """Send lines of files, or all of a file. Raises LineUnanswered once all that have an answer have it."""
        unanswered = None
        for name, line_numbers in lines.items():
            try:
                self._send_directly(name, line_numbers)
            except LineUnanswered as error:
                unanswered = error
        if unanswered is not None:
            raise unanswered

    def _send_directly(self, name: str, line_numbers: set[int] | None) -> None:
        """Send lines of a file, some at once. Raises LineUnanswered, ShopifyUnavailable, ShopifyRefused."""
        with (settings.outbox() / name).open(encoding="utf-8") as file:
            lines = [(n, line) for n, line in enumerate(file) if line_numbers is None or n in line_numbers]
        progress = Progress(f"Lines of {name} that Shopify has answered", len(lines), "lines")
        unanswered: list[ShopifyUnavailable] = []
        with ThreadPoolExecutor(LINES_AT_ONCE) as pool:
            asked = {pool.submit(self._ask, line_number, line): line_number for line_number, line in lines}
            try:
                for n, answer in enumerate(as_completed(asked), 1):
                    try:
                        answer.result()
                    except ShopifyUnavailable as error:
                        unanswered.append(error)
                        if len(unanswered) == (LINES_AT_ONCE if len(unanswered) == n else MOST_UNANSWERED):
                            raise
                    progress.reached(n)
            finally:
                pool.shutdown(cancel_futures=True)
                ended = [answer for answer in asked if not answer.cancelled()]
                with self._warehouse.transaction() as connection:
                    self._record(name, [one.result() for one in ended if not one.exception()], connection)
                    if line_numbers is not None:
                        in_vain = [asked[one] for one in ended if isinstance(one.exception(), ShopifyUnavailable)]
                        values = {"sync_run_id": self._sync_run_id, "file_name": name, "line_numbers": in_vain}
                        connection.execute(IN_VAIN, values)
        if unanswered:
            raise LineUnanswered(f"{len(unanswered):,} of {len(lines):,} lines: {unanswered[-1]}") from unanswered[-1]

    def _ask(self, line_number: int, line: str) -> LineOutcome:
        return classify(line_number, self._client.answer(shopify_documents.ADJUST, json.loads(line)))

    def _record(self, name: str, found: Iterable[LineOutcome], connection: duckdb.DuckDBPyConnection) -> None:
        outcomes = list({outcome.line_number: outcome for outcome in found}.values())
        if not outcomes:
            return
        columns = {
            "line_numbers": [outcome.line_number for outcome in outcomes],
            "outcomes": [outcome.outcome for outcome in outcomes],
            "codes": [outcome.code for outcome in outcomes],
            "faulty": [list(outcome.rows) for outcome in outcomes],
        }
        values = {"sync_run_id": self._sync_run_id, "file_name": name, "columns": json.dumps(columns)}
        connection.execute(OUTCOMES, values)


def begin(sync_run_id: int, names: Sequence[str], connection: duckdb.DuckDBPyConnection) -> None:
    """Note that files are being sent: from here on what became of their changes is unknown until Shopify says so."""
    for statement in (BEGUN, IN_FLIGHT):
        connection.execute(statement, {"sync_run_id": sync_run_id, "names": list(names)})


def _direct_limit(is_first: bool) -> int:
    """Up to how many changes go by direct mutations; where others move the level, the quicker way is the surer one."""
    limit = settings.direct_push_limit()
    return limit if is_first else max(limit, DIRECT_AGAIN)


def bulk_document(name: str) -> str:
    """The mutation of a file; its first line lets the operation be found when its id could not be stored."""
    return f"# {name}\n{shopify_documents.ADJUST}"


def store_operation(sync_run_id: int, name: str, operation_id: str, warehouse: Warehouse) -> None:
    """Keep which bulk operation works a file."""
    with warehouse.transaction() as connection:
        connection.execute(
            "update sync_file set bulk_operation_id = $operation where sync_run_id = $id and file_name = $name",
            {"operation": operation_id, "id": sync_run_id, "name": name},
        )
