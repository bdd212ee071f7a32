"""The inventory ledger and the stock that it adds up to. Nothing else writes either.

A key's state is the fold of its events in order of effect: time, then file name, then line (design 8.12); between two files of
one name and time the one modified later counts. Here are the resets: the newest one counts, and its entry is what it changes. An
older one changes nothing and makes no entry."""

from dataclasses import dataclass

import dagster as dg
import duckdb

from hotwax_inventory import settings, tables
from hotwax_inventory.imports.summary import markdown_table
from hotwax_inventory.resources import Warehouse, transaction

# From this share of all keys on, writing the whole state anew is cheaper than merging into it.
REBUILD_SHARE = 5


@dataclass(frozen=True)
class Posted:
    """What posting one file did."""

    log_id: int
    rows: int
    entries: int
    units: int


def post_imported(warehouse: Warehouse) -> list[Posted]:
    """Post every imported file, one after the other in order of effect, and mark it finished in the same transaction."""
    posted: list[Posted] = []
    with warehouse.connect() as connection:
        # rows are numbered by now; without regard to their order large writes take two thirds of the time and less memory
        connection.execute("set preserve_insertion_order = false")
        for (log_id,) in connection.execute(WAITING).fetchall():
            with transaction(connection):
                posted.append(_post(log_id, connection))
        with transaction(connection):
            _remove_old_rows(connection)
    return posted


WAITING = """
select log_id
from data_manager_log
where status_id = 'imported'
order by effective_at, file_name, remote_modified_at, log_id
"""

OLD = """
create or replace temp table old as
select log_id
from data_manager_log
where status_id in ('finished', 'finished_with_errors')
    and rows_removed_at is null
    and finished_at < current_timestamp - to_days($keep_days)
"""


def _remove_old_rows(connection: duckdb.DuckDBPyConnection) -> None:
    """Remove the rows of old resets that made no entry: a daily reset of millions of rows changes few, and the landed file is
    the record (design section 4)."""
    connection.execute(OLD, {"keep_days": settings.reset_rows_keep_days()})
    if connection.execute("select count(*) from old").fetchall() != [(0,)]:
        connection.execute(
            "delete from inventory_reset as r where log_id in (select log_id from old) and not exists ("
            "select 1 from inventory_item_detail as d where d.log_id = r.log_id and d.line_number = r.line_number)"
        )
        connection.execute(
            "update data_manager_log set rows_removed_at = current_timestamp where log_id in (select log_id from old)"
        )
    connection.execute("drop table old")


# The file; `seq_base` gives each of its lines a number of its own in the one sequence.
POSTING = """
create or replace temp table posting as
select log_id, effective_at, file_name, remote_modified_at as modified_at, last_value as seq_base
from data_manager_log, sequence
where log_id = $log_id
"""

RESET = """
select r.log_id, r.line_number, r.product_id, r.facility_id, r.quantity, r.reset_by, r.comments,
    p.effective_at, p.file_name, p.modified_at, p.seq_base + r.line_number as seq
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
NEWEST = f"""
select * from ({RESET}) anti join repeated using (product_id, facility_id)
union all
select *
from ({RESET})
semi join repeated using (product_id, facility_id)
qualify row_number() over (
    partition by product_id, facility_id
    order by effective_at desc, file_name desc, modified_at desc, line_number desc
) = 1
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
    comments as description
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

FINISHED = """
update data_manager_log
set
    status_id = case when failed_record_count > 0 then 'finished_with_errors' else 'finished' end,
    finished_at = current_timestamp,
    message = case when total_record_count = 0 then 'The file has a header and no rows.' end
where log_id in (select log_id from posting)
"""


def _post(log_id: int, connection: duckdb.DuckDBPyConnection) -> Posted:
    connection.execute(POSTING, {"log_id": log_id})
    rows, last_line, first_seq = connection.execute(
        "select count(*), coalesce(max(line_number), 0), (select last_value from sequence) "
        "from inventory_reset where log_id = $log_id",
        {"log_id": log_id},
    ).fetchall()[0]
    connection.execute(REPEATED)
    connection.execute(ENTER)
    known = connection.execute("select count(*) from inventory_item").fetchall()[0][0]
    for statement in REBUILD if rows * REBUILD_SHARE > known else (MERGE,):
        connection.execute(statement)
    connection.execute("update sequence set last_value = last_value + $lines", {"lines": last_line})
    connection.execute(FINISHED)
    entries, units = connection.execute(
        "select count(*), coalesce(sum(abs(available_to_promise_diff)), 0)::bigint from inventory_item_detail where seq > $seq",
        {"seq": first_seq},
    ).fetchall()[0]
    connection.execute("drop table repeated")
    connection.execute("drop table posting")
    return Posted(log_id, rows, entries, units)


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
    log_ids = [file.log_id for file in posted]
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
            "entries_made": sum(file.entries for file in posted),
            "units_moved": sum(file.units for file in posted),
            "biggest_changes": markdown_table(("product", "facility", "change", "ATP after", "reason"), changes),
        },
    )
    yield dg.MaterializeResult(asset_key="inventory_item", metadata={"dagster/row_count": keys})
