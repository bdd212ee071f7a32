"""The inventory ledger and the stock that it adds up to: imported files are posted here.

`ledger.fold` says what rows change, and `ledger.resets` posts a large reset by itself: nothing but these two writes entries and
stock, whoever asks for it. Small files are posted many at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import dagster as dg
import duckdb

from hotwax_inventory import settings, tables
from hotwax_inventory.files import inbox
from hotwax_inventory.files.names import MOST_AHEAD
from hotwax_inventory.imports.feeds import IMPORTS
from hotwax_inventory.imports.summary import LOG_VERSION, asked_for, files_of_the_last_day
from hotwax_inventory.ledger import resets
from hotwax_inventory.ledger.fold import apply_events
from hotwax_inventory.markdown import markdown_table
from hotwax_inventory.progress import Progress, Seconds
from hotwax_inventory.resources import Warehouse, require_free_disk, scalar, transaction

# Files are posted together up to this many rows; a reset of as many is posted by itself.
BATCH_ROWS = 200_000
# What the ledger takes from each table of accepted rows, as ledger.fold wants it; `effective_at` where it is the row's own.
ROWS = {
    **{
        table: f"""
        select log_id, line_number, product_id, facility_id, 'reset' as effect, reset_by, quantity,
            'VAR_EXT_RESET' as reason_enum_id, null::varchar as order_id, comments, null::timestamptz as effective_at
        from (
            select *, max(line_number) over (partition by log_id, product_id, facility_id) as last_line
            from ({rows})
            where log_id in (select log_id from posting)
        )
        where line_number = last_line"""
        for table, rows in resets.TABLES.items()
    },
    "shopify_webhook_update": """
        select log_id, line_number, product_id, facility_id, 'reset' as effect, 'ATP' as reset_by, available as quantity,
            'VAR_EXT_RESET' as reason_enum_id, null as order_id, null as comments, updated_at as effective_at
        from shopify_webhook_update
        where disposition = 'applied' and log_id in (select log_id from posting)""",
    **{kind.table.name: kind.events for _, imports in IMPORTS for kind in imports if kind.events},
}


@dataclass(frozen=True)
class Posted:
    """What posting one file did."""

    log_id: int
    rows: int
    entries: int
    units: int


@dataclass(frozen=True)
class Waiting:
    """An imported file that waits to be posted: its rows, and the last line that one of them stands on."""

    log_id: int
    rows: int
    last_line: int
    # the table of resets.TABLES that has its rows, if one has
    reset_table: str | None
    may_be_held: bool

    @property
    def is_large_reset(self) -> bool:
        return self.reset_table is not None and self.rows >= BATCH_ROWS


def post_imported(warehouse: Warehouse) -> list[Posted]:
    """Post every imported file in order of effect, and mark it finished in the same transaction; between two transactions others
    have their turn. Raises DiskNearlyFull."""
    posted: list[Posted] = []
    progress, done = None, 0
    while True:
        waiting, batch, did = warehouse.with_room(_post_next)
        posted += did
        progress = progress or Progress("Rows posted to the ledger", sum(file.rows for file in waiting), "rows")
        done += sum(file.rows for file in batch)
        progress.reached(done)
        if len(batch) == len(waiting):
            return posted
        warehouse.give_way()


def _post_next(connection: duckdb.DuckDBPyConnection) -> tuple[list[Waiting], list[Waiting], list[Posted]]:
    """The files that wait, those of them that share the next transaction, and what posting these did."""
    # rows are numbered by now; without regard to their order large writes take two thirds of the time and less memory
    connection.execute("set preserve_insertion_order = false")
    waiting, did = _waiting(connection), list[Posted]()
    batch = _first_batch(waiting)
    if batch:
        require_free_disk()
        with transaction(connection):
            did = _post(batch, connection)
    if len(batch) == len(waiting):
        with transaction(connection):
            _remove_old_rows(connection)
    return waiting, batch, did


WAITING = f"""
with accepted as (
    {
    " union all ".join(
        f"select log_id, line_number, quantity - if(reset_by = 'QOH', $reserved, 0) as reset_to, '{table}' as reset_table "
        f"from ({resets.TABLES[table]})"
        if table in resets.TABLES
        else f"select log_id, line_number, null, null from {table}"
        for table in ROWS
    )
}
)
select
    log_id,
    count(a.log_id) as row_count,
    coalesce(max(a.line_number), 0) as last_line,
    any_value(a.reset_table) as reset_table,
    count(*) filter (a.reset_to <= 0) * 100 > $fewest * $percent
        and coalesce(json_extract_string(l.parameters, '$.approve'), 'false') <> 'true' as may_be_held
from data_manager_log as l
left join accepted as a using (log_id)
where l.status_id = 'imported'
group by log_id, effective_at, file_name, remote_modified_at, config_id, parameters
order by effective_at, file_name, remote_modified_at, config_id, log_id
"""


HAND_COUNTED = f"""
select exists (
    select 1
    from ({" union all ".join(resets.TABLES.values())}) as r
    join data_manager_log as l on l.log_id = r.log_id
    where l.status_id = 'imported' and r.reset_by = 'QOH'
)
"""


def _waiting(connection: duckdb.DuckDBPyConnection) -> list[Waiting]:
    if scalar(connection, "select count(*) from data_manager_log where status_id = 'imported'") == 0:
        return []
    percent, reserved = settings.reset_max_zeroed_percent(), 0
    if scalar(connection, HAND_COUNTED):
        # on hand, a number as low as what is reserved somewhere may leave nothing to promise
        reserved = scalar(
            connection,
            "select greatest(0, max(quantity_on_hand_total - available_to_promise_total)) from inventory_item",
        )
    found = connection.execute(
        WAITING, {"fewest": resets.FEWEST_STOCKED_KEYS, "percent": percent, "reserved": reserved}
    ).fetchall()
    return [Waiting(*row) for row in found]


def _first_batch(files: list[Waiting]) -> list[Waiting]:
    """So many of the first files as share a transaction; one that may be held, or is large, has one of its own."""
    batch: list[Waiting] = []
    rows = 0
    for file in files:
        is_alone = file.may_be_held or file.is_large_reset
        if batch and (is_alone or rows + file.rows > BATCH_ROWS):
            break
        batch.append(file)
        rows += file.rows
        if is_alone:
            break
    return batch


# The files; `seq_base` gives each of their lines a number of its own in the one sequence.
POSTING = """
create or replace temp table posting as
select
    l.log_id,
    l.config_id,
    l.effective_at,
    l.file_name,
    l.remote_modified_at as modified_at,
    l.sha256,
    f.seq_base + s.last_value as seq_base
from data_manager_log as l
join (select unnest($log_ids) as log_id, unnest($seq_bases) as seq_base) as f using (log_id)
cross join sequence as s
"""

EVENTS = """
select
    p.seq_base + r.line_number as seq, r.product_id, r.facility_id, r.effect, r.quantity, r.reset_by, r.reason_enum_id,
    coalesce(r.effective_at, p.effective_at) as effective_at, r.log_id, r.line_number, null::varchar as shipment_id, r.order_id,
    r.comments
from ({rows}) as r
join posting as p on p.log_id = r.log_id
"""

FINISHED = """
update data_manager_log
set
    status_id = case when failed_record_count > 0 then 'finished_with_errors' else 'finished' end,
    finished_at = current_timestamp,
    message = coalesce(case when total_record_count = 0 then 'The file has a header and no rows.' end, message)
where log_id in (select log_id from posting)
"""

POSTED = """
select p.log_id, count(d.seq), coalesce(sum(abs(d.available_to_promise_diff)), 0)::bigint
from posting as p
left join inventory_item_detail as d on d.log_id = p.log_id and d.seq > (select last_value from sequence)
group by p.log_id
order by min(p.seq_base)
"""


def _post(batch: list[Waiting], connection: duckdb.DuckDBPyConnection) -> list[Posted]:
    if table := batch[0].reset_table:
        resets.choose_rows(table, connection)
    if batch[0].may_be_held and resets.held(batch[0].log_id, connection):
        return []
    *bases, lines = accumulate((file.last_line for file in batch), initial=0)
    connection.execute(POSTING, {"log_ids": [file.log_id for file in batch], "seq_bases": bases})
    if batch[0].is_large_reset:
        if resets.post_by_joins(batch[0].rows, connection):
            rows_of_file = EVENTS.format(rows=ROWS[str(table)])
            apply_events(
                f"select * from ({rows_of_file}) semi join late_key using (product_id, facility_id)", connection
            )
    elif sum(file.rows for file in batch):
        apply_events(EVENTS.format(rows=" union all ".join(ROWS.values())), connection)
        resets.note_repeated(connection)
    connection.execute(CLOSED)
    connection.execute(FINISHED)
    if any(file.reset_table for file in batch):
        resets.cancel_held("select log_id from posting", connection)
    rows = {file.log_id: file.rows for file in batch}
    posted = [Posted(log_id, rows[log_id], *did) for log_id, *did in connection.execute(POSTED).fetchall()]
    connection.execute("update sequence set last_value = last_value + $lines", {"lines": lines})
    connection.execute("drop table posting")
    return posted


# A fulfilled order item is open by so much less; a later load of the reference leaves that out, too.
CLOSED = """
update virtual_queue_item as q
set
    quantity = greatest(0, q.quantity - f.quantity),
    changed_seq = f.seq
from (
    select r.order_id, r.order_item_seq_id, sum(r.quantity) as quantity, max(p.seq_base + r.line_number) as seq
    from item_fulfillment as r
    join posting as p on p.log_id = r.log_id
    group by r.order_id, r.order_item_seq_id
) as f
where f.order_id = q.order_id and f.order_item_seq_id = q.order_item_seq_id
"""

OLD = """
create or replace temp table old as
select log_id
from data_manager_log
where status_id in ('finished', 'finished_with_errors', 'cancelled')
    and rows_removed_at is null
    and finished_at < current_timestamp - to_days(if(config_id = $webhooks, greatest($keep_days, $remembered_days), $keep_days))
"""


def _remove_old_rows(connection: duckdb.DuckDBPyConnection) -> None:
    """Remove the rows of old resets that made no entry: a daily reset of millions of rows changes few, and the landed file is
    the record (design section 4)."""
    connection.execute(
        OLD,
        {
            "keep_days": settings.reset_rows_keep_days(),
            "webhooks": inbox.CONFIG_ID,
            "remembered_days": inbox.REMEMBERED_DAYS,
        },
    )
    if scalar(connection, "select count(*) from old") != 0:
        for table in (*resets.TABLES, "shopify_webhook_update"):
            connection.execute(
                f"delete from {table} as r where log_id in (select log_id from old) and not exists ("
                "select 1 from inventory_item_detail as d where d.log_id = r.log_id and d.line_number = r.line_number)"
            )
        connection.execute(
            "update data_manager_log set rows_removed_at = current_timestamp where log_id in (select log_id from old)"
        )
    connection.execute("drop table old")


MOVED = """
select {by}, count(*), sum(quantity_on_hand_diff)::bigint, sum(available_to_promise_diff)::bigint
from inventory_item_detail
where log_id in (select unnest($log_ids))
group by {by}
order by count(*) desc, {by}
"""
MOVED_COLUMNS = ("entries", "QOH units", "ATP units")

BIGGEST = """
with biggest as (
    select *
    from inventory_item_detail
    where log_id in (select unnest($log_ids))
    order by abs(available_to_promise_diff) desc, seq
    limit 10
)
select
    coalesce(p.internal_name, b.product_id),
    b.facility_id,
    b.last_available_to_promise - b.available_to_promise_diff,
    b.last_available_to_promise,
    b.available_to_promise_diff,
    b.reason_enum_id,
    b.log_id,
    b.line_number
from biggest as b
left join product as p on p.product_id = b.product_id
order by abs(b.available_to_promise_diff) desc, b.seq
"""
BIGGEST_COLUMNS = ("SKU", "facility", "ATP before", "ATP after", "change", "reason", "log_id", "line")


TO_COME = f"""
select reset_file_name, reset_at, count(*)
from inventory_item
where reset_at > current_timestamp + {MOST_AHEAD}
group by reset_file_name, reset_at
order by reset_at
limit 10
"""
HOW_TO_BE_RID = (
    "See the clock of who writes the files. To be rid of such a count, restore the warehouse as it was before (README), and put "
    "the file back with its true time."
)


@dg.multi_asset(
    name="inventory_item_detail",
    specs=[
        dg.AssetSpec(
            table.name,
            group_name="ledger",
            kinds={"duckdb"},
            deps=deps,
            description=table.description,
            metadata=table.metadata,
        )
        for table, deps in (
            (
                tables.INVENTORY_ITEM_DETAIL,
                ["data_manager_log", *ROWS, "shipment_receipt"],
            ),
            (tables.INVENTORY_ITEM, ["inventory_item_detail"]),
        )
    ],
    check_specs=[
        dg.AssetCheckSpec(
            "no_reset_is_held", asset="inventory_item_detail", description="No reset waits for somebody to look at it."
        ),
        dg.AssetCheckSpec(
            "no_count_is_to_come",
            asset="inventory_item_detail",
            description="No count is dated ahead of the clock: until its time nothing else moves what it counts.",
        ),
    ],
    can_subset=True,
)
def inventory_item_detail(
    context: dg.AssetExecutionContext, warehouse: Warehouse
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Post every imported file to the ledger, whichever run imported it."""
    seconds = Seconds()
    with seconds.of("posting"):
        posted = post_imported(warehouse)
    of_run = {"log_ids": [file.log_id for file in posted]}
    with warehouse.transaction() as connection:
        entries, keys = connection.execute(
            "select (select count(*) from inventory_item_detail), (select count(*) from inventory_item)"
        ).fetchall()[0]
        biggest = connection.execute(BIGGEST, of_run).fetchall()
        by_facility, by_reason = (
            connection.execute(MOVED.format(by=by), of_run).fetchall() for by in ("facility_id", "reason_enum_id")
        )
        held = connection.execute(
            "select file_name, message from data_manager_log where status_id = 'held' order by effective_at"
        ).fetchall()
        to_come = connection.execute(TO_COME).fetchall()
        log = files_of_the_last_day(connection)
    # whichever run it was, the files' page has what became of them
    context.log_event(
        dg.AssetMaterialization("data_manager_log", metadata=log, tags={"dagster/data_version": LOG_VERSION})
    )
    ahead = " ".join(
        f"{name} is dated {at:%Y-%m-%d %H:%M} UTC, which is to come: until then nothing else moves what {count:,} of its rows say."
        for name, at, count in to_come
    )
    entered = dg.MaterializeResult(
        asset_key="inventory_item_detail",
        metadata={
            "dagster/row_count": entries,
            "files_posted": len(posted),
            "entries_made": sum(file.entries for file in posted),
            "units_moved": sum(file.units for file in posted),
            "by_facility": markdown_table(("facility", *MOVED_COLUMNS), by_facility),
            "by_reason": markdown_table(("reason", *MOVED_COLUMNS), by_reason),
            "biggest_changes": markdown_table(BIGGEST_COLUMNS, biggest),
            **seconds.metadata,
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="no_reset_is_held",
                passed=not held,
                description=" ".join(f"{name}: {message}" for name, message in held)[:1000] or None,
                metadata={"held": len(held), "files": [name for name, _ in held]},
            ),
            dg.AssetCheckResult(
                check_name="no_count_is_to_come",
                passed=not ahead,
                severity=dg.AssetCheckSeverity.WARN,
                description=f"{ahead} {HOW_TO_BE_RID}" if ahead else None,
                metadata={"files": [name for name, *_ in to_come]},
            ),
        ],
    )
    yield from asked_for(context, (entered, dg.MaterializeResult("inventory_item", {"dagster/row_count": keys})))
