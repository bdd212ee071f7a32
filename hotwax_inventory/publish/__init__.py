"""Stage 4: the difference between our numbers and Shopify's is written as delta files and sent."""
