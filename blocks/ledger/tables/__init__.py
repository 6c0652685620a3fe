"""The ledger's tables, and their rows as values."""
