"""Scheduled restocks from the Import app: stock that a facility is to have from a moment on (HotWax reference 3.9, design 8.7).

The rows of one restock name, time, facility and shop are one shipment; it is received at its time by `ledger.receiving`. A row that
comes after that is refused, since nobody would receive it."""

import dagster as dg
from pydantic import Field

from hotwax_inventory import settings, tables
from hotwax_inventory.files.names import REFUSED
from hotwax_inventory.files.sources import Feed
from hotwax_inventory.imports import shipments, summary
from hotwax_inventory.imports.declaration import Column, Import, ImportFiles
from hotwax_inventory.imports.identify import (
    HAS_PRODUCT,
    HAS_QUANTITY,
    HAS_STOCK_FACILITY,
    IDENTIFIED,
    IS_DERIVED_KIT,
    MOMENT,
    NOT_POSITIVE,
    VIRTUAL_FACILITY,
    WRONG_FACILITY,
    WRONG_PRODUCT,
    WRONG_QUANTITY,
    WRONG_STRUCTURE,
)
from hotwax_inventory.resources import Sftp, Warehouse

FEED = Feed(
    config_id="IMP_INCOMING_SHPMNT",
    job="import_scheduled_restock",
    asset="scheduled_restock",
    directories=("hotwax/scheduled-restock",),
    patterns=("*.csv",),
    hotwax_job="IMP_INCOMING_SHPMNT",
    hotwax_service="createIncomingShipment",
    hotwax_name="Scheduled Restock",
    description="The Import app's restocks: stock that a facility is to have from a moment on.",
)

# A bare time of day is its next occurrence in the store's zone, seen from the file's time of effect; a time without a zone is
# the store's, too. When clocks go back an hour of them occurs twice.
LOCAL_TIME = "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?"
ZONE = " ?(Z|[+-](0[0-9]|1[0-4])(:?[0-5][0-9])?)"
# What is a moment of a restock, and no slip of a pen.
FIRST_YEAR, LAST_YEAR = 1970, 8999
# The moments at which a clock in the store shows a time: where it is put back, by half an hour, one or two, there are two.
TWICE = """list_filter(
            list_transform([120, 60, 30, 0], lambda minutes: timezone(default_time_zone, {0}) - to_minutes(minutes)),
            lambda moment: moment = timezone(default_time_zone, {0}) or timezone(default_time_zone, moment) = {0}
        )"""

SHIPMENT_ID = """'RS-' || left(
            md5(concat_ws(chr(31), coalesce(restock_name, ''), epoch_us(scheduled_at), facility_id, coalesce(shop_id, ''))), 16
        )"""

CHECKED = f"""
with timed as (
    select
        r.*,
        l.effective_at,
        regexp_matches(l.file_name, '{REFUSED.pattern}') as is_mended,
        timezone(r.default_time_zone, l.effective_at) as store_time,
        case when regexp_full_match(r.stated_time, '[0-9]{{1,2}}:[0-9]{{2}}(:[0-9]{{2}})?')
            then try_cast(r.stated_time as time)
        end as time_of_day,
        regexp_full_match(r.stated_time, '{LOCAL_TIME}') as is_local,
        regexp_full_match(r.stated_time, '{LOCAL_TIME}{ZONE}') as is_absolute
    from file_row as r
    join data_manager_log as l on l.log_id = r.log_id
),
occurring as (
    select
        *,
        if(
            is_local, try_cast(replace(stated_time, 'T', ' ') as timestamp), store_time::date + time_of_day
        ) as local_time,
        [{TWICE.format("local_time")}, {TWICE.format("local_time + interval 1 day")}] as occurrences
    from timed
),
staged as (
    select
        *,
        case
            when is_absolute then try_cast({MOMENT.format("stated_time")} as timestamptz)
            when is_local then list_min(occurrences[1])
            else list_min(list_filter(flatten(occurrences), lambda moment: moment >= effective_at))
        end as moment,
        if(year(moment) between {FIRST_YEAR} and {LAST_YEAR}, moment, null) as scheduled_at
    from occurring
),
{IDENTIFIED},
named as (
    select
        *,
        nullif(stated_name, '') as restock_name,
        nullif(product_store, '') as product_store_id,
        nullif(shopify_store, '') as shop_id,
        {SHIPMENT_ID} as shipment_id
    from identified
),
-- its restock was received or cancelled before, without it; what an older file says was taken back before that
late as (
    select n.log_id, n.line_number, true as is_late
    from named as n
    join shipment as s on s.shipment_id = n.shipment_id and s.shipment_id in ({shipments.DONE})
    join data_manager_log as l on l.log_id = s.log_id and l.effective_at <= n.effective_at
    left join (select distinct shipment_id, product_id, quantity from shipment_item) as i
        on i.shipment_id = s.shipment_id and i.product_id = n.product_id and i.quantity = n.units
    where not coalesce({IS_DERIVED_KIT}, false) and (n.is_mended or i.shipment_id is null)
)
select
    *,
    units::integer as quantity,
    coalesce(
        structure_reason is null and {HAS_STOCK_FACILITY} and {HAS_PRODUCT} and {HAS_QUANTITY} and units > 0
        and scheduled_at is not null and is_late is null,
        false
    ) as is_right,
    {IS_DERIVED_KIT} as is_of_nobody,
    case
        {WRONG_STRUCTURE} {WRONG_FACILITY} {VIRTUAL_FACILITY} {WRONG_PRODUCT} {WRONG_QUANTITY} {NOT_POSITIVE}
        when coalesce(stated_time, '') = ''
            then {{'column_name': 'stated_time', 'reason': 'the row says no time'}}
        when is_late then {{
            'column_name': 'stated_name',
            'reason': 'its restock was received, in part at least, or cancelled before, without this row: state what is still to '
                || 'come under another name or time'
        }}
        else {{
            'column_name': 'stated_time',
            'reason': 'the time is neither ISO 8601 of the years {FIRST_YEAR} to {LAST_YEAR} nor a time of day such as 09:00:00: '
                || left(stated_time, 100)
        }}
    end as refusal
from named
left join late using (log_id, line_number)
"""

RESTOCK = f"""
    select
        {SHIPMENT_ID} as shipment_id,
        null::varchar as external_id,
        'INCOMING_SHIPMENT' as shipment_type_id,
        'PURCH_SHIP_CREATED' as status_id,
        null::varchar as origin_facility_id,
        facility_id as destination_facility_id,
        scheduled_at,
        coalesce(restock_name, 'Created ' || strftime(scheduled_at, '%Y-%m-%d %H:%M:%S')) as name,
        product_id,
        quantity,
        null::varchar as item_external_id,
        log_id,
        line_number
    from scheduled_restock as r
    where exists (
        from scheduled_restock as b
        where b.log_id in (select log_id from batch)
            and b.scheduled_at = r.scheduled_at
            and b.facility_id = r.facility_id
            and b.restock_name is not distinct from r.restock_name
            and b.shop_id is not distinct from r.shop_id
    )
"""

IMPORT = Import(
    feed=FEED,
    table=tables.SCHEDULED_RESTOCK,
    columns=(
        Column("product_id", ("productId",)),
        Column("product_sku", ("shopifyProductSku", "productSku", "sku")),
        Column("id_type", ("idType",)),
        Column("id_value", ("idValue", "productIdentification")),
        Column("quantity", ("restockQuantity", "quantity")),
        Column("stated_time", ("scheduleTime", "scheduledTime")),
        Column("facility", ("facility", "facilityId")),
        Column("facility_id", ()),
        Column("product_store", ("productStore",)),
        Column("shopify_store", ("shopifyStore",)),
        Column("stated_name", ("restockName",)),
    ),
    required=(("product_id", "product_sku", "id_value"), ("quantity",), ("stated_time",), ("facility",)),
    checked=CHECKED,
    applied=shipments.applied(RESTOCK),
)


class RestockFiles(ImportFiles):
    """Parameters of HotWax's import `IMP_INCOMING_SHPMNT`."""

    config_id: str = Field(FEED.config_id, description="MDM config that receives the files")

    def parameters(self) -> dict[str, str | None]:
        return super().parameters() | {"time_zone": settings.restock_time_zone()}


@summary.import_asset(FEED, tables.SCHEDULED_RESTOCK, "product", "facility")
def scheduled_restock(
    context: dg.AssetExecutionContext, config: RestockFiles, sftp: Sftp, warehouse: Warehouse
) -> dg.MaterializeResult:
    """One accepted row of a restock: units of a product that a facility gets at a moment."""
    return summary.import_files((IMPORT,), context, config, sftp, warehouse)
