"""Tells people that Prefect's server is waited for, while its client silently asks again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from blocks.patience import ORCHESTRATION, Vigil, Wait

if TYPE_CHECKING:
    from flows.launch import Launch
    from flows.outcome import RunOutcome

_LOOK = 2.0
"""Seconds between two looks."""


@contextlib.asynccontextmanager
async def watching(launch: Launch) -> AsyncIterator[Launch]:
    """The launch, with its listener told while the run can neither begin nor end without Prefect's server.

    In between, steps do not need it.
    """
    needed = asyncio.Event()
    needed.set()

    def on_event(name: str, data: dict[str, Any]) -> None:
        if name == "run.started":
            needed.clear()
        launch.on_event(name, data)

    def on_outcome(outcome: RunOutcome) -> None:
        needed.set()
        launch.on_outcome(outcome)

    looking = asyncio.create_task(_look(launch, needed), name="prefect-watch")
    try:
        yield replace(launch, on_event=on_event, on_outcome=on_outcome)
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


async def _look(launch: Launch, needed: asyncio.Event) -> None:
    import httpx
    from prefect.settings import PREFECT_API_URL

    vigil = Vigil(launch.patience, launch.on_event)
    wait = Wait(vigil, ORCHESTRATION)
    while True:
        await asyncio.sleep(_LOOK)
        await needed.wait()
        reason = ""
        try:
            # Only whether somebody is there: no login is sent, and no certificate looked at.
            async with httpx.AsyncClient(timeout=_LOOK, verify=False) as client:  # noqa: S501
                answer = await client.get(f"{PREFECT_API_URL.value()}/health")
            if answer.status_code >= 500:
                reason = f"Prefect's server answers {answer.status_code}"
        except httpx.HTTPError as fault:
            reason = (
                f"Prefect's server at {PREFECT_API_URL.value()} cannot be reached ({type(fault).__name__})"
            )
        if reason:
            wait.next(reason)
        else:
            wait.end()
            wait = Wait(vigil, ORCHESTRATION)
