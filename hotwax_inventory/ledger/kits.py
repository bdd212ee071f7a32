"""Kits, which nobody counts: how many of one the components at each facility make (design section 6, HotWax reference 3.6).

Only kits whose components or list have changed since the last time are computed, unless all are asked for."""

from typing import ClassVar

import dagster as dg
import duckdb
from pydantic import Field

from hotwax_inventory import settings, tables
from hotwax_inventory.imports.shop_products import ITEMS_MOVED
from hotwax_inventory.resources import Warehouse, scalar
from hotwax_inventory.run_config import HotwaxConfig

KITS = "select product_id from product where product_type_id = 'MARKETING_PKG_PICK'"
# Kits that have been counted, while they were ordinary products, and of which nobody says what they are made of.
COUNTED = f"""
select product_id
from inventory_item
where changed_seq > {{since}}
    and product_id in ({KITS})
"""

ALL_KITS = f"""
create or replace temp table affected as
select product_id from kit_component
union
select product_id from kit_inventory
union
{COUNTED.format(since=-1)}
"""

MOVED_KITS = f"""
create or replace temp table affected as
select product_id
from kit_component
where changed_seq > (select kits_upto from sequence)
union
select k.product_id
from kit_component as k
semi join (
    select product_id from inventory_item where changed_seq > (select kits_upto from sequence)
) as i on i.product_id = k.product_id_to
where k.thru_date is null
union
{COUNTED.format(since="(select kits_upto from sequence)")}
union
select product_id
from kit_inventory
where product_id not in ({KITS})
"""

# A component that is not known at a facility counts zero there, so the kit does too; so does one that is a kit itself, and
# one whose row was refused, until a file of the same list has come without such rows.
MADE = f"""
create or replace temp table made as
with component as (
    select product_id, product_id_to, sum(quantity) as quantity
    from kit_component
    where thru_date is null
        and product_id in (select product_id from affected)
        and product_id in ({KITS})
    group by product_id, product_id_to
),
listed as (
    select product_id, count(distinct product_id_to) + arg_max(refused_count, log_id) as components
    from kit_component
    where thru_date is null and product_id in (select product_id from component)
    group by product_id
),
stocked as (
    select
        c.product_id,
        i.facility_id,
        min(if(i.product_id in ({KITS}), 0, greatest(0, i.available_to_promise_total) // c.quantity)) as kits,
        count(*) as components
    from component as c
    join inventory_item as i on i.product_id = c.product_id_to
    join facility as f on f.facility_id = i.facility_id
    where f.parent_facility_type_id is distinct from 'VIRTUAL_FACILITY'
    group by c.product_id, i.facility_id
)
select
    s.product_id,
    s.facility_id,
    if(s.components = l.components, s.kits, 0)::bigint as available_to_promise_total,
    (select last_value + 1 from sequence) as changed_seq
from stocked as s
join listed as l on l.product_id = s.product_id
union all
-- what was counted once says nothing any more
select product_id, facility_id, 0 as available_to_promise_total, (select last_value + 1 from sequence) as changed_seq
from inventory_item
where product_id in (select product_id from affected)
    and product_id in ({KITS})
    and product_id not in (select product_id from stocked)
"""

MERGE = """
merge into kit_inventory as k
using made as m
on k.product_id = m.product_id and k.facility_id = m.facility_id
when matched and k.available_to_promise_total <> m.available_to_promise_total then update
when not matched then insert
"""

# A row that goes says no more that the kit has moved, so its items in the shops do.
BEREFT = ITEMS_MOVED.format(
    products="""
    select k.product_id
    from kit_inventory as k
    anti join made using (product_id, facility_id)
    where k.product_id in (select product_id from affected)
"""
)

# So do those of kits that are ordinary products from now on.
ORDINARY = ITEMS_MOVED.format(products="select distinct product_id from kit_inventory")

GONE = """
delete from kit_inventory
where product_id in (select product_id from affected)
    and (product_id, facility_id) not in (select (product_id, facility_id) from made)
"""


class KitInventorySetup(HotwaxConfig):
    """Parameters of HotWax's job `Bulk recent kit product inventory setup`."""

    spellings: ClassVar[dict[str, str]] = {"includeAll": "include_all"}

    include_all: bool = Field(False, description="true: all kits; false: those whose components have changed")
    includeAll: bool | None = Field(None, description="HotWax's spelling of include_all")


def compute_kits(connection: duckdb.DuckDBPyConnection, *, include_all: bool) -> int:
    """Bring `kit_inventory` (available_to_promise_total in kits, by product and facility) up to date; the kits looked at."""
    if not settings.kits_from_components():
        connection.execute(ORDINARY)
        connection.execute("delete from kit_inventory")
        connection.execute("update sequence set kits_upto = 0, last_value = last_value + 1")
        return 0
    connection.execute(ALL_KITS if include_all else MOVED_KITS)
    affected = scalar(connection, "select count(*) from affected")
    if affected:
        for statement in (MADE, BEREFT, MERGE, GONE, "drop table made"):
            connection.execute(statement)
    connection.execute("drop table affected")
    connection.execute("update sequence set kits_upto = last_value, last_value = last_value + 1")
    return affected


@dg.asset(
    group_name="ledger",
    kinds={"duckdb"},
    deps=["inventory_item", "kit_component", "product", "facility"],
    metadata=tables.KIT_INVENTORY.metadata,
)
def kit_inventory(config: KitInventorySetup, warehouse: Warehouse) -> dg.MaterializeResult:
    """How many of one kit the components at one facility make."""
    with warehouse.transaction() as connection:
        affected = compute_kits(connection, include_all=config.include_all)
        rows = scalar(connection, "select count(*) from kit_inventory")
    return dg.MaterializeResult(metadata={"dagster/row_count": rows, "kits_computed": affected})
