"""The path of a key: all that has moved it since its newest reset, in order of effect, with the new events among what is stored."""

import duckdb

# Where an event stands among those of its key; `l` is the row of data_manager_log of its file, if it came in one. Files that are
# alike in all else differ by what is in them.
POSITION = """{{
    'effective_at': {0}.effective_at,
    'file_name': coalesce(l.file_name, ''),
    'modified_at': coalesce(l.remote_modified_at, {0}.effective_at),
    'line_number': {0}.line_number,
    'config_id': coalesce(l.config_id, ''),
    'sha256': coalesce(l.sha256, '')
}}"""
# The keys, as they stood before. `counter` and `counted` are what their paths start from: the newest reset, nothing where there was
# none, or, where nothing is newer than the events, what is there.
REFOLDED = """
create or replace temp table refolded as
select
    m.key,
    m.product_id,
    m.facility_id,
    m.on_hand,
    m.promise,
    m.is_late,
    case when i.reset_at is not null then {
        'effective_at': i.reset_at,
        'file_name': i.reset_file_name,
        'modified_at': i.reset_modified_at,
        'line_number': i.reset_line_number,
        'config_id': coalesce(l.config_id, ''),
        'sha256': coalesce(l.sha256, '')
    } end as reset_position,
    if(m.is_late, coalesce(i.reset_by, 'QOH'), 'QOH') as counter,
    if(m.is_late, coalesce(i.reset_quantity, 0), m.on_hand) as counted
from met as m
left join inventory_item as i on i.product_id = m.product_id and i.facility_id = m.facility_id
left join data_manager_log as l on l.log_id = i.reset_log_id
where m.is_late or m.is_doubtful
"""

# What has moved a late event's key since its newest reset.
STORED = f"""
create or replace temp table stored as
with entry as (
    select d.*, m.key, m.reset_position, {POSITION.format("d")} as position
    from inventory_item_detail as d
    join refolded as m on m.product_id = d.product_id and m.facility_id = d.facility_id and m.is_late
    left join data_manager_log as l on l.log_id = d.log_id
    where d.effect is distinct from 'reset'
        and d.effective_at >= (
            select min(coalesce(reset_position.effective_at, '-infinity'::timestamptz)) from refolded where is_late
        )
)
select
    key,
    position,
    case when effect is null then quantity_on_hand_diff else quantity end as on_hand,
    case when effect is null then available_to_promise_diff when effect = 'on_hand' then 0 else quantity end as promise,
    effect is not distinct from 'delta' and quantity < 0 as is_cut
from entry
where reset_position is null or position > reset_position
"""

# The path of each key: its start, then in order of effect what is stored and what is new (that has a `seq`). A `counter` starts it
# anew from what was `counted`: a reset, or an event before the newest one, which can move no more than the gap that this one met.
PATH = f"""
create or replace temp table path as
with arrived as (
    select
        e.*,
        m.key,
        {POSITION.format("e")} as position,
        m.counter,
        m.counted,
        coalesce({POSITION.format("e")} < m.reset_position, false) as is_before_reset
    from event as e
    join refolded as m on m.product_id = e.product_id and m.facility_id = e.facility_id
    left join data_manager_log as l on l.log_id = e.log_id
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
        is_before_reset
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
    row_number() over of_key as place,
    sum(if(seq is null, moved, 0)) over of_key as stored_upto,
    sum((seq is not null or counter is not null)::integer) over of_key as stretch
from placed
window of_key as (partition by key order by position nulls first, seq nulls first)
"""

# What is stored of each key in all.
TOTAL = """
create or replace temp table total as
select
    m.key,
    m.promise - m.on_hand as had_gap,
    coalesce(sum(s.on_hand), 0) as moved,
    coalesce(sum(s.promise - s.on_hand), 0) as gap,
    count(s.key) as steps
from refolded as m
left join stored as s on s.key = m.key
group by m.key, m.promise - m.on_hand
"""


def lay_paths(connection: duckdb.DuckDBPyConnection) -> None:
    """Make `refolded`, the keys of `met` that are late or doubtful, each with the `path` of its events and the `total` of what is
    stored of it."""
    for statement in (REFOLDED, STORED, PATH, TOTAL):
        connection.execute(statement)
    connection.execute("drop table stored")
