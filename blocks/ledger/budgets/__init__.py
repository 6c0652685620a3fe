"""Ceilings, and what is held and spent of them."""
