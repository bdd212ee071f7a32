"""Keys whose events cannot just be summed up as they come: those with something newer than an event, and those where a delta
meets less than nothing.

A cut delta of -n takes x to least(x, greatest(x - n, 0)): it leaves a negative x alone. To take it for greatest(x - n, 0) is right
where x is not negative, too much where it is, and sums up by windows. So a first pass gives an upper bound; a delta that meets a
negative bound is left out for good, and the next pass is closer, until none does: then the bound is the fold. What is newer than
a late event is summed up backwards in the same way; only where that may go below nothing is it folded row by row."""

import duckdb

from hotwax_inventory.ledger.path import lay_paths
from hotwax_inventory.resources import scalar

# Folding row by row takes a list of all that is newer for each late event; of their elements so many are in memory at a time.
MOST_ELEMENTS = 1_000_000

# The same path in fewer steps: what is stored between two new events is one. `lowest` is the least that it adds up to at a cut
# delta, `need` how much there must be before it for no cut delta to meet less than nothing, at the most.
STRETCHES = """
create or replace temp table step as
with stretch as (
    select
        key,
        min(place) as place,
        sum(moved) as moved,
        sum(gap) as gap,
        arg_max(stored_upto, place) - sum(moved) as before,
        min(stored_upto) filter (is_cut) as lowest_upto,
        max(moved - stored_upto) filter (is_cut) as need_upto,
        bool_or(moved < 0 and not is_cut) as may_sink
    from path
    where seq is null and counter is null
    group by key, stretch
)
select key, place, null as seq, moved, gap, null as counter, null as counted, false as is_before_reset,
    lowest_upto - before as lowest, if(may_sink, need_upto + before, if(lowest_upto is null, null, 0)) as need, false as is_left_out
from stretch
union all
select key, place, seq, moved, gap, counter, counted, is_before_reset, if(is_cut, moved, null), if(is_cut, 0, null), false
from path
where seq is not null or counter is not null
"""

# Step by step, for the keys where stretches are not enough.
STEPS = """
create or replace temp table step as
select key, place, seq, moved, gap, counter, counted, is_before_reset, if(is_cut, moved, null) as lowest,
    if(is_cut, 0, null) as need, false as is_left_out
from path
where key in (select key from rough)
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
raised as (
    select
        s.*,
        case
            when s.counter = 'QOH' then s.counted - s.moved_upto
            when s.counter is not null then s.counted - (t.had_gap + s.gap_upto - t.gap) - s.moved_upto
            when not s.is_left_out then s.moved - s.lowest - s.moved_upto
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
    lowest,
    need,
    is_before_reset,
    starts,
    stored_upto,
    moved_upto + max(raised_by) over (partition by key, starts order by place) as bound,
    coalesce(not is_left_out and moved_upto - moved + max(raised_by) over (
        partition by key, starts order by place rows between unbounded preceding and 1 preceding
    ) < need, false) as is_too_much
from raised
"""

# A path never lies above what any bound of it, plus all that came since but the cut deltas, comes to.
LEFT_OUT = """
update step as s
set is_left_out = true
from (
    with summed as (
        select *, sum(if(lowest is null, moved, 0)) over (partition by key order by place) as uncut_upto
        from bounded
    )
    select
        key,
        place,
        lowest is not null and uncut_upto + min(bound - uncut_upto) over (
            partition by key, starts order by place rows between unbounded preceding and 1 preceding
        ) < 0 as is_too_much
    from summed
) as b
where s.key = b.key and s.place = b.place and b.is_too_much
"""

FOLDED_TABLE = """
create or replace temp table folded (
    seq bigint, key bigint, place bigint, is_before_reset boolean, gap hugeint, on_hand_then hugeint, on_hand hugeint,
    stored_later bigint, is_doubtful boolean
)
"""

# What is on hand after all that is stored, too, once each new event has come. It may be more than the fold where a cut delta could
# meet less than nothing: the first one after an event, or one that is further below the one before it than the event is up.
FOLDED = """
insert into folded
with needing as (
    select
        *,
        case when seq is not null then (-1e30)::hugeint when lowest is not null then moved - lowest - stored_upto end as least,
        if(seq is null, need + moved - stored_upto, null) as need_upto
    from bounded
),
exposed as (
    select
        *,
        if(need_upto > lag(least, 1, (-1e30)::hugeint ignore nulls) over (partition by key order by place), need_upto, null)
            as exposed_need
    from needing
),
after as (
    select seq, key, place, gap, is_before_reset, bound, stored_upto,
        max(if(seq is null, least, null)) over later as least_later,
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
    t.had_gap + sum(a.gap) over of_key as gap,
    a.bound as on_hand_then,
    t.moved - a.stored_upto + greatest(a.bound, a.stored_upto + a.least_later) as on_hand,
    t.steps + 1 + row_number() over of_key - a.place as stored_later,
    coalesce(a.bound - a.stored_upto < a.need_later, false) as is_doubtful
from after as a
join total as t on t.key = a.key
window of_key as (partition by a.key order by a.place)
"""

ROUGH = (
    """
create or replace temp table rough as
select key from bounded where is_too_much
union
select key from folded where is_doubtful
""",
    "delete from folded where key in (select key from rough)",
)

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
    join path as s on s.key = d.key and s.seq is null and s.place > d.place
    where d.part = $part
    group by d.key, d.stored_later, d.on_hand_then
) as n
where f.is_doubtful and f.key = n.key and f.stored_later = n.stored_later and f.on_hand_then = n.on_hand_then
"""

OUTCOME = """
insert into outcome
select
    f.seq,
    f.key,
    e.effect,
    e.effective_at,
    f.on_hand,
    f.on_hand + f.gap as promise,
    f.on_hand - lag(f.on_hand, 1, m.on_hand) over of_key as on_hand_diff,
    f.on_hand + f.gap - lag(f.on_hand + f.gap, 1, m.promise) over of_key as promise_diff,
    f.is_before_reset,
    false as is_doubtful
from folded as f
join refolded as m on m.key = f.key
join event as e on e.seq = f.seq
window of_key as (partition by f.key order by f.seq)
"""


def refold(connection: duckdb.DuckDBPyConnection) -> None:
    """Add to `outcome` what the events of `event` do to the keys of `met` that are late or doubtful."""
    lay_paths(connection)
    for statement in (FOLDED_TABLE, STRETCHES, BOUNDED, FOLDED, *ROUGH):
        connection.execute(statement)
    if scalar(connection, "select count(*) from rough") != 0:
        _refold_rough(connection)
    connection.execute(OUTCOME)
    for table in ("refolded", "path", "total", "step", "bounded", "folded", "rough"):
        connection.execute(f"drop table {table}")


def _refold_rough(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(STEPS)
    connection.execute(BOUNDED)
    while scalar(connection, "select bool_or(is_too_much) from bounded"):
        connection.execute(LEFT_OUT)
        connection.execute(BOUNDED)
    connection.execute(FOLDED)
    connection.execute(DOUBTFUL, {"most": MOST_ELEMENTS})
    for (part,) in connection.execute("select distinct part from doubtful").fetchall():
        connection.execute(ROW_BY_ROW, {"part": part})
    connection.execute("drop table doubtful")
