"""Written files: their bytes, the places of their values, and every mistake in them at once."""
