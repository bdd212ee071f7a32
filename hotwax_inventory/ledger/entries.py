"""The inventory ledger and the stock that it adds up to: imported files are posted here, and nothing else writes either.

`ledger.fold` says what rows change. Small files are posted many at a time; a large reset, whose keys mostly have nothing newer,
goes by joins alone, which is what makes ten million rows a matter of seconds."""

from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg
import duckdb

from hotwax_inventory import settings, tables
from hotwax_inventory.files import inbox
from hotwax_inventory.imports import shopify_reset
from hotwax_inventory.imports.feeds import IMPORTS
from hotwax_inventory.imports.summary import markdown_table
from hotwax_inventory.ledger.fold import apply_events
from hotwax_inventory.progress import Progress, Seconds
from hotwax_inventory.resources import Warehouse, require_free_disk, transaction

# From this share of all keys on, writing the whole state anew is cheaper than merging into it.
REBUILD_SHARE = 5
# Files are posted together up to this many rows; a reset of as many is posted by itself.
BATCH_ROWS = 200_000
# A reset is not looked at as suspicious when it meets fewer keys with stock.
FEWEST_STOCKED_KEYS = 1000

# The tables of whole counts, in the same columns.
RESETS = {
    "inventory_reset": """
        select log_id, line_number, product_id, facility_id, quantity, reset_by, comments
        from inventory_reset""",
    "shopify_inventory_reset": """
        select log_id, line_number, product_id, facility_id, quantity, 'QOH' as reset_by, null::varchar as comments
        from shopify_inventory_reset""",
}
# What the ledger takes from each table of accepted rows, as ledger.fold wants it; `effective_at` where it is the row's own.
ROWS = {
    **{
        table: f"""
        select log_id, line_number, product_id, facility_id, 'reset' as effect, reset_by, quantity,
            'VAR_EXT_RESET' as reason_enum_id, null::varchar as order_id, comments, null::timestamptz as effective_at
        from (
            select *, max(line_number) over (partition by log_id, product_id, facility_id) as last_line
            from ({resets})
            where log_id in (select log_id from posting)
        )
        where line_number = last_line"""
        for table, resets in RESETS.items()
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
    # the table of RESETS that has its rows, if one has
    reset_table: str | None
    may_be_held: bool

    @property
    def is_large_reset(self) -> bool:
        return self.reset_table is not None and self.rows >= BATCH_ROWS


def post_imported(warehouse: Warehouse) -> list[Posted]:
    """Post every imported file in order of effect, and mark it finished in the same transaction. Raises DiskNearlyFull."""
    posted: list[Posted] = []
    with warehouse.connect() as connection:
        # rows are numbered by now; without regard to their order large writes take two thirds of the time and less memory
        connection.execute("set preserve_insertion_order = false")
        waiting = _waiting(connection)
        if waiting:
            require_free_disk()
        progress, done = Progress("Rows posted to the ledger", sum(file.rows for file in waiting), "rows"), 0
        for batch in _batches(waiting):
            with transaction(connection):
                posted += _post(batch, connection)
            done += sum(file.rows for file in batch)
            progress.reached(done)
        with transaction(connection):
            _remove_old_rows(connection)
    return posted


WAITING = f"""
with accepted as (
    {
    " union all ".join(
        f"select log_id, line_number, quantity as reset_to, '{table}' as reset_table from {table}"
        if table in RESETS
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


def _waiting(connection: duckdb.DuckDBPyConnection) -> list[Waiting]:
    if connection.execute("select count(*) from data_manager_log where status_id = 'imported'").fetchall() == [(0,)]:
        return []
    found = connection.execute(
        WAITING, {"fewest": FEWEST_STOCKED_KEYS, "percent": settings.reset_max_zeroed_percent()}
    ).fetchall()
    return [Waiting(*row) for row in found]


def _batches(files: list[Waiting]) -> Iterator[list[Waiting]]:
    batch: list[Waiting] = []
    for file in files:
        alone = file.may_be_held or file.is_large_reset
        if batch and (alone or sum(f.rows for f in batch) + file.rows > BATCH_ROWS):
            yield batch
            batch = []
        batch.append(file)
        if alone:
            yield batch
            batch = []
    if batch:
        yield batch


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
    message = case when total_record_count = 0 then 'The file has a header and no rows.' end
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
        connection.execute(f"create or replace temp view reset_row as {RESETS[table]}")
    if batch[0].may_be_held and _held(batch[0].log_id, connection):
        return []
    bases = [sum(file.last_line for file in batch[:i]) for i in range(len(batch))]
    connection.execute(POSTING, {"log_ids": [file.log_id for file in batch], "seq_bases": bases})
    if batch[0].is_large_reset:
        _post_large_reset(batch[0], connection)
    elif sum(file.rows for file in batch):
        apply_events(EVENTS.format(rows=" union all ".join(ROWS.values())), connection)
    connection.execute(CLOSED)
    connection.execute(FINISHED)
    if any(file.reset_table for file in batch):
        connection.execute(CANCELLED)
    rows = {file.log_id: file.rows for file in batch}
    posted = [Posted(log_id, rows[log_id], *did) for log_id, *did in connection.execute(POSTED).fetchall()]
    connection.execute(
        "update sequence set last_value = last_value + $lines", {"lines": bases[-1] + batch[-1].last_line}
    )
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

# What a reset would take to zero, of the keys that have something to sell at the facilities that it names; the last of several
# rows of a key counts.
ZEROED = """
with stocked as (
    select
        product_id,
        facility_id,
        available_to_promise_total - quantity_on_hand_total as gap,
        coalesce(reset_at < (select effective_at from data_manager_log where log_id = $log_id), true) as is_older
    from inventory_item
    where available_to_promise_total > 0
        and facility_id in (select distinct facility_id from reset_row where log_id = $log_id)
),
emptied as (
    select r.product_id, r.facility_id, max(r.line_number) as line_number
    from reset_row as r
    join stocked as s on s.product_id = r.product_id and s.facility_id = r.facility_id
    where r.log_id = $log_id and s.is_older and r.quantity + if(r.reset_by = 'QOH', s.gap, 0) <= 0
    group by r.product_id, r.facility_id
),
filled as (
    select distinct e.product_id, e.facility_id
    from emptied as e
    join reset_row as r
        on r.log_id = $log_id
        and r.product_id = e.product_id
        and r.facility_id = e.facility_id
        and r.line_number > e.line_number
)
select (select count(*) from stocked), (select count(*) from emptied) - (select count(*) from filled)
"""

HELD = """
update data_manager_log
set status_id = 'held', message = $message
where log_id = $log_id
"""

# A held reset is of no use any more once a newer one has named all its facilities.
CANCELLED = f"""
with reset_row as ({" union all ".join(RESETS.values())})
update data_manager_log as h
set
    status_id = 'cancelled',
    finished_at = current_timestamp,
    message = 'Cancelled: a newer reset of the same facilities was posted, file ' || n.log_id || '.'
from (
    select held.log_id as held_log_id, max(p.log_id) as log_id
    from data_manager_log as held
    join posting as p
        on (p.effective_at, p.file_name, p.modified_at) > (held.effective_at, held.file_name, held.remote_modified_at)
    where held.status_id = 'held'
        and exists (from reset_row as r where r.log_id = p.log_id)
        and not exists (
            select facility_id from reset_row as r where r.log_id = held.log_id
            except
            select facility_id from reset_row as r where r.log_id = p.log_id
        )
    group by held.log_id
) as n
where h.log_id = n.held_log_id
"""


def _held(log_id: int, connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the reset looks wrong (design 5.7); if so its status says how to release it."""
    stocked, zeroed = connection.execute(ZEROED, {"log_id": log_id}).fetchall()[0]
    percent = settings.reset_max_zeroed_percent()
    if stocked < FEWEST_STOCKED_KEYS or zeroed * 100 <= percent * stocked:
        return False
    path, config_id = connection.execute(
        "select remote_path, config_id from data_manager_log where log_id = $log_id", {"log_id": log_id}
    ).fetchall()[0]
    again = (
        "run sync_inventory_from_shopify for the shop with approve = true"
        if config_id == shopify_reset.CONFIG_ID
        else f'run the import job of {config_id} with paths = ["{path}"] and approve = true'
    )
    message = (
        f"Held: it would take {zeroed:,} of {stocked:,} keys with stock at its facilities to zero, which is more than "
        f"{percent} % (RESET_MAX_ZEROED_PERCENT). Nothing of it was applied. If it is right, {again}; a newer reset of the same "
        "facilities cancels it."
    )
    connection.execute(HELD, {"log_id": log_id, "message": message})
    return True


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
    if connection.execute("select count(*) from old").fetchall() != [(0,)]:
        for table in (*RESETS, "shopify_webhook_update"):
            connection.execute(
                f"delete from {table} as r where log_id in (select log_id from old) and not exists ("
                "select 1 from inventory_item_detail as d where d.log_id = r.log_id and d.line_number = r.line_number)"
            )
        connection.execute(
            "update data_manager_log set rows_removed_at = current_timestamp where log_id in (select log_id from old)"
        )
    connection.execute("drop table old")


# Keys that have moved since the reset's time are folded again; there are few, and the others need no more than a join. So are those
# whose reset is of another file of this name and time.
LATE_KEYS = """
create or replace temp table late_key as
select product_id, facility_id
from inventory_item
where last_moved_at >= (select effective_at from posting)
    or reset_log_id in (
        select l.log_id
        from data_manager_log as l
        join posting as p
            on l.effective_at = p.effective_at and l.file_name = p.file_name and l.remote_modified_at = p.modified_at
        where l.sha256 <> p.sha256
    )
"""

RESET = """
select r.log_id, r.line_number, r.product_id, r.facility_id, r.quantity, r.reset_by, r.comments,
    p.effective_at, p.file_name, p.modified_at, p.seq_base + r.line_number as seq
from reset_row as r
join posting as p on p.log_id = r.log_id
anti join late_key as k on k.product_id = r.product_id and k.facility_id = r.facility_id
"""

REPEATED = """
create or replace temp table repeated as
select product_id, facility_id
from reset_row
where log_id in (select log_id from posting)
group by product_id, facility_id
having count(*) > 1
"""

# Only the last of several resets of a key counts; the few keys that have several are kept apart, since ordering all is dear.
NEWEST = f"""
select * from ({RESET}) anti join repeated using (product_id, facility_id)
union all
select *
from ({RESET})
semi join repeated using (product_id, facility_id)
qualify row_number() over (partition by product_id, facility_id order by line_number desc) = 1
"""

# Each reset beside the state that it meets; `applies` says that no newer one is known, `diff` what it changes. `{join}` is
# `left` for the resets alone and `full` for the whole state.
MET = f"""
select
    n.*,
    i.product_id as known_product_id,
    i.facility_id as known_facility_id,
    i.quantity_on_hand_total,
    i.available_to_promise_total,
    i.changed_seq,
    i.last_moved_at,
    i.reset_at,
    i.reset_file_name,
    i.reset_modified_at,
    i.reset_line_number,
    i.reset_log_id,
    i.reset_by as known_reset_by,
    i.reset_quantity,
    n.product_id is not null and (
        i.reset_at is null
        or n.effective_at > i.reset_at
        or (
            n.effective_at = i.reset_at
            and (n.file_name, n.modified_at, n.line_number) > (i.reset_file_name, i.reset_modified_at, i.reset_line_number)
        )
    ) as applies,
    n.quantity - case when n.reset_by = 'QOH'
        then coalesce(i.quantity_on_hand_total, 0)
        else coalesce(i.available_to_promise_total, 0)
    end as diff
from ({NEWEST}) as n
{{join}} join inventory_item as i on i.product_id = n.product_id and i.facility_id = n.facility_id
"""

ENTER = f"""
insert into inventory_item_detail
select
    seq,
    product_id,
    facility_id,
    diff as quantity_on_hand_diff,
    diff as available_to_promise_diff,
    coalesce(quantity_on_hand_total, 0) + diff as last_quantity_on_hand,
    coalesce(available_to_promise_total, 0) + diff as last_available_to_promise,
    quantity,
    'VAR_EXT_RESET' as reason_enum_id,
    effective_at,
    log_id,
    line_number,
    null as shipment_id,
    null as order_id,
    comments as description,
    'reset' as effect
from ({MET.format(join="left")})
where applies and diff <> 0
"""

STATE = """
select
    coalesce(product_id, known_product_id) as product_id,
    coalesce(facility_id, known_facility_id) as facility_id,
    coalesce(quantity_on_hand_total, 0) + if(applies, diff, 0) as quantity_on_hand_total,
    coalesce(available_to_promise_total, 0) + if(applies, diff, 0) as available_to_promise_total,
    if(applies and (diff <> 0 or changed_seq is null), seq, changed_seq) as changed_seq,
    last_moved_at,
    if(applies, effective_at, reset_at) as reset_at,
    if(applies, file_name, reset_file_name) as reset_file_name,
    if(applies, modified_at, reset_modified_at) as reset_modified_at,
    if(applies, line_number, reset_line_number) as reset_line_number,
    if(applies, log_id, reset_log_id) as reset_log_id,
    if(applies, reset_by, known_reset_by) as reset_by,
    if(applies, quantity, reset_quantity) as reset_quantity
from ({met})
"""

MERGE = f"""
merge into inventory_item as i
using ({STATE.format(met=MET.format(join="left"))} where applies) as n
on i.product_id = n.product_id and i.facility_id = n.facility_id
when matched then update
when not matched then insert
"""

REBUILD = (
    tables.INVENTORY_ITEM.ddl("inventory_item_next"),
    f"insert into inventory_item_next {STATE.format(met=MET.format(join='full'))}",
    "drop table inventory_item",
    "alter table inventory_item_next rename to inventory_item",
)


def _post_large_reset(file: Waiting, connection: duckdb.DuckDBPyConnection) -> None:
    """Post the one reset of `posting`, whose rows are in `reset_row`, by joins; keys that have moved since are left to the fold."""
    connection.execute(LATE_KEYS)
    connection.execute(REPEATED)
    connection.execute(ENTER)
    known = connection.execute("select count(*) from inventory_item").fetchall()[0][0]
    for statement in REBUILD if file.rows * REBUILD_SHARE > known else (MERGE,):
        connection.execute(statement)
    if connection.execute("select count(*) from late_key").fetchall() != [(0,)]:
        resets = EVENTS.format(rows=ROWS[str(file.reset_table)])
        apply_events(f"select * from ({resets}) semi join late_key using (product_id, facility_id)", connection)
    connection.execute("drop table late_key; drop table repeated")


MOVED = """
select {by}, count(*), sum(quantity_on_hand_diff)::bigint, sum(available_to_promise_diff)::bigint
from inventory_item_detail
where log_id in (select unnest($log_ids))
group by {by}
order by count(*) desc, {by}
"""
MOVED_COLUMNS = ("entries", "QOH units", "ATP units")

BIGGEST = """
select
    product_id,
    facility_id,
    last_available_to_promise - available_to_promise_diff,
    last_available_to_promise,
    available_to_promise_diff,
    reason_enum_id,
    log_id,
    line_number
from inventory_item_detail
where log_id in (select unnest($log_ids))
order by abs(available_to_promise_diff) desc, seq
limit 10
"""
BIGGEST_COLUMNS = ("product", "facility", "ATP before", "ATP after", "change", "reason", "log_id", "line")


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
        )
    ],
)
def inventory_item_detail(warehouse: Warehouse):
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
    yield dg.MaterializeResult(
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
                metadata={"held": len(held)},
            )
        ],
    )
    yield dg.MaterializeResult(asset_key="inventory_item", metadata={"dagster/row_count": keys})
