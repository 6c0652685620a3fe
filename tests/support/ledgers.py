"""Ledgers to test with: one address per database this machine can run."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from tests.support.postgres import Cluster, missing

DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.cluster)]

_numbers = itertools.count()


def new_address(request: pytest.FixtureRequest, database: str, folder: Path) -> str:
    """An empty database: a file, or one of the fixture `cluster`. Skips where there is no PostgreSQL."""
    if database == "sqlite":
        return str(folder / "ledger" / "ledger.db")
    if reason := missing():
        pytest.skip(reason)
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.make_database(f"ledger_{os.getpid()}_{next(_numbers)}")
