"""The output contract, and how an answer becomes an artifact."""
