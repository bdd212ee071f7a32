"""The jobs, under the names that HotWax's users find again. What a job does is in its assets."""

from collections.abc import Sequence

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from hotwax_inventory.files import inbox
from hotwax_inventory.imports.declaration import Import
from hotwax_inventory.imports.feeds import IMPORTS
from hotwax_inventory.imports.reference import ASSETS
from hotwax_inventory.reconcile import checks, freshness
from hotwax_inventory.retention import clean_up

# What every import runs on to, so that a file's rows are in the numbers when its run ends.
AFTER_IMPORT = ("inventory_item_detail", "inventory_item", "kit_inventory", "facility_atp", "online_atp")

# Of the runs that may wait for Shopify, of whatever shop, dagster.yaml lets fewer at it than of all.
WAITS_FOR_SHOPIFY = {"hotwax/waits_for": "shopify"}

# The checks that look at whole tables, or at clocks.
OTHER_CHECKS = dg.AssetSelection.checks(
    *(key for check in (*checks.CHECKS, *freshness.CHECKS) for key in check.check_keys)
)


def _with_own_checks(*assets: str) -> dg.AssetSelection:
    """The assets with the checks that they report themselves."""
    return dg.AssetSelection.assets(*assets) - OTHER_CHECKS


def _up_to_atp(*assets: str) -> dg.AssetSelection:
    """The assets, and all that makes of them what may be promised; red at the end when a file could not be read."""
    last = dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey("online_atp"), "every_file_was_read"))
    return _with_own_checks(*assets, *AFTER_IMPORT) | last


def import_job(imports: Sequence[Import]) -> UnresolvedAssetJobDefinition:
    """The job of a feed, with all kinds of its files: land, import, post, and say what may be promised."""
    feed = imports[0].feed
    return dg.define_asset_job(
        feed.job,
        selection=_up_to_atp(feed.asset, *(beside.table.name for beside in imports[1:])),
        description=f"{feed.description} HotWax runs it as {feed.hotwax_name}.",
        tags={"hotwax/feed": feed.config_id, "hotwax/job": feed.hotwax_job, "hotwax/service": feed.hotwax_service},
    )


LOAD_REFERENCE = dg.define_asset_job(
    "load_reference",
    selection=_with_own_checks(*ASSETS, "kit_inventory", "facility_atp", "online_atp"),
    description="Load the reference CSVs, all or nothing, and compute what they say of kits.",
    tags={"hotwax/feed": "REFERENCE"},
)
HARD_SYNC = dg.define_asset_job(
    "hard_sync",
    selection=_with_own_checks(
        "shopify_inventory_level",
        "shopify_shop_product",
        "hard_sync_delta",
        "hard_sync_upload",
        "sync_verification",
        "inventory_drift",
    ),
    description="HotWax: Upload Inventory, once a day. Bring every level of a shop to the number that we promise.",
    tags={**WAITS_FOR_SHOPIFY, "hotwax/job": "JOB_UL_INV", "hotwax/service": "bulkResetShopifyInventoryLevel"},
)
UPLOAD_RECENT = dg.define_asset_job(
    "upload_recent_inventory_changes",
    selection=_with_own_checks("recent_change_delta", "recent_change_upload", "sync_verification"),
    description="HotWax: Upload Recent Inventory Changes, every 15 minutes. Send what has moved since the shop's last sync.",
    tags={**WAITS_FOR_SHOPIFY, "hotwax/job": "UL_RCNT_INV", "hotwax/service": "bulkRecentShopifyInventroyLevel"},
)
PROCESS_BULK_IMPORTED_FILES = dg.define_asset_job(
    "process_bulk_imported_files",
    selection=_up_to_atp("data_manager_log"),
    description="HotWax: Process Bulk Imported Files, every 5 minutes. Work off the files that were landed and left.",
    tags={
        "hotwax/feed": "BULK_IMPORTED_FILES",
        "hotwax/job": "JOB_PRC_PND_DML",
        "hotwax/service": "processPendingDataManagerJob",
    },
)
KIT_INVENTORY_SETUP = dg.define_asset_job(
    "kit_inventory_setup",
    selection=_with_own_checks("kit_inventory", "facility_atp", "online_atp"),
    description="HotWax: Bulk recent kit product inventory setup. How many kits the components make.",
    tags={"hotwax/job": "BLK_RCNT_KIT_INV", "hotwax/service": "bulkKitProductInventorySetup"},
)
SCHEDULE_RESTOCK = dg.define_asset_job(
    "schedule_restock",
    selection=_up_to_atp("shipment_receipt", "restock_upload"),
    description="HotWax: Scheduled restock. Receive shipments, restocks at their time, inbound ones by their id, and publish them.",
    tags={
        # its moment does not wait for the other runs in the queue, nor for one that has received and waits for a shop
        "dagster/priority": "10",
        "hotwax/job": "JOB_SCHEDULED_RSTK",
        "hotwax/service": "receiveAndUpdateInventoryToShopify",
    },
)
SYNC_FROM_SHOPIFY = dg.define_asset_job(
    "sync_inventory_from_shopify",
    selection=_up_to_atp(
        "shopify_inventory_level", "shopify_shop_product", "shopify_inventory_reset", "inventory_drift"
    ),
    description="HotWax: Sync Inventory from Shopify, once a day. Read every level of a shop, and let it reset our stock where "
    "the shop is its master.",
    tags={**WAITS_FOR_SHOPIFY, "hotwax/job": "JOB_SYNC_INV_FRM_SHPY", "hotwax/service": "bulkInventorySyncFromShopify"},
)
IMPORT_WEBHOOK_UPDATES = dg.define_asset_job(
    "import_webhook_updates",
    selection=_up_to_atp("shopify_webhook_update"),
    description="HotWax: inventory_levels/update. Apply what Shopify has told of its levels to shops that it is master of.",
    tags={"hotwax/feed": inbox.CONFIG_ID, "hotwax/job": "inventory_levels/update"},
)
WORKLIST = dg.define_asset_job(
    "report_worklist",
    selection=_with_own_checks("worklist"),
    description="What a person must mend, as a table and a CSV: unmatched SKUs, levels that Shopify does not stock, held files.",
)
EXPLAIN = dg.define_asset_job(
    "explain",
    selection=_with_own_checks("inventory_explanation"),
    description="Why a number is what it is: file and line of every unit, each term of ATP, what was sent, what Shopify answered.",
)
WEBHOOK_SUBSCRIPTION = dg.define_asset_job(
    "webhook_subscription",
    selection=_with_own_checks("shopify_webhook_subscription"),
    description="HotWax: the switch for inventory_levels/update in the Job Manager. Have a shop's updates sent to us, or end it.",
    tags={**WAITS_FOR_SHOPIFY, "hotwax/job": "inventory_levels/update"},
)
IMPORT_JOBS = {imports[0].feed.job: import_job(imports) for _, imports in IMPORTS}
JOBS = (
    LOAD_REFERENCE,
    *IMPORT_JOBS.values(),
    PROCESS_BULK_IMPORTED_FILES,
    KIT_INVENTORY_SETUP,
    SCHEDULE_RESTOCK,
    SYNC_FROM_SHOPIFY,
    IMPORT_WEBHOOK_UPDATES,
    WEBHOOK_SUBSCRIPTION,
    HARD_SYNC,
    UPLOAD_RECENT,
    WORKLIST,
    EXPLAIN,
    clean_up,
)
