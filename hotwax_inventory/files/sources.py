"""The table of feeds: where each kind of file comes from, and under which HotWax names its job is found."""

from dataclasses import dataclass

import dagster as dg


@dataclass(frozen=True)
class Feed:
    """One kind of file. `asset` is the table of its accepted rows; `directories` are relative to SFTP_ROOT."""

    config_id: str
    job: str
    asset: str
    directories: tuple[str, ...]
    patterns: tuple[str, ...]
    hotwax_job: str
    hotwax_service: str
    hotwax_name: str
    description: str
    # The export time in a file's name is part of its identity: two days' exports may be equal, and both mean something.
    is_snapshot: bool = False

    @property
    def files_asset(self) -> str:
        """Name of the external asset that stands for the feed's directories in the lineage."""
        return f"{self.config_id.lower()}_files"


RESET_INVENTORY = Feed(
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
PRODUCT_FACILITY = Feed(
    config_id="IMP_PROD_FACILITY",
    job="import_product_facility",
    asset="product_facility",
    directories=("hotwax/available-to-promise",),
    patterns=("PRODUCT_FACILITY_*.csv",),
    hotwax_job="JOB_IMP_PROD_FAC",
    hotwax_service="ftpImportCSVFile",
    hotwax_name="Import Product Facility",
    description="The ATP app's rules: safety stock or threshold, brokering and pick-up of products at facilities.",
)
INBOUND_SHIPMENT = Feed(
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
KIT_COMPONENT = Feed(
    config_id="MDM_PRODUCT_ASSOC",
    job="import_kit_component",
    asset="kit_component",
    directories=("netsuite/product/kit",),
    patterns=("*.csv",),
    hotwax_job="JOB_KIT_COMP",
    hotwax_service="ftpImportFile",
    hotwax_name="Import KIT Component",
    description="NetSuite's kits and what they consist of.",
)
SCHEDULED_RESTOCK = Feed(
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

FEEDS = (
    RESET_INVENTORY,
    ITEM_RECEIPT,
    INVENTORY_TRANSFER,
    INVENTORY_ADJUSTMENT,
    PRODUCT_FACILITY,
    INBOUND_SHIPMENT,
    KIT_COMPONENT,
    SCHEDULED_RESTOCK,
)


def external_assets() -> list[dg.AssetSpec]:
    """The roots of the lineage: each feed's directories with their SFTP address, the reference directory, the shops."""
    return [
        dg.AssetSpec(
            "reference_files",
            group_name="files",
            kinds={"csv"},
            description="The reference CSVs: products, facilities, groups, stores, shops and their mappings.",
            metadata={"dagster/uri": "HOTWAX_REFERENCE_DIR"},
        ),
        dg.AssetSpec(
            "shopify_levels",
            group_name="files",
            kinds={"shopify"},
            description="The inventory levels of every Shopify shop, as its Admin API shows them.",
            metadata={"dagster/uri": "https://<shop_domain>/admin/api"},
        ),
        dg.AssetSpec(
            "webhook_inbox",
            group_name="files",
            kinds={"shopify", "json"},
            description="The webhooks that the receiver has acknowledged and no import has taken yet.",
            metadata={"dagster/uri": "HOTWAX_HOME/webhook_inbox"},
        ),
        *(
            dg.AssetSpec(
                feed.files_asset,
                group_name="files",
                kinds={"sftp", *(pattern.rpartition(".")[2] for pattern in feed.patterns)},
                description=feed.description,
                metadata={"dagster/uri": ", ".join(f"sftp:/{directory}" for directory in feed.directories)},
            )
            for feed in FEEDS
        ),
    ]
