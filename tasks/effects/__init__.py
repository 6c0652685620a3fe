"""Calls that change something outside: written down before they are made."""
