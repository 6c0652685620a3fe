"""What the tests against real processes share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deployments.local_server import ServerInfo
from tests.support.prefect_server import local_prefect_server


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerInfo]:
    """One Prefect server for the whole session; this process and its children talk to it."""
    with local_prefect_server(tmp_path_factory) as info:
        yield info
