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

FEEDS = (RESET_INVENTORY,)


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
        ),
        *(
            dg.AssetSpec(
                feed.files_asset,
                group_name="files",
                kinds={"sftp", "csv"},
                description=feed.description,
                metadata={"dagster/uri": ", ".join(f"sftp:/{directory}" for directory in feed.directories)},
            )
            for feed in FEEDS
        ),
    ]
