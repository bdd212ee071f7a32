"""The rows of files as relations of text columns, one row a record, with the physical line where each record starts."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import duckdb

from hotwax_inventory.imports.quoting import sql_text
from hotwax_inventory.imports.text import BLANKS, FIELD, NO_NULL, SEPARATOR, WHOLE_LINES, Text
from hotwax_inventory.resources import THREADS

# Rows are numbered by one processor: from twice so many on two of them get a part each. More take more memory than there is for it.
PART_ROWS = 250_000
PARTS = min(2, THREADS)


def fields_relation(texts: Mapping[int, Text], extra_fields: int) -> str:
    """SQL of a relation with `log_id`, `line_number` and the columns c0, c1, …: null where a row is too short.

    `texts` are files by log_id that differ in nothing but their rows, and are read in one scan: one after the other costs more
    than the rows of small ones. There are `extra_fields` columns beyond the header; blank lines are left out."""
    text = next(iter(texts.values()))
    names = [f"c{i}" for i in range(len(text.header) + extra_fields)]
    typed = ", ".join(f"'{name}': 'varchar'" for name in (["number"] if text.is_copy else []) + names)
    paths, log_id = _paths(texts)
    quote = '"' if text.is_quoted else ""
    options = f"""auto_detect = false, header = false, delim = '{SEPARATOR if text.is_copy else ","}',
        quote = '{quote}', escape = '{quote}', nullstr = '{NO_NULL}', filename = {len(texts) > 1},
        all_varchar = true, null_padding = true, strict_mode = false, columns = {{{typed}}}"""
    number, read = "number::bigint", f"from read_csv([{paths}], {options})"
    if len(texts) > 1 and not text.is_copy:
        number = f"row - min(row) over (partition by filename) + {1 + text.header_line}"
        read = f"select *, row_number() over () as row from read_csv([{paths}], {options}, skip = {text.header_line})"
    elif not text.is_copy:
        number, read = "line_number", _numbered(text, options)
    return f"""
        select log_id, line_number, {", ".join(names)}
        from (select {log_id} as log_id, {number} as line_number, {", ".join(names)} from ({read}))
        where not (c1 is null and trim(c0, {BLANKS}) = '')"""


def _numbered(text: Text, options: str) -> str:
    """SQL of the lines of one file that is no copy, and `line_number`."""
    parts = max(1, min(PARTS, text.most_rows // PART_ROWS))
    return " union all ".join(
        f"select *, row_number() over () + {text.header_line + start} as line_number "
        f"from (from read_csv({sql_text(str(text.path))}, {options}, skip = {text.header_line + start}) limit {end - start})"
        for start, end in pairwise(text.most_rows * part // parts for part in range(parts + 1))
    )


def _paths(texts: Mapping[int, Text]) -> tuple[str, str]:
    """SQL of the files to read, and of the log_id of the one that a row is in."""
    paths = ", ".join(sql_text(str(text.path)) for text in texts.values())
    if len(texts) == 1:
        return paths, f"{next(iter(texts))}::bigint"
    return paths, f"list_extract([{', '.join(map(str, texts))}]::bigint[], list_position([{paths}], filename))"


# The fields of a line that consists of such.
FIELDS = f"""list_transform(
    regexp_extract_all(',' || content, ',{FIELD}', 1),
    lambda field: if(starts_with(field, '"'), replace(field[2:-2], '""', '"'), field)
)"""


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
    if text.is_copy:
        order = ""
        lines = f"""
            select split_part(content, '{SEPARATOR}', 1)::bigint as line_number, content
            from read_csv({sql_text(str(text.path))}, {WHOLE_LINES})"""
    else:  # all parts are put in order at once, but written one after the other
        order = "order by line_number"
        lines = _numbered(text, WHOLE_LINES)
    connection.execute(
        f"""
        copy (
            select {line}
            from ({lines})
            anti join ({accepted}) using (line_number)
            {order}
        ) to {sql_text(str(target))} (format csv, header false, delimiter '{NO_NULL}', quote '', escape '')
        """
    )
    return replace(text, path=target, is_copy=True, is_quoted=False, has_odd_blanks=True)
