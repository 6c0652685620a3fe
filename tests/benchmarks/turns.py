"""One process: an agent step of 20 turns beside a bare loop over the SDK that makes the same 20 requests.

Usage: python -m tests.benchmarks.turns FOLDER ROUNDS; prints the median seconds of a turn by name as JSON,
and those the process computed. A turn is a request and the call of a tool that only reads, up to the next
turn; the last one, which calls none, does not count, nor does the first, which opens the connection. The
stand-in of the Messages API is a process of its own and answers at once.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from blocks.settings import Settings
from flows.compiled import LAUNCH, build_flow
from flows.launch import Launch
from tests.benchmarks.rounds import Spent, alternating
from tests.support.catalogs import compiled, make_catalog
from tests.support.messages_api import messages_api_process

TURNS = 20
KEY = "sk-benchmark"
WORKFLOW = """\
workflow: w
steps:
  - {id: work, agent: ann, prompt: Do it step by step.}
"""


def script(turns: int = TURNS) -> dict[str, Any]:
    """What the stand-in answers: a call of `read_skill` in each turn but the last."""
    call = {"tools": [{"name": "read_skill", "input": {"skill": "shared/tool"}}]}
    return {"rules": [{"turn": turns - 1, "reply": {"text": "All done."}, "times": None}], "default": call}


async def step(plan: Any, settings: Settings, environ: Mapping[str, str], run_id: str) -> list[Spent]:
    """Runs it; what each turn took."""
    begun: list[Spent] = []

    def on_event(name: str, data: dict[str, Any]) -> None:
        if name == "turn.started":
            begun.append(Spent())

    launch = Launch(settings=settings, environ=environ, run_id=run_id, on_event=on_event)
    token = LAUNCH.set(launch)
    try:
        state = await build_flow(plan)(return_state=True)
    finally:
        LAUNCH.reset(token)
    if not state.is_completed() or len(begun) != TURNS:
        raise SystemExit(f"{state} after {len(begun)} turns")
    return [later.since(earlier) for earlier, later in pairwise(begun[1:])]


async def bare(requests: list[dict[str, Any]], base_url: str) -> list[Spent]:
    """The same requests one after the other, each streamed to its end."""
    from anthropic import AsyncAnthropic

    begun: list[Spent] = []
    async with AsyncAnthropic(api_key=KEY, base_url=base_url, max_retries=0) as client:
        for request in requests:
            begun.append(Spent())
            async for _ in await client.messages.create(**request):
                pass
    return [later.since(earlier) for earlier, later in pairwise(begun[1:])]


def main() -> None:
    """Alternates the two."""
    folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
    root = make_catalog(folder / "catalog", w=WORKFLOW)
    settings = Settings.read(os.environ, catalog=str(root))
    plan = compiled(root)
    with messages_api_process(script(), folder=folder) as base_url:
        environ = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": base_url}
        requests: list[dict[str, Any]] = []

        async def ours(number: int) -> list[Spent]:
            spent = await step(plan, settings, environ, f"turns-{number}")
            requests[:] = requests or asked(base_url)
            return spent

        works = {"phaseline": ours, "bare": lambda number: bare(requests, base_url)}
        print(json.dumps(alternating(works, rounds)))


def asked(base_url: str) -> list[dict[str, Any]]:
    """The bodies of the requests the stand-in has seen."""
    with urllib.request.urlopen(f"{base_url}/_requests") as answer:
        return [record["body"] for record in json.load(answer)["requests"]]


if __name__ == "__main__":
    main()
