"""The walk over a plan: every step, its parts, and what is written down of them."""
