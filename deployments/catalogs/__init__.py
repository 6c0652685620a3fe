"""Catalogs as commands open and make them."""
