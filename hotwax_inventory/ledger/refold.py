"""Keys whose events cannot just be summed up as they come: those with something newer than an event, and those where a delta
meets less than nothing.

A cut delta of -n takes x to least(x, greatest(x - n, 0)): it leaves a negative x alone. To take it for greatest(x - n, 0) is right
where x is not negative, too much where it is, and sums up by windows. So a first pass gives an upper bound; a delta that meets a
negative bound is left out for good, and the next pass is closer, until none does: then the bound is the fold. What is newer than
a late event is summed up backwards in the same way; only where that may go below nothing is it folded row by row."""

import duckdb

# Where an event stands among those of its key. Files that are alike in all else differ by what is in them.
POSITION = """{{
    'effective_at': {0}.effective_at, 'file_name': {0}.file_name, 'modified_at': {0}.modified_at,
    'line_number': {0}.line_number, 'config_id': {0}.config_id, 'sha256': {0}.sha256
}}"""
# Folding row by row takes a list of all that is newer for each late event; of their elements so many are in memory at a time.
MOST_ELEMENTS = 1_000_000

# The keys, as they stood before. `counter` and `counted` are what their paths start from: the newest reset, nothing where there was
# none, or, where nothing is newer than the events, what is there.
REFOLDED = """
create or replace temp table refolded as
select
    row_number() over () as key,
    product_id,
    facility_id,
    on_hand,
    promise,
    is_late,
    newest_reset,
    if(is_late, coalesce(newest_reset.reset_by, 'QOH'), 'QOH') as counter,
    if(is_late, coalesce(newest_reset.quantity, 0), on_hand) as counted
from met
where is_late or is_doubtful
"""

# What has moved a late event's key since its newest reset.
STORED = f"""
create or replace temp table stored as
with entry as (
    select
        d.*,
        m.key,
        m.newest_reset,
        coalesce(l.file_name, '') as file_name,
        coalesce(l.remote_modified_at, d.effective_at) as modified_at,
        coalesce(l.config_id, '') as config_id,
        coalesce(l.sha256, '') as sha256
    from inventory_item_detail as d
    join refolded as m on m.product_id = d.product_id and m.facility_id = d.facility_id and m.is_late
    left join data_manager_log as l on l.log_id = d.log_id
    where d.effect is distinct from 'reset'
        and d.effective_at >= (
            select min(coalesce(newest_reset.position.effective_at, '-infinity'::timestamptz)) from refolded where is_late
        )
)
select
    key,
    {POSITION.format("d")} as position,
    case when effect is null then quantity_on_hand_diff else quantity end as on_hand,
    case when effect is null then available_to_promise_diff when effect = 'on_hand' then 0 else quantity end as promise,
    effect is not distinct from 'delta' and quantity < 0 as is_cut
from entry as d
where newest_reset is null or {POSITION.format("d")} > newest_reset.position
"""

# The path of each key: its start, then in order of effect what is stored and what is new (that has a `seq`). A `counter` starts it
# anew from what was `counted`: a reset, or an event before the newest one, which can move no more than the gap that this one met.
STEP = f"""
create or replace temp table step as
with arrived as (
    select
        e.*,
        m.key,
        {POSITION.format("e")} as position,
        m.counter,
        m.counted,
        coalesce({POSITION.format("e")} < m.newest_reset.position, false) as is_before_reset
    from event as e
    join refolded as m on m.product_id = e.product_id and m.facility_id = e.facility_id
),
placed as (
    select
        key,
        seq,
        position,
        if(is_before_reset or effect = 'reset', 0, on_hand) as moved,
        coalesce(promise - on_hand, 0) as gap,
        effect = 'delta' and quantity < 0 and not is_before_reset as is_cut,
        if(is_before_reset, counter, reset_by) as counter,
        if(is_before_reset, counted, quantity) as counted,
        is_before_reset and effect <> 'reset' as is_before_reset
    from arrived
    union all
    select key, null, position, on_hand, promise - on_hand, is_cut, null, null, false
    from stored
    union all
    select key, null, null, 0, 0, false, counter, counted, false
    from refolded
)
select
    * exclude (position),
    row_number() over (partition by key order by position nulls first, seq nulls first) as place,
    false as is_left_out
from placed
"""

# What is stored of each key in all.
TOTAL = """
create or replace temp table total as
select
    m.key,
    m.on_hand as had_on_hand,
    m.promise as had_promise,
    coalesce(sum(s.on_hand), 0) as moved,
    coalesce(sum(s.promise - s.on_hand), 0) as gap,
    count(s.key) as steps
from refolded as m
left join stored as s on s.key = m.key
group by m.key, m.on_hand, m.promise
"""

# An upper bound of what is on hand after each step with what is new in its place; it is the fold where no step `is_too_much`.
BOUNDED = """
create or replace temp table bounded as
with summed as (
    select
        *,
        sum(if(is_left_out, 0, moved)) over of_key as moved_upto,
        sum(if(seq is null, moved, 0)) over of_key as stored_upto,
        sum(gap) over of_key as gap_upto,
        sum((counter is not null)::integer) over of_key as starts
    from step
    window of_key as (partition by key order by place)
),
floored as (
    select
        s.*,
        case
            when s.counter = 'QOH' then s.counted - s.moved_upto
            when s.counter is not null
                then s.counted - (t.had_promise - t.had_on_hand + s.gap_upto - t.gap) - s.moved_upto
            when s.is_cut and not s.is_left_out then -s.moved_upto
        end as raised_by
    from summed as s
    join total as t on t.key = s.key
)
select
    key,
    place,
    seq,
    moved,
    gap,
    is_cut,
    is_before_reset,
    starts,
    stored_upto,
    moved_upto + max(raised_by) over (partition by key, starts order by place) as bound,
    is_cut and not is_left_out and moved_upto - moved + max(raised_by) over (
        partition by key, starts order by place rows between unbounded preceding and 1 preceding
    ) < 0 as is_too_much
from floored
"""

# A path never lies above what any bound of it, plus all that came since but the cut deltas, comes to.
LEFT_OUT = """
update step as s
set is_left_out = true
from (
    with summed as (
        select *, sum(if(is_cut, 0, moved)) over (partition by key order by place) as uncut_upto
        from bounded
    )
    select
        key,
        place,
        is_cut and uncut_upto + min(bound - uncut_upto) over (
            partition by key, starts order by place rows between unbounded preceding and 1 preceding
        ) < 0 as is_too_much
    from summed
) as b
where s.key = b.key and s.place = b.place and b.is_too_much
"""

# What is on hand after all that is stored, too, once each new event has come. It may be more than the fold where a cut delta could
# meet less than nothing: the first one after an event, or one that is further below the one before it than the event is up.
FOLDED = """
create or replace temp table folded as
with needing as (
    select
        *,
        case when seq is not null then -1e30 when is_cut then -stored_upto end as lowest,
        case when seq is null and is_cut then moved - stored_upto end as need
    from bounded
),
exposed as (
    select *, case when need > lag(lowest, 1, -1e30 ignore nulls) over (partition by key order by place) then need end
        as exposed_need
    from needing
),
after as (
    select
        seq,
        key,
        place,
        gap,
        is_before_reset,
        bound,
        stored_upto,
        max(case when seq is null then lowest end) over later as lowest_later,
        max(exposed_need) over later as need_later
    from exposed
    window later as (partition by key order by place rows between 1 following and unbounded following)
    qualify seq is not null
)
select
    a.seq,
    a.key,
    a.place,
    a.is_before_reset,
    a.bound as on_hand_then,
    t.moved - a.stored_upto + greatest(a.bound, a.stored_upto + a.lowest_later) as on_hand,
    t.had_promise - t.had_on_hand + sum(a.gap) over of_key as gap,
    t.steps - (a.place - row_number() over of_key) as stored_later,
    coalesce(a.bound - a.stored_upto < a.need_later, false) as is_doubtful
from after as a
join total as t on t.key = a.key
window of_key as (partition by a.key order by a.place)
"""

# Late events with the same to come, and as much on hand, end alike.
DOUBTFUL = """
create or replace temp table doubtful as
select
    key,
    stored_later,
    on_hand_then,
    max(place) as place,
    sum(stored_later) over (order by key, stored_later, on_hand_then) // $most as part
from folded
where is_doubtful
group by key, stored_later, on_hand_then
"""

# The fold itself. Each number is twice what moved, and one more where that is cut.
ROW_BY_ROW = """
update folded as f
set on_hand = n.on_hand
from (
    select
        d.key,
        d.stored_later,
        d.on_hand_then,
        list_reduce(
            list(s.moved * 2 + s.is_cut::integer order by s.place),
            lambda reached, step: case when step % 2 = 0
                then reached + step // 2
                else least(reached, greatest(reached + (step - 1) // 2, 0))
            end,
            d.on_hand_then
        ) as on_hand
    from doubtful as d
    join bounded as s on s.key = d.key and s.seq is null and s.place > d.place
    where d.part = $part
    group by d.key, d.stored_later, d.on_hand_then
) as n
where f.is_doubtful and f.key = n.key and f.stored_later = n.stored_later and f.on_hand_then = n.on_hand_then
"""

OUTCOME = """
insert into outcome
select
    f.seq,
    m.product_id,
    m.facility_id,
    f.on_hand,
    f.on_hand + f.gap as promise,
    f.on_hand - lag(f.on_hand, 1, m.on_hand) over of_key as on_hand_diff,
    f.on_hand + f.gap - lag(f.on_hand + f.gap, 1, m.promise) over of_key as promise_diff,
    f.is_before_reset,
    false as is_doubtful
from folded as f
join refolded as m on m.key = f.key
window of_key as (partition by f.key order by f.seq)
"""


def refold(connection: duckdb.DuckDBPyConnection) -> None:
    """Add to `outcome` what the events of `event` do to the keys of `met` that are late or doubtful."""
    connection.execute(REFOLDED)
    connection.execute(STORED)
    connection.execute(STEP)
    connection.execute(TOTAL)
    connection.execute(BOUNDED)
    while connection.execute("select bool_or(is_too_much) from bounded").fetchall() == [(True,)]:
        connection.execute(LEFT_OUT)
        connection.execute(BOUNDED)
    connection.execute(FOLDED)
    connection.execute(DOUBTFUL, {"most": MOST_ELEMENTS})
    for (part,) in connection.execute("select distinct part from doubtful").fetchall():
        connection.execute(ROW_BY_ROW, {"part": part})
    connection.execute(OUTCOME)
    for table in ("refolded", "stored", "step", "total", "bounded", "folded", "doubtful"):
        connection.execute(f"drop table {table}")
