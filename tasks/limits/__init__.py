"""Requests to models: within their limits, and asked again."""
