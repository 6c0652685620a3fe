"""Formats of plain text that models and people write, read in one pass."""
