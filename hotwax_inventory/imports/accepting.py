"""The rows of landed files, checked: good ones go to the feed's table, bad ones to `data_manager_error` and into a file for the
person who mends them."""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from hotwax_inventory import settings
from hotwax_inventory.files.names import REFUSED
from hotwax_inventory.imports.declaration import Import
from hotwax_inventory.imports.identify import identification_types, keys
from hotwax_inventory.imports.quoting import as_it_was, sql_text, without_formula
from hotwax_inventory.imports.rows import fields_relation, left_over, records_relation
from hotwax_inventory.imports.text import BLANKS, EXTRA_FIELDS, NEWLINE, BadFile, Text, normalised
from hotwax_inventory.resources import keep_sides_of_joins

# From so many bytes on the rows of files are more than what they are joined with.
LARGE_BYTES = 1 << 20
# What a failed-records file has where a row was too short: filled up with nothing, it would be right if it came back as it is.
NO_FIELD = "(no field)"


@dataclass(frozen=True)
class PendingFile:
    """A registered file that waits for its import."""

    log_id: int
    file_name: str
    landed_path: str
    size_bytes: int
    effective_at: datetime
    parameters: str


@dataclass
class Imported:
    """One file of a run: what became of its rows; `failure` says why nothing did, `note` what is odd although all went well."""

    log_id: int
    file_name: str
    rows: int = 0
    refused: int = 0
    ignored: int = 0
    failure: str | None = None
    note: str | None = None
    failed_records: Path | None = None


def kind_of(text: Text, imports: Sequence[Import]) -> Import:
    """The last of a feed's kinds of file whose columns it has. Raises BadFile, which says what the first one misses."""
    for spec in reversed(imports[1:]):
        with suppress(BadFile):
            _positions(spec, text)
            return spec
    _positions(imports[0], text)
    return imports[0]


def accept_rows(
    spec: Import,
    texts: dict[int, tuple[PendingFile, Text]],
    scratch: Path,
    connection: duckdb.DuckDBPyConnection,
    done: dict[int, Imported],
) -> None:
    """Insert the good rows of files of one kind into its table, the others into `data_manager_error`; `done` gets their numbers.

    What is refused stays in the temporary table `refused` for `write_failed_records`."""
    types = sorted(
        {
            kind
            for file, text in texts.values()
            for kind in spec.types
            or identification_types(_positions(spec, text), str(json.loads(file.parameters).get("id_type")))
        }
    )
    # by name: files may have been registered with other parameters
    file_row = " union all by name ".join(
        _file_row(spec, texts[next(iter(group))][0].parameters, group) for group in _alike(texts)
    )
    if sum(text.path.stat().st_size for _, text in texts.values()) > LARGE_BYTES:
        keep_sides_of_joins(connection)
    # an insert of rows that were numbered is done by one processor, a merge by all
    connection.execute(
        f"with file_row as ({file_row}) merge into {spec.table.name} using ("
        f"select {spec.table.column_list()} from ({spec.checked}) where is_right and is_of_nobody is not true"
        ") as row on false when not matched then insert by name",
        {"types": types},
    )
    accepted = dict(
        connection.execute(
            f"select log_id, count(*) from {spec.table.name} where log_id in (select unnest($log_ids)) group by log_id",
            {"log_ids": list(texts)},
        ).fetchall()
    )
    for log_id in texts:
        done[log_id].rows = accepted.get(log_id, 0)
    incomplete = {log_id: found for log_id, found in texts.items() if accepted.get(log_id, 0) != found[1].most_rows}
    if not incomplete:
        return
    left = {
        log_id: left_over(text, _accepted(spec, file), scratch / f"{log_id}.left", connection)
        for log_id, (file, text) in incomplete.items()
    }
    connection.execute(_refused_sql(spec, incomplete, left), {"types": types})
    connection.execute(
        "insert into data_manager_error by name "
        "select log_id, line_number, column_name, reason, raw_row from refused where not is_ignored"
    )
    for log_id, refused, ignored in connection.execute(
        "select log_id, count(*) filter (not is_ignored), count(*) filter (is_ignored) from refused group by log_id"
    ).fetchall():
        done[log_id].rows += refused + ignored
        done[log_id].refused, done[log_id].ignored = refused, ignored


def _accepted(spec: Import, file: PendingFile) -> str:
    return f"select line_number from {spec.table.name} where log_id = {file.log_id}"


def _refused_sql(spec: Import, incomplete: Mapping[int, tuple[PendingFile, Text]], left: Mapping[int, Text]) -> str:
    """The rows that did not go to the table, checked once more: that is cheaper than to carry every reason along.

    `left` has the rows that are left over of each file."""
    refused_rows, file_rows = [], []
    for group in _alike(incomplete):
        file, text = incomplete[next(iter(group))]
        rows = {log_id: left[log_id] for log_id in group}
        refused_rows.append(_refused_row(spec, text, rows))
        file_rows.append(_file_row(spec, file.parameters, rows))
    refused_row, file_row = " union all ".join(refused_rows), " union all by name ".join(file_rows)
    return f"""
        create or replace temp table refused as
        with refused_row as ({refused_row}),
        file_row as ({file_row})
        select
            log_id,
            line_number,
            coalesce(json_extract_string(spelled, '$.' || refusal.column_name), refusal.column_name) as column_name,
            replace(coalesce(refusal.reason, 'the row cannot be used'), '{NEWLINE}', chr(10)) as reason,
            is_right as is_ignored,
            raw_row,
            failed_record
        from ({spec.checked})
        join refused_row using (log_id, line_number)"""


def _alike(texts: Mapping[int, tuple[PendingFile, Text]]) -> list[dict[int, Text]]:
    """The files in groups that differ in nothing but their rows, so that each group is one scan."""
    groups: dict[tuple[object, ...], dict[int, Text]] = {}
    paths = Counter(text.path for _, text in texts.values())
    for log_id, (file, text) in texts.items():
        shape = replace(text, path=Path(), most_rows=0)
        groups.setdefault((shape, file.parameters, log_id if paths[text.path] > 1 else None), {})[log_id] = text
    return list(groups.values())


def _file_row(spec: Import, parameters: str, texts: Mapping[int, Text]) -> str:
    """SQL of the `file_row` relation for files that are alike."""
    text = next(iter(texts.values()))
    positions, width = _positions(spec, text), len(text.header)
    has_free_end = _has_free_end(spec, positions, width)
    # one more than may be there shows that there are more
    extra = EXTRA_FIELDS + 1 if has_free_end else 1
    too_long = f"the row has more than {EXTRA_FIELDS} commas without quotes in its last column"
    if not has_free_end:
        too_long = f"the row has more fields than the header ({width})"
    blanks = f", {BLANKS}" if text.has_odd_blanks else ""
    values, came = [], _came(text)
    for column in spec.columns:
        position = positions.get(column.name)
        value = "null::varchar" if position is None else f"trim({came(f'c{position}')}{blanks})"
        if has_free_end and position == width - 1:
            value = came(f"concat_ws(',', {', '.join(f'c{i}' for i in range(width - 1, width + EXTRA_FIELDS))})")
        values.append(f"{value} as {column.name}")
    for name, default in json.loads(parameters).items():
        values.append(f"{'null::varchar' if default is None else sql_text(default)} as default_{name}")
    values += [f"{expression} as {name}" for name, expression in keys(positions).items()]
    return f"""
        select
            log_id,
            line_number,
            case
                {_not_mended(text)}
                when c{width - 1} is null then 'the row has fewer fields than the header ({width})'
                when c{width + extra - 1} is not null then '{too_long}'
            end as structure_reason,
            {", ".join(values)}
        from ({fields_relation(texts, extra)})"""


def _not_mended(text: Text) -> str:
    """SQL of a reason for rows that have come back with NO_FIELD as it was."""
    if not text.is_mended:
        return ""
    fields = ", ".join(f"c{i}" for i in range(len(text.header)))
    return f"when '{NO_FIELD}' in ({fields}) then 'in place of {NO_FIELD} belongs what the row lacks, be it nothing'"


def _came(text: Text) -> Callable[[str], str]:
    """SQL of a field as it came, before it was copied and before it was made harmless for spreadsheets."""
    line_end = f"replace({{}}, '{NEWLINE}', chr(10))" if text.is_copy else "{}"
    return lambda field: as_it_was(line_end.format(field)) if text.is_mended else line_end.format(field)


def _refused_row(spec: Import, text: Text, left: Mapping[int, Text]) -> str:
    """SQL of the rows that are left over of files like `text`: `raw_row` as it came, and `failed_record`, which has the header's
    columns (all but a `reason` of an earlier refusal) and, in a row that is too long, what is beyond them."""
    positions, width = _positions(spec, text), len(text.header)
    kept = [f"coalesce(fields[{position + 1}], '{NO_FIELD}')" for position in _staying(text)]
    beyond = f"fields[{width + 1}:]"
    if _has_free_end(spec, positions, width):
        kept[-1], beyond = (
            f"if(len(fields) < {width}, '{NO_FIELD}', array_to_string(fields[{width}:], ','))",
            "[]::varchar[]",
        )
    quoted = "case when regexp_matches({0}, '[\",\\r\\n]') then '\"' || replace({0}, '\"', '\"\"') || '\"' else {0} end".format(
        f"replace(x, '{NEWLINE}', chr(10))"
    )
    safe = without_formula(as_it_was("x") if text.is_mended else "x")
    raw_row = (
        f"array_to_string(list_transform(fields, lambda x: {quoted if text.is_copy or text.is_quoted else 'x'}), ',')"
    )
    if text.is_json:
        raw_row = f"replace(fields[{width}], '{NEWLINE}', chr(10))"
    spelled = json.dumps({column: text.header[position] for column, position in positions.items()})
    return f"""
        select
            log_id,
            line_number,
            {sql_text(spelled)} as spelled,
            {raw_row} as raw_row,
            array_to_string(list_transform(list_transform(list_concat([{", ".join(kept)}], {beyond}), lambda x: {safe}),
                lambda x: {quoted}), ',') as failed_record
        from ({records_relation(left)})"""


def _staying(text: Text) -> list[int]:
    """The positions of the columns that are the file's own: not that of the reason of an earlier refusal."""
    reasons = [position for position, title in enumerate(text.own_header) if normalised(title) == "reason"]
    told = reasons[-1:] if text.is_mended else []
    return [position for position in range(len(text.own_header)) if position not in told]


def _has_free_end(spec: Import, positions: dict[str, int], width: int) -> bool:
    """Whether the file's last column is free text, in which unquoted commas may stand."""
    return any(column.is_free_text and positions.get(column.name) == width - 1 for column in spec.columns)


def _positions(spec: Import, text: Text) -> dict[str, int]:
    """Where each of our columns stands in the header. Raises BadFile when one is missing, or two names mean the same."""
    positions: dict[str, int] = {}
    for column in spec.columns:
        found = [i for i, name in enumerate(text.header) if normalised(name) in column.aliases_normalised]
        if len(found) > 1:
            names = " and ".join(text.header[i] for i in found)
            raise BadFile(f"The columns {names} mean the same. Leave one of them out.")
        if found:
            positions[column.name] = found[0]
    for alternatives in spec.required:
        if not positions.keys() & set(alternatives):
            missing = " or ".join(column.aliases[0] for column in spec.columns if column.name in alternatives)
            raise BadFile(f"Column {missing} is missing (found: {', '.join(text.header)[:500]}).")
    return positions


def failed_records_path(file: PendingFile) -> Path:
    """Where a file's refused rows are written: beside the landed file, with the time of effect and the file's number in the name.

    Fixed and dropped back on SFTP, they act at that time, so that no older number overrides a newer one. Rows that are refused once
    more keep the number of the file that they are of."""
    # without colons, which a person's file system may not take
    stamp = file.effective_at.astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    refused = REFUSED.search(file.file_name)
    mark = refused[0] if refused else "-failed-records"
    return (settings.home() / file.landed_path).parent / f"{stamp}{mark}-{file.log_id}.csv"


def write_failed_records(file: PendingFile, text: Text, connection: duckdb.DuckDBPyConnection) -> Path:
    """Write the refused rows of a file, its own columns and the reason as the last; where they are.

    What a spreadsheet would take for a formula begins with an apostrophe, which is taken off when the file comes back."""
    path = failed_records_path(file)
    temporary = path.with_suffix(".writing")
    titles = [text.own_header[position] for position in _staying(text)]
    safe = [f"'{title}" if title[:1] in ("=", "+", "-", "@") else title for title in titles]
    names = ",".join(
        '"' + title.replace('"', '""') + '"' if re.search('[",\n]', title) else title for title in [*safe, "reason"]
    )
    connection.execute(
        f"""
        copy (
            select line
            from (
                select 0 as line_number, {sql_text(names)} as line
                union all
                select line_number, failed_record || ',"' || replace(reason, '"', '""') || '"' as line
                from refused
                where log_id = {file.log_id} and not is_ignored
            )
            order by line_number
        ) to {sql_text(str(temporary))} (format csv, header false, delimiter '{chr(31)}', quote '', escape '')
        """
    )
    temporary.replace(path)
    return path
