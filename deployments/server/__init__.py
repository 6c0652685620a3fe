"""The kept local Prefect server."""
