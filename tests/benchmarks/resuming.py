"""A step of 20 turns, killed with SIGKILL while its 15th request is under way, and continued by `resume`.

Who counts is the stand-in of the Messages API, a process of its own.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.turns import KEY, TURNS, WORKFLOW, script
from tests.support.catalogs import make_catalog
from tests.support.messages_api import answers_in, messages_api_process, tokens_of

KILLED_AT = 15
_HELD = {"latency": 3600.0}


@dataclass(frozen=True)
class Resumed:
    """What one continuation cost.

    `seconds` are those from the start of the command to its first request; `tokens` those of requests that
    were asked again although they had been answered; `again` counts requests that were asked twice.
    """

    seconds: float
    tokens: int
    again: int


def resuming(environment: Mapping[str, str], folder: Path, rounds: int) -> dict[str, str]:
    """The figures: medians of the seconds, the worst of what is counted."""
    catalog = make_catalog(folder / "resuming", w=WORKFLOW)
    found = [_resumed(environment, catalog, folder, f"resumed-{number}") for number in range(rounds)]
    seconds = statistics.median(each.seconds for each in found)
    return {
        f"resume after SIGKILL at turn {KILLED_AT} of {TURNS}, to its first request": f"{seconds:.2f} s",
        "  tokens paid again": str(max(each.tokens for each in found)),
        "  requests asked twice": str(max(each.again for each in found)),
    }


def _resumed(environment: Mapping[str, str], catalog: Path, folder: Path, run_id: str) -> Resumed:
    call = script()["default"]
    held = {"turn": KILLED_AT - 1, "replies": [{**call, **_HELD}, call], "times": 1}
    rules = {**script(), "rules": [held, *script()["rules"]]}
    with messages_api_process(rules, folder=folder) as base_url:
        asking = {
            **environment,
            "ANTHROPIC_BASE_URL": base_url,
            "ANTHROPIC_API_KEY": KEY,
            "PHASELINE_CATALOG": str(catalog),
        }
        first = _start(asking, "run", "w", "--run-id", run_id)
        _await(first, base_url, KILLED_AT)
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        started = time.time()
        second = _start(asking, "resume", run_id)
        if second.wait():
            raise SystemExit(f"phaseline resume ended with {second.returncode}")
        return _counted(_asked(base_url), started)


def _start(environment: Mapping[str, str], *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "deployments.cli", *words],
        cwd=Path(__file__).parents[2],
        env=dict(environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _await(process: subprocess.Popen[bytes], base_url: str, count: int) -> None:
    while len(_asked(base_url)) < count:
        if process.poll() is not None:
            raise SystemExit("the command ended before it was killed")
        time.sleep(0.02)


def _asked(base_url: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{base_url}/_requests") as answer:
        records: list[dict[str, Any]] = json.load(answer)["requests"]
        return records


def _counted(records: list[dict[str, Any]], started: float) -> Resumed:
    bodies = [json.dumps(record["body"], sort_keys=True) for record in records]
    twice = [json.loads(body) for body, count in Counter(bodies).items() if count > 1]
    new = [record["at"] for record in records if record["at"] > started]
    if len(set(bodies)) != TURNS:
        raise SystemExit(f"{len(set(bodies))} different requests instead of {TURNS}")
    paid = [body for body in twice if answers_in(body) != KILLED_AT - 1]  # that one was never answered
    return Resumed(new[0] - started, sum(tokens_of(body) for body in paid), len(twice))
