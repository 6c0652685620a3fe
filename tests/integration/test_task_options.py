"""Tasks get their options without Prefect's own way of it, with the same result."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from prefect import task
from prefect.cache_policies import CacheKeyFnPolicy
from prefect.settings import PREFECT_TASKS_DISABLE_CACHING, temporary_settings

from tasks.options import with_options


@task(log_prints=False)
async def work(unit: list[Any]) -> str:
    """Gives its first value."""
    return str(unit[0])


async def _always(_task: Any, _run: Any, _state: Any) -> bool:
    return True


def _options(**given: Any) -> dict[str, Any]:
    return {
        "name": "draft",
        "task_run_name": "draft Write it",
        "persist_result": True,
        "result_storage": None,
        "result_serializer": "json",
        "cache_policy": CacheKeyFnPolicy(cache_key_fn=lambda _context, _parameters: "a/b"),
        "cache_expiration": None,
        "refresh_cache": False,
        "retries": 0,
        "retry_delay_seconds": 0,
        "retry_condition_fn": None,
        "timeout_seconds": None,
        **given,
    }


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"retries": 2, "retry_delay_seconds": [1.0, 2.5], "retry_condition_fn": _always},
        {"timeout_seconds": 30.0, "refresh_cache": True, "cache_expiration": datetime.timedelta(seconds=5)},
    ],
)
def test_the_task_is_the_one_prefect_would_make(given: dict[str, Any]) -> None:
    options = _options(**given)
    assert vars(with_options(work, options)) == vars(work.with_options(**options))
    assert work.name == "work"


def test_prefects_switch_for_caching_counts() -> None:
    with temporary_settings({PREFECT_TASKS_DISABLE_CACHING: True}):
        options = _options()
        assert with_options(work, options).cache_policy == work.with_options(**options).cache_policy
        assert with_options(work, options).cache_policy != options["cache_policy"]
