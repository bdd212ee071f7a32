"""Signed quantities from NetSuite that move QOH and ATP alike: item receipts, inventory transfers, inventory adjustments.

The three have one format (HotWax reference 3.4, 3.7): every row is one line of a transaction at one location; a transfer between
two of our facilities has two. Item receipts come as JSON, too, which is something else: see `imports.fulfillment`."""

import dagster as dg
from pydantic import Field

from hotwax_inventory import tables
from hotwax_inventory.files import sources
from hotwax_inventory.files.sources import Feed
from hotwax_inventory.imports import fulfillment, summary
from hotwax_inventory.imports.identify import IDENTIFIED, IS_DERIVED_KIT, IS_RIGHT, REFUSAL
from hotwax_inventory.imports.queue import Column, Import, ImportFiles
from hotwax_inventory.resources import Sftp, Warehouse

CHECKED = f"""
with staged as (
    select
        * exclude (location_seq_id, comments),
        coalesce(nullif(location_seq_id, ''), default_location_seq_id) as location_seq_id,
        nullif(trim(comments), '') as comments
    from file_row
),
{IDENTIFIED}
select
    *,
    units::integer as quantity,
    coalesce({IS_RIGHT}, false) as is_right,
    {IS_DERIVED_KIT} as is_of_nobody,
    {REFUSAL} as refusal
from identified
"""


def deltas(feed: Feed, table: tables.Table) -> Import:
    """The import of a feed of signed quantities."""
    return Import(
        feed=feed,
        table=table,
        columns=(
            Column("facility_id", ("facilityId",)),
            Column("external_facility_id", ("externalFacilityId",)),
            Column("product_id", ("productId",)),
            Column("netsuite_product_id", ("netsuiteProductId",)),
            Column("id_type", ("idType",)),
            Column("id_value", ("idValue",)),
            Column("quantity", ("availableDelta", "quantity")),
            Column("location_seq_id", ("locationSeqId",)),
            Column("comments", ("comments",), is_free_text=True),
        ),
        required=(
            ("quantity",),
            ("facility_id", "external_facility_id"),
            ("product_id", "netsuite_product_id", "id_value"),
        ),
        checked=CHECKED,
    )


RECEIPT = deltas(sources.ITEM_RECEIPT, tables.ITEM_RECEIPT)
TRANSFER = deltas(sources.INVENTORY_TRANSFER, tables.INVENTORY_TRANSFER)
ADJUSTMENT = deltas(sources.INVENTORY_ADJUSTMENT, tables.INVENTORY_ADJUSTMENT)


class ReceiptFiles(ImportFiles):
    """Parameters of HotWax's job `Import Item Receipt`."""

    config_id: str = Field(sources.ITEM_RECEIPT.config_id, description="MDM config that receives the files")


class TransferFiles(ImportFiles):
    """Parameters of HotWax's job `Import Inventory Transfer`."""

    config_id: str = Field(sources.INVENTORY_TRANSFER.config_id, description="MDM config that receives the files")


class AdjustmentFiles(ImportFiles):
    """Parameters of HotWax's job `Import Inventory Adjustment`."""

    config_id: str = Field(sources.INVENTORY_ADJUSTMENT.config_id, description="MDM config that receives the files")


@dg.multi_asset(
    name="item_receipt",
    specs=[
        dg.AssetSpec(
            table.name,
            group_name="imports",
            kinds={"duckdb"},
            deps=[sources.ITEM_RECEIPT.files_asset, "product", "facility", *more],
            description=table.description,
            metadata=table.metadata,
        )
        for table, more in ((tables.ITEM_RECEIPT, ()), (tables.ITEM_FULFILLMENT, ("virtual_queue_item",)))
    ],
    check_specs=summary.check_specs("item_receipt"),
)
def item_receipt(context: dg.AssetExecutionContext, config: ReceiptFiles, sftp: Sftp, warehouse: Warehouse):
    """Receipts (CSV) and fulfilments (JSON) come in the same directories; a file's content says which it is."""
    yield summary.import_files((RECEIPT, fulfillment.IMPORT), context, config, sftp, warehouse)
    yield dg.MaterializeResult(
        asset_key="item_fulfillment", metadata={"dagster/row_count": summary.row_count(fulfillment.IMPORT, warehouse)}
    )


@summary.import_asset(sources.INVENTORY_TRANSFER, tables.INVENTORY_TRANSFER, "product", "facility")
def inventory_transfer(
    context: dg.AssetExecutionContext, config: TransferFiles, sftp: Sftp, warehouse: Warehouse
) -> dg.MaterializeResult:
    """One accepted row of a transfer file: what one facility got from another, or gave to it."""
    return summary.import_files((TRANSFER,), context, config, sftp, warehouse)


@summary.import_asset(sources.INVENTORY_ADJUSTMENT, tables.INVENTORY_ADJUSTMENT, "product", "facility")
def inventory_adjustment(
    context: dg.AssetExecutionContext, config: AdjustmentFiles, sftp: Sftp, warehouse: Warehouse
) -> dg.MaterializeResult:
    """One accepted row of an adjustment file: what the ERP corrected."""
    return summary.import_files((ADJUSTMENT,), context, config, sftp, warehouse)
