"""The queue of landed files (HotWax's MDM): each pending file is read, its good rows go to their table, its bad rows to
`data_manager_error`, in one transaction with the file's new status. Posting to the ledger is a later stage."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

import dagster as dg
import duckdb
from pydantic import Field as Described
from pydantic import model_validator

from hotwax_inventory import settings
from hotwax_inventory.files.landing import Landing, Source, land
from hotwax_inventory.files.sources import Feed
from hotwax_inventory.imports.identify import identification_types
from hotwax_inventory.imports.rows import EXTRA_FIELDS, BadFile, Text, fields_relation, normalised, read_text, sql_text
from hotwax_inventory.resources import Sftp, Warehouse, transaction
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

    `checked` is SQL over the relation `staged` (log_id, line_number, structure_reason, parameters and the declared columns, all
    text) that yields its columns and the table's, `is_right`, `is_of_nobody` (a right row that is to be ignored) and, for rows
    that are not right, `refusal` (a struct of `column_name`, one of ours, and `reason`)."""

    feed: Feed
    table: Table
    columns: tuple[Column, ...]
    required: tuple[tuple[str, ...], ...]
    checked: str


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
        return {"id_type": self.id_type, "location_seq_id": self.location_seq_id}

    def source(self, feed: Feed) -> Source:
        """What this run wants from SFTP."""
        patterns = (self.file_name_regex,) if self.file_name_regex else feed.patterns
        return Source(
            directories=(self.import_path,)
            if self.import_path
            else settings.import_directories(self.config_id, feed.directories),
            patterns=(self.remote_filename,) if self.remote_filename else patterns,
            paths=tuple(self.paths),
            config_id=self.config_id,
            property_resource=self.property_resource,
            allow_duplicate_content=self.allow_duplicate_content,
            parameters=json.dumps(self.parameters()),
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

    landing: Landing
    imported: list[Imported] = field(default_factory=list)


def run_import(spec: Import, config: ImportFiles, run_id: str, sftp: Sftp, warehouse: Warehouse) -> FeedRun:
    """Land the files that the config asks for, then import every pending file of its config id."""
    done = FeedRun(land(spec.feed, config.source(spec.feed), run_id, sftp, warehouse))
    if config.schedule_now:
        done.imported = import_pending(spec, config.config_id, run_id, warehouse)
    return done


PENDING = """
select log_id, file_name, landed_path, size_bytes, effective_at, parameters
from data_manager_log
where config_id = $config_id and status_id = 'pending'
order by effective_at, file_name, log_id
"""


def import_pending(spec: Import, config_id: str, run_id: str, warehouse: Warehouse) -> list[Imported]:
    """Import the pending files of a config id in order of effect, a batch of small ones or one large one a transaction."""
    done: list[Imported] = []
    with warehouse.connect() as connection, settings.temporary_folder() as scratch:
        rows = connection.execute(PENDING, {"config_id": config_id}).fetchall()
        for batch in _batches([PendingFile(*row) for row in rows]):
            try:
                done += _import_batch(spec, batch, run_id, connection, Path(scratch))
            except duckdb.InvalidInputException:
                # one of them cannot be read after all: each on its own, to find out which
                for file in batch:
                    done += _import_batch(spec, [file], run_id, connection, Path(scratch))
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
    spec: Import, files: list[PendingFile], run_id: str, connection: duckdb.DuckDBPyConnection, scratch: Path
) -> list[Imported]:
    done = {file.log_id: Imported(file.log_id, file.file_name) for file in files}
    texts: dict[int, Text] = {}
    sources: list[str] = []
    types: set[str] = set()
    started_at = datetime.now(UTC)
    for file in files:
        try:
            folder = scratch / str(file.log_id)
            folder.mkdir(exist_ok=True)
            text = read_text(settings.home() / file.landed_path, folder)
            positions = _positions(spec, text)
            sources.append(_staged(spec, file, text, positions))
            types.update(identification_types(positions, str(json.loads(file.parameters).get("id_type"))))
            texts[file.log_id] = text
        except BadFile as error:
            done[file.log_id].failure = str(error)
    with transaction(connection):
        if sources:
            try:
                _import_rows(spec, sources, sorted(types), connection, done)
            except duckdb.InvalidInputException as error:
                if len(files) > 1:
                    raise
                done[files[0].log_id] = Imported(
                    files[0].log_id, files[0].file_name, failure=f"DuckDB cannot read it: {_first_line(error)}"
                )
        _finish(spec, list(done.values()), run_id, started_at, connection)
        for file in files:
            if done[file.log_id].refused:
                write_failed_records(file, texts[file.log_id].header, connection)
    return list(done.values())


def _staged(spec: Import, file: PendingFile, text: Text, positions: dict[str, int]) -> str:
    """SQL of the `staged` relation for one file."""
    width = len(text.header)
    last = next((column for column in spec.columns if positions.get(column.name) == width - 1), None)
    has_free_end = last is not None and last.is_free_text
    extra = EXTRA_FIELDS if has_free_end else 1
    extras = ", ".join(f"c{i}" for i in range(width, width + extra))
    values = []
    for column in spec.columns:
        position = positions.get(column.name)
        value = "null" if position is None else _trimmed(f"c{position}")
        if position == width - 1 and has_free_end:
            value = f"concat_ws(',', c{position}, {extras})"
        values.append(f"{value} as {column.name}")
    own = [f"c{i}" for i in range(width)]
    too_long = "false" if has_free_end else f"c{width} is not null"
    spelled = json.dumps({column: text.header[position] for column, position in positions.items()})
    return f"""
        select
            {file.log_id}::bigint as log_id,
            line_number,
            case
                when c{width - 1} is null then 'the row has fewer fields than the header ({width})'
                when {too_long} then 'the row has more fields than the header ({width})'
            end as structure_reason,
            [{", ".join(own)}, {extras}] as fields,
            {width} as width,
            {sql_text(file.parameters)} as parameters,
            {sql_text(spelled)} as spelled,
            {", ".join(values)}
        from ({fields_relation(text, extra)})"""


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
            raise BadFile(f"Column {missing} is missing (found: {', '.join(text.header)}).")
    return positions


def _trimmed(name: str) -> str:
    return f"trim({name}, chr(32) || chr(9) || chr(13) || chr(160))"


def _import_rows(
    spec: Import, sources: list[str], types: list[str], connection: duckdb.DuckDBPyConnection, done: dict[int, Imported]
) -> None:
    staged = " union all ".join(sources)
    columns = spec.table.column_list()
    connection.execute(
        f"with staged as ({staged}) insert into {spec.table.name} select {columns} from ({spec.checked}) "
        "where is_right and is_of_nobody is not true",
        {"types": types},
    )
    log_ids = list(done)
    total = dict(connection.execute(f"select log_id, count(*) from ({staged}) group by log_id").fetchall())
    accepted = dict(
        connection.execute(
            f"select log_id, count(*) from {spec.table.name} where log_id in (select unnest($log_ids)) group by log_id",
            {"log_ids": log_ids},
        ).fetchall()
    )
    for log_id, count in total.items():
        done[log_id].rows = count
    if total == accepted:
        return
    incomplete = [log_id for log_id in total if total[log_id] != accepted.get(log_id, 0)]
    connection.execute(_refused_sql(spec, staged), {"log_ids": incomplete, "types": types})
    connection.execute(
        "insert into data_manager_error select log_id, line_number, column_name, reason, raw_row from refused where not is_ignored"
    )
    for log_id, refused, ignored in connection.execute(
        "select log_id, count(*) filter (not is_ignored), count(*) filter (is_ignored) from refused group by log_id"
    ).fetchall():
        done[log_id].refused, done[log_id].ignored = refused, ignored


def _refused_sql(spec: Import, staged: str) -> str:
    """The rows that did not go to the table: checked once more, which is cheaper than carrying every reason along."""
    quoted = (
        "case when regexp_matches({0}, '[\",\\r\\n]') then '\"' || replace({0}, '\"', '\"\"') || '\"' else {0} end"
    ).format("replace(x, chr(30), chr(10))")
    return f"""
        create or replace temp table refused as
        with staged as (
            select s.*
            from ({staged}) as s
            anti join {spec.table.name} as t on t.log_id = s.log_id and t.line_number = s.line_number
            where s.log_id in (select unnest($log_ids))
        )
        select
            log_id,
            line_number,
            coalesce(json_extract_string(spelled, '$.' || refusal.column_name), refusal.column_name) as column_name,
            coalesce(refusal.reason, 'the row cannot be used') as reason,
            is_right as is_ignored,
            array_to_string(list_transform(list_filter(fields, lambda x: x is not null), lambda x: {quoted}), ',') as raw_row,
            array_to_string(list_transform(fields[1 : width], lambda x: coalesce({quoted}, '')), ',') as failed_record
        from ({spec.checked})"""


FINISH = """
update data_manager_log as l
set
    status_id = case when d.failure is not null then 'failed' else 'imported' end,
    total_record_count = d.rows,
    failed_record_count = d.refused,
    ignored_record_count = d.ignored,
    started_at = $started_at,
    finished_at = case when d.failure is not null then current_timestamp end,
    run_id = $run_id,
    message = d.failure
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
        else f"{spec.feed.config_id} file {file.file_name}: {file.failure} Nothing of it was applied."
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
            "started_at": started_at,
            "run_id": run_id,
        },
    )


def failed_records_path(landed_path: str, effective_at: datetime, log_id: int) -> Path:
    """Where a file's refused rows are written: beside the landed file, with the time of effect in the name.

    Fixed and dropped back on SFTP, the file acts at that time, so that no older number overrides a newer one."""
    stamp = effective_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return (settings.home() / landed_path).parent / f"{stamp}-failed-records-{log_id}.csv"


def write_failed_records(file: PendingFile, header: tuple[str, ...], connection: duckdb.DuckDBPyConnection) -> None:
    """Write the refused rows of a file: its own columns, and the reason as the last."""
    path = failed_records_path(file.landed_path, file.effective_at, file.log_id)
    temporary = path.with_suffix(".writing")
    names = ",".join([*(f'"{name}"' if "," in name or '"' in name else name for name in header), "reason"])
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


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
