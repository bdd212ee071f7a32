"""The queue of landed files (HotWax's MDM): each pending file is read, its good rows go to their table, its bad rows to
`data_manager_error`, in one transaction with the file's new status. Posting to the ledger is a later stage."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import duckdb

from hotwax_inventory import settings
from hotwax_inventory.files.landing import Landing, land
from hotwax_inventory.files.looking import Source
from hotwax_inventory.files.names import IS_OF, IS_REFUSED, REFUSED
from hotwax_inventory.imports.accepting import (
    Imported,
    PendingFile,
    accept_rows,
    failed_records_path,
    kind_of,
    write_failed_records,
)
from hotwax_inventory.imports.declaration import Import, ImportFiles
from hotwax_inventory.imports.reading import read_text
from hotwax_inventory.imports.text import UNREADABLE, BadFile, Text, normalised
from hotwax_inventory.progress import Progress, Seconds
from hotwax_inventory.resources import Sftp, Warehouse, more_memory, require_free_disk, scalar, transaction

# Small files share a transaction, since each one costs more than their rows.
BATCH_FILES = 200
BATCH_BYTES = 32 << 20


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

    `imports` are the kinds of file that the feed brings; a file is of the last of these whose columns it has. Raises NoReference,
    DiskNearlyFull."""
    feed, source, log = imports[0].feed, config.source(imports[0].feed), dg.get_dagster_logger()
    for name, reason in _meaningless(config, imports):
        log.warning(f"{name} means nothing to {feed.job}: {reason}.")
    if config.approve and not config.paths:
        log.warning("approve does nothing without paths: name the files that are right although they look wrong.")
    # what is held goes on and acts at its own time
    held = _landed(source, "held", warehouse) if config.approve else {}
    source = replace(
        source,
        paths=tuple(path for path in source.paths if path not in held.values()),
        landed=frozenset(_landed(source, "pending", warehouse)),
    )
    done = FeedRun()
    if source.paths or not held:
        with done.seconds.of("landing"):
            done.landing = land(feed, source, run_id, sftp, warehouse)
        if not (done.landing.registered or done.landing.duplicates or done.landing.left):
            wanted = source.file_name or " or ".join(source.patterns)
            log.info(f"On SFTP there is no file {wanted} in {', '.join(source.directories)}.")
    if held:
        with warehouse.transaction() as connection:
            values = {"config_id": source.config_id, "property_resource": source.property_resource}
            released = scalar(connection, RELEASE, values | {"paths": list(held), "run_id": run_id})
        if released < len(held):
            log.warning(
                "A newer reset has come in the meantime: what was held before it is cancelled, and was not approved."
            )
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


# Of several that have lain at one path the last was read.
RELEASE = """
update data_manager_log
set
    status_id = 'imported',
    parameters = json_merge_patch(parameters, '{"approve": "true"}'),
    message = 'Approved by run ' || $run_id || '.'
where log_id in (
    select max_by(log_id, (effective_at, remote_modified_at, log_id))
    from data_manager_log
    where status_id = 'held'
        and config_id = $config_id
        and property_resource = $property_resource
        and remote_path in (select unnest($paths))
    group by remote_path
)
"""


def _landed(source: Source, status: str, warehouse: Warehouse) -> dict[str, str]:
    """The paths of a run that are those of landed files of a status: {as kept: as named}."""
    if not source.paths:
        return {}
    paths = {settings.remote_path(path): path for path in source.paths}
    with warehouse.transaction() as connection:
        found = connection.execute(
            "select distinct remote_path from data_manager_log where status_id = $status and config_id = $config_id "
            "and property_resource = $property_resource and remote_path in (select unnest($paths))",
            {
                "status": status,
                "config_id": source.config_id,
                "property_resource": source.property_resource,
                "paths": list(paths),
            },
        ).fetchall()
    return {path: paths[path] for (path,) in found}


PENDING = """
select log_id, file_name, landed_path, size_bytes, effective_at, parameters
from data_manager_log
where status_id = 'pending' and json_extract_string(parameters, '$.feed') = $feed and config_id = coalesce($config_id, config_id)
order by effective_at, file_name, log_id
"""


def import_pending(
    imports: Sequence[Import], config_id: str | None, run_id: str, warehouse: Warehouse
) -> list[Imported]:
    """Import the pending files of a feed in order of effect, a batch of small ones or one large one a transaction; between two
    batches others have their turn.

    `config_id` picks those that came under one; None takes all. Raises DiskNearlyFull."""
    done: list[Imported] = []
    progress, read = None, 0
    while True:
        with warehouse.connect() as connection:
            rows = connection.execute(PENDING, {"feed": imports[0].feed.config_id, "config_id": config_id}).fetchall()
            files = [PendingFile(*row) for row in rows]
            if not files:
                return done
            waiting = sum(file.size_bytes for file in files)
            require_free_disk(waiting)
            progress = progress or Progress("Files read into rows", waiting, "bytes")
            batch = _first_batch(files)
            if batch[0].size_bytes > BATCH_BYTES:
                dg.get_dagster_logger().info(
                    f"{batch[0].file_name}: {batch[0].size_bytes / 1e6:,.0f} MB are read into rows."
                )
            with settings.temporary_folder() as scratch:
                try:
                    done += _import_batch(imports, batch, run_id, connection, Path(scratch))
                except UNREADABLE:
                    # one of them cannot be read after all: each on its own, to find out which
                    done += [_import_alone(imports, file, run_id, connection, Path(scratch)) for file in batch]
        read += sum(file.size_bytes for file in batch)
        progress.reached(read)
        if len(batch) == len(files):
            return done
        warehouse.give_way()


def _first_batch(files: Sequence[PendingFile]) -> list[PendingFile]:
    """So many of the first files as share a transaction."""
    sizes = itertools.accumulate(file.size_bytes for file in files)
    fitting = sum(1 for size in itertools.islice(sizes, BATCH_FILES) if size <= BATCH_BYTES)
    return list(files[: max(1, fitting)])


def _import_batch(
    imports: Sequence[Import],
    files: list[PendingFile],
    run_id: str,
    connection: duckdb.DuckDBPyConnection,
    scratch: Path,
) -> list[Imported]:
    """Import files in one transaction. Raises one of UNREADABLE."""
    done = {file.log_id: Imported(file.log_id, file.file_name) for file in files}
    kinds: dict[str, dict[int, tuple[PendingFile, Text]]] = {spec.table.name: {} for spec in imports}
    started_at = datetime.now(UTC)
    for file in files:
        try:
            spec, text = _read(imports, file, scratch, connection)
            kinds[spec.table.name][file.log_id] = file, text
        except BadFile as error:
            done[file.log_id].failure = str(error)
        except duckdb.OutOfMemoryException:
            raise
        except UNREADABLE as error:
            done[file.log_id].failure = _unreadable(error)
    with transaction(connection):
        connection.execute(
            "create or replace temp table batch as select unnest($log_ids) as log_id", {"log_ids": [*done]}
        )
        for spec in imports:
            if texts := kinds[spec.table.name]:
                accept_rows(spec, texts, scratch, connection, done)
                for statement in spec.applied:
                    connection.execute(statement)
                for file, text in texts.values():
                    if done[file.log_id].refused:
                        done[file.log_id].failed_records = write_failed_records(file, text, connection)
                    else:  # a run that was killed may have left some
                        failed_records_path(file).unlink(missing_ok=True)
        _finish(imports[0], list(done.values()), run_id, started_at, connection)
    return list(done.values())


def _import_alone(
    imports: Sequence[Import], file: PendingFile, run_id: str, connection: duckdb.DuckDBPyConnection, scratch: Path
) -> Imported:
    """Import a file once more, with more memory; where that does not help it has failed."""
    started_at = datetime.now(UTC)
    with more_memory(connection):
        try:
            (imported,) = _import_batch(imports, [file], run_id, connection, scratch)
        except UNREADABLE as error:
            imported = Imported(file.log_id, file.file_name, failure=_unreadable(error))
            with transaction(connection):
                _finish(imports[0], [imported], run_id, started_at, connection)
    return imported


def _read(
    imports: Sequence[Import], file: PendingFile, scratch: Path, connection: duckdb.DuckDBPyConnection
) -> tuple[Import, Text]:
    """The kind of file that it is, and its text. Raises BadFile."""
    folder = scratch / str(file.log_id)
    folder.mkdir(exist_ok=True)
    records = next((spec.json for spec in imports if spec.json), None)
    landed = settings.home() / file.landed_path
    if landed.exists() and (size := landed.stat().st_size) != file.size_bytes:
        raise BadFile(
            f"Its copy in the landing area has {size:,} bytes instead of {file.size_bytes:,}. Send the file again."
        )
    text = read_text(landed, folder, connection, records)
    text = replace(text, is_mended=REFUSED.search(file.file_name) is not None)
    if not text.is_mended and [normalised(name) for name in text.header].count("reason") > 1:
        raise BadFile("The header names a column twice: reason.")
    return kind_of(text, imports), text


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
    message = coalesce(d.failure, l.message, case when $is_applied and d.rows = 0 then 'The file has a header and no rows.' end)
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
    notes = connection.execute(
        "select log_id, message from data_manager_log where log_id in (select unnest($log_ids)) and message is not null",
        {"log_ids": [file.log_id for file in done if not file.failure]},
    ).fetchall()
    for file in done:
        file.note = dict(notes).get(file.log_id)


# What each file is a part of. A failed-records file belongs to the file that its rows were refused of, or to the newest file with
# that content. Where the same failed-records file came back several times, the last one that has a good row counts; the others are
# superseded.
STATEMENTS = f"""(
    with said as (
        select
            *,
            first_value(log_id) over (
                partition by config_id, sha256
                order by effective_at desc, file_name desc, remote_modified_at desc, log_id desc
            ) as newest_log_id
        from data_manager_log
        where status_id not in ('duplicate', 'failed')
    )
    select
        f.log_id,
        coalesce(s.log_id, f.log_id) as statement_log_id,
        coalesce(s.effective_at, f.effective_at) as effective_at,
        coalesce(s.file_name, f.file_name) as file_name,
        coalesce(s.remote_modified_at, f.remote_modified_at) as remote_modified_at,
        coalesce(s.sha256, f.sha256) as sha256,
        o.log_id is not null and row_number() over (
            partition by o.log_id, f.file_name
            order by {IS_REFUSED.format("f")}, f.remote_modified_at desc, f.log_id desc
        ) > 1 as is_superseded
    from said as f
    left join said as o
        on json_extract_string(o.parameters, '$.feed') = json_extract_string(f.parameters, '$.feed')
        and {IS_OF.format("f", "o")}
    left join said as s on s.log_id = o.newest_log_id
)"""


def _unreadable(error: Exception) -> str:
    """What DuckDB says first, the line and what is wrong with it, as a sentence for the file's message."""
    if isinstance(error, duckdb.OutOfMemoryException):
        return "Its rows need more memory than there is. Divide it into several files."
    lines = [line.strip() for line in str(error).split("\n") if line.strip() and "Original Line" not in line]
    return f"DuckDB cannot read it: {' '.join(lines[:2])[:300]}"
