"""What is particular to resets: one that looks wrong is held, and a large one, whose keys mostly have nothing newer, is posted by
joins alone, which is what makes ten million rows a matter of seconds."""

import duckdb

from hotwax_inventory import settings, tables
from hotwax_inventory.files.names import IS_OF
from hotwax_inventory.imports import reset, shopify_reset
from hotwax_inventory.imports.shopify_levels import DIFFERENT_PLACES, PLACES
from hotwax_inventory.resources import scalar

# From so many of all keys on, one in five, writing the whole state anew is cheaper than merging into it.
REBUILD_ONE_IN = 5
# A reset is not looked at as suspicious when it meets fewer keys with stock.
FEWEST_STOCKED_KEYS = 1000

# The tables of whole counts, in the same columns.
TABLES = {
    "inventory_reset": """
        select log_id, line_number, product_id, facility_id, quantity, reset_by, comments
        from inventory_reset""",
    "shopify_inventory_reset": """
        select log_id, line_number, product_id, facility_id, quantity, 'QOH' as reset_by, null::varchar as comments
        from shopify_inventory_reset""",
}


def choose_rows(table: str, connection: duckdb.DuckDBPyConnection) -> None:
    """Let `reset_row` be the rows of one of TABLES."""
    connection.execute(f"create or replace temp view reset_row as {TABLES[table]}")


# What a reset would take to zero, of the keys that have something to sell at the facilities that it names, those with a newer reset
# among them: whether it is held does not depend on which came first. The last of several rows of a key counts. Only rows as low as
# what is promised somewhere can do so, and they are few.
ZEROED = """
with stocked as (
    select
        product_id,
        facility_id,
        available_to_promise_total - quantity_on_hand_total as gap
    from inventory_item
    where available_to_promise_total > 0
        and facility_id in (select distinct facility_id from reset_row where log_id = $log_id)
),
low as (
    select product_id, facility_id, line_number, quantity, reset_by
    from reset_row
    where log_id = $log_id and quantity <= (select greatest(0, -min(gap)) from stocked)
),
emptied as (
    select r.product_id, r.facility_id, max(r.line_number) as line_number
    from low as r
    join stocked as s on s.product_id = r.product_id and s.facility_id = r.facility_id
    where r.quantity + if(r.reset_by = 'QOH', s.gap, 0) <= 0
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

# A held reset is of no use any more once a newer one has counted at all its facilities, at least half as many rows at each: one
# of a few products leaves the others uncounted. {newer} are the ones to look at.
CANCELLED = f"""
with named as materialized (
    select log_id, facility_id, count(*) as row_count
    from ({" union all ".join(TABLES.values())})
    where log_id in ({{newer}}) or log_id in (select log_id from data_manager_log where status_id = 'held')
    group by log_id, facility_id
)
update data_manager_log as h
set
    status_id = 'cancelled',
    finished_at = current_timestamp,
    message = 'Cancelled: a newer reset of as much at the same facilities was posted, file ' || n.log_id || '.'
from (
    select held.log_id as held_log_id, max(p.log_id) as log_id
    from data_manager_log as held
    join data_manager_log as p
        on (p.effective_at, p.file_name, p.remote_modified_at) > (held.effective_at, held.file_name, held.remote_modified_at)
    where held.status_id = 'held'
        and p.log_id in ({{newer}})
        -- its own refused rows, mended, are a part of it
        and ({IS_OF.format("p", "held")}) is not true
        and exists (from named as n where n.log_id = p.log_id)
        and not exists (
            from named as h
            where h.log_id = held.log_id
                and not exists (
                    from named as n
                    where n.log_id = p.log_id and n.facility_id = h.facility_id and 2 * n.row_count >= h.row_count
                )
        )
    group by held.log_id
) as n
where h.log_id = n.held_log_id
"""


def held(log_id: int, connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the reset looks wrong (design 5.7); if so its status says how to release it."""
    stocked, zeroed = connection.execute(ZEROED, {"log_id": log_id}).fetchall()[0]
    percent = settings.reset_max_zeroed_percent()
    if stocked < FEWEST_STOCKED_KEYS or zeroed * 100 <= percent * stocked:
        return False
    path, config_id, server = connection.execute(
        "select remote_path, config_id, property_resource from data_manager_log where log_id = $log_id",
        {"log_id": log_id},
    ).fetchall()[0]
    which = "".join(
        f', {name} = "{told}"'
        for name, told, usual in (
            ("config_id", config_id, reset.FEED.config_id),
            ("property_resource", server, "FTP_CONFIG"),
        )
        if told != usual
    )
    again = (
        "run sync_inventory_from_shopify for the shop with approve = true"
        if config_id == shopify_reset.CONFIG_ID
        else f'run {reset.FEED.job} with paths = ["{path}"]{which} and approve = true'
    )
    message = (
        f"Held: it would take {zeroed:,} of {stocked:,} keys with stock at its facilities to zero, which is more than "
        f"{percent} % (RESET_MAX_ZEROED_PERCENT). Nothing of it was applied. If it is right, {again}; a newer reset of as much at "
        "the same facilities cancels it."
    )
    connection.execute(HELD, {"log_id": log_id, "message": message})
    cancel_held(
        "select log_id from data_manager_log where status_id in ('finished', 'finished_with_errors')", connection
    )
    return True


def cancel_held(newer: str, connection: duckdb.DuckDBPyConnection) -> None:
    """Cancel the held resets that one of `newer`, posted files, has made useless since."""
    if scalar(connection, "select exists (from data_manager_log where status_id = 'held')"):
        connection.execute(CANCELLED.format(newer=newer))


def note_repeated(connection: duckdb.DuckDBPyConnection) -> None:
    """Note which of the small resets in `posting` name a product at a facility twice (design 8.3)."""
    connection.execute(NOTE_REPEATED.format(keys=FEW_REPEATED))


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
select r.line_number, r.product_id, r.facility_id, r.quantity, r.reset_by, r.comments
from reset_row as r
semi join posting as p on p.log_id = r.log_id
anti join late_key as k on k.product_id = r.product_id and k.facility_id = r.facility_id
"""

REPEATED = f"""
create or replace temp table repeated as
with named as (
    select product_id, facility_id
    from reset_row
    where log_id in (select log_id from posting)
),
place as (
    select facility_id, row_number() over () - 1 as number
    from (select distinct facility_id from named)
)
select product_id, facility_id
from named
where product_id in (
    select n.product_id
    from named as n
    join place as p on p.facility_id = n.facility_id
    group by n.product_id, p.number // {PLACES}
    having count(*) > {DIFFERENT_PLACES.format("p.number")}
)
group by product_id, facility_id
having count(*) > 1
"""

# Which numbers of a file did not count, for another one beneath them; {keys} is how many of a log_id's stand more than once.
NOTE_REPEATED = """
update data_manager_log as l
set message = concat_ws(
    ' ', l.message, 'Products that stand more than once at a facility: ' || r.keys || '. The last row of each counts.'
)
from ({keys}) as r
where r.log_id = l.log_id and r.keys > 0
"""
FEW_REPEATED = """
select log_id, count(*) as keys
from (
    select log_id, product_id, facility_id
    from inventory_reset
    where log_id in (select log_id from posting)
    group by log_id, product_id, facility_id
    having count(*) > 1
)
group by log_id
"""
MANY_REPEATED = "select p.log_id, (select count(*) from repeated) as keys from posting as p"

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
# `left` for the resets alone and `full` for the whole state. What is the same for all rows stands beside them last, since a large
# join goes by way of the disk.
MET = f"""
select
    n.*,
    p.log_id,
    p.effective_at,
    p.file_name,
    p.modified_at,
    p.seq_base + n.line_number as seq,
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
        or p.effective_at > i.reset_at
        or (
            p.effective_at = i.reset_at
            and (p.file_name, p.modified_at, n.line_number) > (i.reset_file_name, i.reset_modified_at, i.reset_line_number)
        )
    ) as applies,
    n.quantity - case when n.reset_by = 'QOH'
        then coalesce(i.quantity_on_hand_total, 0)
        else coalesce(i.available_to_promise_total, 0)
    end as diff
from ({NEWEST}) as n
{{join}} join inventory_item as i on i.product_id = n.product_id and i.facility_id = n.facility_id
cross join posting as p
"""

ENTER = """
insert into inventory_item_detail by name
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
from ({changes})
where diff <> 0
"""
MET_AND_CHANGED = f"from ({MET.format(join='left')}) where applies"

# What the state written anew has changed, beside the state before.
REBUILT_AND_CHANGED = """
select
    n.changed_seq as seq,
    n.product_id,
    n.facility_id,
    n.available_to_promise_total - coalesce(i.available_to_promise_total, 0) as diff,
    i.quantity_on_hand_total,
    i.available_to_promise_total,
    n.reset_quantity as quantity,
    n.reset_at as effective_at,
    n.reset_log_id as log_id,
    n.reset_line_number as line_number,
    r.comments
from inventory_item_next as n
left join inventory_item as i on i.product_id = n.product_id and i.facility_id = n.facility_id
left join (
    select line_number, comments
    from reset_row
    where log_id in (select log_id from posting) and comments is not null
) as r on r.line_number = n.reset_line_number
where n.changed_seq > $last_value
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

REBUILD = f"insert into inventory_item_next {STATE.format(met=MET.format(join='full'))}"


def post_by_joins(rows: int, connection: duckdb.DuckDBPyConnection) -> bool:
    """Post the one reset of `posting`, of so many rows, but for the keys that have moved since.

    Whether there are such keys: they are in the temporary table `late_key`, and left to the fold."""
    connection.execute(LATE_KEYS)
    connection.execute(REPEATED)
    known, last_value = connection.execute(
        "select (select count(*) from inventory_item), last_value from sequence"
    ).fetchall()[0]
    if rows * REBUILD_ONE_IN > known:
        connection.execute(tables.INVENTORY_ITEM.ddl("inventory_item_next"))
        connection.execute(REBUILD)
        connection.execute(ENTER.format(changes=REBUILT_AND_CHANGED), {"last_value": last_value})
        connection.execute("drop table inventory_item")
        connection.execute("alter table inventory_item_next rename to inventory_item")
    else:
        connection.execute(ENTER.format(changes=MET_AND_CHANGED))
        connection.execute(MERGE)
    connection.execute(NOTE_REPEATED.format(keys=MANY_REPEATED))
    connection.execute("drop table repeated")
    return scalar(connection, "select count(*) from late_key") != 0
