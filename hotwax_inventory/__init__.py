"""Inventory in step between NetSuite files, HotWax availability rules and Shopify."""
