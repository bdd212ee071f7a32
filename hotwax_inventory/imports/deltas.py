"""Signed quantities from NetSuite that move QOH and ATP alike: item receipts, inventory transfers, inventory adjustments.

The three have one format (HotWax reference 3.4, 3.7): every row is one line of a transaction at one location; a transfer between
two of our facilities has two. Item receipts come as JSON, too, which is something else: see `imports.fulfillment`."""

from collections.abc import Iterator

import dagster as dg
from pydantic import Field

from hotwax_inventory import tables
from hotwax_inventory.files.sources import Feed
from hotwax_inventory.imports import fulfillment, summary
from hotwax_inventory.imports.declaration import (
    FACILITY_AND_PRODUCT,
    NAMES_FACILITY_AND_PRODUCT,
    Column,
    Import,
    ImportFiles,
)
from hotwax_inventory.imports.identify import IDENTIFIED, IS_DERIVED_KIT, IS_RIGHT, REFUSAL
from hotwax_inventory.resources import Sftp, Warehouse

ITEM_RECEIPT = Feed(
    config_id="IMP_ITM_RECEIPT",
    job="import_item_receipt",
    asset="item_receipt",
    directories=("netsuite/itemreceipt/csv", "netsuite/salesorder/import/fulfillment"),
    patterns=("*.csv", "*.json"),
    hotwax_job="JOB_ITM_RECEIPT",
    hotwax_service="ftpImportFile",
    hotwax_name="Import Item Receipt",
    description="NetSuite's item receipts (CSV: stock that has arrived) and item fulfilments (JSON: stock that has left).",
)
INVENTORY_TRANSFER = Feed(
    config_id="IMP_INV_TRANS",
    job="import_inventory_transfer",
    asset="inventory_transfer",
    directories=("netsuite/inventorytransfer/import",),
    patterns=("*.csv",),
    hotwax_job="JOB_INV_TRANS",
    hotwax_service="ftpImportFile",
    hotwax_name="Import Inventory Transfer",
    description="NetSuite's inventory transfers: a row for each side that is ours.",
)
INVENTORY_ADJUSTMENT = Feed(
    config_id="IMP_INV_ADJUST",
    job="import_inventory_adjustment",
    asset="inventory_adjustment",
    directories=("netsuite/inventoryadjustment/import",),
    patterns=("*.csv",),
    hotwax_job="JOB_INV_ADJUST",
    hotwax_service="ftpImportFile",
    hotwax_name="Import Inventory Adjustment",
    description="NetSuite's inventory adjustments.",
)

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

EVENTS = """
select log_id, line_number, product_id, facility_id, 'delta' as effect, null as reset_by, quantity,
    'VAR_INTEGR' as reason_enum_id, null as order_id, comments, null as effective_at
from {table}
where log_id in (select log_id from posting)
"""


def deltas(feed: Feed, table: tables.Table) -> Import:
    """The import of a feed of signed quantities."""
    return Import(
        feed=feed,
        table=table,
        columns=(
            *FACILITY_AND_PRODUCT,
            Column("quantity", ("availableDelta", "quantity")),
            Column("location_seq_id", ("locationSeqId",)),
            Column("comments", ("comments",), is_free_text=True),
        ),
        required=(("quantity",), *NAMES_FACILITY_AND_PRODUCT),
        checked=CHECKED,
        events=EVENTS.format(table=table.name),
    )


RECEIPT = deltas(ITEM_RECEIPT, tables.ITEM_RECEIPT)
FULFILLMENT = fulfillment.fulfillments(ITEM_RECEIPT)
TRANSFER = deltas(INVENTORY_TRANSFER, tables.INVENTORY_TRANSFER)
ADJUSTMENT = deltas(INVENTORY_ADJUSTMENT, tables.INVENTORY_ADJUSTMENT)


class ReceiptFiles(ImportFiles):
    """Parameters of HotWax's job `Import Item Receipt`."""

    config_id: str = Field(ITEM_RECEIPT.config_id, description="MDM config that receives the files")


class TransferFiles(ImportFiles):
    """Parameters of HotWax's job `Import Inventory Transfer`."""

    config_id: str = Field(INVENTORY_TRANSFER.config_id, description="MDM config that receives the files")


class AdjustmentFiles(ImportFiles):
    """Parameters of HotWax's job `Import Inventory Adjustment`."""

    config_id: str = Field(INVENTORY_ADJUSTMENT.config_id, description="MDM config that receives the files")


@dg.multi_asset(
    name="item_receipt",
    specs=[
        dg.AssetSpec(
            table.name,
            group_name="imports",
            kinds={"duckdb"},
            deps=[ITEM_RECEIPT.files_asset, "product", "facility", *more],
            description=table.description,
            metadata=table.metadata,
        )
        for table, more in ((tables.ITEM_RECEIPT, ()), (tables.ITEM_FULFILLMENT, ("virtual_queue_item",)))
    ],
    check_specs=summary.check_specs("item_receipt"),
    can_subset=True,
)
def item_receipt(
    context: dg.AssetExecutionContext, config: ReceiptFiles, sftp: Sftp, warehouse: Warehouse
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Receipts (CSV) and fulfilments (JSON) come in the same directories; a file's content says which it is."""
    receipts = summary.import_files((RECEIPT, FULFILLMENT), context, config, sftp, warehouse)
    fulfillments = dg.MaterializeResult(
        "item_fulfillment", {"dagster/row_count": summary.row_count(FULFILLMENT, warehouse)}
    )
    yield from summary.asked_for(context, (receipts, fulfillments))


@summary.import_asset(INVENTORY_TRANSFER, tables.INVENTORY_TRANSFER, "product", "facility")
def inventory_transfer(
    context: dg.AssetExecutionContext, config: TransferFiles, sftp: Sftp, warehouse: Warehouse
) -> dg.MaterializeResult:
    """One accepted row of a transfer file: what one facility got from another, or gave to it."""
    return summary.import_files((TRANSFER,), context, config, sftp, warehouse)


@summary.import_asset(INVENTORY_ADJUSTMENT, tables.INVENTORY_ADJUSTMENT, "product", "facility")
def inventory_adjustment(
    context: dg.AssetExecutionContext, config: AdjustmentFiles, sftp: Sftp, warehouse: Warehouse
) -> dg.MaterializeResult:
    """One accepted row of an adjustment file: what the ERP corrected."""
    return summary.import_files((ADJUSTMENT,), context, config, sftp, warehouse)
