"""Item fulfilments from NetSuite: units of an order item that have left a facility (HotWax reference 3.4 B).

They name an order item and no product: that comes from `virtual_queue_item`, and so does whether ATP has felt the item already
(design 8.5). The file is a list with one element for each fulfilment; there is a CSV twin."""

from hotwax_inventory import tables
from hotwax_inventory.files.sources import Feed
from hotwax_inventory.imports.declaration import Column, Import
from hotwax_inventory.imports.identify import (
    HAS_PRODUCT,
    HAS_QUANTITY,
    HAS_STOCK_FACILITY,
    IDENTIFIED,
    NOT_POSITIVE,
    VIRTUAL_FACILITY,
    WRONG_FACILITY,
    WRONG_QUANTITY,
    WRONG_STRUCTURE,
)
from hotwax_inventory.imports.text import JsonRecords

CHECKED = f"""
with staged as (
    select
        r.* exclude (type_key, value_key),
        'PRODUCTID' as type_key,
        q.product_id as value_key,
        f.parent_facility_type_id is distinct from 'VIRTUAL_FACILITY' as is_reserved
    from file_row as r
    left join virtual_queue_item as q on q.order_id = r.order_id and q.order_item_seq_id = r.order_item_seq_id
    left join facility as f on f.facility_id = q.facility_id
),
{IDENTIFIED}
select
    *,
    units::integer as quantity,
    coalesce(
        structure_reason is null and {HAS_STOCK_FACILITY} and {HAS_PRODUCT} and {HAS_QUANTITY} and units > 0, false
    ) as is_right,
    false as is_of_nobody,
    case
        {WRONG_STRUCTURE}
        when coalesce(order_id, '') = '' then {{'column_name': 'order_id', 'reason': 'the item names no order'}}
        when coalesce(order_item_seq_id, '') = ''
            then {{'column_name': 'order_item_seq_id', 'reason': 'the item names no order item'}}
        when value_key is null then {{
            'column_name': 'order_item_seq_id',
            'reason': 'Could not find item ' || order_item_seq_id || ' of order ' || order_id || ' in virtual_queue_item'
        }}
        when product_id is null
            then {{'column_name': 'order_item_seq_id', 'reason': 'Could not find its product ' || value_key}}
        {WRONG_FACILITY} {VIRTUAL_FACILITY} {WRONG_QUANTITY} {NOT_POSITIVE}
    end as refusal
from identified
"""

RECORDS = """
    with parsed as (
        select
            ordinal,
            content,
            from_json(content, '{
                "orderMap": {"orderId": "varchar", "items": ["json"]}, "orderId": "varchar", "items": ["json"]
            }') as fulfilled
        from element
    ),
    ordered as (
        select
            ordinal,
            content,
            coalesce(fulfilled.orderMap, {'orderId': fulfilled.orderId, 'items': fulfilled.items}) as order_map
        from parsed
    ),
    item as (
        select
            ordinal,
            order_map.orderId as order_id,
            if(len(order_map.items) > 0, null, content::varchar) as whole,
            unnest(if(len(order_map.items) > 0, order_map.items, [null])) as item,
            generate_subscripts(if(len(order_map.items) > 0, order_map.items, [null]), 1) as nth
        from ordered
    )
    select
        order_id,
        item ->> '$.orderItemSeqId',
        item ->> '$.externalFacilityId',
        item ->> '$.shippedDate',
        item ->> '$.quantity',
        item ->> '$.trackingNumber',
        item ->> '$.carrier',
        item ->> '$.shippingMethod',
        coalesce(whole, json_object('orderId', order_id, 'items', json_array(item))::varchar),
        (ordinal, nth)
    from item
"""

# What is not reserved any more was taken from ATP when its order came. A derived kit has no stock to move: its order item closes.
EVENTS = """
select f.log_id, f.line_number, f.product_id, f.facility_id, if(f.is_reserved, 'on_hand', 'movement') as effect,
    null as reset_by, -f.quantity as quantity, 'SALES_SHIPMENT' as reason_enum_id, f.order_id, null as comments,
    null as effective_at
from item_fulfillment as f
join data_manager_log as l on l.log_id = f.log_id
left join product as p on p.product_id = f.product_id
where f.log_id in (select log_id from posting)
    and (json_extract_string(l.parameters, '$.kits') = 'netsuite' or p.product_type_id is distinct from 'MARKETING_PKG_PICK')
"""


def fulfillments(feed: Feed) -> Import:
    """The import of NetSuite's item fulfilments, which come in the directories of another feed."""
    return Import(
        feed=feed,
        table=tables.ITEM_FULFILLMENT,
        columns=(
            Column("order_id", ("orderId",)),
            Column("order_item_seq_id", ("orderItemSeqId",)),
            Column("product_id", ()),
            Column("facility_id", ("facilityId",)),
            Column("external_facility_id", ("externalFacilityId",)),
            Column("quantity", ("quantity",)),
            Column("shipped_date", ("shippedDate",)),
            Column("tracking_number", ("trackingNumber",)),
            Column("carrier", ("carrier",)),
            Column("shipping_method", ("shippingMethod",)),
        ),
        required=(("order_id",), ("order_item_seq_id",), ("quantity",), ("facility_id", "external_facility_id")),
        checked=CHECKED,
        json=JsonRecords(
            (
                "orderId",
                "orderItemSeqId",
                "externalFacilityId",
                "shippedDate",
                "quantity",
                "trackingNumber",
                "carrier",
                "shippingMethod",
            ),
            RECORDS,
        ),
        types=("PRODUCTID",),
        events=EVENTS,
    )
