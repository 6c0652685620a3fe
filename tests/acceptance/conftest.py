"""One person at one machine, and the Prefect server their commands share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import User, phaseline
from tests.support.evidence import pytest_runtest_makereport, pytest_runtest_setup  # noqa: F401 - hooks
from tests.support.messages_api import MessagesApi
from tests.support.prefect_api import PrefectApi


@pytest.fixture(scope="session")
def session_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A PHASELINE_HOME whose server is kept for the whole session and ended after it."""
    home = tmp_path_factory.mktemp("person") / "phaseline-home"
    try:
        answer = phaseline("up", "--json", home=home)
        assert answer.code == 0, answer
        yield home
    finally:
        answer = phaseline("down", "--json", home=home)
        assert answer.code == 0, answer


@pytest.fixture
def user(session_home: Path, tmp_path: Path) -> User:
    """Somebody whose server runs already, in an empty folder, with no key and nothing exported."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return User(session_home, folder)


@pytest.fixture(scope="session")
def exports(session_home: Path) -> dict[str, str]:
    """What `phaseline env` gives for the session's server."""
    return User(session_home, session_home).exports()


@pytest.fixture(scope="session")
def prefect_api(exports: dict[str, str]) -> PrefectApi:
    """The API of the session's server."""
    return PrefectApi.of(exports)


@pytest.fixture
def newcomer(tmp_path: Path, exports: dict[str, str]) -> User:
    """Somebody with an empty home (no ledger, no storage) who uses the session's server."""
    folder = tmp_path / "new-machine"
    folder.mkdir()
    names = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING")
    return User(tmp_path / "new-home", folder, {name: exports[name] for name in names})


@pytest.fixture
def api() -> Iterator[MessagesApi]:
    """A provider that says what the test wants."""
    with MessagesApi() as running:
        yield running
