"""What the ledger keeps of credentials, on SQLite and on PostgreSQL, within and between processes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from blocks.ledger import CredentialState, Ledger
from tests.support.ledgers import DATABASES, new_address
from tests.support.prefect_server import finished, run_python
from workflows.core.errors import UsageError

FAR = 4_000_000_000_000_000  # in the year 2096


@pytest.fixture(params=DATABASES)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_address(request, request.param, tmp_path)


@pytest.fixture
def ledger(address: str) -> Iterator[Ledger]:
    with Ledger.open(address, migrate=True) as opened:
        yield opened


def put(ledger: Ledger, state: CredentialState, credential: str = "c", tenant: str = "default") -> None:
    asyncio.run(ledger.credentials.change(tenant, credential, lambda before, now: (state, None)))


def test_what_was_decided_is_found_again(ledger: Ledger) -> None:
    state = CredentialState(
        limits={"models": {"m": [1, "ü"]}}, cooldown_until=5, parked_until=FAR, park_reason="spent\x00"
    )
    put(ledger, state)
    row = ledger.credentials.get("default", "c")
    assert row is not None and row.state == replace(state, park_reason="spent\ufffd")
    assert row == replace(asyncio.run(ledger.credentials.look("default", "c")), at=row.at)
    assert (row.version, row.credential, row.tenant) == (1, "c", "default")
    assert row.updated <= row.at


def test_a_credential_begins_with_nothing(ledger: Ledger) -> None:
    assert ledger.credentials.get("default", "c") is None
    seen = []

    def decide(state: CredentialState, now: int) -> tuple[CredentialState, int]:
        seen.append(state)
        return state, now

    now = asyncio.run(ledger.credentials.change("default", "c", decide))
    assert seen == [CredentialState()] and now > 1_700_000_000_000_000
    row = ledger.credentials.get("default", "c")
    assert row is not None and row.version == 0, "what is not changed is not written"


def test_tenants_and_credentials_are_apart(ledger: Ledger) -> None:
    put(ledger, CredentialState(limits={"x": 1}))
    put(ledger, CredentialState(limits={"x": 2}), credential="d")
    put(ledger, CredentialState(limits={"x": 3}), tenant="other")
    found = [ledger.credentials.get(*key) for key in (("default", "c"), ("default", "d"), ("other", "c"))]
    assert [row.state.limits["x"] for row in found if row] == [1, 2, 3]
    with pytest.raises(UsageError, match="not a tenant"):
        put(ledger, CredentialState(), tenant="../x")


def test_a_person_lifts_a_park_once(ledger: Ledger) -> None:
    assert ledger.credentials.unpark("default", "c") is False
    put(ledger, CredentialState(limits={"x": 1}, parked_until=FAR, park_reason="spent"))
    put(ledger, CredentialState(park_reason="no time stated"), credential="d")
    assert [row.credential for row in ledger.credentials.list_parked("default")] == ["c", "d"]
    assert ledger.credentials.list_parked("other") == []
    assert [ledger.credentials.unpark("default", name) for name in ("c", "d", "c")] == [True, True, False]
    assert ledger.credentials.list_parked("default") == []
    row = ledger.credentials.get("default", "c")
    assert row is not None and row.state.limits == {"x": 1}


def test_a_park_whose_time_is_over_has_lifted_itself(ledger: Ledger) -> None:
    put(ledger, CredentialState(parked_until=5, park_reason="spent"))
    assert ledger.credentials.list_parked("default") == []
    assert ledger.credentials.unpark("default", "c") is False


def test_a_decision_that_fails_changes_nothing_and_harms_no_other(ledger: Ledger) -> None:
    def broken(state: CredentialState, now: int) -> tuple[CredentialState, None]:
        raise ZeroDivisionError

    def counted(state: CredentialState, now: int) -> tuple[CredentialState, None]:
        return replace(state, limits={"n": state.limits.get("n", 0) + 1}), None

    async def together() -> list[BaseException | None]:
        change = ledger.credentials.change
        made = [change("default", "c", broken if n == 3 else counted) for n in range(8)]
        return await asyncio.gather(*made, return_exceptions=True)

    results = asyncio.run(together())
    assert [type(r) for n, r in enumerate(results) if n == 3] == [ZeroDivisionError]
    row = ledger.credentials.get("default", "c")
    assert row is not None and row.state.limits == {"n": 7}


COUNTER = """if 1:
    import asyncio, sys
    from dataclasses import replace
    from blocks.ledger import Ledger

    def counted(state, now):
        return replace(state, limits={"n": state.limits.get("n", 0) + 1}), state.limits.get("n", 0)

    async def count():
        async with Ledger.open(sys.argv[1]) as ledger:
            for _ in range(5):
                for n in await asyncio.gather(*(ledger.credentials.change("default", "c", counted)
                                                for _ in range(10))):
                    print(n)

    asyncio.run(count())
"""


def test_of_several_processes_no_two_decide_on_the_same_state(address: str) -> None:
    Ledger.open(address, migrate=True).close()
    processes = [run_python(COUNTER, address) for _ in range(3)]
    seen = [int(line) for process in processes for line in finished(process).split()]
    assert sorted(seen) == list(range(150))
