"""What a person must mend, in one list: what is unmatched, unknown, not stocked, held, failed, or refused by Shopify."""

import dagster as dg
import duckdb

from hotwax_inventory import tables
from hotwax_inventory.imports.shop_products import UNMATCHED_ITEM
from hotwax_inventory.ledger.atp import create_views
from hotwax_inventory.markdown import MOST_LINES, markdown_table
from hotwax_inventory.publish.batch import STALE
from hotwax_inventory.reconcile.export import write_csv
from hotwax_inventory.resources import Warehouse

ITEMS = f"""
select
    'unmatched_item' as kind,
    i.shop_id,
    null::varchar as product_id,
    null::varchar as facility_id,
    coalesce(i.sku, 'item ' || i.shopify_inventory_item_id) as name,
    i.reason || ': item ' || i.shopify_inventory_item_id as detail,
    case i.reason
        when 'no_sku' then 'Give the variant its SKU in Shopify, or map it in shopify_shop_product.csv.'
        when 'duplicate_sku' then 'Leave the SKU on one variant in Shopify, or say which in shopify_shop_product.csv.'
        when 'mapped_elsewhere' then 'If this is the right item, correct its product in shopify_shop_product.csv.'
        when 'ambiguous_sku' then 'Leave the SKU on one product in product.csv, or map the item in shopify_shop_product.csv.'
        else 'Add the product to product.csv, or correct the SKU in Shopify.'
    end as what_to_do,
    null::timestamptz as since
from ({UNMATCHED_ITEM}) as i
semi join shopify_shop as s on s.shop_id = i.shop_id
"""

# Stock of a shop's own product store that the shop does not sell.
PRODUCTS = """
select
    'unmapped_product', s.shop_id, a.product_id, null, any_value(coalesce(p.internal_name, a.product_id)),
    sum(a.computed_last_inventory_count)::bigint || ' units may be promised',
    'Give the variant in Shopify this SKU, or map it in shopify_shop_product.csv.', null
from shopify_shop as s
join shopify_bulk_read as b on b.shop_id = s.shop_id
join facility as f on f.product_store_id = s.product_store_id
join facility_atp as a on a.facility_id = f.facility_id and a.computed_last_inventory_count > 0
join product as p on p.product_id = a.product_id
anti join shopify_shop_product as m on m.shop_id = s.shop_id and m.product_id = a.product_id
group by s.shop_id, a.product_id
"""

# A level that would be published, if Shopify had it: there is something to sell at a location of the shop.
LEVELS = """
select
    'level_not_stocked', m.shop_id, m.product_id, l.facility_id, coalesce(p.internal_name, m.product_id),
    t.quantity || ' units may be promised'
        || if(v.shop_id is null, '', ', and Shopify does not count the item at location ' || l.shopify_location_id),
    case
        when x.shop_id is null
            then 'The shop has no item ' || m.shopify_inventory_item_id || ': correct shopify_shop_product.csv.'
        when v.shop_id is null
            then 'Stock item ' || m.shopify_inventory_item_id || ' at location ' || l.shopify_location_id || ' in Shopify.'
        when not v.tracked then 'Let Shopify track item ' || m.shopify_inventory_item_id || '.'
        else 'Open location ' || l.shopify_location_id || ' in Shopify, or take it out of shopify_shop_location.csv.'
    end,
    null
from (
    select product_id, facility_id, null as product_store_id, computed_last_inventory_count as quantity from facility_atp
    union all
    select product_id, '_NA_', product_store_id, max(online_atp)
    from online_atp
    where facility_group_id in (
        select facility_group_id
        from facility_group
        where coalesce(facility_group_type_id, 'CHANNEL_FAC_GROUP') = 'CHANNEL_FAC_GROUP'
    )
    group by product_id, product_store_id
) as t
join shopify_shop_location as l on l.facility_id = t.facility_id
join shopify_shop as s on s.shop_id = l.shop_id and s.product_store_id = coalesce(t.product_store_id, s.product_store_id)
join shopify_shop_product as m on m.shop_id = l.shop_id and m.product_id = t.product_id
join product as p on p.product_id = m.product_id
left join shopify_inventory_item as x
    on x.shop_id = m.shop_id and x.shopify_inventory_item_id = m.shopify_inventory_item_id
left join shopify_inventory_level as v
    on v.shop_id = m.shop_id
    and v.shopify_inventory_item_id = m.shopify_inventory_item_id
    and v.shopify_location_id = l.shopify_location_id
where t.quantity > 0 and (v.shop_id is null or not v.tracked or v.available is null)
"""

# A kit is not in resets; its component list makes its number.
NEVER_RESET = """
select
    'never_reset', null, p.product_id, null, coalesce(p.internal_name, p.product_id),
    if(p.product_type_id = 'MARKETING_PKG_PICK', 'the kit has no component list', 'no reset has ever named it'),
    if(p.product_type_id = 'MARKETING_PKG_PICK',
        'Have NetSuite export its components.',
        'See whether NetSuite exports it; if it is gone, take it out of product.csv.'
    ),
    null
from product as p
anti join inventory_item as i on i.product_id = p.product_id and i.reset_at is not null
anti join kit_component as k on k.product_id = p.product_id and k.thru_date is null
"""

KIT_LISTS = """
select
    'kit_not_whole', null, k.product_id, null, coalesce(any_value(p.internal_name), k.product_id),
    arg_max(k.refused_count, k.log_id) || ' rows of its component list were refused, last in '
        || arg_max(l.file_name, k.log_id) || ': none can be made',
    'Put its failed-records file back, mended.',
    max(l.registered_at)
from kit_component as k
join data_manager_log as l on l.log_id = k.log_id
left join product as p on p.product_id = k.product_id
where k.thru_date is null
group by k.product_id
having arg_max(k.refused_count, k.log_id) > 0
"""

FILES = """
select
    'file_' || l.status_id, null, null, null, l.file_name, l.message,
    if(l.status_id = 'held', 'Read it, then release it or let a newer one cancel it.', 'Send it again, mended.'),
    l.registered_at
from data_manager_log as l
where l.status_id = 'held'
    or l.status_id = 'failed' and not exists (
        from data_manager_log as n
        where n.config_id = l.config_id
            and n.file_name = l.file_name
            and n.log_id > l.log_id
            and n.status_id <> 'duplicate'
    )
"""

CHANGES = f"""
select
    'change_' || if(c.outcome = 'contested', 'contested', 'refused'), c.shop_id, c.product_id, c.facility_id,
    coalesce(p.internal_name, c.product_id),
    c.outcome || coalesce(': ' || c.error_code, '') || ', ' || c.target_quantity || ' units in delta ' || c.sync_run_id,
    case
        when c.error_code = 'NOTHING_PROMISED' then 'Nothing, if that is meant: nothing is promised there any more.'
        when c.outcome = 'permanent' then 'Mend the item or the location in Shopify, then run hard_sync.'
        when c.error_code = 'OVERTAKEN' then 'Nothing, if the next sync sends it: our number is another one by now.'
        when c.error_code = 'MOVED_WHILE_UNKNOWN' or starts_with(c.error_code, 'NO_')
            then 'See whether the level is right: Shopify never said whether the change was made.'
        when c.error_code is null or c.error_code in {STALE}
            then 'Find out what else writes to the level: it moved in every round.'
        else 'See why Shopify refuses it, by a code that is not known here, then run hard_sync.'
    end,
    c.decided_at
from sync_change as c
semi join shopify_shop as s on s.shop_id = c.shop_id
left join product as p on p.product_id = c.product_id
where c.outcome in ('contested', 'permanent')
    and not exists (
        from sync_change as n
        where n.shop_id = c.shop_id
            and n.shopify_inventory_item_id = c.shopify_inventory_item_id
            and n.shopify_location_id = c.shopify_location_id
            and n.sync_run_id > c.sync_run_id
            and n.outcome is not null
    )
    -- where a later sync has looked at every level and found nothing to change there, it is mended
    and not exists (
        from sync_run as r
        where r.shop_id = c.shop_id
            and r.sync_run_id > c.sync_run_id
            and r.job = 'hard_sync'
            and r.status_id = 'finished'
            and json_extract_string(r.parameters, 'include_all')::boolean
            and json_extract_string(r.parameters, 'shopify_facility_group_id') is null
    )
"""

# Deltas that a guard holds and nobody has approved, until a later one has looked at the same levels. At those of a hard sync the
# recent one has not looked, though it is the shop's newest then, which alone may be sent.
DELTAS = """
select
    'delta_held', r.shop_id, null, null, r.job || ' ' || r.sync_run_id, r.guard_message,
    if(
        r.sync_run_id in (select max(sync_run_id) from sync_run group by shop_id),
        'Read it. Send it if it is right; what is not sent is looked at anew by the next sync.',
        'Materialise hard_sync_delta again, read it, and send that if it is right: a later delta has overtaken this one.'
    ),
    r.created_at
from sync_run as r
semi join shopify_shop as s on s.shop_id = r.shop_id
where r.status_id = 'planned'
    and r.guard_message is not null
    and not exists (
        from sync_run as n
        where n.shop_id = r.shop_id and n.sync_run_id > r.sync_run_id and (n.job = r.job or n.job = 'hard_sync')
    )
"""
KINDS = (ITEMS, PRODUCTS, LEVELS, NEVER_RESET, KIT_LISTS, FILES, CHANGES, DELTAS)
LIST = "select * from worklist order by kind, shop_id, name, facility_id"


@dg.asset(
    group_name="reconcile",
    kinds={"duckdb", "view"},
    deps=[
        "data_manager_log",
        "product",
        "kit_component",
        "inventory_item",
        "shopify_inventory_level",
        "shopify_shop_product",
        "facility_atp",
        "online_atp",
        "hard_sync_upload",
        "recent_change_upload",
    ],
    metadata=tables.WORKLIST.metadata,
)
def worklist(warehouse: Warehouse) -> dg.MaterializeResult:
    """One thing that a person must mend, and what to do."""
    with warehouse.transaction() as connection:
        create_worklist(connection)
        counts = dict(connection.execute("select kind, count(*) from worklist group by kind order by kind").fetchall())
        first = connection.execute(
            f"select kind, shop_id, name, facility_id, detail, what_to_do, since from ({LIST}) "
            "qualify row_number() over (partition by kind order by shop_id, name, facility_id) <= 3"
        ).fetchall()
        path = write_csv("worklist", LIST, ", ".join(column.name for column in tables.WORKLIST.columns), connection)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": sum(counts.values()),
            **counts,
            "first_of_each_kind": markdown_table(
                ("kind", "shop", "name", "facility", "detail", "what to do", "since"), first[:MOST_LINES]
            ),
            "worklist_csv": dg.MetadataValue.path(str(path)),
        }
    )


def create_worklist(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the view `worklist`, or replace that of an earlier version."""
    create_views(connection)
    connection.execute("create or replace view worklist as " + " union all ".join(KINDS))
