"""The one list of what this project consists of."""

import dagster as dg

from hotwax_inventory import automation
from hotwax_inventory.files import sources
from hotwax_inventory.imports import reference, reset, shopify_levels
from hotwax_inventory.ledger import atp, entries
from hotwax_inventory.publish import delta, upload
from hotwax_inventory.reconcile import checks, verification
from hotwax_inventory.resources import Sftp, Shopify, Warehouse

defs = dg.Definitions(
    assets=[
        *sources.external_assets(),
        reference.reference,
        reset.inventory_reset,
        entries.inventory_item_detail,
        atp.atp,
        shopify_levels.shopify_inventory_level,
        shopify_levels.shopify_shop_product,
        delta.hard_sync_delta,
        upload.hard_sync_upload,
        delta.recent_change_delta,
        upload.recent_change_upload,
        verification.sync_verification,
    ],
    asset_checks=checks.CHECKS,
    jobs=automation.JOBS,
    sensors=automation.SENSORS,
    schedules=automation.SCHEDULES,
    resources={"warehouse": Warehouse(), "sftp": Sftp(), "shopify": Shopify()},
    executor=dg.in_process_executor,
)
