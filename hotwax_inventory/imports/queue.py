"""The queue of landed files (HotWax's MDM): each pending file is read, its good rows go to their table, its bad rows to
`data_manager_error`, in one transaction with the file's new status. Posting to the ledger is a later stage."""

import json
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

import dagster as dg
import duckdb
from pydantic import Field as Described
from pydantic import model_validator

from hotwax_inventory import settings
from hotwax_inventory.choices import choice
from hotwax_inventory.files.landing import IS_OF, REFUSED, Landing, Source, land
from hotwax_inventory.files.sources import Feed
from hotwax_inventory.imports.identify import identification_types, keys
from hotwax_inventory.imports.rows import (
    EXTRA_FIELDS,
    NEWLINE,
    UNREADABLE,
    BadFile,
    JsonRecords,
    Text,
    as_it_was,
    fields_relation,
    left_over,
    normalised,
    read_text,
    records_relation,
    sql_text,
    without_formula,
)
from hotwax_inventory.progress import Progress, Seconds
from hotwax_inventory.resources import Sftp, Warehouse, require_free_disk, transaction
from hotwax_inventory.tables import Table

# Small files share a transaction, since each one costs more than their rows.
BATCH_FILES = 200
BATCH_BYTES = 32 << 20


@dataclass(frozen=True)
class Column:
    """A column that a file may have: our name for it, and the header names that mean it."""

    name: str
    aliases: tuple[str, ...]
    is_free_text: bool = False

    @property
    def aliases_normalised(self) -> set[str]:
        return {normalised(alias) for alias in self.aliases}


@dataclass(frozen=True)
class Import:
    """How the files of a feed become rows.

    `checked` is SQL over the relation `file_row`: log_id, line_number, structure_reason, the declared columns as text, what
    `identify.keys` makes of them, and each parameter as `default_<name>`. It yields its columns and the table's, `is_right`,
    `is_of_nobody` (a right row that is to be ignored) and, for rows that are not right, `refusal` (a struct of `column_name`,
    one of ours, and `reason`)."""

    feed: Feed
    table: Table
    columns: tuple[Column, ...]
    required: tuple[tuple[str, ...], ...]
    checked: str
    # How a JSON file of this kind becomes the same rows; None where there is no such file.
    json: JsonRecords | None = None
    # Types of identification that the rows have whatever their columns, where `checked` finds the product otherwise.
    types: tuple[str, ...] = ()
    # SQL that brings the tables of state to what the rows of `batch` (log_id) make of them; without it the ledger does that.
    applied: tuple[str, ...] = ()
    # SQL of what the ledger takes from the rows of `posting` (log_id), as `ledger.fold` wants it; resets are its own matter.
    events: str | None = None


@dataclass
class Imported:
    """One file of a run: what became of its rows."""

    log_id: int
    file_name: str
    rows: int = 0
    refused: int = 0
    ignored: int = 0
    failure: str | None = None


@dataclass(frozen=True)
class PendingFile:
    """A registered file that waits for its import."""

    log_id: int
    file_name: str
    landed_path: str
    size_bytes: int
    effective_at: datetime
    parameters: str


@choice
class ResetBy(Enum):
    """The counter that a reset states."""

    ATP = "ATP"
    QOH = "QOH"


class ImportFiles(dg.Config):
    """What a file import may be told. Everything has a default; HotWax's own spellings are understood beside ours."""

    config_id: str = Described(description="MDM config that receives the files")
    property_resource: str = Described(
        "FTP_CONFIG", description="SFTP connection: FTP_CONFIG is SFTP_*, any other N is N_SFTP_*"
    )
    remote_filename: str | None = Described(None, description="take only the file of exactly this name")
    file_name_regex: str | None = Described(
        None, description="take only names that fit: a glob such as *.csv, or a regular expression"
    )
    import_path: str | None = Described(None, description="remote directory below SFTP_ROOT instead of the feed's own")
    location_seq_id: str | None = Described(
        None, description="warehouse location for rows that state none; kept with the row"
    )
    schedule_now: bool = Described(
        True, description="false: land and register only, process_bulk_imported_files does the rest"
    )
    id_type: str = Described("NETSUITE_PRODUCT_ID", description="type of idValue in files without an idType column")
    allow_duplicate_content: bool = Described(False, description="apply a file even if the same content came before")
    approve: bool = Described(
        False, description="with paths: apply these files although they look wrong, held ones (of resets) included"
    )
    paths: list[str] = Described([], description="exactly these files, relative to SFTP_ROOT; empty: every ready file")
    configId: str | None = Described(None, description="HotWax's spelling of config_id")
    propertyResource: str | None = Described(None, description="HotWax's spelling of property_resource")
    remoteFilename: str | None = Described(None, description="HotWax's spelling of remote_filename")
    fileNameRegex: str | None = Described(None, description="HotWax's spelling of file_name_regex")
    importPath: str | None = Described(None, description="HotWax's spelling of import_path")
    locationSeqId: str | None = Described(None, description="HotWax's spelling of location_seq_id")
    scheduleNow: bool | None = Described(None, description="HotWax's spelling of schedule_now")

    @model_validator(mode="before")
    @classmethod
    def hotwax_spellings(cls, values: dict[str, object]) -> dict[str, object]:
        return values | {ours: values[theirs] for theirs, ours in SPELLINGS.items() if values.get(theirs) is not None}

    def parameters(self) -> dict[str, str | None]:
        """What reading the rows depends on; it is kept with the file, since they may be read by a later run."""
        return {
            "id_type": self.id_type,
            "location_seq_id": self.location_seq_id,
            "kits": "components" if settings.kits_from_components() else "netsuite",
            "approve": "true" if self.approve and self.paths else None,
        }

    def source(self, feed: Feed) -> Source:
        """What this run wants from SFTP."""
        patterns = (self.file_name_regex,) if self.file_name_regex else feed.patterns
        return Source(
            directories=(self.import_path,)
            if self.import_path
            else settings.import_directories(self.config_id, feed.directories),
            patterns=patterns,
            file_name=self.remote_filename,
            paths=tuple(self.paths),
            config_id=self.config_id,
            property_resource=self.property_resource,
            allow_duplicate_content=self.allow_duplicate_content,
            parameters=json.dumps(self.parameters() | {"feed": feed.config_id}),
        )


SPELLINGS = {
    "configId": "config_id",
    "propertyResource": "property_resource",
    "remoteFilename": "remote_filename",
    "fileNameRegex": "file_name_regex",
    "importPath": "import_path",
    "locationSeqId": "location_seq_id",
    "scheduleNow": "schedule_now",
}


@dataclass
class FeedRun:
    """What one run did with a feed."""

    landing: Landing = field(default_factory=Landing)
    imported: list[Imported] = field(default_factory=list)
    seconds: Seconds = field(default_factory=Seconds)


def run_import(
    imports: Sequence[Import], config: ImportFiles, run_id: str, sftp: Sftp, warehouse: Warehouse
) -> FeedRun:
    """Land the files that the config asks for, then import every pending file of its config id.

    `imports` are the kinds of file that the feed brings; a file is of the last of these whose columns it has."""
    feed, source, log = imports[0].feed, config.source(imports[0].feed), dg.get_dagster_logger()
    for name, reason in _meaningless(config, imports):
        log.warning(f"{name} means nothing to {feed.job}: {reason}.")
    if config.approve and not config.paths:
        log.warning("approve does nothing without paths: name the files that are right although they look wrong.")
    released = _release(source, run_id, warehouse) if config.approve and config.paths else set()
    source = replace(source, paths=tuple(path for path in source.paths if path not in released))
    done = FeedRun()
    if source.paths or not released:
        with done.seconds.of("landing"):
            done.landing = land(feed, source, run_id, sftp, warehouse)
        if not (done.landing.registered or done.landing.duplicates or done.landing.left):
            wanted = source.file_name or " or ".join(source.patterns)
            log.info(f"On SFTP there is no file {wanted} in {', '.join(source.directories)}.")
    if config.schedule_now:
        with done.seconds.of("reading"):
            done.imported = import_pending(imports, config.config_id, run_id, warehouse)
    return done


def _meaningless(config: ImportFiles, imports: Sequence[Import]) -> Iterator[tuple[str, str]]:
    """The parameters that the run was told in vain, and why they mean nothing to the feed."""
    if config.location_seq_id and not any(column.name == "location_seq_id" for column in imports[0].columns):
        yield "location_seq_id", "its rows have no location"
    if imports[0].types and config.id_type != type(config).model_fields["id_type"].default:
        yield "id_type", f"its rows name products by {', '.join(imports[0].types)}"
    if config.approve and any(spec.events or spec.applied for spec in imports):
        yield "approve", "only resets are held"


RELEASE = """
update data_manager_log
set
    status_id = 'imported',
    parameters = json_merge_patch(parameters, '{"approve": "true"}'),
    message = 'Approved by run ' || $run_id || '.'
where status_id = 'held' and config_id = $config_id and remote_path in (select unnest($paths))
"""


def _release(source: Source, run_id: str, warehouse: Warehouse) -> set[str]:
    """Let held files go on to the ledger, where they act at their own time; the paths of those that were held."""
    paths = {posixpath.normpath(path.lstrip("/")): path for path in source.paths}
    with warehouse.transaction() as connection:
        found = connection.execute(
            "select remote_path from data_manager_log "
            "where status_id = 'held' and config_id = $config_id and remote_path in (select unnest($paths))",
            {"config_id": source.config_id, "paths": list(paths)},
        ).fetchall()
        connection.execute(
            RELEASE, {"config_id": source.config_id, "paths": [path for (path,) in found], "run_id": run_id}
        )
    return {paths[path] for (path,) in found}


PENDING = """
select log_id, file_name, landed_path, size_bytes, effective_at, parameters
from data_manager_log
where status_id = 'pending' and json_extract_string(parameters, '$.feed') = $feed and config_id = coalesce($config_id, config_id)
order by effective_at, file_name, log_id
"""


def import_pending(
    imports: Sequence[Import], config_id: str | None, run_id: str, warehouse: Warehouse
) -> list[Imported]:
    """Import the pending files of a feed in order of effect, a batch of small ones or one large one a transaction.

    `config_id` picks those that came under one; None takes all. Raises DiskNearlyFull."""
    done: list[Imported] = []
    log = dg.get_dagster_logger()
    with warehouse.connect() as connection:
        rows = connection.execute(PENDING, {"feed": imports[0].feed.config_id, "config_id": config_id}).fetchall()
        files = [PendingFile(*row) for row in rows]
        if files:
            require_free_disk(sum(file.size_bytes for file in files))
        progress, read = Progress("Files read into rows", sum(file.size_bytes for file in files), "bytes"), 0
        for batch in _batches(files):
            if batch[0].size_bytes > BATCH_BYTES:
                log.info(f"{batch[0].file_name}: {batch[0].size_bytes / 1e6:,.0f} MB are read into rows.")
            with settings.temporary_folder() as scratch:
                try:
                    done += _import_batch(imports, batch, run_id, connection, Path(scratch))
                except UNREADABLE:
                    # one of them cannot be read after all: each on its own, to find out which
                    for file in batch:
                        done += _import_batch(imports, [file], run_id, connection, Path(scratch))
            read += sum(file.size_bytes for file in batch)
            progress.reached(read)
    return done


def _batches(files: Sequence[PendingFile]) -> Iterator[list[PendingFile]]:
    batch: list[PendingFile] = []
    for file in files:
        if batch and (len(batch) == BATCH_FILES or sum(f.size_bytes for f in batch) + file.size_bytes > BATCH_BYTES):
            yield batch
            batch = []
        batch.append(file)
    if batch:
        yield batch


def _import_batch(
    imports: Sequence[Import],
    files: list[PendingFile],
    run_id: str,
    connection: duckdb.DuckDBPyConnection,
    scratch: Path,
) -> list[Imported]:
    done = {file.log_id: Imported(file.log_id, file.file_name) for file in files}
    kinds: dict[str, dict[int, tuple[PendingFile, Text]]] = {spec.table.name: {} for spec in imports}
    started_at = datetime.now(UTC)
    for file in files:
        try:
            spec, text = _read(imports, file, scratch, connection)
            kinds[spec.table.name][file.log_id] = file, text
        except BadFile as error:
            done[file.log_id].failure = str(error)
        except UNREADABLE as error:
            done[file.log_id].failure = _unreadable(error)
    try:
        with transaction(connection):
            connection.execute(
                "create or replace temp table batch as select unnest($log_ids) as log_id", {"log_ids": [*done]}
            )
            for spec in imports:
                if texts := kinds[spec.table.name]:
                    _import_rows(spec, texts, scratch, connection, done)
                    for statement in spec.applied:
                        connection.execute(statement)
                    for file, text in texts.values():
                        if done[file.log_id].refused:
                            write_failed_records(file, text.own_header, connection)
            _finish(imports[0], list(done.values()), run_id, started_at, connection)
    except UNREADABLE as error:
        if len(files) > 1:
            raise
        only = Imported(files[0].log_id, files[0].file_name, failure=_unreadable(error))
        with transaction(connection):
            _finish(imports[0], [only], run_id, started_at, connection)
        return [only]
    return list(done.values())


def _read(
    imports: Sequence[Import], file: PendingFile, scratch: Path, connection: duckdb.DuckDBPyConnection
) -> tuple[Import, Text]:
    """The kind of file that it is, and its text. Raises BadFile."""
    folder = scratch / str(file.log_id)
    folder.mkdir(exist_ok=True)
    records = next((spec.json for spec in imports if spec.json), None)
    text = read_text(settings.home() / file.landed_path, folder, connection, records)
    for spec in reversed(imports):
        try:
            _positions(spec, text)
        except BadFile:
            if spec is imports[0]:
                raise
        else:
            return spec, text
    raise AssertionError("the first kind of file either fits or says why not")


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
    blanks = ", chr(32) || chr(9) || chr(13) || chr(160)" if text.has_odd_blanks else ""
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
                when c{width - 1} is null then 'the row has fewer fields than the header ({width})'
                when c{width + extra - 1} is not null then '{too_long}'
            end as structure_reason,
            {", ".join(values)}
        from ({fields_relation(texts, extra)})"""


def _came(text: Text) -> Callable[[str], str]:
    """SQL of a field as it came, before it was copied and before it was made harmless for spreadsheets."""
    line_end = f"replace({{}}, '{NEWLINE}', chr(10))" if text.is_copy else "{}"
    return lambda field: as_it_was(line_end.format(field)) if _is_mended(text) else line_end.format(field)


def _refused_row(spec: Import, text: Text, left: Mapping[int, Text]) -> str:
    """SQL of the rows that are left over of files like `text`: `raw_row` as it came, and `failed_record`, which has the header's
    columns (all but a `reason` of an earlier refusal) and, in a row that is too long, what is beyond them."""
    positions, width = _positions(spec, text), len(text.header)
    kept = [
        f"coalesce(fields[{number}], '')"
        for number, title in enumerate(text.own_header, 1)
        if normalised(title) != "reason"
    ]
    beyond = f"fields[{width + 1}:]"
    if _has_free_end(spec, positions, width):
        kept[-1], beyond = f"array_to_string(fields[{width}:], ',')", "[]::varchar[]"
    quoted = "case when regexp_matches({0}, '[\",\\r\\n]') then '\"' || replace({0}, '\"', '\"\"') || '\"' else {0} end".format(
        f"replace(x, '{NEWLINE}', chr(10))"
    )
    safe = without_formula(as_it_was("x") if _is_mended(text) else "x")
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


def _is_mended(text: Text) -> bool:
    """Whether a file is one of refused rows that has come back: it has their reasons."""
    return any(normalised(title) == "reason" for title in text.own_header)


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


def _import_rows(
    spec: Import,
    texts: dict[int, tuple[PendingFile, Text]],
    scratch: Path,
    connection: duckdb.DuckDBPyConnection,
    done: dict[int, Imported],
) -> None:
    types = sorted(
        {
            kind
            for file, text in texts.values()
            for kind in spec.types
            or identification_types(_positions(spec, text), str(json.loads(file.parameters).get("id_type")))
        }
    )
    file_row = " union all ".join(
        _file_row(spec, texts[next(iter(group))][0].parameters, group) for group in _alike(texts)
    )
    connection.execute(
        f"with file_row as ({file_row}) insert into {spec.table.name} select {spec.table.column_list()} from ({spec.checked}) "
        "where is_right and is_of_nobody is not true",
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
        "insert into data_manager_error select log_id, line_number, column_name, reason, raw_row from refused where not is_ignored"
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
    refused_row, file_row = " union all ".join(refused_rows), " union all ".join(file_rows)
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


FINISH = """
update data_manager_log as l
set
    status_id = case
        when d.failure is not null then 'failed'
        when not $is_applied then 'imported'
        when d.refused > 0 then 'finished_with_errors'
        else 'finished'
    end,
    total_record_count = d.rows,
    failed_record_count = d.refused,
    ignored_record_count = d.ignored,
    started_at = $started_at,
    finished_at = case when d.failure is not null or $is_applied then current_timestamp end,
    run_id = $run_id,
    message = coalesce(d.failure, case when $is_applied and d.rows = 0 then 'The file has a header and no rows.' end)
from (
    select
        unnest($log_ids) as log_id,
        unnest($rows) as rows,
        unnest($refused) as refused,
        unnest($ignored) as ignored,
        unnest($failures) as failure
) as d
where d.log_id = l.log_id
"""


def _finish(
    spec: Import, done: list[Imported], run_id: str, started_at: datetime, connection: duckdb.DuckDBPyConnection
) -> None:
    failures = [
        None
        if file.failure is None
        else f"{spec.feed.config_id} file {file.file_name}: {file.failure} Nothing of it was applied. "
        "Mend it, and put it on SFTP again."
        for file in done
    ]
    connection.execute(
        FINISH,
        {
            "log_ids": [file.log_id for file in done],
            "rows": [file.rows for file in done],
            "refused": [file.refused for file in done],
            "ignored": [file.ignored for file in done],
            "failures": failures,
            "is_applied": bool(spec.applied),
            "started_at": started_at,
            "run_id": run_id,
        },
    )


# Files by the statement that they are part of: rows that were refused and come back mended belong to the file that they are of. Of
# several files with the same rows mended the last counts, the others are superseded.
STATEMENTS = f"""(
    select
        f.log_id,
        coalesce(o.log_id, f.log_id) as statement_log_id,
        f.effective_at,
        coalesce(o.file_name, f.file_name) as file_name,
        coalesce(o.remote_modified_at, f.remote_modified_at) as remote_modified_at,
        coalesce(o.sha256, f.sha256) as sha256,
        o.log_id is not null and row_number() over (
            partition by o.log_id, f.file_name order by f.remote_modified_at desc, f.log_id desc
        ) > 1 as is_superseded
    from data_manager_log as f
    left join data_manager_log as o
        on o.config_id = f.config_id
        and {IS_OF.format("f", "o")}
    where f.status_id not in ('duplicate', 'failed')
)"""


def failed_records_path(file: PendingFile) -> Path:
    """Where a file's refused rows are written: beside the landed file, with the time of effect and the file's number in the name.

    Fixed and dropped back on SFTP, they act at that time, so that no older number overrides a newer one. Rows that are refused once
    more keep the number of the file that they are of."""
    stamp = file.effective_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    refused = REFUSED.search(file.file_name)
    mark = refused[0] if refused else "-failed-records"
    return (settings.home() / file.landed_path).parent / f"{stamp}{mark}-{file.log_id}.csv"


def write_failed_records(file: PendingFile, header: tuple[str, ...], connection: duckdb.DuckDBPyConnection) -> None:
    """Write the refused rows of a file: its own columns, and the reason as the last.

    What a spreadsheet would take for a formula begins with an apostrophe, which is taken off when the file comes back."""
    path = failed_records_path(file)
    temporary = path.with_suffix(".writing")
    titles = [title for title in header if normalised(title) != "reason"]
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


def _unreadable(error: Exception) -> str:
    """What DuckDB says first, the line and what is wrong with it, as a sentence for the file's message."""
    if isinstance(error, duckdb.OutOfMemoryException):
        return "Its rows need more memory than there is. Divide it into several files."
    lines = [line.strip() for line in str(error).split("\n") if line.strip() and "Original Line" not in line]
    return f"DuckDB cannot read it: {' '.join(lines[:2])[:300]}"
