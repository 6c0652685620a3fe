"""A number in the bounds of a schema."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

_TRIES = 12


def numbers_for(schema: Mapping[str, Any], *, whole: bool) -> Iterator[float]:
    """Numbers to try, of small size first: zero, the bounds, steps inwards from them, the middle."""
    step = schema.get("multipleOf") or (1 if whole else None)
    low = _bound(schema, "minimum", "exclusiveMinimum", max)
    high = _bound(schema, "maximum", "exclusiveMaximum", min)
    start = low if low is not None and low > 0 else high if high is not None and high < 0 else 0
    inward = 1 if start > 0 or high is None or high > start else -1
    yield from _tidy(_stepped(start, inward, step), whole)
    if low is not None and high is not None:
        middle = (low + high) / 2
        yield from _tidy([middle, *_stepped(low, 1, step), *_stepped(high, -1, step)], whole)
    fine = [start + inward / 10**n for n in range(1, 10)]
    yield from _tidy(fine if step is None else _stepped(start, -inward, step), whole)


def _bound(schema: Mapping[str, Any], wide: str, narrow: str, choose: Any) -> float | None:
    given = [schema[key] for key in (wide, narrow) if isinstance(schema.get(key), (int, float))]
    return choose(given) if given else None


def _stepped(start: float, inward: int, step: float | None) -> Iterator[float]:
    if step is None:
        yield from (start + inward * n for n in range(_TRIES))
        return
    first = math.ceil(start / step) if inward > 0 else math.floor(start / step)
    yield from ((first + inward * n) * step for n in range(_TRIES))


def _tidy(numbers: Any, whole: bool) -> Iterator[float]:
    """Numbers without a fraction as integers; others only where fractions are allowed."""
    for number in numbers:
        if number == int(number):
            yield int(number)
        elif not whole:
            yield number
