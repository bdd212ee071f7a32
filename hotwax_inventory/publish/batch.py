"""Changes as lines: one line is the variables of one mutation, and what Shopify answers to a line decides its changes."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import duckdb

from hotwax_inventory.imports.quoting import sql_text
from hotwax_inventory.shopify import MAX_CHANGES, MAX_UPLOAD_BYTES, error_code, errors_of

# What a change takes of a line at most.
MOST_CHANGE_BYTES = 250


class Outcome(StrEnum):
    """What has become of a change (design section 9); empty while it was not sent."""

    APPLIED = "applied"
    NO_OP = "no_op"
    STALE = "stale"
    PERMANENT = "permanent"
    RETRYABLE = "retryable"
    UNKNOWN = "unknown"
    CONTESTED = "contested"


# An outcome that another round may still change.
OPEN = (Outcome.STALE, Outcome.RETRYABLE, Outcome.UNKNOWN)
# The same in SQL. They are spelled out since DuckDB joins first and filters then where a list is a parameter.
OPEN_OUTCOMES = f"({', '.join(map(sql_text, OPEN))})"
IS_OPEN = f"(c.outcome is null or c.outcome in {OPEN_OUTCOMES})"
# Codes of ours for an unknown outcome that Shopify has said nothing of, in SQL: the change may have been made.
IS_UNANSWERED = "regexp_matches(error_code, '^NO_(ANSWER|PAYLOAD|RESULT)')"

STALE_MESSAGE = "The changeFromQuantity argument no longer matches the persisted quantity."
STALE_CODES = frozenset({"CHANGE_FROM_QUANTITY_STALE", "COMPARE_QUANTITY_STALE"})
# The same line may yet be answered, or has been worked already: it is sent again as it is.
SAME_KEY_CODES = frozenset(
    {"IDEMPOTENCY_CONCURRENT_REQUEST", "SERVICE_UNAVAILABLE", "THROTTLED", "INTERNAL_SERVER_ERROR", "TIMEOUT"}
)
RETRYABLE_CODES = SAME_KEY_CODES | {"IDEMPOTENCY_PREVIOUS_ATTEMPT_FAILED"}
PERMANENT_CODES = frozenset(
    {
        "INVALID_INVENTORY_ITEM",
        "INVALID_LOCATION",
        "INVALID_QUANTITY_NAME",
        "INVALID_QUANTITY_TOO_HIGH",
        "INVALID_QUANTITY_TOO_LOW",
        "INVALID_REASON",
        "INVALID_REFERENCE_DOCUMENT",
        "ITEM_NOT_STOCKED_AT_LOCATION",
        "NON_MUTABLE_INVENTORY_ITEM",
        "ADJUST_QUANTITIES_FAILED",
        "IDEMPOTENCY_KEY_PARAMETER_MISMATCH",
        "ACCESS_DENIED",
        "BAD_REQUEST",
        "INVALID_FIELD_ARGUMENTS",
        "INVALID_VARIABLE",
        "MAX_INPUT_SIZE_EXCEEDED",
    }
)

# Each of the changes in its place: `part` is its line among those of its batch, since changes of two batches are never in one line.
PLACED = """
create or replace temp table change as
select * exclude (place), place // $changes_per_line as part, place % $changes_per_line as line_position
from (
    select
        *,
        row_number() over (partition by batch order by shopify_inventory_item_id, shopify_location_id) - 1 as place
    from ({changes})
)
"""

# Lines in (batch, item, location) order, keys in alphabetical order; a file ends with the line that reaches $file_bytes. Numbers
# are put in order and then written out, and lines are numbered without their texts: to order texts, or lists while they are
# gathered, takes longer than all the rest.
LINES = """
create or replace temp table line as
with gathered as (
    select
        batch,
        part,
        list_sort(list({
            'position': line_position,
            'observed': observed_quantity,
            'delta': delta,
            'item': shopify_inventory_item_id,
            'location': shopify_location_id
        })) as changes
    from change
    group by batch, part
),
rendered as (
    select
        batch,
        part,
        array_to_string(
            list_transform(
                changes,
                lambda c: concat(
                    '{"changeFromQuantity":', c.observed,
                    ',"delta":', c.delta,
                    ',"inventoryItemId":"gid://shopify/InventoryItem/', c.item,
                    '","locationId":"gid://shopify/Location/', c.location, '"}'
                )
            ),
            ','
        ) as changes
    from gathered
),
keyed as (
    select *, md5($namespace || chr(10) || part || chr(10) || hash(changes))::uuid::varchar as idempotency_key
    from rendered
),
written as materialized (
    select
        batch,
        part,
        idempotency_key,
        concat(
            '{"idempotencyKey":"', idempotency_key, '","input":{"changes":[', changes,
            '],"name":"available","reason":"correction","referenceDocumentUri":"', $document, '"}}'
        ) as content
    from keyed
),
filed as (
    select batch, part, (sum(bytes) over (order by batch, part rows unbounded preceding) - bytes) // $file_bytes as file_number
    from (select batch, part, strlen(content) + 1 as bytes from written)
),
numbered as (
    select *, row_number() over (partition by file_number order by batch, part) - 1 as line_number
    from filed
)
select
    n.*,
    $prefix || '-' || lpad((n.file_number + 1)::varchar, 4, '0') || '.jsonl' as file_name,
    w.idempotency_key,
    w.content
from written as w
join numbered as n on n.batch = w.batch and n.part = w.part
"""

# The temporary table `{name}` of levels and what they show, given as `$columns`: lists bound one by one cost a third of a
# millisecond an element, a text with all of them a thousandth.
SHOWN_LEVELS = """
create or replace temp table {name} as
select
    unnest(c.items) as shopify_inventory_item_id,
    unnest(c.locations) as shopify_location_id,
    unnest(c.available) as available
from (
    select from_json($columns, '{{"items": ["BIGINT"], "locations": ["BIGINT"], "available": ["INTEGER"]}}') as c
)
"""


@dataclass(frozen=True)
class DeltaFile:
    """A delta file in the outbox."""

    path: Path
    name: str
    line_count: int
    size_bytes: int


def load_shown(
    name: str,
    levels: Sequence[tuple[int, int]],
    shown: Mapping[tuple[int, int], int],
    connection: duckdb.DuckDBPyConnection,
) -> None:
    """Make a temporary table of levels (item, location) and what they show; null where that is not known."""
    columns = {
        "items": [item for item, _ in levels],
        "locations": [location for _, location in levels],
        "available": [shown.get(level) for level in levels],
    }
    connection.execute(SHOWN_LEVELS.format(name=name), {"columns": json.dumps(columns)})


def place_changes(
    changes: str, values: dict[str, Any], changes_per_line: int, connection: duckdb.DuckDBPyConnection
) -> None:
    """Make the temporary table `change` of a query (its columns, among them shopify_inventory_item_id, shopify_location_id,
    observed_quantity, delta, batch; and part, line_position)."""
    connection.execute(PLACED.format(changes=changes), values | {"changes_per_line": changes_per_line})


def render_lines(run_id: str, prefix: str, document: str, connection: duckdb.DuckDBPyConnection) -> None:
    """Make of the temporary table `change` the table `line` (batch, part, file_number, line_number, file_name, idempotency_key,
    content); files are `<prefix>-0001.jsonl` and so on.

    A line's idempotency key comes from the run, the prefix and the line's content."""
    # the file that reaches this ends with its line
    file_bytes = MAX_UPLOAD_BYTES - MAX_CHANGES * MOST_CHANGE_BYTES
    values = {"namespace": f"{run_id} {prefix}", "prefix": prefix, "document": document, "file_bytes": file_bytes}
    connection.execute(LINES, values)


def write_files(outbox: Path, connection: duckdb.DuckDBPyConnection) -> list[DeltaFile]:
    """Write each file of `line` below the outbox; the buffers go out as they are."""
    files = []
    numbers = connection.execute(
        "select file_number, file_name, count(*) from line group by all order by file_number"
    ).fetchall()
    for file_number, name, line_count in numbers:
        path = outbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        connection.execute(
            f"copy (select content from line where file_number = {file_number} order by line_number) to {sql_text(str(path))} "
            f"(format csv, header false, delimiter '{chr(31)}', quote '', escape '')"
        )
        files.append(DeltaFile(path, name, line_count, path.stat().st_size))
    return files


@dataclass(frozen=True)
class LineOutcome:
    """What Shopify made of one line. `rows` are the changes that it names as being at fault, by their place in the line: of a line
    that it refuses."""

    line_number: int
    outcome: Outcome
    code: str | None = None
    rows: tuple[int, ...] = ()


def results(path: Path, line_count: int) -> list[LineOutcome]:
    """The outcomes in the result file of a bulk mutation of so many lines, which Shopify counts from 0.

    Where it seems to have counted from 1 they are taken so, and where both may be they say nothing: an answer that is taken for
    that of another line is worse than none."""
    found = list(_answers(path))
    numbers = {outcome.line_number for outcome in found}
    if 0 in numbers and line_count not in numbers:
        return found
    if 0 not in numbers and line_count in numbers:
        return [replace(outcome, line_number=outcome.line_number - 1) for outcome in found]
    return []


def _answers(path: Path) -> Iterator[LineOutcome]:
    """What the lines of a result say. One that cannot be read says nothing, and is left out."""
    with path.open("rb") as file:
        for text in file:
            try:
                answer = json.loads(text)
                line_number = answer["__lineNumber"]
            except (ValueError, KeyError, TypeError):
                continue
            if isinstance(line_number, int):
                yield classify(line_number, answer)


def classify(line_number: int, answer: dict[str, Any]) -> LineOutcome:
    """What an answer to a line means. Unknown is what it is not certain of: it is never success.

    The mutation's own errors say that nothing was done, whatever their code; others, of a code that is not known, may have come
    after it was."""
    errors, data = errors_of(answer), answer.get("data")
    payload = data.get("inventoryAdjustQuantities") if isinstance(data, dict) else None
    if isinstance(payload, dict) and payload.get("userErrors") == [] and payload.get("inventoryAdjustmentGroup"):
        return LineOutcome(line_number, Outcome.APPLIED)  # what stands in `errors` beside that is about something else
    is_refused = False
    if not errors and isinstance(payload, dict) and isinstance(payload.get("userErrors"), list):
        errors = errors_of(payload, "userErrors")
        if not errors:
            return LineOutcome(line_number, Outcome.NO_OP)
        is_refused = True
    if not errors:
        return LineOutcome(line_number, Outcome.UNKNOWN, "NO_PAYLOAD")
    kinds = [_kind(error) for error in errors]
    shown = error_code(errors[0]) or str(errors[0].get("message", ""))[:200]
    kind = next(
        (kind for kind in (Outcome.STALE, Outcome.UNKNOWN, Outcome.RETRYABLE) if kind in kinds), Outcome.PERMANENT
    )
    if kind == Outcome.UNKNOWN and not is_refused:
        return LineOutcome(line_number, Outcome.UNKNOWN, f"NO_PAYLOAD {shown}")
    rows = {row for error in errors for row in _rows(error)} if kind in (Outcome.UNKNOWN, Outcome.PERMANENT) else ()
    return LineOutcome(line_number, kind, shown, tuple(sorted(rows)))


def _kind(error: dict[str, Any]) -> Outcome:
    code = error_code(error)
    if code in STALE_CODES or error.get("message") == STALE_MESSAGE:
        return Outcome.STALE
    if code in RETRYABLE_CODES:
        return Outcome.RETRYABLE
    return Outcome.PERMANENT if code in PERMANENT_CODES else Outcome.UNKNOWN


def _rows(error: dict[str, Any]) -> Iterable[int]:
    """The places in `["input", "changes", "0", …]`; Shopify writes indices as texts."""
    match error.get("field"):
        case [_, "changes", place, *_] if str(place).isdigit():
            return [int(place)]
    return []
