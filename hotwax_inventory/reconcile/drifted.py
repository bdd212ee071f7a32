"""Which levels of a shop differ from our numbers: from its last read, what was sent since, and the report before.

A level that others have moved and a sync has mended since is one, too: it says what happened in the shop between two syncs."""

import duckdb

from hotwax_inventory import tables
from hotwax_inventory.imports.shopify_levels import last_read
from hotwax_inventory.publish.batch import load_shown
from hotwax_inventory.publish.compare import compare_levels
from hotwax_inventory.publish.target import TARGET, Scope, narrow
from hotwax_inventory.reconcile.verification import CAUSE
from hotwax_inventory.resources import scalar

# A change counts as later than the read when its delta compares with it, or when it was decided after the read was asked for:
# by our own clock, as Shopify's has whole seconds.
IS_AFTER = """(r.bulk_operation_id is not distinct from b.bulk_operation_id or {0} > b.asked_at)"""

WRITTEN = f"""
create or replace temp table written as
select c.shopify_inventory_item_id, c.shopify_location_id
from sync_change as c
join sync_run as r on r.sync_run_id = c.sync_run_id and r.status_id <> 'planned'
join shopify_bulk_read as b on b.shop_id = c.shop_id
where c.shop_id = $shop_id and {IS_AFTER.format("c.decided_at")}
"""
# By one number a pair takes little room; where two pairs have the same, a level too many is looked at.
IS_CANDIDATE = """(
    target_quantity <> observed_quantity
    or hash(shopify_inventory_item_id, shopify_location_id) in (
        select hash(shopify_inventory_item_id, shopify_location_id) from written
    )
)"""
CANDIDATE = """
create or replace temp table candidate as
select c.shopify_inventory_item_id, c.shopify_location_id, c.target_quantity, c.observed_quantity, p.product_id, l.facility_id
from compared as c
join shopify_shop_product as p
    on p.shop_id = $shop_id and p.shopify_inventory_item_id = c.shopify_inventory_item_id
join published_location as l on l.shopify_location_id = c.shopify_location_id
"""

# What was sent to these levels: what became of the last change, what one after the read made of the level, and what the last one
# before it had made of it. Of a change that was not needed, only a level that is brought to our number is known to show that.
SENT = f"""
create or replace temp table sent as
select
    c.shopify_inventory_item_id,
    c.shopify_location_id,
    arg_max(coalesce(c.outcome, 'not sent'), c.sync_run_id) as last_outcome,
    arg_max(coalesce(c.error_code, ''), c.sync_run_id) as last_code,
    arg_max(c.made, c.sync_run_id) filter (c.is_after) as quantity_after,
    arg_max(c.target_quantity, c.sync_run_id) filter (not c.is_after and c.outcome in ('applied', 'no_op')) as quantity_before
from (
    select
        c.*,
        {IS_AFTER.format("c.decided_at")} as is_after,
        case
            when c.outcome = 'applied' then c.observed_quantity + c.delta
            when c.outcome = 'no_op' and not $is_from_published then c.target_quantity
        end as made
    from sync_change as c
    join sync_run as r on r.sync_run_id = c.sync_run_id and r.status_id <> 'planned'
    join shopify_bulk_read as b on b.shop_id = c.shop_id
    semi join candidate as d
        on d.shopify_inventory_item_id = c.shopify_inventory_item_id and d.shopify_location_id = c.shopify_location_id
    where c.shop_id = $shop_id
) as c
group by c.shopify_inventory_item_id, c.shopify_location_id
"""

# Beside each level what it last had from us: now, and by the time of the read. `have` is our number without any floor or reserve.
DRIFTED = f"""
create or replace temp table drifted as
with level as (
    select
        c.*,
        coalesce(s.quantity_after, c.observed_quantity) as current_quantity,
        current_quantity - c.target_quantity as difference,
        s.last_outcome,
        s.last_code,
        h.quantity as published_quantity,
        if({IS_AFTER.format("h.published_at")}, s.quantity_before, h.quantity) as quantity_before,
        coalesce(t.target_quantity, 0) as have,
        l.updated_at,
        b.completed_at as read_at
    from candidate as c
    join shopify_bulk_read as b on b.shop_id = $shop_id
    join shopify_inventory_level as l
        on l.shop_id = $shop_id
        and l.shopify_inventory_item_id = c.shopify_inventory_item_id
        and l.shopify_location_id = c.shopify_location_id
    left join sent as s
        on s.shopify_inventory_item_id = c.shopify_inventory_item_id and s.shopify_location_id = c.shopify_location_id
    left join published_level as h
        on h.shop_id = $shop_id
        and h.shopify_inventory_item_id = c.shopify_inventory_item_id
        and h.shopify_location_id = c.shopify_location_id
    left join sync_run as r on r.sync_run_id = h.sync_run_id
    left join ({TARGET}) as t on t.product_id = c.product_id and t.shopify_location_id = c.shopify_location_id
)
select
    *,
    if(difference = 0,
        {CAUSE.format(outcome="null", shown="observed_quantity", meant="quantity_before")},
        {CAUSE.format(outcome="last_outcome", shown="current_quantity", meant="published_quantity")}
    ) as cause,
    greatest(0, -observed_quantity) + greatest(0, current_quantity - greatest(0, target_quantity, have)) as oversold_quantity
from level
where difference <> 0 or observed_quantity not in (target_quantity, quantity_before)
"""

# How long a level has differed is carried on from the report before.
REPORTED = """
create or replace temp table reported as
select
    $shop_id as shop_id, d.product_id, d.facility_id, d.shopify_inventory_item_id, d.shopify_location_id, d.target_quantity,
    d.observed_quantity, d.current_quantity::integer as current_quantity, d.difference::bigint as difference, d.cause,
    if(d.difference <> 0 and d.cause in ('refused', 'contested', 'unanswered'), nullif(d.last_code, ''), null) as error_code,
    d.oversold_quantity::bigint as oversold_quantity,
    case
        when o.since is not null then o.since
        when d.cause in ('sold since', 'edited by someone') then least(d.updated_at, d.read_at)
        else d.read_at
    end as since,
    d.read_at
from drifted as d
left join inventory_drift as o
    on o.shop_id = $shop_id
    and o.shopify_inventory_item_id = d.shopify_inventory_item_id
    and o.shopify_location_id = d.shopify_location_id
    and o.difference <> 0
"""


def report_drift(scope: Scope, connection: duckdb.DuckDBPyConnection) -> int:
    """Bring the shop's rows of `inventory_drift` up to date; how many levels were compared. Raises NothingRead."""
    shop = {"shop_id": scope.shop.shop_id}
    last_read(scope.shop.shop_id, connection)
    connection.execute(WRITTEN, shop)
    load_shown("live", [], {}, connection)
    compare_levels(scope, -1, IS_CANDIDATE, connection, must_have_groups=False)
    compared = scalar(connection, "select coalesce(sum(levels), 0)::bigint from compared")
    connection.execute(CANDIDATE, shop)
    connection.execute(SENT, shop | {"is_from_published": scope.is_from_published})
    connection.execute("create or replace temp table moved as select distinct product_id from candidate")
    narrow(connection)
    connection.execute(DRIFTED, shop | scope.values() | {"use_valid_atp": False})
    connection.execute(REPORTED, shop)
    connection.execute("delete from inventory_drift where shop_id = $shop_id", shop)
    connection.execute(f"insert into inventory_drift select {tables.INVENTORY_DRIFT.column_list()} from reported")
    return compared
