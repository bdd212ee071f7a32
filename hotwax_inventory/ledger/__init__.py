"""Stage 3: accepted rows become ledger entries, stock and available-to-promise numbers."""
