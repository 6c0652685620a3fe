"""Everything wrong with a catalog at once."""
