"""The inventory ledger and the stock that it adds up to. Nothing else writes either.

A key's state is the fold of its events in order of effect (time, then file name, then line; design 8.12). Here are the resets:
the newest one counts, and its entry is what it changes. An older one changes nothing and makes no entry."""

from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg
import duckdb

from hotwax_inventory import tables
from hotwax_inventory.imports.summary import markdown_table
from hotwax_inventory.resources import Warehouse, transaction

# A file of more rows has a transaction of its own; smaller ones share one up to this many.
BATCH_ROWS = 500_000
# From this share of all keys on, writing the whole state anew is cheaper than merging into it.
REBUILD_SHARE = 5


@dataclass(frozen=True)
class Posted:
    """What posting one batch of files did."""

    log_ids: tuple[int, ...]
    rows: int
    entries: int
    units: int


def post_imported(warehouse: Warehouse) -> list[Posted]:
    """Post every imported file, in order of effect, and mark it finished in the same transaction."""
    posted: list[Posted] = []
    with warehouse.connect() as connection:
        while batch := next(_batches(connection), None):
            with transaction(connection):
                posted.append(_post(batch, connection))
    return posted


WAITING = """
select log_id, coalesce(total_record_count, 0)
from data_manager_log
where status_id = 'imported'
order by effective_at, file_name, log_id
"""


def _batches(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[int, ...]]:
    batch: list[int] = []
    rows = 0
    for log_id, count in connection.execute(WAITING).fetchall():
        if batch and rows + count > BATCH_ROWS:
            yield tuple(batch)
            batch, rows = [], 0
        batch.append(log_id)
        rows += count
    if batch:
        yield tuple(batch)


# The files of the batch; `seq_base` gives each line of each file a number of its own in the one sequence.
POSTING = """
create or replace temp table posting as
select
    log_id,
    effective_at,
    file_name,
    last_value + coalesce(sum(last_line) over (order by log_id rows between unbounded preceding and 1 preceding), 0) as seq_base,
    last_value + sum(last_line) over (order by log_id) as seq_end
from (
    select l.log_id, l.effective_at, l.file_name, coalesce(max(r.line_number), 0) as last_line
    from data_manager_log as l
    left join inventory_reset as r on r.log_id = l.log_id
    where l.log_id in (select unnest($log_ids))
    group by all
), sequence
"""

RESET = """
select r.log_id, r.line_number, r.product_id, r.facility_id, r.quantity, r.reset_by, r.comments,
    p.effective_at, p.file_name, p.seq_base + r.line_number as seq
from inventory_reset as r
join posting as p on p.log_id = r.log_id
"""

REPEATED = """
create or replace temp table repeated as
select product_id, facility_id
from inventory_reset
where log_id in (select log_id from posting)
group by product_id, facility_id
having count(*) > 1
"""

# Only the last of several resets of a key counts; the few keys that have several are kept apart, since ordering all is dear.
APPLIED = f"""
create or replace temp table applied as
with reset as ({RESET}),
newest as (
    select * from reset anti join repeated using (product_id, facility_id)
    union all
    select *
    from reset
    semi join repeated using (product_id, facility_id)
    qualify row_number() over (
        partition by product_id, facility_id
        order by effective_at desc, file_name desc, line_number desc
    ) = 1
)
select
    n.product_id,
    n.facility_id,
    coalesce(i.quantity_on_hand_total, 0) as quantity_on_hand,
    coalesce(i.available_to_promise_total, 0) as available_to_promise,
    n.quantity - case when n.reset_by = 'QOH'
        then coalesce(i.quantity_on_hand_total, 0)
        else coalesce(i.available_to_promise_total, 0)
    end as diff,
    i.changed_seq,
    n.quantity,
    n.reset_by,
    n.effective_at,
    n.file_name,
    n.log_id,
    n.line_number,
    n.seq,
    n.comments
from newest as n
left join inventory_item as i on i.product_id = n.product_id and i.facility_id = n.facility_id
where i.reset_at is null
    or n.effective_at > i.reset_at
    or (n.effective_at = i.reset_at and n.file_name > i.reset_file_name)
    or (n.effective_at = i.reset_at and n.file_name = i.reset_file_name and n.line_number > i.reset_line_number)
"""

ENTER = """
insert into inventory_item_detail
select
    seq,
    product_id,
    facility_id,
    diff as quantity_on_hand_diff,
    diff as available_to_promise_diff,
    quantity_on_hand + diff as last_quantity_on_hand,
    available_to_promise + diff as last_available_to_promise,
    quantity,
    'VAR_EXT_RESET' as reason_enum_id,
    effective_at,
    log_id,
    line_number,
    null as shipment_id,
    null as order_id,
    comments as description
from applied
where diff <> 0
"""

NEW_STATE = """
select
    product_id,
    facility_id,
    quantity_on_hand + diff as quantity_on_hand_total,
    available_to_promise + diff as available_to_promise_total,
    case when diff <> 0 or changed_seq is null then seq else changed_seq end as changed_seq,
    effective_at as reset_at,
    file_name as reset_file_name,
    line_number as reset_line_number,
    log_id as reset_log_id,
    reset_by,
    quantity as reset_quantity
from applied
"""

MERGE = f"""
merge into inventory_item as i
using ({NEW_STATE}) as n
on i.product_id = n.product_id and i.facility_id = n.facility_id
when matched then update
when not matched then insert
"""

REBUILD = (
    tables.INVENTORY_ITEM.ddl("inventory_item_next"),
    f"""
    insert into inventory_item_next
    {NEW_STATE}
    union all
    select i.*
    from inventory_item as i
    anti join applied as a on a.product_id = i.product_id and a.facility_id = i.facility_id
    """,
    "drop table inventory_item",
    "alter table inventory_item_next rename to inventory_item",
)

FINISHED = """
update data_manager_log
set
    status_id = case when failed_record_count > 0 then 'finished_with_errors' else 'finished' end,
    finished_at = current_timestamp,
    message = case when total_record_count = 0 then 'The file has a header and no rows.' end
where log_id in (select log_id from posting)
"""


def _post(log_ids: tuple[int, ...], connection: duckdb.DuckDBPyConnection) -> Posted:
    connection.execute(POSTING, {"log_ids": list(log_ids)})
    connection.execute(REPEATED)
    connection.execute(APPLIED)
    keys, entries, units = connection.execute(
        "select count(*), count(*) filter (diff <> 0), coalesce(sum(abs(diff)), 0)::bigint from applied"
    ).fetchall()[0]
    connection.execute(ENTER)
    known = connection.execute("select count(*) from inventory_item").fetchall()[0][0]
    for statement in REBUILD if keys * REBUILD_SHARE > known else (MERGE,):
        connection.execute(statement)
    connection.execute("update sequence set last_value = greatest(last_value, (select max(seq_end) from posting))")
    connection.execute(FINISHED)
    for name in ("applied", "repeated", "posting"):
        connection.execute(f"drop table {name}")
    return Posted(log_ids, keys, entries, units)


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
            (tables.INVENTORY_ITEM_DETAIL, ["inventory_reset"]),
            (tables.INVENTORY_ITEM, ["inventory_item_detail"]),
        )
    ],
)
def inventory_item_detail(warehouse: Warehouse):
    """Post every imported file to the ledger, whichever run imported it."""
    posted = post_imported(warehouse)
    log_ids = [log_id for batch in posted for log_id in batch.log_ids]
    with warehouse.transaction() as connection:
        entries, keys = connection.execute(
            "select (select count(*) from inventory_item_detail), (select count(*) from inventory_item)"
        ).fetchall()[0]
        changes = connection.execute(
            "select product_id, facility_id, available_to_promise_diff, last_available_to_promise, reason_enum_id "
            "from inventory_item_detail where log_id in (select unnest($log_ids)) "
            "order by abs(available_to_promise_diff) desc limit 10",
            {"log_ids": log_ids},
        ).fetchall()
    yield dg.MaterializeResult(
        asset_key="inventory_item_detail",
        metadata={
            "dagster/row_count": entries,
            "files_posted": len(log_ids),
            "entries_made": sum(batch.entries for batch in posted),
            "units_moved": sum(batch.units for batch in posted),
            "biggest_changes": markdown_table(("product", "facility", "change", "ATP after", "reason"), changes),
        },
    )
    yield dg.MaterializeResult(asset_key="inventory_item", metadata={"dagster/row_count": keys})
