"""The database of the ledger: connected to, read and written, and how it fails."""
