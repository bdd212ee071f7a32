"""Availability rules from the ATP app: safety stock, brokering and pick-up of products at facilities (HotWax reference 3.5).

A row for a channel's configuration facility states its threshold. Nothing here touches the ledger; ATP follows at once, since it is
a view. The rules of a product at a facility are the newest value of each column; an empty one says nothing (design 8.12)."""

import dagster as dg
from pydantic import Field

from hotwax_inventory import tables
from hotwax_inventory.files.sources import Feed
from hotwax_inventory.imports import summary
from hotwax_inventory.imports.declaration import Column, Import, ImportFiles
from hotwax_inventory.imports.identify import (
    HAS_FACILITY,
    HAS_PRODUCT,
    IDENTIFIED,
    MOST_UNITS,
    WRONG_FACILITY,
    WRONG_PRODUCT,
    WRONG_QUANTITY,
    WRONG_STRUCTURE,
)
from hotwax_inventory.resources import Sftp, Warehouse

FEED = Feed(
    config_id="IMP_PROD_FACILITY",
    job="import_product_facility",
    asset="product_facility",
    directories=("hotwax/available-to-promise",),
    patterns=("PRODUCT_FACILITY_*.csv", "*-failed-records-*.csv"),
    hotwax_job="JOB_IMP_PROD_FAC",
    hotwax_service="ftpImportCSVFile",
    hotwax_name="Import Product Facility",
    description="The ATP app's rules: safety stock or threshold, brokering and pick-up of products at facilities.",
    is_state=True,
)

FLAG = "case upper({0}) when 'Y' then 'Y' when 'TRUE' then 'Y' when 'N' then 'N' when 'FALSE' then 'N' end"

CHECKED = f"""
with staged as (
    select
        * exclude (allow_brokering, allow_pickup),
        nullif(allow_brokering, '') as stated_brokering,
        nullif(allow_pickup, '') as stated_pickup,
        {FLAG.format("allow_brokering")} as allow_brokering,
        {FLAG.format("allow_pickup")} as allow_pickup
    from file_row
),
{IDENTIFIED}
select
    *,
    units as minimum_stock,
    coalesce(
        structure_reason is null and {HAS_FACILITY} and {HAS_PRODUCT}
        and (coalesce(stated_quantity, '') = '' or units between 0 and {MOST_UNITS})
        and (stated_brokering is null or allow_brokering is not null)
        and (stated_pickup is null or allow_pickup is not null),
        false
    ) as is_right,
    false as is_of_nobody,
    case
        {WRONG_STRUCTURE} {WRONG_FACILITY} {WRONG_PRODUCT}
        when stated_brokering is not null and allow_brokering is null
            then {{'column_name': 'allow_brokering', 'reason': 'allow-brokering takes Y or N, not ' || stated_brokering}}
        when stated_pickup is not null and allow_pickup is null
            then {{'column_name': 'allow_pickup', 'reason': 'allow-pickup takes Y or N, not ' || stated_pickup}}
        when units < 0 then {{'column_name': 'quantity', 'reason': 'the safety stock is below zero: ' || stated_quantity}}
        {WRONG_QUANTITY}
    end as refusal
from identified
"""

# A value that was set already changes nothing, so that the same rules again move no watermark. The place of a row among all is one
# number: files of one moment and name are read together, line by line.
FOLD = """
merge into product_facility as p
using (
    with file as (
        select
            log_id,
            dense_rank() over (order by effective_at, file_name, remote_modified_at) as moment,
            row_number() over (order by sha256, log_id) as number
        from data_manager_log
        where log_id in (select log_id from product_facility_rule)
    ),
    ordered as (
        select r.*, (((f.moment::hugeint << 40) + r.line_number) << 24) + f.number as position
        from product_facility_rule as r
        semi join (
            select product_id, facility_id from product_facility_rule where log_id in (select log_id from batch)
        ) as t on t.product_id = r.product_id and t.facility_id = r.facility_id
        join file as f on f.log_id = r.log_id
    )
    select
        product_id,
        facility_id,
        arg_max(minimum_stock, position) filter (minimum_stock is not null) as minimum_stock,
        arg_max(allow_brokering, position) filter (allow_brokering is not null) as allow_brokering,
        arg_max(allow_pickup, position) filter (allow_pickup is not null) as allow_pickup,
        (select last_value + 1 from sequence) as changed_seq
    from ordered
    group by product_id, facility_id
) as n
on p.product_id = n.product_id and p.facility_id = n.facility_id
when matched and (
    p.minimum_stock is distinct from n.minimum_stock
    or p.allow_brokering is distinct from n.allow_brokering
    or p.allow_pickup is distinct from n.allow_pickup
) then update
when not matched then insert
"""

IMPORT = Import(
    feed=FEED,
    table=tables.PRODUCT_FACILITY_RULE,
    columns=(
        Column("facility_id", ("facilityId",)),
        Column("external_facility_id", ("facilityExternalId", "externalFacilityId")),
        Column("product_id", ("productId",)),
        Column("product_sku", ("productSku",)),
        Column("id_type", ("idType",)),
        Column("id_value", ("idValue",)),
        Column("quantity", ("facilitySafetyStock", "minimumStock")),
        Column("allow_brokering", ("allowBrokering",)),
        Column("allow_pickup", ("allowPickup",)),
    ),
    required=(
        ("facility_id", "external_facility_id"),
        ("product_id", "product_sku", "id_value"),
        ("quantity", "allow_brokering", "allow_pickup"),
    ),
    checked=CHECKED,
    applied=(FOLD, "update sequence set last_value = last_value + 1"),
)


class RuleFiles(ImportFiles):
    """Parameters of HotWax's job `Import Product Facility`."""

    config_id: str = Field(FEED.config_id, description="MDM config that receives the files")


@summary.import_asset(FEED, tables.PRODUCT_FACILITY, "product", "facility")
def product_facility(
    context: dg.AssetExecutionContext, config: RuleFiles, sftp: Sftp, warehouse: Warehouse
) -> dg.MaterializeResult:
    """The availability rules of one product at one facility, as the newest files have them."""
    return summary.import_files((IMPORT,), context, config, sftp, warehouse)
