"""Inventory in step between NetSuite files, HotWax availability rules and Shopify."""

import gc

# What Dagster has loaded before us is there to stay. To look through it for garbage takes a run 0.15 seconds, each time.
gc.freeze()
