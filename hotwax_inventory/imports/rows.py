"""A landed CSV becomes a relation of text columns, one row a record, with the physical line where each record starts.

DuckDB reads the fields; what it cannot tell (encodings, NUL bytes, quotes that run over lines, blank lines) is settled before,
in one pass over the bytes, which writes a decoded copy only when the file needs one."""

import codecs
import csv
import gzip
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BLOCK_BYTES = 1 << 23
MOST_INFLATED_BYTES = 8 << 30
MOST_INFLATION = 100
# A decoded copy divides fields by a character that no text has, and keeps line ends inside a field as another.
SEPARATOR, NEWLINE = "\x1f", "\x1e"
# DuckDB never sees this text, so that an empty field and a missing one stay different.
NO_NULL = "\x1c"
# Unquoted commas in a comment at the end of a line make extra fields; this many are put together again.
EXTRA_FIELDS = 16


class BadFile(ValueError):
    """A file that cannot be read at all; the message says why. Nothing of it is applied."""


@dataclass(frozen=True)
class Text:
    """A CSV file that DuckDB can read: where, how its fields are divided, its header, and the lines before the first row.

    In a decoded copy each line begins with the physical line number of its record."""

    path: Path
    header: tuple[str, ...]
    header_line: int
    is_copy: bool


def read_text(landed: Path, scratch: Path) -> Text:
    """The text of a landed file; a decoded copy goes to `scratch` if one is needed. Raises BadFile."""
    with landed.open("rb") as file:
        head = file.read(4)
    if not head:
        raise BadFile("The file is empty: not even a header.")
    if head.startswith(b"PK\x03\x04"):
        raise BadFile(
            "The file is a spreadsheet or a zip archive, not a CSV. Save it as CSV (UTF-8) and send it again."
        )
    source = _inflated(landed, scratch) if head.startswith(b"\x1f\x8b") else landed
    look = _look(source)
    if look.is_plain:
        with source.open("rb") as file:
            first = file.readline(BLOCK_BYTES).decode("utf-8-sig").rstrip("\r\n")
        return Text(source, _header(first.split(","), 1), 1, is_copy=False)
    return _decoded(source, look.encoding, scratch)


@dataclass(frozen=True)
class _Look:
    encoding: str
    is_plain: bool


def _look(path: Path) -> _Look:
    """Read all bytes once: which encoding, and whether DuckDB can take the file as it is."""
    with path.open("rb") as file:
        head = file.read(4)
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return _Look("utf-16", is_plain=False)
        file.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8")()
        encoding, plain, offset, last = "utf-8-sig", True, 0, b"\n"
        while block := file.read(BLOCK_BYTES):
            if (at := block.find(b"\0")) >= 0:
                raise BadFile(f"The file has a NUL byte at offset {offset + at}: it is damaged, or not text.")
            if encoding == "utf-8-sig":
                try:
                    decoder.decode(block, final=len(block) < BLOCK_BYTES)
                except UnicodeDecodeError:
                    encoding, plain = "cp1252", False
            plain = plain and _is_plain(last + block)
            offset, last = offset + len(block), block[-2:]
    return _Look(encoding, plain)


def _is_plain(block: bytes) -> bool:
    """No quotes, no blank lines, no line ends of old Macintoshes, none of our own marks."""
    if any(mark in block for mark in (b'"', b"\n\n", b"\n\r\n", b"\x1c", b"\x1e", b"\x1f")):
        return False
    return block.rstrip(b"\r").count(b"\r") == block.count(b"\r\n")


def _inflated(landed: Path, scratch: Path) -> Path:
    target = scratch / f"{landed.stem}.inflated"
    limit = min(MOST_INFLATED_BYTES, landed.stat().st_size * MOST_INFLATION)
    written = 0
    try:
        with gzip.open(landed) as source, target.open("wb") as copy:
            while block := source.read(BLOCK_BYTES):
                written += len(block)
                if written > limit:
                    raise BadFile(f"The gzip file inflates to more than {limit:,} bytes; that is refused.")
                copy.write(block)
    except (OSError, EOFError) as error:
        raise BadFile(f"The gzip file is damaged: {error}.") from error
    if not written:
        raise BadFile("The gzip file is empty inside.")
    return target


def _decoded(source: Path, encoding: str, scratch: Path) -> Text:
    """Write the records of a file one a line: line number, then the fields, divided by SEPARATOR."""
    target = scratch / f"{source.stem}.decoded"
    header: tuple[str, ...] | None = None
    header_line = 0
    try:
        with source.open("rb") as raw, target.open("w", encoding="utf-8", newline="\n") as copy:
            for line_number, record in _records(io.TextIOWrapper(raw, encoding=encoding, newline=None)):
                if header is None:
                    header, header_line = _header(record, line_number), line_number
                    continue
                fields = (field.replace("\n", NEWLINE).replace(SEPARATOR, " ").replace("\0", "") for field in record)
                copy.write(f"{line_number}{SEPARATOR}{SEPARATOR.join(fields)}\n")
    except UnicodeError as error:
        raise BadFile(f"The file is neither UTF-8, UTF-16 with a byte order mark nor Windows-1252: {error}.") from error
    if header is None:
        raise BadFile("The file is empty: not even a header.")
    return Text(target, header, header_line, is_copy=True)


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

    reader = csv.reader(remembered())
    start = 1
    while True:
        try:
            record = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise BadFile(f"The quote that opens in line {start} does not close ({error}).") from error
        if len(record) > 1 or any(field.strip() for field in record):
            yield start, record
        last, lines_of_record = (start, lines_of_record), []
        start = reader.line_num + 1
    if last is not None and not _closes(last[1]):
        raise BadFile(f"The quote that opens in line {last[0]} is never closed.")


def _closes(lines: list[str]) -> bool:
    """Whether the last field of a record ends outside of quotes."""
    try:
        list(csv.reader(lines, strict=True))
    except csv.Error as error:
        return "unexpected end" not in str(error)
    return True


def _header(names: list[str], line_number: int) -> tuple[str, ...]:
    stripped = tuple(name.strip().strip("﻿") for name in names)
    if not any(stripped):
        raise BadFile(f"Line {line_number}, which should be the header, has no column names.")
    named = [name.casefold() for name in stripped if name]
    repeated = sorted({name for name in named if named.count(name) > 1})
    if repeated:
        raise BadFile(f"The header names a column twice: {', '.join(repeated)}.")
    return stripped


def normalised(name: str) -> str:
    """A column name without case, blanks, hyphens and underscores: `facility-id` is `facilityId` is `FACILITY_ID`."""
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def fields_relation(text: Text, extra_fields: int) -> str:
    """SQL of a relation with `line_number` and the columns c0, c1, …: null where a row is too short.

    There are `extra_fields` columns beyond the header; blank lines are left out."""
    names = [f"c{i}" for i in range(len(text.header) + extra_fields)]
    typed = ", ".join(f"'{name}': 'varchar'" for name in (["number"] if text.is_copy else []) + names)
    options = f"""auto_detect = false, header = false, skip = {0 if text.is_copy else text.header_line},
        delim = '{SEPARATOR if text.is_copy else ","}', quote = '', escape = '', nullstr = '{NO_NULL}',
        all_varchar = true, null_padding = true, strict_mode = false, columns = {{{typed}}}"""
    number = "number::bigint" if text.is_copy else f"row_number() over () + {text.header_line}"
    return f"""
        select line_number, {", ".join(names)}
        from (
            select {number} as line_number, {", ".join(names)}
            from read_csv({sql_text(str(text.path))}, {options})
        )
        where not (c1 is null and trim(c0, chr(32) || chr(9) || chr(13)) = '')"""


def sql_text(value: str) -> str:
    """A text as SQL literal, for paths and header names, which a prepared statement does not take where they stand."""
    return "'" + value.replace("'", "''") + "'"
