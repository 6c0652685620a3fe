"""The one place that decides a Prefect task's options: name, cache, retries, timeout.

No tags: for every tag of a task Prefect asks the server for a concurrency slot, about 100 ms and a thread
per task. The first word of a task run's name is its step.
"""

from __future__ import annotations

import copy
import datetime
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

from prefect import Task
from prefect.cache_policies import CacheKeyFnPolicy
from prefect.settings.context import get_current_settings

from tasks.context import RunContext
from workflows.core.errors import PhaselineError
from workflows.core.plans.plan import RetryPlan, StepPlan

P = ParamSpec("P")
R = TypeVar("R")

_MOST_WAITS = 50
"""Prefect takes no longer list of delays; it repeats the last one."""


def task_options(
    step: StepPlan,
    path: str,
    key: str,
    *,
    context: RunContext,
    storage: Any,
    refresh: bool,
    waits: Sequence[float],
    retries: int,
    on_retry: Callable[[BaseException], Awaitable[None]],
    is_away: Callable[[BaseException], bool] = lambda error: False,
    member: str = "",
) -> dict[str, Any]:
    """Arguments of `Task.with_options` for one unit of a step.

    The cache key is also the path of the result below the storage's root. `refresh` runs the unit even if
    a result is stored. `waits` are the seconds before each of the `retries` that are left (see
    `retry_waits`). A timeout is none of them: it counts active time (flows.steps.active_time).
    """
    shared = step.cache == "always"
    place = result_path(step, path, key, context)
    return {
        "name": step.name,
        "task_run_name": task_name(step, path, member),
        "persist_result": True,
        "result_storage": storage,
        "result_serializer": "json",
        "cache_policy": CacheKeyFnPolicy(cache_key_fn=lambda _context, _parameters: place),
        "cache_expiration": datetime.timedelta(seconds=step.ttl) if shared and step.ttl else None,
        "refresh_cache": refresh,
        "retries": retries,
        "retry_delay_seconds": list(waits) or 0,
        "retry_condition_fn": _condition(on_retry, is_away) if retries else None,
    }


def with_options(task: Task[P, R], options: Mapping[str, Any]) -> Task[P, R]:
    """The same as `task.with_options(**options)` for the options of `task_options`, twenty times as fast.

    Prefect makes the task anew, and reads, parses and hashes the source of its function for that.
    """
    if get_current_settings().tasks.disable_caching:
        return task.with_options(**options)
    made = copy.copy(task)
    vars(made).update(options, _user_cache_policy=options["cache_policy"], _user_persist_result=True)
    return made


def result_path(step: StepPlan, path: str, key: str, context: RunContext) -> str:
    """Where Prefect keeps a unit's result: within the run, or shared by the runs of a tenant.

    What the offline model made is never handed to a run with a real one.
    """
    if step.cache == "always":
        return f"{context.tenant}/shared/{key}" + ("-offline" if context.offline else "")
    return f"{context.tenant}/{context.run_id}/{path}/{key}"


def task_name(step: StepPlan, path: str, member: str = "") -> str:
    """How a task run is called in the UI: the step, and its name for people or which part of it this is."""
    part = path.split("/")[-1]
    shown = f"{step.id} · {member or part}" if part != step.id else step.id
    if part == step.id and step.name not in ("", step.id):
        shown = f"{step.id} {step.name}"
    # Prefect reads it as a template of the task's parameters.
    return shown.replace("{", "{{").replace("}", "}}")


def retry_waits(plan: RetryPlan, used: int = 0) -> list[float]:
    """Seconds before each retry after those `used`, lengthened by up to `jitter` (a share) so that parallel
    steps spread.

    At most 50; the last one counts for all later retries.
    """
    delays = plan.delays()
    waits = (delays[used:] or delays[-1:])[:_MOST_WAITS]
    return [wait * (1 + plan.jitter * random.random()) for wait in waits]  # noqa: S311 - no secret


def retries_left(plan: RetryPlan, used: int) -> int:
    """Retries after those that are used up, in this process and in earlier ones."""
    return max(plan.max - used, 0)


def is_final(error: BaseException) -> bool:
    """Whether another attempt cannot end differently."""
    return isinstance(error, PhaselineError) and error.final


def _condition(
    on_retry: Callable[[BaseException], Awaitable[None]], is_away: Callable[[BaseException], bool]
) -> Any:
    async def worth_retrying(_task: Any, _run: Any, state: Any) -> bool:
        # Asked only while retries are left (Prefect wants an async function here).
        error = await state.aresult(raise_on_failure=False)
        if is_final(error) or is_away(error):
            return False
        await on_retry(error)
        return True

    return worth_retrying
