"""Decoded copies of files that DuckDB cannot read as they are: other encodings, quotes that run over lines, JSON, gzip."""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from hotwax_inventory.imports.quoting import sql_text
from hotwax_inventory.imports.text import NEWLINE, NO_NULL, SEPARATOR, BadFile, JsonRecords, Text, header_of
from hotwax_inventory.resources import require_free_disk, scalar

BLOCK_BYTES = 1 << 23
# A gzip file may grow to a hundred times its size, a small one to more; JSON that repeats itself does.
MOST_INFLATION = 100
ALWAYS_INFLATED_BYTES, MOST_INFLATED_BYTES = 1 << 30, 8 << 30
OUR_MARKS = str.maketrans(dict.fromkeys((SEPARATOR, NEWLINE, NO_NULL, "\0"), " "))
# DuckDB refuses longer lines, or loses them; a quoted field that is longer than half of it was never closed.
MOST_LINE_BYTES = 2_000_000
MOST_FIELD_CHARACTERS = 1_000_000
# No element of a list may be larger than this.
MOST_JSON_BYTES = 1 << 25
# Longer texts in JSON are cut: no id, number or time has so many, and a line must stay below 2 MB.
MOST_JSON_CHARACTERS = 10_000


def json_text(
    source: Path, encoding: str, scratch: Path, records: JsonRecords, connection: duckdb.DuckDBPyConnection
) -> Text:
    """Write the records of a JSON list one a line, as `decoded` writes those of a CSV. Raises BadFile."""
    plain = scratch / f"{source.stem}.json"
    _check_json(source, encoding, plain)
    names = [f"c{i}" for i in range(len(records.header))]
    fields = ", ".join(
        f"coalesce(replace(replace(replace(replace(left({name}, {MOST_JSON_CHARACTERS}), chr(13), ''), "
        f"chr(10), '{NEWLINE}'), '{SEPARATOR}', ' '), '{NO_NULL}', ' '), '')"
        for name in [*names, "record"]
    )
    target = scratch / f"{source.stem}.decoded"
    try:
        rows = scalar(
            connection,
            f"""
            copy (
                with element as (
                    select row_number() over () as ordinal, json as content
                    from read_json_objects({sql_text(str(plain))}, format = 'array', maximum_object_size = {MOST_JSON_BYTES})
                ),
                record as ({records.sql})
                select concat_ws('{SEPARATOR}', row_number() over (order by place), {fields})
                from record as r ({", ".join([*names, "record", "place"])})
                order by place
            ) to {sql_text(str(target))} (format csv, header false, delimiter '{NO_NULL}', quote '', escape '')
            """,
        )
    except duckdb.InvalidInputException as error:
        if "maximum_object_size" in str(error):
            raise BadFile(
                f"An element of the JSON list is larger than {MOST_JSON_BYTES:,} bytes. Divide it into several."
            ) from error
        reason = re.sub(r' in file "[^"]*"', "", str(error).split("\n")[0]).rstrip(". ")
        raise BadFile(f"The file is not JSON: {reason[:200]}.") from error
    return Text(target, (*records.header, "record"), 0, rows, is_copy=True, has_odd_blanks=True, is_json=True)


def _check_json(source: Path, encoding: str, plain: Path) -> None:
    """Copy a JSON file as UTF-8 without byte order mark; raises BadFile where it is no list, or does not end as one."""
    end = ""
    with _decoding(), source.open(encoding=encoding) as file, plain.open("w", encoding="utf-8") as copy:
        while block := file.read(BLOCK_BYTES):
            if not end:
                block = block.lstrip()
                if block.startswith("{"):
                    raise BadFile('The file is one JSON object; a list is needed: put "[" and "]" around it.')
            copy.write(block)
            end = block.rstrip()[-1:] or end
    if end != "]":
        raise BadFile("The JSON list has no end: the file is cut off.")


def inflated(landed: Path, scratch: Path) -> Path:
    """What is in a gzip file, as a file in `scratch`. Raises BadFile where it is damaged, empty or too large; DiskNearlyFull."""
    target = scratch / f"{landed.stem}.inflated"
    limit = min(MOST_INFLATED_BYTES, max(ALWAYS_INFLATED_BYTES, landed.stat().st_size * MOST_INFLATION))
    written = 0
    try:
        with gzip.open(landed) as source, target.open("wb") as copy:
            while block := source.read(BLOCK_BYTES):
                written += len(block)
                if written > limit:
                    raise BadFile(f"The gzip file inflates to more than {limit:,} bytes; that is refused.")
                require_free_disk(len(block))
                copy.write(block)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadFile(f"The gzip file is damaged: {error}.") from error
    if not written:
        raise BadFile("The gzip file is empty inside.")
    return target


@contextmanager
def _decoding() -> Iterator[None]:
    """Text that is being read in the one encoding that it can have. Raises BadFile when it is not in that one either."""
    try:
        yield
    except UnicodeError as error:
        raise BadFile(f"The file is neither UTF-8, UTF-16 with a byte order mark nor Windows-1252: {error}.") from error


def decoded(source: Path, encoding: str, scratch: Path) -> Text:
    """Write the records of a file one a line: line number, then the fields, divided by SEPARATOR. Raises BadFile."""
    target = scratch / f"{source.stem}.decoded"
    header: tuple[str, ...] | None = None
    header_line = rows = 0
    with _decoding(), source.open("rb") as raw, target.open("w", encoding="utf-8", newline="\n") as copy:
        for line_number, record in _records(io.TextIOWrapper(raw, encoding=encoding, newline=None)):
            if header is None:
                header, header_line = header_of(record, line_number), line_number
                continue
            fields = (field.translate(OUR_MARKS).replace("\n", NEWLINE) for field in record)
            line = f"{line_number}{SEPARATOR}{SEPARATOR.join(fields)}\n"
            if len(line.encode()) > MOST_LINE_BYTES:
                raise BadFile(
                    f"The record in line {line_number} is longer than {MOST_LINE_BYTES:,} bytes: it is damaged."
                )
            copy.write(line)
            rows += 1
    if header is None:
        raise BadFile("The file is empty: not even a header.")
    return Text(target, header, header_line, rows, is_copy=True, has_odd_blanks=True)


def fields_of(line: str) -> list[str]:
    """The fields of a header that is one line. Raises BadFile."""
    csv.field_size_limit(MOST_FIELD_CHARACTERS)
    try:
        return next(csv.reader([line]))
    except csv.Error as error:
        raise BadFile(
            f"Its header has a field of more than {MOST_FIELD_CHARACTERS:,} characters: it is damaged, or not a CSV."
        ) from error


def _records(lines: io.TextIOWrapper) -> Iterator[tuple[int, list[str]]]:
    """Each record that is not blank, with the physical line where it starts.

    The csv module is the one parser here that knows where a record with line ends inside quotes begins."""
    lines_of_record: list[str] = []
    last: tuple[int, list[str]] | None = None

    def remembered() -> Iterator[str]:
        for line in lines:  # appends to the list of whichever record is being read
            if "\0" in line:
                raise BadFile(f"Line {reader.line_num + 1} has a NUL character: the file is damaged.")
            lines_of_record.append(line)
            yield line

    csv.field_size_limit(MOST_FIELD_CHARACTERS)
    reader = csv.reader(remembered())
    start = 1
    while True:
        try:
            record = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise BadFile(
                f"A field of the record in line {start} has more than {MOST_FIELD_CHARACTERS:,} characters: a quote is not closed, "
                "or it is no CSV."
            ) from error
        if len(lines_of_record) > 1 and not _is_strict(lines_of_record):
            raise BadFile(f"The quote that opens in line {start} is not closed as it should be.")
        if len(record) > 1 or any(field.strip() for field in record):
            yield start, record
        last, lines_of_record = (start, lines_of_record), []
        start = reader.line_num + 1
    if last is not None and not _is_closed(last[1]):
        raise BadFile(f"The quote that opens in line {last[0]} is never closed.")


def _is_strict(lines: list[str]) -> bool:
    """Whether a record over several lines is quoted by the book; if not, a quote was forgotten, and rows would be lost in it."""
    try:
        list(csv.reader(lines, strict=True))
    except csv.Error:
        return False
    return True


def _is_closed(lines: list[str]) -> bool:
    """Whether the record ends outside of quotes: only then is a line after it a record of its own."""
    try:
        return len(list(csv.reader([*lines, "x"]))) > 1
    except csv.Error:
        return False
