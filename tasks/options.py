"""The one place that decides a Prefect task's options: name, cache, retries, timeout, tags."""

from __future__ import annotations

import datetime
from typing import Any

from prefect.cache_policies import CacheKeyFnPolicy

from workflows.core.errors import PhaselineError
from workflows.core.plan import StepPlan


def task_options(
    step: StepPlan,
    path: str,
    key: str,
    *,
    tenant: str,
    run_id: str,
    storage: Any,
    refresh: bool,
    retried: bool = True,
    member: str = "",
) -> dict[str, Any]:
    """Arguments of `Task.with_options` for one unit of a step.

    The cache key is also the path of the result below the storage's root. `refresh` runs the unit even if
    a result is stored. `retried` is False for what only collects finished parts.
    """
    shared = step.cache == "always"
    place = f"{tenant}/shared/{key}" if shared else f"{tenant}/{run_id}/{path}/{key}"
    retries = step.retries if retried else None
    return {
        "name": step.name,
        "task_run_name": task_name(step, path, member),
        "persist_result": True,
        "result_storage": storage,
        "result_serializer": "json",
        "cache_policy": CacheKeyFnPolicy(cache_key_fn=lambda _context, _parameters: place),
        "cache_expiration": datetime.timedelta(seconds=step.ttl) if shared and step.ttl else None,
        "refresh_cache": refresh,
        "retries": retries.max if retries else 0,
        "retry_delay_seconds": retries.delays() if retries and retries.max else 0,
        "retry_jitter_factor": retries.jitter if retries and retries.max else None,
        "retry_condition_fn": worth_retrying if retries and retries.max else None,
        "timeout_seconds": step.timeout if retried else None,
        "tags": [f"step:{step.id}", *([f"agent:{member}"] if member else [])],
    }


def task_name(step: StepPlan, path: str, member: str = "") -> str:
    """How a task run is called in the UI: the step, and which part of it."""
    part = path.split("/")[-1]
    return part if part == step.id else f"{step.id} · {member or part}"


async def worth_retrying(_task: Any, _run: Any, state: Any) -> bool:
    """Whether another attempt may end differently (Prefect wants an async function here)."""
    error = await state.aresult(raise_on_failure=False)
    return not (isinstance(error, PhaselineError) and error.final)
