"""Stock, kits, rules and memberships as they were at a moment, by what is known now of what took effect until then.

The fold of the ledger is run again over the events up to the moment, in temporary tables that stand before those of the same name
while the connection is open, so that there is one definition of the numbers for now and for the past."""

from datetime import datetime

import duckdb

from hotwax_inventory import tables
from hotwax_inventory.imports.product_facility import FOLD as RULES
from hotwax_inventory.ledger.entries import ROWS
from hotwax_inventory.ledger.fold import apply_events
from hotwax_inventory.ledger.kits import compute_kits

FINISHED = "('finished', 'finished_with_errors')"

# Whether rows that would say what a later moment was like have been removed.
FORGOTTEN = """
select exists (from data_manager_log where rows_removed_at is not null and effective_at > $moment)
"""

# The files whose rows have taken effect, as `entries.ROWS` wants them.
POSTED = f"""
create or replace temp table posting as
select log_id
from data_manager_log
where status_id in {FINISHED}
"""

# What moves is always in the ledger; a reset is there only when it changed something, so resets come from the rows, and the
# newest of each key from the state, as rows that changed nothing are not kept for ever. An update of Shopify's that came after a
# newer one never took effect, and was true in its time.
KNOWN = f"""
create or replace temp table known as
with stated as (
    select log_id, line_number, product_id, facility_id, effect, reset_by, quantity, reason_enum_id, comments, effective_at
    from ({" union all ".join(f"select * from ({rows}) where effect = 'reset'" for rows in ROWS.values())})
    union all
    select reset_log_id, reset_line_number, product_id, facility_id, 'reset', reset_by, reset_quantity, 'VAR_EXT_RESET', null,
        reset_at
    from inventory_item
    where reset_at is not null
    union all
    select log_id, line_number, product_id, facility_id, 'reset', 'ATP', available, 'VAR_EXT_RESET', null, updated_at
    from shopify_webhook_update as u
    where disposition = 'older'
        and not exists (
            from shopify_webhook_update as n
            where n.disposition = 'applied'
                and (n.product_id, n.facility_id, n.updated_at) = (u.product_id, u.facility_id, u.updated_at)
        )
)
select
    r.product_id, r.facility_id, r.effect, r.quantity, r.reset_by, r.reason_enum_id,
    coalesce(r.effective_at, l.effective_at) as effective_at, l.file_name, l.remote_modified_at as modified_at, l.config_id,
    r.log_id, r.line_number, null::varchar as shipment_id, null::varchar as order_id, r.comments, 0 as posted_seq
from stated as r
join data_manager_log as l on l.log_id = r.log_id
where coalesce(r.effective_at, l.effective_at) <= $moment
qualify row_number() over (partition by r.log_id, r.line_number, r.product_id, r.facility_id) = 1
union all
select
    d.product_id, d.facility_id, coalesce(d.effect, 'movement'),
    if(d.effect is null, d.available_to_promise_diff, d.quantity), null, d.reason_enum_id, d.effective_at,
    coalesce(l.file_name, ''), coalesce(l.remote_modified_at, d.effective_at), coalesce(l.config_id, ''), d.log_id,
    d.line_number, d.shipment_id, d.order_id, regexp_replace(d.description, '^(before_reset|cut)(: |$)', ''), d.seq
from inventory_item_detail as d
left join data_manager_log as l on l.log_id = d.log_id
where d.effect is distinct from 'reset' and d.effective_at <= $moment
union all
select
    product_id, facility_id, 'on_hand', quantity_on_hand_diff - available_to_promise_diff, null, reason_enum_id, effective_at,
    '', effective_at, '', log_id, line_number, shipment_id, order_id, description, seq
from inventory_item_detail
where effect is null and quantity_on_hand_diff <> available_to_promise_diff and effective_at <= $moment
"""

ARRIVED = """
select
    row_number() over (order by effective_at, file_name, modified_at, line_number, config_id, posted_seq) as seq,
    * exclude (posted_seq)
from known
"""

MEMBERSHIPS = """
create or replace temp table facility_group as
select facility_group_id, facility_group_type_id, facility_id, null::timestamptz as from_date, null::timestamptz as thru_date
from facility_group
where coalesce(from_date <= $moment, true) and coalesce(thru_date > $moment, true)
"""

RULE_FILES = """
create or replace temp table batch as
select log_id
from product_facility_rule
join data_manager_log using (log_id)
where effective_at <= $moment
"""

LISTS = """
create or replace temp table kit_component as
select * exclude (thru_date), null::timestamptz as thru_date
from kit_component
where product_id in (select product_id from subject) and from_date <= $moment and coalesce(thru_date > $moment, true)
"""


def go_back(moment: datetime, connection: duckdb.DuckDBPyConnection) -> None:
    """Let the tables of the products in `subject`, which were narrowed to them, be what they were at the moment.

    Makes temporary inventory_item_detail (one entry for each event that changed something, in order of effect),
    inventory_item, kit_inventory, kit_component, product_facility and facility_group. Order items that are parked stay as they are
    now, since they have no history."""
    at = {"moment": moment}
    for table in (tables.INVENTORY_ITEM_DETAIL.name, *ROWS):
        connection.execute(
            f"create or replace temp table {table} as "
            f"select t.* from {table} as t where product_id in (select product_id from subject)"
        )
    connection.execute(POSTED)
    connection.execute(KNOWN, at)
    for table in ("inventory_item_detail", "inventory_item", "product_facility", "kit_inventory"):
        connection.execute(f"delete from temp.{table}")
    apply_events(ARRIVED, connection)
    connection.execute(RULE_FILES, at)
    connection.execute(
        "create or replace temp table product_facility_rule as select t.* from product_facility_rule as t "
        "where product_id in (select product_id from subject) and log_id in (select log_id from batch)"
    )
    connection.execute(RULES)
    connection.execute(MEMBERSHIPS, at)
    connection.execute(LISTS, at)
    connection.execute("create or replace temp table sequence as select * from sequence")
    compute_kits(connection, include_all=True)
