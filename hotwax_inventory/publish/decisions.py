"""What becomes of an open change whose level was read again: the outcome that the level shows; the same change once more, where
nobody has moved the level; or a new decision, our number of now against the level, or against what we published last."""

import duckdb

from hotwax_inventory.publish.batch import (
    ASKED_IN_VAIN,
    IS_OPEN,
    IS_UNANSWERED,
    NO_GROUP,
    PERMANENT_CODES,
    PLACED,
    SAME_KEY,
    DeltaFile,
)
from hotwax_inventory.publish.manifest import register_files, sync_folder, write_lines
from hotwax_inventory.publish.target import MOST_UNITS, TARGET, Scope, choose_locations, narrow
from hotwax_inventory.resources import scalar
from hotwax_inventory.shopify import MAX_CHANGES

# How often a change is decided anew before it is contested.
ROUNDS = 3
# Shopify remembers a key for 24 hours; an hour less is certain.
KEY_HOURS = 23

MOVED = """
create or replace temp table moved as
select distinct c.product_id
from sync_change as c
join reread as r using (shopify_inventory_item_id, shopify_location_id)
where c.sync_run_id = $sync_run_id
"""

PROMISED = f"""
create or replace temp table promised as
select p.product_id, p.shopify_inventory_item_id, t.shopify_location_id, t.target_quantity
from ({TARGET}) as t
join shopify_shop_product as p on p.shop_id = $shop_id and p.product_id = t.product_id
where t.target_quantity between -{MOST_UNITS} and {MOST_UNITS}
"""

# Each open change beside what its level shows and what we promise now. `is_silent`: Shopify has not said what became of it.
# `must_part`: Shopify refuses the line and does not say for which of its changes; `is_alone`: it refuses this change, by a code
# that is not known.
OPENED = f"""
create or replace temp table opened as
with line_size as (
    select
        file_name,
        line_number,
        count(*) as size,
        coalesce(bool_or(outcome = 'permanent') or (bool_or(outcome = 'unknown') and bool_or(outcome = 'retryable')), false)
            as is_parted
    from sync_change
    where sync_run_id = $sync_run_id
    group by file_name, line_number
)
select
    c.*,
    r.available,
    n.target_quantity as promised_quantity,
    case when $is_from_published then coalesce(p.quantity, r.available) else r.available end as base_quantity,
    coalesce(
        case c.outcome
            when 'unknown' then {IS_UNANSWERED}
            when 'retryable' then c.error_code in {SAME_KEY}
        end,
        false
    ) as is_silent,
    coalesce(f.sent_at > current_timestamp - to_hours($key_hours), false) as is_remembered,
    coalesce(
        s.size > 1
            and not s.is_parted
            and (c.outcome = 'unknown' or (c.outcome = 'retryable' and list_contains($permanent, c.error_code))),
        false
    ) and not is_silent as must_part,
    c.outcome = 'unknown' and not is_silent and not must_part as is_alone,
    s.size
from sync_change as c
join reread as r using (shopify_inventory_item_id, shopify_location_id)
join line_size as s on s.file_name = c.file_name and s.line_number = c.line_number
left join sync_file as f on f.sync_run_id = c.sync_run_id and f.file_name = c.file_name
left join promised as n
    on n.product_id = c.product_id
    and n.shopify_inventory_item_id = c.shopify_inventory_item_id
    and n.shopify_location_id = c.shopify_location_id
left join published_level as p
    on p.shop_id = c.shop_id
    and p.shopify_inventory_item_id = c.shopify_inventory_item_id
    and p.shopify_location_id = c.shopify_location_id
where c.sync_run_id = $sync_run_id
    and {IS_OPEN}
"""

# What becomes of each change; null where it is to be sent again.
DECIDED = f"""
create or replace temp table decided as
select
    *,
    case
        -- the level is gone
        when available is null then 'permanent'
        -- Shopify has not answered and still knows the key: the same line is asked for again
        when is_silent and is_remembered and not is_given_up then outcome
        -- the level shows that the change was made; of units taken away, strangers may have bought as many instead
        when shows_change and is_unclear and not ($is_from_published and delta < 0) then 'applied'
        when shows_change and error_code = '{NO_GROUP}' then 'applied'
        -- a moment ago the level had not moved: it was the line that had not been answered, at last
        when shows_change and error_code = '{ASKED_IN_VAIN}' and outcome = 'stale' then 'applied'
        -- strangers have moved the level too, and only our own movement may be sent, which may have been made already
        when is_forgotten then 'contested'
        -- it was asked for to the last; where the level stands, what was beside others in its line goes once more, with fewer of
        -- them, and so does what is still being worked
        when is_given_up and has_moved then outcome
        when is_given_up and size = 1 and error_code <> 'IDEMPOTENCY_CONCURRENT_REQUEST' then 'contested'
        when promised_quantity is null then 'permanent'
        -- our number has moved since an interrupted delta was made: that is for a delta with guards of its own, once it is certain
        -- what this one has done
        when is_overtaken and not is_given_up then 'contested'
        when aimed_delta = 0 then 'no_op'
    end as decision,
    case
        when available is null then 'LEVEL_NOT_FOUND'
        when decision = 'contested' and is_forgotten then 'MOVED_WHILE_UNKNOWN'
        when is_given_up then error_code
        when decision = 'contested' then 'OVERTAKEN'
        when decision = 'permanent' then 'NOTHING_PROMISED'
        else error_code
    end as decision_code
from (
    select
        *,
        available <> observed_quantity as has_moved,
        available = observed_quantity + delta as shows_change,
        if(has_moved, promised_quantity, target_quantity) as aimed_quantity,
        if(has_moved, promised_quantity - base_quantity, delta) as aimed_delta,
        is_silent or coalesce(error_code in ('IDEMPOTENCY_PREVIOUS_ATTEMPT_FAILED', '{ASKED_IN_VAIN}'), false) as is_unclear,
        is_unclear and $is_from_published and has_moved as is_forgotten,
        $is_resumed and is_silent and (attempts + 1 >= $rounds or error_code = '{ASKED_IN_VAIN}') as is_given_up,
        $is_resumed and promised_quantity <> target_quantity as is_overtaken
    from opened
)
"""

SETTLED = """
update sync_change as c
set
    outcome = d.decision,
    error_code = d.decision_code,
    attempts = c.attempts + 1,
    target_quantity = if(d.decision = 'no_op', d.aimed_quantity, c.target_quantity),
    decided_at = current_timestamp
from decided as d
where c.sync_run_id = $sync_run_id
    and d.decision is not null
    and c.shopify_inventory_item_id = d.shopify_inventory_item_id
    and c.shopify_location_id = d.shopify_location_id
"""

# So many changes are together in a line whose levels have not moved, where others of their line have, or it was never answered.
TOGETHER = 10

# A line is refused as a whole for one level that others have moved: such a level, and a change that is refused, goes alone, what
# stood beside it in a short line, and alone the time after. So does a line that is never answered: should it be worked after all,
# its levels show otherwise than it says, and it is refused.
AGAIN = f"""
select
    shopify_inventory_item_id,
    shopify_location_id,
    aimed_quantity as target_quantity,
    available as observed_quantity,
    aimed_delta as delta,
    case
        when must_part then 2 * dense_rank() over (order by file_name, line_number) + (2 * line_position >= size)::integer
        when is_alone
            or has_moved
            or (outcome = 'stale' and attempts > 0)
            or (is_given_up and size <= {TOGETHER})
            then -row_number() over ()
        when outcome = 'stale' or is_given_up
            then {1 << 40} + row_number() over (order by shopify_inventory_item_id, shopify_location_id) // {TOGETHER}
        else 0
    end as batch,
    case when is_given_up then 0 else attempts + if(must_part, 0, 1) end as attempts,
    if(is_given_up or error_code = '{ASKED_IN_VAIN}', '{ASKED_IN_VAIN}', null) as asked_code
from decided
where decision is null
"""

CHANGE = f"create or replace temp table change as {PLACED.format(changes=AGAIN)}"

REPLANNED = """
update sync_change as c
set
    target_quantity = n.target_quantity,
    observed_quantity = n.observed_quantity,
    delta = n.delta,
    idempotency_key = l.idempotency_key,
    file_name = l.file_name,
    line_number = l.line_number,
    line_position = n.line_position,
    outcome = null,
    error_code = n.asked_code,
    attempts = n.attempts,
    decided_at = null
from change as n
join line as l on l.batch = n.batch and l.part = n.part
where c.sync_run_id = $sync_run_id
    and c.shopify_inventory_item_id = n.shopify_inventory_item_id
    and c.shopify_location_id = n.shopify_location_id
"""


def decide(
    sync_run_id: int, scope: Scope, connection: duckdb.DuckDBPyConnection, *, is_resumed: bool
) -> tuple[list[DeltaFile], int]:
    """Give open changes the outcome that their levels (the temporary table `reread`) show, and plan the others again; those of a
    delta that `is_resumed` only where our number is still theirs.

    The files of the new decisions, and how many changes are in them."""
    values = {"sync_run_id": sync_run_id}
    connection.execute(MOVED, values)
    narrow(connection)
    choose_locations(scope, connection, must_have_groups=False)
    connection.execute(PROMISED, scope.values() | {"shop_id": scope.shop.shop_id})
    connection.execute(
        OPENED,
        values
        | {
            "is_from_published": scope.is_from_published,
            "key_hours": KEY_HOURS,
            "permanent": sorted(PERMANENT_CODES),
        },
    )
    connection.execute(
        DECIDED, {"is_from_published": scope.is_from_published, "is_resumed": is_resumed, "rounds": ROUNDS}
    )
    connection.execute(SETTLED, values)
    connection.execute(CHANGE, {"changes_per_line": MAX_CHANGES})
    run_id, written = connection.execute(
        "select run_id, (select count(*) from sync_file where sync_run_id = $sync_run_id) from sync_run "
        "where sync_run_id = $sync_run_id",
        values,
    ).fetchall()[0]
    prefix = f"{sync_folder(scope.shop.shop_id, sync_run_id)}/again-{written}"
    files = write_lines(sync_run_id, run_id, prefix, connection)
    register_files(sync_run_id, files, connection)
    connection.execute(REPLANNED, values)
    return files, scalar(connection, "select count(*) from change")
