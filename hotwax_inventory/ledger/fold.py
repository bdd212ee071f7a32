"""How events change stock: what the rows of the temporary table `event` make of the keys that they name.

A key's state is the fold of its events in order of effect (design 8.12). A reset sets one counter and moves the other by the
same; a `delta` moves both, and a negative one not below what is on hand; a `movement` moves both without that limit; an
`on_hand` event (a reserved unit leaves) moves the quantity on hand alone, so that it changes the gap between the two counters,
whenever it comes. Most keys get events that are newer than all that they had: those are summed up by windows, the others by
`ledger.refold`."""

import duckdb

from hotwax_inventory.ledger.path import POSITION
from hotwax_inventory.ledger.refold import refold
from hotwax_inventory.resources import scalar

# `event` has one row for each row of the files being posted. on_hand and promise are what the row adds to each counter, as it is
# stated; null in a reset.
EVENT = """
create or replace temp table event as
select
    a.seq,
    a.product_id,
    a.facility_id,
    a.effect,
    a.quantity,
    a.reset_by,
    case when a.effect <> 'reset' then a.quantity end as on_hand,
    case a.effect when 'delta' then a.quantity when 'movement' then a.quantity when 'on_hand' then 0 end as promise,
    a.reason_enum_id,
    a.effective_at,
    a.log_id,
    a.line_number,
    a.shipment_id,
    a.order_id,
    a.comments
from ({arrived}) as a
"""

# Rows of one file and time come in order of effect.
KINDS = """
select coalesce(min(log_id) <> max(log_id) or min(effective_at) <> max(effective_at), false), bool_or(effect = 'reset')
from event
"""

# They are entered, and so numbered, in order of effect.
ORDERED = f"""
create or replace temp table event as
select e.* replace (
    (select min(seq) from event) - 1 + row_number() over (order by {POSITION.format("e")}, e.seq) as seq
)
from event as e
left join data_manager_log as l on l.log_id = e.log_id
"""

# The keys of the events as they stood before.
MET = """
create or replace temp table met as
select
    k.key,
    k.product_id,
    k.facility_id,
    coalesce(i.quantity_on_hand_total, 0) as on_hand,
    coalesce(i.available_to_promise_total, 0) as promise,
    i.changed_seq,
    i.last_moved_at,
    coalesce(k.first_at <= i.last_moved_at or k.first_at <= i.reset_at, false) as is_late,
    false as is_doubtful
from (
    select product_id, facility_id, min(seq) as key, min(effective_at) as first_at
    from event
    group by product_id, facility_id
) as k
left join inventory_item as i on i.product_id = k.product_id and i.facility_id = k.facility_id
"""

# Where every event is newer than what the key had. What is on hand is the running sum, plus as much as was above it at the last
# reset (or before) or as a cut delta has raised it to zero, whichever is most; unless a delta meets less than nothing, which it
# does not raise. (`count(*) filter` as a window would be quadratic.)
IN_ORDER = """
create or replace temp table outcome as
with summed as (
    select
        e.seq,
        m.key,
        e.effect,
        e.effective_at,
        e.reset_by,
        e.quantity,
        m.on_hand as had_on_hand,
        m.promise as had_promise,
        m.promise - m.on_hand + coalesce(sum(e.promise - e.on_hand) over of_key, 0) as gap,
        coalesce(sum(e.on_hand) over of_key, 0) as moved,
        sum((e.effect = 'reset')::integer) over of_key as resets
    from event as e
    join met as m on m.product_id = e.product_id and m.facility_id = e.facility_id
    where not m.is_late
    window of_key as (partition by m.key order by e.seq)
),
reached as (
    select
        *,
        moved + greatest(
            if(resets = 0, had_on_hand, null),
            max(case
                when effect = 'reset' then quantity - if(reset_by = 'QOH', 0, gap) - moved
                when effect = 'delta' and quantity < 0 then -moved
            end) over (partition by key, resets order by seq)
        ) as on_hand
    from summed
)
select
    seq,
    key,
    effect,
    effective_at,
    on_hand::bigint as on_hand,
    (on_hand + gap)::bigint as promise,
    (on_hand - lag(on_hand, 1, had_on_hand) over of_key)::bigint as on_hand_diff,
    (on_hand + gap - lag(on_hand + gap, 1, had_promise) over of_key)::bigint as promise_diff,
    false as is_before_reset,
    effect = 'delta' and quantity < 0 and lag(on_hand, 1, had_on_hand) over of_key < 0 as is_doubtful
from reached
window of_key as (partition by key order by seq)
"""

DOUBTFUL = (
    "update met set is_doubtful = true where key in (select key from outcome where is_doubtful)",
    "delete from outcome where key in (select key from met where is_doubtful)",
)

# Movements are always entries, with the quantity as it is stated; resets only when they change something.
ENTER = """
insert into inventory_item_detail by name
select
    e.seq,
    e.product_id,
    e.facility_id,
    o.on_hand_diff as quantity_on_hand_diff,
    o.promise_diff as available_to_promise_diff,
    o.on_hand as last_quantity_on_hand,
    o.promise as last_available_to_promise,
    e.quantity,
    e.reason_enum_id,
    e.effective_at,
    e.log_id,
    e.line_number,
    e.shipment_id,
    e.order_id,
    nullif(concat_ws(
        ': ',
        case
            when o.is_before_reset and e.effect in ('delta', 'movement') then 'before_reset'
            when e.effect = 'delta' and o.on_hand_diff <> e.quantity then 'cut'
        end,
        e.comments
    ), '') as description,
    e.effect
from event as e
join outcome as o on o.seq = e.seq
where e.effect <> 'reset' or o.on_hand_diff <> 0 or o.promise_diff <> 0
"""

MERGE = """
merge into inventory_item as i
using (
    with reached as (
        select
            key,
            arg_max(on_hand, seq) as on_hand,
            arg_max(promise, seq) as promise,
            max(seq) filter (effect <> 'reset' or on_hand_diff <> 0 or promise_diff <> 0) as entered_seq,
            max(seq) as last_seq,
            max(effective_at) filter (effect <> 'reset') as moved_at
        from outcome
        group by key
    )
    select
        m.product_id,
        m.facility_id,
        r.on_hand,
        r.promise,
        coalesce(r.entered_seq, m.changed_seq, r.last_seq) as changed_seq,
        greatest(r.moved_at, m.last_moved_at) as last_moved_at
    from reached as r
    join met as m on m.key = r.key
) as n
on i.product_id = n.product_id and i.facility_id = n.facility_id
when matched then update set
    quantity_on_hand_total = n.on_hand,
    available_to_promise_total = n.promise,
    changed_seq = n.changed_seq,
    last_moved_at = n.last_moved_at
when not matched then insert (
    product_id, facility_id, quantity_on_hand_total, available_to_promise_total, changed_seq, last_moved_at
) values (
    n.product_id, n.facility_id, n.on_hand, n.promise, n.changed_seq, n.last_moved_at
)
"""

NEWEST_RESET = """
update inventory_item as i
set
    reset_at = e.effective_at,
    reset_file_name = coalesce(l.file_name, ''),
    reset_modified_at = coalesce(l.remote_modified_at, e.effective_at),
    reset_line_number = e.line_number,
    reset_log_id = e.log_id,
    reset_by = e.reset_by,
    reset_quantity = e.quantity
from (select max(seq) as seq from outcome where effect = 'reset' and not is_before_reset group by key) as n
join event as e on e.seq = n.seq
left join data_manager_log as l on l.log_id = e.log_id
where i.product_id = e.product_id and i.facility_id = e.facility_id
"""


def apply_events(arrived: str, connection: duckdb.DuckDBPyConnection) -> None:
    """Enter the events of `arrived` and bring their keys to the state after them.

    `arrived` is SQL that yields seq, product_id, facility_id, effect, quantity, reset_by, reason_enum_id, effective_at, log_id,
    line_number, shipment_id, order_id and comments. Their `seq` must be beyond every number of the ledger. Writes
    inventory_item_detail and inventory_item, within the caller's transaction."""
    connection.execute(EVENT.format(arrived=arrived))
    may_be_out_of_order, has_resets = connection.execute(KINDS).fetchall()[0]
    if may_be_out_of_order:
        connection.execute(ORDERED)
    connection.execute(MET)
    connection.execute(IN_ORDER)
    if scalar(connection, "select bool_or(is_doubtful) from outcome"):
        for statement in DOUBTFUL:
            connection.execute(statement)
    if scalar(connection, "select bool_or(is_late or is_doubtful) from met"):
        refold(connection)
    connection.execute(ENTER)
    connection.execute(MERGE)
    if has_resets:
        connection.execute(NEWEST_RESET)
    connection.execute("drop table event; drop table met; drop table outcome")
