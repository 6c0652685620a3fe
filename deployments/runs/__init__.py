"""Runs: begun, continued, found."""
