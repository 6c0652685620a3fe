"""What the tests against real processes share."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from deployments.local_server import ServerInfo
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
