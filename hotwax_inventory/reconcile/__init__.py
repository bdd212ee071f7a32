"""Stage 5: what Shopify shows is held against what was meant."""
