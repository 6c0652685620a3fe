"""Tokens and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or more requests. The four counters are disjoint: billed input is the sum of three."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_read_input_tokens + other.cache_read_input_tokens,
            self.cache_creation_input_tokens + other.cache_creation_input_tokens,
        )

    @property
    def billed_input_tokens(self) -> int:
        """Every input token, whether read from the cache, written to it, or neither."""
        return self.input_tokens + self.cache_read_input_tokens + self.cache_creation_input_tokens

    @property
    def total_tokens(self) -> int:
        """Input and output together, as a token budget counts them."""
        return self.billed_input_tokens + self.output_tokens

    def to_json(self) -> dict[str, int]:
        """The four counters by name."""
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cache_read_input_tokens": self.cache_read_input_tokens,
            "cache_creation_input_tokens": self.cache_creation_input_tokens,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Usage:
        """From `to_json` or from the `usage` of a message; absent and null counters are 0.

        Raises ValueError when a counter is not a whole number of at least 0.
        """
        return cls(*(_counter(value, name) for name in cls.__slots__))


def _counter(value: Mapping[str, Any], name: str) -> int:
    count = value.get(name)
    if count is None:
        return 0
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise ValueError(f"{name} is not a number of tokens")
    return count


def cost(usage: Usage, price: Mapping[str, float] | None) -> float | None:
    """USD for `usage`, or None when the model's price is unknown.

    `price` has USD per million tokens under `input`, `output` and optionally `cache_read`, `cache_write`
    (the shape of `models` in models.yaml). Where a price of the cache was not published, that of input
    counts: for reads it is an upper bound, and unknown is not free.
    """
    if not price or "input" not in price or "output" not in price:
        return None
    total = (
        usage.input_tokens * price["input"]
        + usage.output_tokens * price["output"]
        + usage.cache_read_input_tokens * price.get("cache_read", price["input"])
        + usage.cache_creation_input_tokens * price.get("cache_write", price["input"])
    )
    return total / _MILLION
