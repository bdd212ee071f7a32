"""Where files come from: what a feed is, and the roots of the lineage."""

from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from hotwax_inventory import settings


@dataclass(frozen=True)
class Feed:
    """One kind of file, and the HotWax names under which its job is found. `asset` is the table of its accepted rows; `directories`
    are relative to SFTP_ROOT."""

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
    # A file says how things are from its time on: a content means something again once another one has come in between.
    is_state: bool = False

    @property
    def files_asset(self) -> str:
        """Name of the external asset that stands for the feed's directories in the lineage."""
        return f"{self.config_id.lower()}_files"


def external_assets(feeds: Sequence[Feed]) -> list[dg.AssetSpec]:
    """The roots of the lineage: each feed's directories with their SFTP address, the reference directory, the shops."""
    return [
        dg.AssetSpec(
            "reference_files",
            group_name="files",
            kinds={"csv"},
            description="The reference CSVs: products, facilities, groups, stores, shops and their mappings.",
            metadata={"folder": dg.MetadataValue.path(str(settings.reference_dir()))},
        ),
        dg.AssetSpec(
            "shopify_levels",
            group_name="files",
            kinds={"shopify"},
            description="The inventory levels of every Shopify shop, as its Admin API shows them.",
            metadata={"address": "https://<shop_domain>/admin/api"},
        ),
        dg.AssetSpec(
            "webhook_inbox",
            group_name="files",
            kinds={"shopify", "json"},
            description="The webhooks that the receiver has acknowledged and no import has taken yet.",
            metadata={"folder": dg.MetadataValue.path(str(settings.home() / "webhook_inbox"))},
        ),
        *(
            dg.AssetSpec(
                feed.files_asset,
                group_name="files",
                kinds={"sftp", *(pattern.rpartition(".")[2] for pattern in feed.patterns)},
                description=feed.description,
                metadata={"directories": ", ".join(settings.import_directories(feed.config_id, feed.directories))},
            )
            for feed in feeds
        ),
    ]
