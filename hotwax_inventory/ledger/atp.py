"""Available to promise: per facility, and per channel with every number on the way (design section 6).

Both are views over stock, kits and rules, so that they are never stale; what a run materialises is their definition."""

from collections.abc import Iterator

import dagster as dg
import duckdb

from hotwax_inventory import tables
from hotwax_inventory.imports import summary
from hotwax_inventory.resources import Warehouse, scalar

FACILITY_ATP = """
create or replace {temporary} view facility_atp as
with counted as (
    -- a kit that NetSuite counted once and that is derived now counts once
    select product_id, facility_id, available_to_promise_total, changed_seq
    from inventory_item
    where product_id not in (select product_id from kit_inventory)
    union all
    select product_id, facility_id, available_to_promise_total, changed_seq
    from kit_inventory
)
select
    c.product_id,
    c.facility_id,
    c.available_to_promise_total as last_inventory_count,
    coalesce(p.minimum_stock, 0) as minimum_stock,
    coalesce(p.allow_brokering, 'Y') as allow_brokering,
    case when c.available_to_promise_total >= coalesce(p.minimum_stock, 0)
        then c.available_to_promise_total - coalesce(p.minimum_stock, 0)
        else 0
    end as computed_last_inventory_count,
    greatest(c.changed_seq, coalesce(p.changed_seq, 0)) as changed_seq
from counted as c
left join product_facility as p on p.product_id = c.product_id and p.facility_id = c.facility_id
"""

# How many rows that has, by what tables know of themselves. Those of channels are not counted: that would compute them.
FACILITY_ROWS = """
select
    (select count(*) from inventory_item)
    - (select count(*) from inventory_item where product_id in (select product_id from kit_inventory))
    + (select count(*) from kit_inventory)
"""

# HotWax reference 5.1, with the repairs that it recommends: a facility counts once, the threshold is the largest, expired
# memberships do not count, the hold works, and a product whose raw sum is negative is published as 0.
ONLINE_ATP = """
create or replace {temporary} view online_atp as
with member as (
    select distinct g.facility_group_id, f.facility_id, f.facility_type_id, f.parent_facility_type_id, f.product_store_id
    from facility_group as g
    join facility as f on f.facility_id = g.facility_id
    where coalesce(g.from_date <= current_timestamp, true) and coalesce(g.thru_date > current_timestamp, true)
),
stocked as (
    select
        m.facility_group_id,
        m.product_store_id,
        a.product_id,
        coalesce(sum(a.computed_last_inventory_count) filter (a.allow_brokering <> 'N'), 0) as base_atp,
        coalesce(sum(a.last_inventory_count) filter (a.allow_brokering <> 'N'), 0) as raw_atp,
        max(a.changed_seq) as changed_seq
    from member as m
    join facility_atp as a on a.facility_id = m.facility_id
    where coalesce(m.parent_facility_type_id, '') <> 'VIRTUAL_FACILITY'
    group by m.facility_group_id, m.product_store_id, a.product_id
),
channel_rule as (
    select
        m.facility_group_id,
        p.product_id,
        max(p.minimum_stock) as threshold,
        bool_or(coalesce(p.allow_brokering = 'N', false)) as is_off,
        max(p.changed_seq) as changed_seq
    from member as m
    join product_facility as p on p.facility_id = m.facility_id
    where m.facility_type_id = 'CONFIGURATION'
    group by m.facility_group_id, p.product_id
),
parked as (
    select
        q.product_store_id,
        q.product_id,
        case when lower(any_value(s.reserve_inventory)) in ('n', 'no', 'false', '0') then 0 else sum(q.quantity) end
            as queue_quantity,
        bool_or(f.facility_type_id in ('PRE_ORDER', 'BACKORDER') and q.quantity > 0)
            and coalesce(lower(any_value(s.hold_preorder_physical_inventory)), 'n') in ('y', 'yes', 'true', '1') as preorder_hold,
        max(q.changed_seq) as changed_seq
    from virtual_queue_item as q
    join facility as f on f.facility_id = q.facility_id and f.parent_facility_type_id = 'VIRTUAL_FACILITY'
    left join product_store as s on s.product_store_id = q.product_store_id
    group by q.product_store_id, q.product_id
)
select
    s.facility_group_id,
    s.product_store_id,
    s.product_id,
    s.base_atp::bigint as base_atp,
    s.raw_atp::bigint as raw_atp,
    coalesce(c.threshold, 0)::bigint as threshold,
    coalesce(q.queue_quantity, 0)::bigint as queue_quantity,
    case when c.is_off then 'N' else 'Y' end as allow_brokering,
    coalesce(q.preorder_hold, false) as preorder_hold,
    case
        when c.is_off or q.preorder_hold or s.raw_atp < 0 then 0
        else greatest(0, s.base_atp - coalesce(c.threshold, 0) - coalesce(q.queue_quantity, 0))
    end::bigint as online_atp,
    greatest(s.changed_seq, coalesce(c.changed_seq, 0), coalesce(q.changed_seq, 0)) as changed_seq
from stocked as s
left join channel_rule as c on c.facility_group_id = s.facility_group_id and c.product_id = s.product_id
left join parked as q on q.product_store_id = s.product_store_id and q.product_id = s.product_id
"""


def create_views(connection: duckdb.DuckDBPyConnection, *, is_temporary: bool = False) -> None:
    """Make the views `facility_atp` and `online_atp`, or replace those of an earlier version.

    Temporary ones stand before the others while the connection is open, and so do temporary tables that they read."""
    for view in (FACILITY_ATP, ONLINE_ATP):
        connection.execute(view.format(temporary="temporary" if is_temporary else ""))


@dg.multi_asset(
    name="atp",
    specs=[
        dg.AssetSpec(
            table.name,
            group_name="ledger",
            kinds={"duckdb", "view"},
            deps=deps,
            description=table.description,
            metadata=table.metadata,
        )
        for table, deps in (
            (tables.FACILITY_ATP, ["inventory_item", "kit_inventory", "product_facility"]),
            (
                tables.ONLINE_ATP,
                [
                    "facility_atp",
                    "product_facility",
                    "facility",
                    "facility_group",
                    "product_store",
                    "virtual_queue_item",
                ],
            ),
        )
    ],
    can_subset=True,
)
def atp(
    context: dg.AssetExecutionContext, warehouse: Warehouse
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Define what each facility and each channel may promise; both, whichever was asked for."""
    with warehouse.transaction() as connection:
        create_views(connection)
        facility_count = scalar(connection, FACILITY_ROWS)
    made = (
        dg.MaterializeResult("facility_atp", {"dagster/row_count": facility_count}),
        dg.MaterializeResult("online_atp"),
    )
    yield from summary.asked_for(context, made)
