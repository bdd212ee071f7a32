"""What a run says of the files that it imported: metadata for the asset page, and checks that a person sees."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import dagster as dg
import duckdb

from hotwax_inventory.files.sources import Feed
from hotwax_inventory.imports.accepting import Imported
from hotwax_inventory.imports.declaration import Import, ImportFiles
from hotwax_inventory.imports.queue import FeedRun, run_import
from hotwax_inventory.markdown import MOST_CHARACTERS, MOST_LINES, markdown_table
from hotwax_inventory.resources import Sftp, Warehouse, scalar
from hotwax_inventory.tables import Table

MOST_EXAMPLES = 3


def check_specs(asset: str) -> list[dg.AssetCheckSpec]:
    """The checks that a run reports about the files that it took and read."""
    return [
        dg.AssetCheckSpec(
            "rows_accepted",
            asset=asset,
            description="No row was refused, none came too late, and no file was without rows.",
        ),
        dg.AssetCheckSpec("content_is_new", asset=asset, description="No file repeats a content that came before."),
        dg.AssetCheckSpec("files_readable", asset=asset, description="Every file could be taken and read."),
    ]


def import_asset(feed: Feed, table: Table, *deps: str) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """The decorator of an asset that imports a feed's files; `deps` are the reference data that its rows are held against."""
    return dg.asset(
        group_name="imports",
        kinds={"duckdb"},
        deps=[feed.files_asset, *deps],
        metadata=table.metadata,
        check_specs=check_specs(feed.asset),
    )


def import_files(
    imports: Sequence[Import],
    context: dg.AssetExecutionContext,
    config: ImportFiles,
    sftp: Sftp,
    warehouse: Warehouse,
) -> dg.MaterializeResult:
    """Do an import run, and say what it did. `imports` are the kinds of file that the feed brings."""
    done = run_import(imports, config, context.run.run_id, sftp, warehouse)
    return result(done, imports[0].feed.asset, imports[0].table, warehouse)


def result(done: FeedRun, asset: str, table: Table, warehouse: Warehouse) -> dg.MaterializeResult:
    """Metadata (files with counts, the first refused rows) and the checks of one import run."""
    imported = done.imported
    with warehouse.transaction() as connection:
        row_count = scalar(connection, f"select count(*) from {table.name}")
        refused = connection.execute(
            "select l.file_name, e.line_number, e.column_name, e.reason, e.raw_row "
            "from data_manager_error as e join data_manager_log as l using (log_id) "
            f"where log_id in (select unnest($log_ids)) order by log_id, line_number limit {MOST_LINES}",
            {"log_ids": [file.log_id for file in imported]},
        ).fetchall()
    metadata: dict[str, Any] = {
        "dagster/row_count": row_count,
        "files": len(imported),
        "files_landed": len(done.landing.registered),
        "files_duplicate": len(done.landing.duplicates),
        "rows": sum(file.rows for file in imported),
        "rows_applied": sum(file.rows - file.refused - file.ignored for file in imported if not file.failure),
        "rows_refused": sum(file.refused for file in imported),
        "rows_ignored": sum(file.ignored for file in imported),
        "files_in_this_run": files_table(imported),
        **done.seconds.metadata,
    }
    if refused:
        metadata["first_refused_rows"] = markdown_table(("file", "line", "column", "reason", "row"), refused)
    failed_records = [(file.file_name, file.failed_records) for file in imported if file.failed_records]
    if len(failed_records) == 1:
        metadata["failed_records"] = dg.MetadataValue.path(failed_records[0][1])
    elif failed_records:
        metadata["failed_records"] = markdown_table(("file", "its refused rows"), failed_records)
    if done.landing.left:
        metadata["left_on_sftp"] = markdown_table(("path", "why"), list(done.landing.left.items()))
    return dg.MaterializeResult(asset_key=asset, metadata=metadata, check_results=_checks(done, asset, refused))


def asked_for(
    context: dg.AssetExecutionContext, results: Iterable[dg.MaterializeResult]
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Of the results of assets that are made together, those that the run asked for: it may name one of them, or a check, alone."""
    checks = {check.name for check in context.selected_asset_check_keys}
    for result in results:
        told = [
            check._replace(asset_key=result.asset_key) for check in result.check_results if check.check_name in checks
        ]
        if result.asset_key in context.selected_asset_keys:
            yield dg.MaterializeResult(asset_key=result.asset_key, metadata=result.metadata, check_results=told)
        else:
            yield from told


# What a log says is no input of anything: a new look at it makes nothing out of date.
LOG_VERSION = "1"
# What a person must look at comes first.
LAST_DAY = f"""
select file_name, config_id, status_id, total_record_count, failed_record_count, ignored_record_count, message
from data_manager_log
where registered_at > current_timestamp - interval 1 day
order by list_position(['failed', 'held', 'finished_with_errors'], status_id) nulls last, log_id desc
limit {MOST_LINES}
"""
LAST_DAY_COUNTS = """
select
    config_id, status_id, count(*), sum(total_record_count)::bigint, sum(failed_record_count)::bigint,
    sum(ignored_record_count)::bigint
from data_manager_log
where registered_at > current_timestamp - interval 1 day
group by config_id, status_id
order by config_id, status_id
"""


def files_of_the_last_day(connection: duckdb.DuckDBPyConnection) -> dict[str, dg.MetadataValue | int]:
    """Metadata of `data_manager_log`: how many files there have been, and what became of the last day's."""
    files = scalar(connection, "select count(*) from data_manager_log")
    counts = connection.execute(LAST_DAY_COUNTS).fetchall()
    rows = connection.execute(LAST_DAY).fetchall()
    names = ("file", "config", "status", "rows", "refused", "ignored", "message")
    return {
        "dagster/row_count": files,
        "last_day_by_status": markdown_table(
            ("config", "status", "files", "rows", "refused", "ignored"), counts, len(counts)
        ),
        "files_of_the_last_day": markdown_table(names, rows, count=sum(count for _, _, count, *_ in counts)),
    }


def files_table(imported: Sequence[Imported]) -> dg.MarkdownMetadataValue:
    """What became of each file of a run."""
    return markdown_table(
        ("file", "rows", "refused", "ignored", "what happened"),
        [(f.file_name, f.rows, f.refused, f.ignored, f.failure or f.note or "imported") for f in imported],
    )


def row_count(spec: Import, warehouse: Warehouse) -> int:
    """How many accepted rows of the kind there are."""
    with warehouse.transaction() as connection:
        return scalar(connection, f"select count(*) from {spec.table.name}")


def _checks(done: FeedRun, asset: str, refused_rows: Sequence[Sequence[Any]]) -> list[dg.AssetCheckResult]:
    """The checks of a run; `refused_rows` are the first of them as (file, line, column, reason, row)."""
    refused, rows = sum(file.refused for file in done.imported), sum(file.rows for file in done.imported)
    hollow = [file.file_name for file in done.imported if not file.rows and not file.failure]
    notes = [f"{file.file_name}: {file.note}" for file in done.imported if file.note]
    failed = [file for file in done.imported if file.failure]
    refused_files, forbidden = done.landing.refused, done.landing.forbidden
    return [
        dg.AssetCheckResult(
            asset_key=asset,
            check_name="rows_accepted",
            passed=not (refused or hollow or notes),
            severity=dg.AssetCheckSeverity.WARN,
            description=" ".join(
                [
                    *([_refused(refused, rows, refused_rows)] if refused else []),
                    *notes,
                    *([f"Without rows: {', '.join(hollow)}."] if hollow else []),
                ]
            )
            or None,
            metadata={"rows_refused": refused, "files_without_rows": hollow},
        ),
        dg.AssetCheckResult(
            asset_key=asset,
            check_name="content_is_new",
            passed=not done.landing.duplicates,
            severity=dg.AssetCheckSeverity.WARN,
            description=_repeated(done.landing.duplicates) if done.landing.duplicates else None,
            metadata={"duplicates": done.landing.duplicates},
        ),
        dg.AssetCheckResult(
            asset_key=asset,
            check_name="files_readable",
            passed=not (failed or refused_files or forbidden),
            severity=dg.AssetCheckSeverity.ERROR,
            description=" ".join(
                [
                    *(f"{file.file_name}: {file.failure}" for file in failed),
                    *(f"{path} stays on SFTP: {why}." for path, why in refused_files.items()),
                    *forbidden.values(),
                ]
            )[:1000]
            or None,
            metadata={
                "failed": [file.file_name for file in failed],
                "left": list(refused_files | forbidden)[:MOST_LINES],
                "forbidden": dg.MetadataValue.json(list(forbidden.values())[:MOST_LINES]),
            },
        ),
    ]


def _repeated(paths: Sequence[str]) -> str:
    """Which files repeat a content, and what to do with them."""
    more = f" and {len(paths) - MOST_EXAMPLES:,} more" if len(paths) > MOST_EXAMPLES else ""
    return (
        f"The same content came before: {', '.join(paths[:MOST_EXAMPLES])}{more}. It was not read again; data_manager_log names "
        "the file that stands for it. Where it is meant once more, put it back and import its path with allow_duplicate_content."
    )


def _refused(count: int, total: int, rows: Sequence[Sequence[Any]]) -> str:
    """How many rows were refused, the first of them, and what to do with them."""
    first = "; ".join(
        f"{name} line {line}: {reason[:MOST_CHARACTERS]}" for name, line, _, reason, _ in rows[:MOST_EXAMPLES]
    )
    return (
        f"{count:,} of {total:,} rows were refused. First: {first}. They stand in data_manager_error and in the "
        "failed-records file beside the landed one: mend them there and put that file on SFTP."
    )
