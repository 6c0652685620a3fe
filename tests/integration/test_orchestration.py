"""Calls of flows while Prefect's server is away: it is told for a while of what has its end already."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from blocks.patience import Patience, PrefectAway, Vigil
from flows.steps import orchestration
from flows.steps.orchestration import Body, await_flow_call, outwait


@pytest.fixture
def away() -> Iterator[None]:
    """Prefect's server is where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{held.getsockname()[1]}/api"}):
            yield


async def forever() -> None:
    await asyncio.sleep(3600)


async def shielded() -> None:
    """Like what Prefect tells of a cancellation, for a minute."""
    try:
        await forever()
    except asyncio.CancelledError:
        await forever()


@pytest.mark.usefixtures("away")
def test_an_end_that_nobody_can_be_told_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    body = Body()

    async def call() -> str:
        with body.running():
            pass
        await shielded()
        return "shown"

    async def on_ended() -> None:
        print("ended")

    assert asyncio.run(asyncio.wait_for(await_flow_call(call(), body, on_ended), 300)) is None
    assert capsys.readouterr().out == "ended\n"


@pytest.mark.usefixtures("away")
def test_a_fault_after_the_end_is_none_of_the_body() -> None:
    body = Body()

    async def call() -> str:
        with body.running():
            pass
        raise httpx.ConnectError("refused")

    assert asyncio.run(await_flow_call(call(), body)) is None and body.fault is None


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.usefixtures("away")
def test_a_cancellation_reaches_the_body_and_does_not_wait_for_its_picture(begun: bool) -> None:
    body, ended = Body(), []

    async def call() -> None:
        if begun:
            with body.running():
                try:
                    await forever()
                finally:
                    await asyncio.sleep(0.1)  # the last steps
                    ended.append(True)
        await shielded()

    async def main() -> None:
        task = asyncio.create_task(await_flow_call(call(), body))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait_for(task, 300)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert ended == [True] * begun


@pytest.mark.usefixtures("away")
def test_what_is_asked_for_without_an_answer_is_told_and_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect's client asks for a minute, and after that again, without a word."""
    monkeypatch.setattr(orchestration, "LOOK", 0.1)
    told: list[dict[str, Any]] = []
    vigil = Vigil(Patience(2.0), lambda name, data: told.append({"name": name, **data}))
    with pytest.raises(PrefectAway, match="cannot be used"):
        asyncio.run(asyncio.wait_for(outwait(vigil, shielded), 300))
    assert told and {t["name"] for t in told} == {"fault.waiting"}
    assert all(t["part"] == "Prefect server" for t in told)
