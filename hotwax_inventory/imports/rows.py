"""A landed file becomes a relation of text columns, one row a record, with the physical line where each record starts (in JSON,
its ordinal).

DuckDB reads the fields; what it cannot tell (encodings, NUL bytes, quotes that run over lines, blank lines) is settled before,
in one pass over the bytes, which writes a decoded copy only when the file needs one."""

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

BLOCK_BYTES = 1 << 23
# A gzip file may grow to a hundred times its size, a small one to more; JSON that repeats itself does.
MOST_INFLATION = 100
ALWAYS_INFLATED_BYTES, MOST_INFLATED_BYTES = 1 << 30, 8 << 30
# A decoded copy divides fields by a character that no text has, and keeps line ends inside a field as another.
SEPARATOR, NEWLINE = "\x1f", "\x1e"
# DuckDB never sees this text, so that an empty field and a missing one stay different.
NO_NULL = "\x1c"
OUR_MARKS = str.maketrans(dict.fromkeys((SEPARATOR, NEWLINE, NO_NULL, "\0"), " "))
# DuckDB refuses longer lines, or loses them; a quoted field that is longer than half of it was never closed.
MOST_LINE_BYTES = 2_000_000
MOST_FIELD_CHARACTERS = 1_000_000
# Unquoted commas in a comment at the end of a line make extra fields; this many are put together again, of more the row is refused.
EXTRA_FIELDS = 16


# No element of a list may be larger than this.
MOST_JSON_BYTES = 1 << 25
# Longer texts in JSON are cut: no id, number or time has so many, and a line must stay below 2 MB.
MOST_JSON_CHARACTERS = 10_000
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


def read_text(
    landed: Path,
    scratch: Path,
    connection: duckdb.DuckDBPyConnection,
    records: JsonRecords | None = None,
) -> Text:
    """The text of a landed file; a decoded copy goes to `scratch` if one is needed. Raises BadFile.

    A JSON list becomes its `records`."""
    try:
        with landed.open("rb") as file:
            head = file.read(4)
    except FileNotFoundError as error:
        raise BadFile("Its copy in the landing area is gone. Send the file again.") from error
    if not head:
        raise BadFile("The file is empty: not even a header.")
    if head.startswith(b"PK\x03\x04"):
        raise BadFile(
            "The file is a spreadsheet or a zip archive, not a CSV. Save it as CSV (UTF-8) and send it again."
        )
    source = _inflated(landed, scratch) if head.startswith(b"\x1f\x8b") else landed
    look = _look(source)
    if records is not None and _is_json(source, look.encoding):
        return _json_text(source, look, scratch, records, connection)
    if look.is_plain and not (look.is_quoted and _needs_decoding(source, connection)):
        with source.open("rb") as file:
            first = file.readline(BLOCK_BYTES).decode("utf-8-sig", errors="replace").rstrip("\r\n")
        return Text(
            source,
            _header(next(csv.reader([first])), 1),
            1,
            look.line_count - 1,
            is_copy=False,
            has_odd_blanks=look.has_odd_blanks,
            is_quoted=look.is_quoted,
        )
    return _decoded(source, look.encoding, scratch)


@dataclass(frozen=True)
class _Look:
    encoding: str
    is_plain: bool
    is_quoted: bool = False
    line_count: int = 0
    has_odd_blanks: bool = False


def _look(path: Path) -> _Look:
    """Read all bytes once: which encoding, and whether DuckDB can take the file as it is."""
    with path.open("rb") as file:
        head = file.read(4)
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return _Look("utf-16", is_plain=False)
        file.seek(len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0)
        start = file.tell()
        # blanks alone before the header would be taken for it
        first = file.readline(BLOCK_BYTES).strip()
        # JSON may be one line as long as the file
        plain = bool(first) and not first.startswith((b"[", b"{"))
        file.seek(start)
        decoder = codecs.getincrementaldecoder("utf-8")()
        encoding, offset, last, lines, returns, odd, quoted, unended = "utf-8-sig", start, b"\n", 0, 0, False, False, 0
        while block := file.read(BLOCK_BYTES):
            if (at := block.find(b"\0")) >= 0:
                raise BadFile(f"The file has a NUL byte at offset {offset + at}: it is damaged, or not text.")
            if encoding == "utf-8-sig" and (not block.isascii() or decoder.getstate()[0]):
                encoding = _encoding(decoder, block)
            joined = last + block
            plain = plain and encoding == "utf-8-sig" and _is_plain(joined)
            lines += block.count(b"\n")
            if b"\r" in joined:
                returns += joined.count(b"\r\n") - (last == b"\r\n")
            odd = odd or b"\t" in block or b"\xc2\xa0" in block
            quoted = quoted or b'"' in block
            unended = _unended(block, unended) if plain else 0
            offset, last = offset + len(block), block[-2:]
        if encoding == "utf-8-sig":
            encoding = _encoding(decoder, b"", is_last=True)
        plain = plain and encoding == "utf-8-sig"
    # DuckDB takes line ends of one kind; a line feed in a cell of a file from Excel is of another
    plain = plain and returns in (0, lines)
    return _Look(encoding, plain, quoted, lines + (last[-1:] != b"\n"), odd)


def _encoding(decoder: codecs.IncrementalDecoder, block: bytes, is_last: bool = False) -> str:
    """What a file is that was UTF-8 before this block."""
    try:
        decoder.decode(block, final=is_last)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig"


def _unended(block: bytes, before: int) -> int:
    """How many bytes follow the last line end, `before` of them before this block. Raises BadFile when a line has too many."""
    start = -before
    while len(block) - start > MOST_LINE_BYTES:
        end = block.rfind(b"\n", max(start, 0), start + MOST_LINE_BYTES)
        if end < 0:
            raise BadFile(f"A line of the file is longer than {MOST_LINE_BYTES:,} bytes: it is damaged, or not a CSV.")
        start = end + 1
    end = block.rfind(b"\n")
    return before + len(block) if end < 0 else len(block) - end - 1


def _is_plain(block: bytes) -> bool:
    """No blank lines, no line ends of old Macintoshes, none of our own marks."""
    if any(mark in block for mark in (b"\n\n", b"\n\r\n", b"\x1c", b"\x1e", b"\x1f")):
        return False
    return b"\r" not in block or block.rstrip(b"\r").count(b"\r") == block.count(b"\r\n")


def _needs_decoding(source: Path, connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether a quote stands elsewhere than around a whole field within a line: then the csv module must tell the records."""
    odd = f"select 1 from read_csv({sql_text(str(source))}, {WHOLE_LINES}) where not regexp_full_match(content, $line) limit 1"
    return bool(connection.execute(odd, {"line": f"{FIELD}(,{FIELD})*"}).fetchall())


def _is_json(source: Path, encoding: str) -> bool:
    with source.open(encoding=encoding, errors="replace") as file:
        return file.read(4096).lstrip()[:1] in ("[", "{")


def _json_text(
    source: Path, look: _Look, scratch: Path, records: JsonRecords, connection: duckdb.DuckDBPyConnection
) -> Text:
    """Write the records of a JSON list one a line, as `_decoded` writes those of a CSV."""
    plain = scratch / f"{source.stem}.json"
    _check_json(source, look.encoding, plain)
    names = [f"c{i}" for i in range(len(records.header))]
    fields = ", ".join(
        f"coalesce(replace(replace(replace(replace(left({name}, {MOST_JSON_CHARACTERS}), chr(13), ''), "
        f"chr(10), '{NEWLINE}'), '{SEPARATOR}', ' '), '{NO_NULL}', ' '), '')"
        for name in [*names, "record"]
    )
    target = scratch / f"{source.stem}.decoded"
    try:
        rows = connection.execute(
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
            """
        ).fetchall()[0][0]
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


def _inflated(landed: Path, scratch: Path) -> Path:
    target = scratch / f"{landed.stem}.inflated"
    limit = min(MOST_INFLATED_BYTES, max(ALWAYS_INFLATED_BYTES, landed.stat().st_size * MOST_INFLATION))
    written = 0
    try:
        with gzip.open(landed) as source, target.open("wb") as copy:
            while block := source.read(BLOCK_BYTES):
                written += len(block)
                if written > limit:
                    raise BadFile(f"The gzip file inflates to more than {limit:,} bytes; that is refused.")
                copy.write(block)
    except (OSError, EOFError, zlib.error) as error:
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


def _decoded(source: Path, encoding: str, scratch: Path) -> Text:
    """Write the records of a file one a line: line number, then the fields, divided by SEPARATOR."""
    target = scratch / f"{source.stem}.decoded"
    header: tuple[str, ...] | None = None
    header_line = rows = 0
    with _decoding(), source.open("rb") as raw, target.open("w", encoding="utf-8", newline="\n") as copy:
        for line_number, record in _records(io.TextIOWrapper(raw, encoding=encoding, newline=None)):
            if header is None:
                header, header_line = _header(record, line_number), line_number
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
                f"The quote that opens in line {start} is not closed within {MOST_FIELD_CHARACTERS:,} characters."
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


def _header(names: list[str], line_number: int) -> tuple[str, ...]:
    stripped = tuple(name.strip().strip("\ufeff") for name in names)
    if not any(stripped):
        raise BadFile(f"Line {line_number}, which should be the header, has no column names.")
    if len(stripped) > MOST_COLUMNS:
        raise BadFile(f"The header has {len(stripped):,} columns; more than {MOST_COLUMNS:,} are not read.")
    named = [name.casefold() for name in stripped if name]
    repeated = sorted({name for name in named if named.count(name) > 1})
    if repeated:
        raise BadFile(f"The header names a column twice: {', '.join(repeated)}.")
    return stripped


def normalised(name: str) -> str:
    """A column name without case, blanks, hyphens and underscores: `facility-id` is `facilityId` is `FACILITY_ID`."""
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def fields_relation(texts: Mapping[int, Text], extra_fields: int) -> str:
    """SQL of a relation with `log_id`, `line_number` and the columns c0, c1, …: null where a row is too short.

    `texts` are files by log_id that differ in nothing but their rows, and are read in one scan: one after the other costs more
    than the rows of small ones. There are `extra_fields` columns beyond the header; blank lines are left out."""
    text = next(iter(texts.values()))
    names = [f"c{i}" for i in range(len(text.header) + extra_fields)]
    typed = ", ".join(f"'{name}': 'varchar'" for name in (["number"] if text.is_copy else []) + names)
    paths, log_id = _paths(texts)
    quote = '"' if text.is_quoted else ""
    options = f"""auto_detect = false, header = false, skip = {0 if text.is_copy else text.header_line},
        delim = '{SEPARATOR if text.is_copy else ","}', quote = '{quote}', escape = '{quote}', nullstr = '{NO_NULL}',
        filename = {len(texts) > 1},
        all_varchar = true, null_padding = true, strict_mode = false, columns = {{{typed}}}"""
    number = f"row + {text.header_line}"
    if len(texts) > 1:
        number = f"row - min(row) over (partition by filename) + {1 + text.header_line}"
    if text.is_copy:
        number = "number::bigint"
    return f"""
        select log_id, line_number, {", ".join(names)}
        from (
            select {log_id} as log_id, {number} as line_number, {", ".join(names)}
            from (select *{"" if text.is_copy else ", row_number() over () as row"} from read_csv([{paths}], {options}))
        )
        where not (c1 is null and trim(c0, chr(32) || chr(9) || chr(13) || chr(160)) = '')"""


def _paths(texts: Mapping[int, Text]) -> tuple[str, str]:
    """SQL of the files to read, and of the log_id of the one that a row is in."""
    paths = ", ".join(sql_text(str(text.path)) for text in texts.values())
    if len(texts) == 1:
        return paths, f"{next(iter(texts))}::bigint"
    return paths, f"list_extract([{', '.join(map(str, texts))}]::bigint[], list_position([{paths}], filename))"


FIELD = '("(?:[^"]|"")*"|[^",]*)'
# The fields of a line that consists of such.
FIELDS = f"""list_transform(
    regexp_extract_all(',' || content, ',{FIELD}', 1),
    lambda field: if(starts_with(field, '"'), replace(field[2:-2], '""', '"'), field)
)"""

WHOLE_LINES = f"""auto_detect = false, header = false, delim = '{NO_NULL}', quote = '', escape = '', nullstr = '{NEWLINE}',
    all_varchar = true, columns = {{'content': 'varchar'}}"""


def records_relation(copies: Mapping[int, Text]) -> str:
    """SQL of a relation with `log_id`, `line_number` and `fields`, all that a row has, of decoded copies."""
    paths, log_id = _paths(copies)
    return f"""
        select {log_id} as log_id, fields[1]::bigint as line_number, fields[2:] as fields
        from (
            select string_split(content, '{SEPARATOR}') as fields, {"filename" if len(copies) > 1 else "null as filename"}
            from read_csv([{paths}], {WHOLE_LINES}, filename = {len(copies) > 1})
        )"""


def left_over(text: Text, accepted: str, target: Path, connection: duckdb.DuckDBPyConnection) -> Text:
    """The rows of a file whose line is not in the relation `accepted` (SQL with a column `line_number`), as a decoded copy."""
    divided = f"array_to_string({FIELDS}, '{SEPARATOR}')" if text.is_quoted else f"replace(content, ',', '{SEPARATOR}')"
    line = "content" if text.is_copy else f"line_number || '{SEPARATOR}' || {divided}"
    number = (
        f"split_part(content, '{SEPARATOR}', 1)::bigint"
        if text.is_copy
        else f"row_number() over () + {text.header_line}"
    )
    skip = 0 if text.is_copy else text.header_line
    connection.execute(
        f"""
        copy (
            select {line}
            from (
                select {number} as line_number, content
                from read_csv({sql_text(str(text.path))}, {WHOLE_LINES}, skip = {skip})
            )
            anti join ({accepted}) using (line_number)
        ) to {sql_text(str(target))} (format csv, header false, delimiter '{NO_NULL}', quote '', escape '')
        """
    )
    return replace(text, path=target, is_copy=True, is_quoted=False, has_odd_blanks=True)


# A text that begins so is worked out by spreadsheets (CWE-1236), unless it is a number. In a file for people it gets an apostrophe
# in front, which is taken off when the file comes back.
FORMULA = r"regexp_matches({0}, '^''*[=+\-@\t\r]') and try_cast({0} as double) is null"
ESCAPED = r"regexp_matches({0}, '^''+[=+\-@\t\r]')"


def without_formula(value: str) -> str:
    """SQL of a text as it may stand in a file that people open in a spreadsheet."""
    return f"if({FORMULA.format(value)}, chr(39) || {value}, {value})"


def as_it_was(value: str) -> str:
    """SQL of what a text of such a file was before."""
    return f"if({ESCAPED.format(value)}, ({value})[2:], {value})"


def sql_text(value: str) -> str:
    """A text as SQL literal, for paths and header names, which a prepared statement does not take where they stand."""
    return "'" + value.replace("'", "''") + "'"
