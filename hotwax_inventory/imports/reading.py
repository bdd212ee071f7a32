"""A landed file becomes text that DuckDB can read.

DuckDB reads the fields; what it cannot tell (encodings, NUL bytes, quotes that run over lines, blank lines) is settled before,
in one pass over the bytes, and a decoded copy is written only when the file needs one."""

import codecs
from dataclasses import dataclass
from pathlib import Path

import duckdb

from hotwax_inventory.imports.decoding import BLOCK_BYTES, MOST_LINE_BYTES, decoded, fields_of, inflated, json_text
from hotwax_inventory.imports.quoting import sql_text
from hotwax_inventory.imports.text import FIELD, WHOLE_LINES, BadFile, JsonRecords, Text, header_of


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
    source = inflated(landed, scratch) if head.startswith(b"\x1f\x8b") else landed
    look = _look(source)
    if records is not None and _is_json(source, look.encoding):
        return json_text(source, look.encoding, scratch, records, connection)
    if look.is_plain and not (look.is_quoted and _needs_decoding(source, connection)):
        with source.open("rb") as file:
            first = file.readline(BLOCK_BYTES).decode("utf-8-sig", errors="replace").rstrip("\r\n")
        return Text(
            source,
            header_of(fields_of(first), 1),
            1,
            look.line_count - 1,
            is_copy=False,
            has_odd_blanks=look.has_odd_blanks,
            is_quoted=look.is_quoted,
        )
    return decoded(source, look.encoding, scratch)


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
