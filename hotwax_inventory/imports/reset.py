"""Inventory resets from NetSuite: what the ERP counts, product by product and facility by facility, once a day.

Only reading and checking is here; `ledger.entries` turns the accepted rows into stock. Rows that a file does not have are
left alone. HotWax reference 3.3 has the seven header variants."""

from enum import Enum
from typing import ClassVar

import dagster as dg
from pydantic import Field

from hotwax_inventory import tables
from hotwax_inventory.files.sources import Feed
from hotwax_inventory.imports import summary
from hotwax_inventory.imports.declaration import (
    FACILITY_AND_PRODUCT,
    NAMES_FACILITY_AND_PRODUCT,
    Column,
    Import,
    ImportFiles,
)
from hotwax_inventory.imports.identify import IDENTIFIED, IS_DERIVED_KIT, IS_RIGHT, REFUSAL
from hotwax_inventory.resources import Sftp, Warehouse
from hotwax_inventory.run_config import choice

FEED = Feed(
    config_id="RESET_INVENTORY",
    job="import_inventory",
    asset="inventory_reset",
    directories=("netsuite/inventoryitem/csv",),
    patterns=("*.csv",),
    hotwax_job="JOB_IMP_INV",
    hotwax_service="ftpImportFile",
    hotwax_name="Read Reset Inventory File From SFTP",
    description="NetSuite's daily count of every item at every location: written at 05:00 UTC, uploaded at 05:30.",
    is_snapshot=True,
)

# `resetByAtp` of the Import app and `resetBy` of the connector both say which counter the quantity is (design 8.3).
CHECKED = f"""
with staged as (
    select
        * exclude (reset_by, location_seq_id, comments),
        case
            when lower(reset_by_atp) in ('true', 'y', 'yes', '1') then 'ATP'
            when lower(reset_by_atp) in ('false', 'n', 'no', '0') then 'QOH'
            when coalesce(reset_by_atp, '') <> '' then null
            when coalesce(reset_by, '') = '' then default_reset_by
            when upper(reset_by) = 'ATP' then 'ATP'
            -- both counters move alike, so that to reset both is to reset what is on hand
            when regexp_replace(upper(reset_by), '[ _]', '', 'g') in ('QOH', 'ATP&QOH') then 'QOH'
        end as reset_by,
        reset_by as stated_reset_by,
        coalesce(nullif(location_seq_id, ''), default_location_seq_id) as location_seq_id,
        nullif(comments, '') as comments
    from file_row
),
{IDENTIFIED}
select
    *,
    units::integer as quantity,
    -- NetSuite has a row for each kit, mostly without a quantity
    coalesce({IS_RIGHT} and reset_by is not null or structure_reason is null and {IS_DERIVED_KIT}, false) as is_right,
    {IS_DERIVED_KIT} as is_of_nobody,
    case
        when {REFUSAL} is not null then {REFUSAL}
        when coalesce(reset_by_atp, '') <> ''
            then {{'column_name': 'reset_by_atp', 'reason': 'resetByAtp takes true or false, not ' || reset_by_atp}}
        else {{'column_name': 'reset_by', 'reason': 'resetBy takes ATP or QOH, not ' || stated_reset_by}}
    end as refusal
from identified
"""

IMPORT = Import(
    feed=FEED,
    table=tables.INVENTORY_RESET,
    columns=(
        *FACILITY_AND_PRODUCT,
        Column("quantity", ("availableQty", "quantity")),
        Column("reset_by_atp", ("resetByAtp",)),
        Column("reset_by", ("resetBy",)),
        Column("location_seq_id", ("locationSeqId",)),
        Column("comments", ("comments",), is_free_text=True),
    ),
    required=(("quantity",), *NAMES_FACILITY_AND_PRODUCT),
    checked=CHECKED,
)


@choice
class ResetBy(Enum):
    """The counter that a reset states."""

    ATP = "ATP"
    QOH = "QOH"


class ResetFiles(ImportFiles):
    """Parameters of HotWax's job `Read Reset Inventory File From SFTP`."""

    spellings: ClassVar[dict[str, str]] = ImportFiles.spellings | {"resetBy": "reset_by"}

    config_id: str = Field(FEED.config_id, description="MDM config that receives the files")
    reset_by: ResetBy = Field(
        ResetBy.ATP, description="the counter that a quantity is, for rows that do not say: ATP or QOH"
    )
    resetBy: str | None = Field(None, description="HotWax's spelling of reset_by")

    def parameters(self) -> dict[str, str | None]:
        return super().parameters() | {"reset_by": self.reset_by.value}


@summary.import_asset(FEED, tables.INVENTORY_RESET, "product", "facility")
def inventory_reset(
    context: dg.AssetExecutionContext, config: ResetFiles, sftp: Sftp, warehouse: Warehouse
) -> dg.MaterializeResult:
    """One accepted row of a reset file: a count that the ERP states for a product at a facility."""
    return summary.import_files((IMPORT,), context, config, sftp, warehouse)
