"""What the tests against real processes share."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, text

from blocks.ledger import Ledger
from deployments.server.kept_server import ServerInfo
from tests.support.evidence import pytest_runtest_makereport, pytest_runtest_setup  # noqa: F401 - hooks
from tests.support.ledgers import DATABASES, new_address
from tests.support.postgres import Cluster, postgres_cluster
from tests.support.prefect_server import local_prefect_server


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerInfo]:
    """One Prefect server for the whole session; this process and its children talk to it."""
    with local_prefect_server(tmp_path_factory) as info:
        yield info
        _drain()


def _drain() -> None:
    """Sends what Prefect still holds back in this process; else it waits for the ended server at exit."""
    if "prefect.flows" in sys.modules:
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogWorker

        EventsWorker.drain_all(timeout=10)
        APILogWorker.drain_all(timeout=10)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL of one module's own."""
    with postgres_cluster() as running:
        yield running


@pytest.fixture(scope="module", params=DATABASES)
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """A ledger of one module's own, on each database."""
    address = new_address(request, request.param, tmp_path_factory.mktemp("ledger"))
    with Ledger.open(address, migrate=True) as ledger:
        yield ledger


@pytest.fixture
def ledger(opened: Ledger) -> Iterator[Ledger]:
    """The same for all tests of a module, empty again after each. Some modules have a new one per test."""
    yield opened
    opened.access.write_blocking(_empty, "test")


def _empty(connection: Connection) -> None:
    for table in ("run", "budget", "reservation", "signal"):
        connection.execute(text(f"DELETE FROM {table}"))
