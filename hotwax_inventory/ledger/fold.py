"""How events change stock: what the rows of the temporary table `event` make of the keys that they name.

A key's state is the fold of its events in order of effect (design 8.12). A reset sets one counter and moves the other by the
same; a `delta` moves both, and a negative one not below what is on hand; a `movement` moves both without that limit; an
`on_hand` event (a reserved unit leaves) moves the quantity on hand alone, so that it changes the gap between the two counters,
whenever it comes. Most keys get events that are newer than all that they had: those are summed up by windows. A key with
something newer, or with a mixture, is folded again from its newest reset on."""

import duckdb

# `event` has one row for each row of the files being posted, and `seq` numbers them as they are posted.
# on_hand and promise are what the row adds to each counter, as it is stated; null in a reset.
EVENT = """
create or replace temp table event as
select
    seq,
    product_id,
    facility_id,
    effect,
    quantity,
    reset_by,
    case when effect <> 'reset' then quantity end as on_hand,
    case effect when 'delta' then quantity when 'movement' then quantity when 'on_hand' then 0 end as promise,
    reason_enum_id,
    effective_at,
    file_name,
    modified_at,
    config_id,
    log_id,
    line_number,
    shipment_id,
    order_id,
    comments
from ({arrived})
"""

POSITION = """{{
    'effective_at': {0}.effective_at, 'file_name': {0}.file_name, 'modified_at': {0}.modified_at,
    'line_number': {0}.line_number, 'config_id': {0}.config_id
}}"""

# The keys of the events as they stood before.
MET = """
create or replace temp table met as
select
    k.product_id,
    k.facility_id,
    coalesce(i.quantity_on_hand_total, 0) as on_hand,
    coalesce(i.available_to_promise_total, 0) as promise,
    i.last_moved_at,
    case when i.reset_at is not null then {
        'position': {
            'effective_at': i.reset_at, 'file_name': i.reset_file_name, 'modified_at': i.reset_modified_at,
            'line_number': i.reset_line_number, 'config_id': coalesce(l.config_id, '')
        },
        'log_id': i.reset_log_id, 'reset_by': i.reset_by, 'quantity': i.reset_quantity
    } end as newest_reset,
    i.product_id is not null as is_known
from (select distinct product_id, facility_id from event) as k
left join inventory_item as i on i.product_id = k.product_id and i.facility_id = k.facility_id
left join data_manager_log as l on l.log_id = i.reset_log_id
"""

# Windows are enough where every event is newer than what the key had, and deltas do not meet anything but deltas.
REFOLDED = """
create or replace temp table refolded as
select product_id, facility_id
from (
    select
        e.*,
        m.on_hand as had_on_hand,
        m.last_moved_at >= e.effective_at or m.newest_reset.position.effective_at >= e.effective_at as is_late,
        {is_out_of_order} as is_out_of_order
    from event as e
    join met as m on m.product_id = e.product_id and m.facility_id = e.facility_id
)
group by product_id, facility_id
having bool_or(coalesce(is_late, false))
    or bool_or(is_out_of_order)
    or bool_or(effect = 'delta') and (bool_or(effect <> 'delta') or any_value(had_on_hand) < 0)
"""
OUT_OF_ORDER = f"""coalesce(
    lag({POSITION.format("e")}) over (partition by e.product_id, e.facility_id order by e.seq) > {POSITION.format("e")}, false
)"""

# The sum of deltas that never go below zero is the running sum minus the lesser of zero and its running minimum.
IN_ORDER = """
create or replace temp table outcome as
with started as (
    select
        e.seq,
        e.product_id,
        e.facility_id,
        e.effect,
        e.reset_by,
        e.quantity,
        m.on_hand as had_on_hand,
        m.promise as had_promise,
        m.promise - m.on_hand + coalesce(sum(e.promise - e.on_hand) over of_key, 0) as gap,
        m.on_hand + coalesce(sum(e.on_hand) over of_key, 0) as moved,
        sum(e.on_hand) over of_key as moved_here,
        count(*) filter (e.effect = 'reset') over of_key as resets
    from event as e
    join met as m on m.product_id = e.product_id and m.facility_id = e.facility_id
    anti join refolded as r on r.product_id = e.product_id and r.facility_id = e.facility_id
    window of_key as (partition by e.product_id, e.facility_id order by e.seq)
),
based as (
    select
        *,
        last_value(case
            when effect <> 'reset' then null
            when reset_by = 'QOH' then quantity - coalesce(moved_here, 0)
            else quantity - gap - coalesce(moved_here, 0)
        end ignore nulls) over (partition by product_id, facility_id order by seq) as reset_base
    from started
),
reached as (
    select
        *,
        case
            when resets > 0 then reset_base + coalesce(moved_here, 0)
            when effect = 'delta'
                then moved - least(0, min(moved) over (partition by product_id, facility_id order by seq))
            else moved
        end as on_hand
    from based
)
select
    seq,
    product_id,
    facility_id,
    on_hand,
    on_hand + gap as promise,
    on_hand - lag(on_hand, 1, had_on_hand) over of_key as on_hand_diff,
    on_hand + gap - lag(on_hand + gap, 1, had_promise) over of_key as promise_diff,
    false as is_before_reset
from reached
window of_key as (partition by product_id, facility_id order by seq)
"""

# Every event that a refolded key has had since its newest reset, and the late ones with the number in which they come.
MOVED = f"""
create or replace temp table moved as
with stored as (
    select
        d.product_id,
        d.facility_id,
        d.effect,
        d.quantity,
        d.quantity_on_hand_diff,
        d.available_to_promise_diff,
        d.effective_at,
        coalesce(l.file_name, '') as file_name,
        coalesce(l.remote_modified_at, d.effective_at) as modified_at,
        d.line_number,
        coalesce(l.config_id, '') as config_id
    from inventory_item_detail as d
    semi join refolded as r on r.product_id = d.product_id and r.facility_id = d.facility_id
    left join data_manager_log as l on l.log_id = d.log_id
    where d.effect is distinct from 'reset'
        and d.effective_at >= (
            select coalesce(min(coalesce(newest_reset.position.effective_at, '-infinity'::timestamptz)), '-infinity'::timestamptz)
            from met
            semi join refolded using (product_id, facility_id)
        )
)
select
    s.product_id,
    s.facility_id,
    0 as nth,
    {POSITION.format("s")} as position,
    case when s.effect is null then s.quantity_on_hand_diff else s.quantity end as on_hand,
    case when s.effect is null then s.available_to_promise_diff when s.effect = 'on_hand' then 0 else s.quantity end as promise,
    s.effect is not distinct from 'delta' as is_cut
from stored as s
union all
select product_id, facility_id, nth, position, on_hand, promise, effect = 'delta'
from late
where effect <> 'reset'
"""

RESET = f"""case when e.effect = 'reset' then {{
    'position': {POSITION.format("e")}, 'log_id': e.log_id, 'reset_by': e.reset_by, 'quantity': e.quantity
}} end"""

LATE = f"""
create or replace temp table late as
select
    e.*,
    {POSITION.format("e")} as position,
    row_number() over of_key as nth,
    m.on_hand as had_on_hand,
    m.promise as had_promise,
    m.promise - m.on_hand + coalesce(sum(e.promise - e.on_hand) over of_key, 0) as gap,
    greatest(
        coalesce(m.newest_reset, max({RESET}) over of_key),
        coalesce(max({RESET}) over of_key, m.newest_reset)
    ) as newest_reset
from event as e
join refolded as r on r.product_id = e.product_id and r.facility_id = e.facility_id
join met as m on m.product_id = e.product_id and m.facility_id = e.facility_id
window of_key as (partition by e.product_id, e.facility_id order by e.seq)
"""

# The state after each late event: the newest reset known by then, and what has moved after that one.
REFOLD = """
insert into outcome
with since as (
    select
        k.seq,
        list({'moved': m.on_hand, 'is_cut': m.is_cut} order by m.position, m.nth) filter (m.position is not null) as movements,
        coalesce(sum(m.promise - m.on_hand), 0) as gap_since
    from late as k
    left join moved as m
        on m.product_id = k.product_id
        and m.facility_id = k.facility_id
        and m.nth <= k.nth
        and (k.newest_reset is null or m.position > k.newest_reset.position)
    group by k.seq
),
reached as (
    select
        k.*,
        list_reduce(
            list_prepend(
                {
                    'moved': case
                        when k.newest_reset is null then 0
                        when k.newest_reset.reset_by = 'QOH' then k.newest_reset.quantity
                        else k.newest_reset.quantity - (k.gap - s.gap_since)
                    end::bigint,
                    'is_cut': false
                },
                coalesce(s.movements, [])
            ),
            lambda reached, movement: {
                'moved': reached.moved + case when movement.is_cut and movement.moved < 0
                    then greatest(movement.moved, -greatest(reached.moved, 0))
                    else movement.moved
                end,
                'is_cut': false
            }
        ).moved as on_hand_after
    from late as k
    join since as s on s.seq = k.seq
)
select
    seq,
    product_id,
    facility_id,
    on_hand_after as on_hand,
    on_hand_after + gap as promise,
    on_hand_after - lag(on_hand_after, 1, had_on_hand) over of_key as on_hand_diff,
    on_hand_after + gap - lag(on_hand_after + gap, 1, had_promise) over of_key as promise_diff,
    coalesce(effect <> 'reset' and position < newest_reset.position, false) as is_before_reset
from reached
window of_key as (partition by product_id, facility_id order by seq)
"""

# Movements are always entries, with the quantity as it is stated; resets only when they change something.
ENTER = """
insert into inventory_item_detail
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
            when o.is_before_reset and e.effect <> 'on_hand' then 'before_reset'
            when e.effect = 'delta' and o.on_hand_diff <> e.quantity then 'cut'
        end,
        e.comments
    ), '') as description,
    e.effect
from event as e
join outcome as o on o.seq = e.seq
where e.effect <> 'reset' or o.on_hand_diff <> 0 or o.promise_diff <> 0
"""

MERGE = f"""
merge into inventory_item as i
using (
    with reached as (
        select
            o.product_id,
            o.facility_id,
            arg_max(o.on_hand, o.seq) as on_hand,
            arg_max(o.promise, o.seq) as promise,
            max(o.seq) filter (e.effect <> 'reset' or o.on_hand_diff <> 0 or o.promise_diff <> 0) as entered_seq,
            max(o.seq) as last_seq,
            max({RESET}) as newest_reset,
            max(e.effective_at) filter (e.effect <> 'reset') as moved_at
        from outcome as o
        join event as e on e.seq = o.seq
        group by o.product_id, o.facility_id
    )
    select
        r.product_id,
        r.facility_id,
        r.on_hand,
        r.promise,
        case when m.is_known then r.entered_seq else r.last_seq end as changed_seq,
        case when m.newest_reset is null or r.newest_reset > m.newest_reset then r.newest_reset else m.newest_reset end as newest,
        greatest(r.moved_at, m.last_moved_at) as last_moved_at
    from reached as r
    join met as m on m.product_id = r.product_id and m.facility_id = r.facility_id
) as n
on i.product_id = n.product_id and i.facility_id = n.facility_id
when matched then update set
    quantity_on_hand_total = n.on_hand,
    available_to_promise_total = n.promise,
    changed_seq = coalesce(n.changed_seq, i.changed_seq),
    last_moved_at = n.last_moved_at,
    reset_at = n.newest.position.effective_at,
    reset_file_name = n.newest.position.file_name,
    reset_modified_at = n.newest.position.modified_at,
    reset_line_number = n.newest.position.line_number,
    reset_log_id = n.newest.log_id,
    reset_by = n.newest.reset_by,
    reset_quantity = n.newest.quantity
when not matched then insert values (
    n.product_id, n.facility_id, n.on_hand, n.promise, n.changed_seq, n.last_moved_at, n.newest.position.effective_at,
    n.newest.position.file_name, n.newest.position.modified_at, n.newest.position.line_number, n.newest.log_id,
    n.newest.reset_by, n.newest.quantity
)
"""


def apply_events(arrived: str, connection: duckdb.DuckDBPyConnection, *, is_ordered: bool = False) -> None:
    """Enter the events of `arrived` (SQL with the columns of `event`) and bring their keys to the state after them.

    Their `seq` must be beyond every number of the ledger. `is_ordered` says that the order of seq is the order of effect.
    Writes inventory_item_detail and inventory_item, within the caller's transaction."""
    connection.execute(EVENT.format(arrived=arrived))
    connection.execute(MET)
    connection.execute(REFOLDED.format(is_out_of_order="false" if is_ordered else OUT_OF_ORDER))
    connection.execute(IN_ORDER)
    if connection.execute("select count(*) from refolded").fetchall() != [(0,)]:
        connection.execute(LATE)
        connection.execute(MOVED)
        connection.execute(REFOLD)
        connection.execute("drop table late; drop table moved")
    connection.execute(ENTER)
    connection.execute(MERGE)
    connection.execute("drop table event; drop table met; drop table refolded; drop table outcome")
