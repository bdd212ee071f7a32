"""The feeds of files, a line for each: the asset that imports it, and the kinds of file that it brings.

All else about a feed (where its files come from, how they become rows, what the rows do) stands in the module of its asset."""

from hotwax_inventory.imports import deltas, kit_components, product_facility, reset, restock, shipments

IMPORTS = (
    (reset.inventory_reset, (reset.IMPORT,)),
    (deltas.item_receipt, (deltas.RECEIPT, deltas.FULFILLMENT)),
    (deltas.inventory_transfer, (deltas.TRANSFER,)),
    (deltas.inventory_adjustment, (deltas.ADJUSTMENT,)),
    (product_facility.product_facility, (product_facility.IMPORT,)),
    (shipments.inbound_shipment, (shipments.IMPORT,)),
    (kit_components.kit_component, (kit_components.IMPORT,)),
    (restock.scheduled_restock, (restock.IMPORT,)),
)
ASSETS = [asset for asset, _ in IMPORTS]
FEEDS = tuple(imports[0].feed for _, imports in IMPORTS)
