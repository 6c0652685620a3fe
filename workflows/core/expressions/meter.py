"""What an evaluation of a template or expression may cost, and how its values are weighed and printed.

Time is bounded by counting work, not by a clock: a clock differs between machines and cannot stop a
computation outside the main thread, while the same source over the same values always spends the same.
Each loop turn costs the number of syntax nodes in its body, each operator, filter, test and call costs
the size of what it reads and makes. `WORK` units take at most about two seconds on a slow core.

No value an expression makes may be larger than `CELLS` nested values or `CHARS` characters, counted as if
nothing were shared: `[x, x]` repeated thirty times would otherwise print as a billion items.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from jinja2 import Undefined
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context

WORK = 4_000_000
CELLS = 1_000_000
CHARS = 8 * 2**20
RANGE = 10_000
METER = "*meter"
"""Name the meter travels under in Jinja's context; no source can spell it."""

_INT_BITS = 512
_DEPTH = 100


class LimitReached(SecurityError):
    """A limit of the sandbox was reached."""


class WorkMeter:
    """Counts the work of one evaluation. Raises LimitReached when a limit is reached."""

    def __init__(self) -> None:
        self.left = WORK

    def spend(self, units: int) -> None:
        self.left -= units
        if self.left < 0:
            raise LimitReached(f"it takes more than {WORK:,} steps of work")

    def weigh(self, value: Any) -> None:
        """Charge for a value's full size and refuse one that is too large."""
        cells = chars = 0
        pending: list[tuple[Any, int]] = [(value, 0)]
        while pending:
            item, depth = pending.pop()
            cells += 1
            if isinstance(item, str):
                chars += len(item)
            elif isinstance(item, int):
                check_int(item)
            elif isinstance(item, (Mapping, list, tuple)) and not _loads_lazily(item):
                if depth > _DEPTH:
                    raise LimitReached(f"a value is nested more than {_DEPTH} deep")
                cells += len(item)
                self._check(cells, chars)
                pending.extend((part, depth + 1) for part in _parts(item))
        self._check(cells, chars)
        self.spend(cells + chars // 256)

    @staticmethod
    def _check(cells: int, chars: int) -> None:
        if cells > CELLS:
            raise LimitReached(f"a value has more than {CELLS:,} parts")
        if chars > CHARS:
            raise LimitReached(f"a value has more than {CHARS:,} characters")


def check_int(value: int) -> None:
    """Refuse whole numbers no workflow needs (over 512 bits)."""
    if value.bit_length() > _INT_BITS:
        raise LimitReached(f"a whole number has more than {_INT_BITS} bits")


def _loads_lazily(item: Any) -> bool:
    """A Mapping that is not a dict may load each value; weighing it must not."""
    return isinstance(item, Mapping) and not isinstance(item, dict)


def _parts(item: Any) -> Iterable[Any]:
    if isinstance(item, Mapping):
        return [*item.keys(), *item.values()]
    return item  # type: ignore[no-any-return]


def as_text(value: Any) -> str:
    """How a value is printed: text as it is, null as nothing, everything else as JSON."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Undefined):
        return str(value)  # raises UndefinedError, naming what is missing
    if value is None:
        return ""
    return to_json_text(value)


def to_json_text(value: Any, indent: int | None = None) -> str:
    """JSON with Chinese left readable. Raises TypeError, ValueError on what is not JSON."""
    if indent is not None:
        indent = check_small(indent, "indent", 16)
    return json.dumps(to_json_data(value), ensure_ascii=False, allow_nan=False, indent=indent)


def to_json_data(value: Any, depth: int = 0) -> Any:
    """A value as dicts, lists, text, numbers, booleans and null. Raises TypeError on anything else."""
    if value is None or isinstance(value, (bool, str)):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, Undefined):
        return str(value)  # raises UndefinedError
    if depth > _DEPTH:
        raise LimitReached(f"a value is nested more than {_DEPTH} deep")
    if isinstance(value, Mapping):
        return {_key(k): to_json_data(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple, range)) or _is_view(value):
        return [to_json_data(v, depth + 1) for v in value]
    raise TypeError(f"a {type(value).__name__} is not JSON data")


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a key of a mapping must be text, not {type(key).__name__}")
    return str(key)


def _is_view(value: Any) -> bool:
    return isinstance(value, (type({}.keys()), type({}.values()), type({}.items())))


def check_small(value: Any, what: str, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -most <= value <= most:
        raise LimitReached(f"{what} must be a whole number of at most {most:,}")
    return value


def meter_of(context: Context) -> WorkMeter:
    """The meter of the evaluation this context belongs to."""
    meter: WorkMeter = context.parent[METER]
    return meter


def collect_items(meter: WorkMeter, items: Iterable[Any]) -> list[Any]:
    made = []
    for item in items:
        meter.spend(1)
        made.append(item)
        if len(made) > CELLS:
            raise LimitReached(f"a list has more than {CELLS:,} items")
    return made


def kind_of(value: Any) -> str:
    """What people call a value's type."""
    names: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (bool, "a boolean"),
        ((int, float), "a number"),
        (str, "a text"),
        (Mapping, "a mapping"),
        ((list, tuple), "a list"),
    )
    if value is None:
        return "null"
    return next((name for kind, name in names if isinstance(value, kind)), f"a {type(value).__name__}")
