"""This process among others: signals, locks, and what is cut off."""
