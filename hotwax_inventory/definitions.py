"""The one list of what this project consists of."""

import dagster as dg

from hotwax_inventory.automation import jobs, schedules, sensors
from hotwax_inventory.files import sources
from hotwax_inventory.imports import (
    bulk_imported_files,
    feeds,
    reference,
    shop_products,
    shopify_levels,
    shopify_reset,
    webhook_subscription,
    webhook_updates,
)
from hotwax_inventory.ledger import atp, entries, kits, receiving
from hotwax_inventory.publish import delta, launch, restock_upload, upload
from hotwax_inventory.reconcile import checks, drift, explanation, freshness, verification, worklist
from hotwax_inventory.resources import Sftp, Shopify, Warehouse

defs = dg.Definitions(
    assets=[
        *sources.external_assets(feeds.FEEDS),
        reference.reference,
        bulk_imported_files.data_manager_log,
        *feeds.ASSETS,
        receiving.shipment_receipt,
        entries.inventory_item_detail,
        kits.kit_inventory,
        atp.atp,
        shopify_levels.shopify_inventory_level,
        shop_products.shopify_shop_product,
        shopify_reset.shopify_inventory_reset,
        webhook_subscription.shopify_webhook_subscription,
        webhook_updates.shopify_webhook_update,
        delta.hard_sync_delta,
        upload.hard_sync_upload,
        delta.recent_change_delta,
        upload.recent_change_upload,
        restock_upload.restock_upload,
        verification.sync_verification,
        drift.inventory_drift,
        worklist.worklist,
        explanation.inventory_explanation,
    ],
    asset_checks=[*checks.CHECKS, *freshness.CHECKS],
    jobs=jobs.JOBS,
    sensors=sensors.SENSORS,
    schedules=schedules.SCHEDULES,
    resources={
        "warehouse": Warehouse(),
        "sftp": Sftp(),
        "shopify": Shopify(),
        "receiver": launch.Launcher(shopify=Shopify()),
    },
    executor=dg.in_process_executor,
)
