"""Inbound shipments: what is on its way to a facility. No stock moves until `ledger.receiving` receives them.

They come as CSV (HotWax reference 3.8) and as NetSuite's transfer orders v2 in JSON, which name no destination. The rows of one
external shipment id in a file are one shipment; the same id in a newer file states it anew. A shipment with a bad row is refused
whole, since half of it would be received as if it were all."""

import dagster as dg
from pydantic import Field

from hotwax_inventory import tables
from hotwax_inventory.files.sources import Feed
from hotwax_inventory.imports import summary
from hotwax_inventory.imports.declaration import Column, Import, ImportFiles
from hotwax_inventory.imports.identify import (
    HAS_PRODUCT,
    HAS_QUANTITY,
    HAS_STOCK_FACILITY,
    IDENTIFIED,
    IS_DERIVED_KIT,
    NOT_POSITIVE,
    VIRTUAL_FACILITY,
    WRONG_FACILITY,
    WRONG_PRODUCT,
    WRONG_QUANTITY,
    WRONG_STRUCTURE,
)
from hotwax_inventory.imports.queue import STATEMENTS
from hotwax_inventory.imports.text import JsonRecords
from hotwax_inventory.resources import Sftp, Warehouse

FEED = Feed(
    config_id="IMP_TO_SHPMNT",
    job="import_inbound_shipment",
    asset="inbound_shipment",
    directories=("netsuite/transferorderv2/import/fulfillment-wh", "hotwax/inbound-shipment"),
    patterns=("*.json", "*.csv"),
    hotwax_job="JOB_IMP_TO_SHPMNT",
    hotwax_service="ftpImportFile",
    hotwax_name="Import Inbound Shipment",
    description="Shipments on their way to a facility: CSV, or NetSuite's transfer orders v2 in JSON.",
)

CHECKED = f"""
with staged as (
    select
        r.* exclude (origin_facility_id),
        nullif(r.origin_facility_id, '') as stated_origin,
        (
            select min(f.facility_id)
            from facility as f
            where f.facility_id = r.origin_facility_id
                or f.external_id = r.origin_facility_id and not exists (from facility where facility_id = r.origin_facility_id)
        ) as origin_facility_id
    from file_row as r
),
{IDENTIFIED},
judged as (
    select
        *,
        coalesce(facility_key, '') <> '' as has_destination,
        case
            {WRONG_STRUCTURE}
            when coalesce(external_shipment_id, '') = ''
                then {{'column_name': 'external_shipment_id', 'reason': 'the row names no shipment'}}
            when stated_origin is not null and origin_facility_id is null
                then {{'column_name': 'origin_facility_id', 'reason': 'Could not find facility ' || stated_origin}}
            when coalesce(facility_key, '') = '' then null
            {WRONG_FACILITY} {VIRTUAL_FACILITY}
        end as place_refusal,
        case {WRONG_PRODUCT} {WRONG_QUANTITY} {NOT_POSITIVE} end as item_refusal
    from identified
),
grouped as (
    select
        *,
        coalesce(
            place_refusal is null
            and (not has_destination or ({HAS_STOCK_FACILITY}))
            and {HAS_PRODUCT}
            and {HAS_QUANTITY}
            and units > 0,
            false
        ) as is_good,
        count(distinct facility_id) over shipment as destinations,
        count(distinct origin_facility_id) over shipment as origins
    from judged
    window shipment as (partition by log_id, external_shipment_id)
)
select
    * exclude (facility_id, shipment_type_id),
    facility_id as destination_facility_id,
    units::integer as quantity,
    coalesce(nullif(shipment_type_id, ''), 'IN_TRANSFER') as shipment_type_id,
    bool_and(is_good) over shipment and destinations <= 1 and origins <= 1 as is_right,
    {IS_DERIVED_KIT} as is_of_nobody,
    coalesce(
        place_refusal,
        item_refusal,
        case
            when destinations > 1 then {{
                'column_name': 'facility', 'reason': 'the rows of shipment ' || external_shipment_id || ' name several destinations'
            }}
            when origins > 1 then {{
                'column_name': 'origin_facility_id',
                'reason': 'the rows of shipment ' || external_shipment_id || ' name several origins'
            }}
            else {{
                'column_name': null,
                'reason': 'another row of shipment ' || external_shipment_id || ' is refused: line '
                    || min(line_number) filter (not is_good) over shipment
            }}
        end
    ) as refusal
from grouped
window shipment as (partition by log_id, external_shipment_id)
"""

# Only the first package need list the items; the tracking numbers are those of all. A package whose items are no list stands for an
# item that cannot be used, so that the shipment is refused.
RECORDS = """
    with parsed as (
        select
            ordinal,
            content,
            from_json(content, '{
                "externalId": "varchar", "transferOrderId": "varchar",
                "packages": ["json"]
            }') as shipment
        from element
    ),
    packed as (
        select
            ordinal,
            content,
            shipment.externalId as external_id,
            shipment.transferOrderId as order_id,
            left(array_to_string(list_transform(shipment.packages, lambda p: p ->> '$.trackingNumber'), ' | '), 1000)
                as tracking_number,
            flatten(list_transform(
                shipment.packages,
                lambda p: case
                    when json_type(p, '$.items') = 'ARRAY' then from_json(p -> '$.items', '["json"]')
                    when json_type(p) = 'OBJECT' and coalesce(json_type(p, '$.items'), 'NULL') = 'NULL' then []::json[]
                    else [p]
                end
            )) as items
        from parsed
    ),
    item as (
        select
            * exclude (content, items),
            if(len(items) > 0, null, content::varchar) as whole,
            unnest(if(len(items) > 0, items, [null])) as item,
            generate_subscripts(if(len(items) > 0, items, [null]), 1) as nth
        from packed
    )
    select
        external_id,
        item ->> '$.productIdType',
        item ->> '$.productIdValue',
        item ->> '$.quantity',
        item ->> '$.itemExternalId',
        tracking_number,
        'EXTERNAL_ORDER_ID:' || order_id,
        coalesce(
            whole,
            json_object('externalId', external_id, 'transferOrderId', order_id, 'items', json_array(item))::varchar
        ),
        (ordinal, nth)
    from item
"""

# Shipments that nobody can change any more.
DONE = """
select shipment_id from shipment where status_id in ('PURCH_SHIP_RECEIVED', 'SHIPMENT_CANCELLED')
union
select shipment_id from shipment_receipt
"""

# Shipments as the newest file of each states them, but for the destination, which not every file does; one that has been received
# or cancelled stays as it is. `{incoming}` is SQL of the accepted rows of those that the batch names, with a log_id, a line_number
# and the columns of both tables.
APPLIED = (
    f"create or replace temp table done as {DONE}",
    """
create or replace temp table incoming as
with row as ({incoming}),
placed as (
    select r.*, (s.effective_at, s.file_name, s.remote_modified_at, s.sha256, s.statement_log_id) as position
    from row as r
    join {statements} as s on s.log_id = r.log_id and not s.is_superseded
),
newest as (
    select
        shipment_id,
        max(position) as position,
        arg_max(destination_facility_id, position) filter (destination_facility_id is not null) as destination_facility_id
    from placed
    group by shipment_id
)
select r.* exclude (position) replace (n.destination_facility_id as destination_facility_id)
from placed as r
join newest as n on n.shipment_id = r.shipment_id and n.position = r.position
anti join done on done.shipment_id = r.shipment_id
""",
    """
update data_manager_log as l
set message = left('Received or cancelled before, and left as it was: ' || d.names || '.', 1000)
from (
    select log_id, string_agg(distinct coalesce(external_id, name), ', ') as names
    from ({incoming})
    semi join done using (shipment_id)
    where log_id in (select log_id from batch)
    group by log_id
) as d
where d.log_id = l.log_id
""",
    """
merge into shipment as s
using (
    select
        shipment_id,
        any_value(external_id) as external_id,
        any_value(shipment_type_id) as shipment_type_id,
        any_value(status_id) as status_id,
        any_value(origin_facility_id) as origin_facility_id,
        any_value(destination_facility_id) as destination_facility_id,
        any_value(scheduled_at) as scheduled_at,
        any_value(name) as name,
        any_value(log_id) as log_id
    from incoming
    group by shipment_id
) as n
on s.shipment_id = n.shipment_id
when matched then update set
    shipment_type_id = n.shipment_type_id,
    origin_facility_id = n.origin_facility_id,
    destination_facility_id = coalesce(n.destination_facility_id, s.destination_facility_id),
    log_id = n.log_id
when not matched then insert
""",
    "delete from shipment_item where shipment_id in (select shipment_id from incoming)",
    """
insert into shipment_item
select
    shipment_id,
    printf('%05d', row_number() over (partition by shipment_id order by log_id, line_number)) as shipment_item_seq_id,
    product_id,
    quantity,
    item_external_id as external_id,
    log_id,
    line_number
from incoming
""",
    "drop table incoming",
    "drop table done",
)


def applied(incoming: str) -> tuple[str, ...]:
    """The statements of APPLIED for these rows."""
    return tuple(statement.format(incoming=incoming, statements=STATEMENTS) for statement in APPLIED)


INBOUND = """
    select
        'IN-' || external_shipment_id as shipment_id,
        external_shipment_id as external_id,
        shipment_type_id,
        'PURCH_SHIP_SHIPPED' as status_id,
        origin_facility_id,
        destination_facility_id,
        null::timestamptz as scheduled_at,
        null::varchar as name,
        product_id,
        quantity,
        item_external_id,
        log_id,
        line_number
    from inbound_shipment
    where external_shipment_id in (select external_shipment_id from inbound_shipment where log_id in (select log_id from batch))
"""

IMPORT = Import(
    feed=FEED,
    table=tables.INBOUND_SHIPMENT,
    columns=(
        Column("external_shipment_id", ("externalShipmentId",)),
        Column("shipment_type_id", ("shipmentType",)),
        Column("origin_facility_id", ("originFacilityId",)),
        Column("facility", ("destinationFacilityId",)),
        Column("facility_id", ()),
        Column("product_id", ("productId",)),
        Column("product_sku", ("productSku",)),
        Column("id_type", ("idType", "productIdType")),
        Column("id_value", ("idValue", "productIdValue")),
        Column("quantity", ("quantity",)),
        Column("item_external_id", ("itemExternalId",)),
        Column("tracking_number", ("trackingNumber",)),
        Column("shipment_attribute", ("shipmentAttribute",)),
    ),
    required=(("external_shipment_id",), ("product_id", "product_sku", "id_value"), ("quantity",)),
    checked=CHECKED,
    json=JsonRecords(
        (
            "external-shipment-id",
            "product-id-type",
            "product-id-value",
            "quantity",
            "item-external-id",
            "tracking-number",
            "shipment-attribute",
        ),
        RECORDS,
    ),
    applied=applied(INBOUND),
)


class ShipmentFiles(ImportFiles):
    """Parameters of HotWax's job `Import Inbound Shipment`."""

    config_id: str = Field(FEED.config_id, description="MDM config that receives the files")


@summary.import_asset(FEED, tables.INBOUND_SHIPMENT, "product", "facility")
def inbound_shipment(
    context: dg.AssetExecutionContext, config: ShipmentFiles, sftp: Sftp, warehouse: Warehouse
) -> dg.MaterializeResult:
    """One accepted item of a shipment that is on its way; `shipment` and `shipment_item` are what the newest files make of them."""
    return summary.import_files((IMPORT,), context, config, sftp, warehouse)
