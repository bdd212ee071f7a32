"""Changes as lines: one line is the variables of one mutation, and what Shopify answers to a line decides its changes."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import duckdb

from hotwax_inventory.imports.quoting import sql_text, sql_texts
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
OPEN_OUTCOMES = sql_texts(OPEN)
IS_OPEN = f"(c.outcome is null or c.outcome in {OPEN_OUTCOMES})"
# Codes of ours for an unknown outcome that Shopify has said nothing of, in SQL: the change may have been made.
IS_UNANSWERED = "regexp_matches(error_code, '^NO_(ANSWER|PAYLOAD|RESULT)')"
# The code of an answer that has no error, and no sign of a change either: what has become of it the level shows.
NO_GROUP = "NO_GROUP"
# The code where it was asked for again in vain, also while it is sent otherwise after that.
ASKED_IN_VAIN = "NO_ANSWER_AGAIN"

STALE_MESSAGE = "The changeFromQuantity argument no longer matches the persisted quantity."
STALE_CODES = frozenset({"CHANGE_FROM_QUANTITY_STALE", "COMPARE_QUANTITY_STALE"})
# The same in SQL.
STALE = sql_texts(sorted(STALE_CODES))
# The same line may yet be answered, or has been worked already: it is sent again as it is.
SAME_KEY_CODES = frozenset(
    {"IDEMPOTENCY_CONCURRENT_REQUEST", "SERVICE_UNAVAILABLE", "THROTTLED", "INTERNAL_SERVER_ERROR", "TIMEOUT"}
)
# The same in SQL.
SAME_KEY = sql_texts(sorted(SAME_KEY_CODES))
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

# Changes (shopify_inventory_item_id, shopify_location_id, observed_quantity, delta, batch, and what else they have), each in its
# place: `part` is its line among those of its batch, since changes of two batches are never in one line. Texts are for what comes
# after: they would be put in order too.
PLACED = """
select * exclude (place), place // $changes_per_line as part, place % $changes_per_line as line_position
from (
    select
        *,
        row_number() over (partition by batch order by shopify_inventory_item_id, shopify_location_id) - 1 as place
    from ({changes})
)
"""

# A line is LINE_START, its key, CHANGES_START, its changes with commas between them, LINE_END; the keys of objects are in
# alphabetical order. CHANGE is a change without its end.
LINE_START = '{"idempotencyKey":"'
KEY_BYTES = 36
CHANGES_START = '","input":{"changes":['
CHANGE = """concat(
    '{"changeFromQuantity":', observed_quantity,
    ',"delta":', delta,
    ',"inventoryItemId":"gid://shopify/InventoryItem/', shopify_inventory_item_id,
    '","locationId":"gid://shopify/Location/', shopify_location_id
)"""
CHANGE_END = '"}'
LINE_END = '],"name":"available","reason":"correction","referenceDocumentUri":"%s"}}\n'

# Lines in (batch, item, location) order; a file ends with the line that reaches $file_bytes. Keys are of hashes of texts: that of
# several numbers is linear in the last one, so that two changes that swap it would look like what they were.
LINES = f"""
create or replace temp table line as
with gathered as (
    select
        batch,
        part,
        bit_xor(hash({CHANGE})) as changes,
        $line_bytes + sum(strlen({CHANGE}) + strlen(',{CHANGE_END}')) as bytes
    from change
    group by batch, part
),
filed as (
    select
        batch,
        part,
        md5(concat_ws(chr(10), $namespace, batch, part, changes))::uuid as idempotency_key,
        (sum(bytes) over (order by batch, part rows unbounded preceding) - bytes) // $file_bytes as file_number
    from gathered
)
select
    *,
    row_number() over (partition by file_number order by batch, part) - 1 as line_number,
    $prefix || '-' || lpad((file_number + 1)::varchar, 4, '0') || '.jsonl' as file_name
from filed
"""

# A row of the file is a change and what stands before it: whole lines as texts would take several times the memory, and the time to
# touch it. Numbers are put in order and then written out, since to order texts takes longer than all the rest. What DuckDB writes
# between rows can be chosen, but not be nothing: so it is the end of a change, and the file's first character is written apart.
WRITTEN = """
copy (
    select concat(
        case when line_position > 0 then ',' when line_number > 0 then {next_line} end,
        if(line_position = 0, {line_start} || idempotency_key || {changes_start}, null),
        {change}
    )
    from (
        select
            c.line_position,
            c.observed_quantity,
            c.delta,
            c.shopify_inventory_item_id,
            c.shopify_location_id,
            l.line_number,
            l.idempotency_key
        from change as c
        join line as l on l.batch = c.batch and l.part = c.part
        where l.file_number = {file_number}
        order by l.line_number, c.line_position
    )
) to {path} (
    format csv, header false, delimiter {delimiter}, quote '', escape '', prefix {first}, new_line {change_end}, suffix {file_end}
)
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


def write_files(
    namespace: str, prefix: str, document: str, outbox: Path, connection: duckdb.DuckDBPyConnection
) -> list[DeltaFile]:
    """Write the temporary table `change`, made of PLACED, as lines of files `<prefix>-0001.jsonl` and so on below the outbox.
    Leaves the temporary table `line` (batch, part, file_number, line_number, file_name, idempotency_key).

    A line's idempotency key comes from the namespace, the prefix and the line's content."""
    line_end = LINE_END % document
    values = {
        "namespace": f"{namespace} {prefix}",
        "prefix": prefix,
        "line_bytes": len(LINE_START) + KEY_BYTES + len(CHANGES_START) + len(line_end) - len(","),
        # the file that reaches this ends with its line
        "file_bytes": MAX_UPLOAD_BYTES - MAX_CHANGES * MOST_CHANGE_BYTES,
    }
    connection.execute(LINES, values)
    files = []
    numbers = connection.execute(
        "select file_number, file_name, count(*) from line group by all order by file_number"
    ).fetchall()
    texts = {
        "line_start": LINE_START[1:],
        "changes_start": CHANGES_START,
        "next_line": line_end + LINE_START[0],
        "delimiter": chr(31),
        "first": LINE_START[0],
        "change_end": CHANGE_END,
        "file_end": CHANGE_END + line_end,
    }
    for file_number, name, line_count in numbers:
        path = outbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        quoted = {place: sql_text(text) for place, text in (texts | {"path": str(path)}).items()}
        connection.execute(WRITTEN.format(change=CHANGE, file_number=file_number, **quoted))
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
            return LineOutcome(line_number, Outcome.RETRYABLE, NO_GROUP)
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
