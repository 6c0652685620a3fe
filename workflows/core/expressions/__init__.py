"""Templates and expressions: harmless, metered, pure."""
