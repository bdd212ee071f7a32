"""What a landed file is once it can be read: text whose records DuckDB can tell, with the physical line where each starts (in JSON,
its ordinal)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

# A decoded copy divides fields by a character that no text has, and keeps line ends inside a field as another.
SEPARATOR, NEWLINE = "\x1f", "\x1e"
# What is blank around a field, in SQL.
BLANKS = "chr(32) || chr(9) || chr(13) || chr(160)"
# DuckDB never sees this text, so that an empty field and a missing one stay different.
NO_NULL = "\x1c"
# Unquoted commas in a comment at the end of a line make extra fields; this many are put together again, of more the row is refused.
EXTRA_FIELDS = 16
MOST_COLUMNS = 1000
# What DuckDB raises because of what stands in a file, or of how much of it; anything else is the machine's fault, or ours.
UNREADABLE = (duckdb.DataError, duckdb.InvalidInputException, duckdb.OutOfMemoryException)


class BadFile(ValueError):
    """A file that cannot be read at all; the message says why. Nothing of it is applied."""


@dataclass(frozen=True)
class Text:
    """A CSV file that DuckDB can read: where, its header and that one's line, and how many rows it has at the most.

    In a decoded copy each line begins with the physical line number of its record; in the file itself each line is a record, and
    quotes stand around whole fields alone, if anywhere."""

    path: Path
    header: tuple[str, ...]
    header_line: int
    most_rows: int
    is_copy: bool
    has_odd_blanks: bool
    # Then the last column is the record as it came.
    is_json: bool = False
    is_quoted: bool = False
    # whether its rows are refused ones that have come back, with their reasons
    is_mended: bool = False

    @property
    def own_header(self) -> tuple[str, ...]:
        return self.header[:-1] if self.is_json else self.header


@dataclass(frozen=True)
class JsonRecords:
    """How the elements of a JSON list become records: SQL over `element` (ordinal, content) that yields, in this order, the
    columns `header` as text and `record`, the record as it came; it keeps the order of the list by its column `place`."""

    header: tuple[str, ...]
    sql: str


def header_of(names: Sequence[str], line_number: int) -> tuple[str, ...]:
    """The column names of a header without blanks around them. Raises BadFile where there are none, too many, or one twice, but for
    the reason that we have put beside one of the file's own."""
    stripped = tuple(name.strip().strip("\ufeff") for name in names)
    if not any(stripped):
        raise BadFile(f"Line {line_number}, which should be the header, has no column names.")
    if len(stripped) > MOST_COLUMNS:
        raise BadFile(f"The header has {len(stripped):,} columns; more than {MOST_COLUMNS:,} are not read.")
    named = [name.casefold() for name in stripped if name]
    repeated = sorted({name for name in named if named.count(name) > (2 if name == named[-1] == "reason" else 1)})
    if repeated:
        raise BadFile(f"The header names a column twice: {', '.join(repeated)}.")
    return stripped


def normalised(name: str) -> str:
    """A column name without case, blanks, hyphens and underscores: `facility-id` is `facilityId` is `FACILITY_ID`."""
    return re.sub(r"[^a-z0-9]", "", name.casefold())


# A field of a line, as a regular expression; and how DuckDB reads whole lines.
FIELD = '("(?:[^"]|"")*"|[^",]*)'
WHOLE_LINES = f"""auto_detect = false, header = false, delim = '{NO_NULL}', quote = '', escape = '', nullstr = '{NEWLINE}',
    all_varchar = true, columns = {{'content': 'varchar'}}"""
