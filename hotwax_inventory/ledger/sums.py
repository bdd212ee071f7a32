"""Whether the stock of every product and facility is the sum of its ledger entries, which it always is unless a fault is in us."""

from typing import Any

import duckdb

from hotwax_inventory.resources import scalar

# A weighted sum of all keys: where one of them does not add up it differs but by a chance of one in two thousand million, and it
# costs a tenth of adding up each key.
WEIGHT = "(hash(product_id, facility_id) & 2147483647)::hugeint"
ADDS_UP = f"""
select
    (
        select (coalesce(sum({WEIGHT} * quantity_on_hand_total), 0), coalesce(sum({WEIGHT} * available_to_promise_total), 0))
        from inventory_item
    ) = (
        select (coalesce(sum({WEIGHT} * quantity_on_hand_diff), 0), coalesce(sum({WEIGHT} * available_to_promise_diff), 0))
        from inventory_item_detail
    )
"""

OFFENDERS = """
with summed as (
    select
        product_id,
        facility_id,
        sum(quantity_on_hand_diff) as quantity_on_hand,
        sum(available_to_promise_diff) as available_to_promise
    from inventory_item_detail
    group by product_id, facility_id
)
select
    coalesce(i.product_id, s.product_id),
    coalesce(i.facility_id, s.facility_id),
    i.quantity_on_hand_total,
    s.quantity_on_hand,
    i.available_to_promise_total,
    s.available_to_promise
from inventory_item as i
full join summed as s on s.product_id = i.product_id and s.facility_id = i.facility_id
where i.product_id is null
    or i.quantity_on_hand_total <> coalesce(s.quantity_on_hand, 0)
    or i.available_to_promise_total <> coalesce(s.available_to_promise, 0)
order by all
limit 20
"""


def offenders(connection: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
    """Up to twenty keys that do not add up: product, facility, QOH and its sum, ATP and its sum."""
    if scalar(connection, ADDS_UP):
        return []
    return connection.execute(OFFENDERS).fetchall()
