"""Tokens add up, and cost what the price list says."""

from __future__ import annotations

import pytest

from workflows.core.usage import Usage, cost


def test_usage_adds_counter_by_counter() -> None:
    total = Usage(1, 2, 3, 4) + Usage(10, 20, 30, 40)
    assert total == Usage(11, 22, 33, 44)
    assert total.billed_input_tokens == 11 + 33 + 44
    assert total.total_tokens == 110


def test_usage_survives_json_and_reads_the_api_shape() -> None:
    usage = Usage(1, 2, 3, 4)
    assert Usage.from_json(usage.to_json()) == usage
    api = {"input_tokens": 5, "output_tokens": 6, "cache_read_input_tokens": None, "service_tier": "standard"}
    assert Usage.from_json(api) == Usage(5, 6)


@pytest.mark.parametrize("wrong", [-1, 1.5, "7", True])
def test_a_counter_that_is_no_count_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="input_tokens"):
        Usage.from_json({"input_tokens": wrong, "output_tokens": 1})


def test_cost_per_million() -> None:
    price = {"input": 4.0, "output": 20.0, "cache_read": 0.2, "cache_write": 5.0}
    assert cost(Usage(1_000_000, 0), price) == 4.0
    assert cost(Usage(500_000, 100_000, 1_000_000, 200_000), price) == pytest.approx(2.0 + 2.0 + 0.2 + 1.0)


def test_the_cache_without_a_price_costs_what_input_does_and_unknown_models_have_no_cost() -> None:
    assert cost(Usage(0, 0, 1_000_000, 1_000_000), {"input": 4.0, "output": 20.0}) == 8.0
    assert cost(Usage(1, 1), None) is None
    assert cost(Usage(1, 1), {"input": 4.0}) is None
