"""The filters and tests of templates and expressions: Jinja2's harmless ones, and our own.

Left out on purpose: `random` (a step's input must not vary), `format`, `center`, `wordwrap` (a width makes
text of any size), `attr`, `pprint`, and everything that is about HTML. Where a built-in one can make far
more than it was given (`replace`, `join`, `indent`, `round`, `sum`, `batch`, `slice`) ours refuses it first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any, Literal

from jinja2 import filters, pass_context, tests
from jinja2.runtime import Context

from workflows.core.expressions.meter import (
    CELLS,
    CHARS,
    RANGE,
    LimitReached,
    as_text,
    check_small,
    collect_items,
    kind_of,
    meter_of,
    to_json_text,
)


def _replace(value: str, old: str, new: str, count: int | None = None) -> str:
    """Every `old` becomes `new`."""
    text, old, new = as_text(value), as_text(old), as_text(new)
    times = text.count(old) if count is None else min(text.count(old), check_small(count, "count", CELLS))
    if len(text) + times * len(new) > CHARS:
        raise LimitReached(f"a value has more than {CHARS:,} characters")
    return text.replace(old, new, times)


def _join(environment: Any, value: Iterable[Any], d: str = "", attribute: Any = None) -> str:
    """The items as one text, `d` between them."""
    if attribute is not None:
        value = map(filters.make_attrgetter(environment, attribute), value)
    parts = [as_text(item) for item in value]
    if sum(map(len, parts)) + len(d) * len(parts) > CHARS:
        raise LimitReached(f"a value has more than {CHARS:,} characters")
    return as_text(d).join(parts)


def _indent(value: str, width: int = 4, first: bool = False, blank: bool = False) -> str:
    """Every line moved right by `width` spaces; the first one and blank ones only when asked."""
    margin = " " * check_small(width, "width", 100)
    rows = as_text(value).split("\n")
    return "\n".join(
        margin + row if (first or n > 0) and (blank or row.strip()) else row for n, row in enumerate(rows)
    )


def _round(value: float, precision: int = 0, method: Literal["common", "ceil", "floor"] = "common") -> float:
    """A number rounded to `precision` digits: common, ceil or floor."""
    return filters.do_round(value, check_small(precision, "precision", 15), method)


def _sum(environment: Any, value: Iterable[Any], attribute: Any = None, start: float = 0) -> float:
    """The sum of numbers."""
    if attribute is not None:
        value = map(filters.make_attrgetter(environment, attribute), value)
    numbers = list(value)
    for number in (*numbers, start):
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise TypeError(f"sum needs numbers, not {kind_of(number)}")
    return sum(numbers, start)


def _batch(value: Iterable[Any], linecount: int, fill_with: Any = None) -> Iterator[list[Any]]:
    """The items in lists of `linecount`."""
    return filters.do_batch(value, check_small(linecount, "the size of a batch", RANGE), fill_with)


def _slice(value: Iterable[Any], slices: int, fill_with: Any = None) -> Iterator[list[Any]]:
    """The items in `slices` lists."""
    return filters.sync_do_slice(list(value), check_small(slices, "the number of slices", RANGE), fill_with)


def _from_json(value: str) -> Any:
    """The value a JSON text spells."""
    try:
        return json.loads(value)
    except (TypeError, ValueError) as exc:
        raise ValueError(f"from_json: not JSON: {exc}") from None


def _lines(value: str) -> list[str]:
    """The lines of a text that are not blank, without the blanks around them."""
    return [line.strip() for line in as_text(value).splitlines() if line.strip()]


def _words(value: str) -> list[str]:
    """The words of a text, split at white space."""
    return as_text(value).split()


_OWN: dict[str, Callable[..., Any]] = {
    "replace": _replace,
    "indent": _indent,
    "round": _round,
    "batch": _batch,
    "slice": _slice,
    "string": as_text,
    "tojson": to_json_text,
    "from_json": _from_json,
    "lines": _lines,
    "words": _words,
}
_OWN_WITH_ENVIRONMENT: dict[str, Callable[..., Any]] = {"join": _join, "sum": _sum}
_JINJA_FILTERS: tuple[str, ...] = (
    *(
        "abs",
        "capitalize",
        "count",
        "d",
        "default",
        "dictsort",
        "filesizeformat",
        "first",
        "float",
        "groupby",
    ),
    *(
        "int",
        "items",
        "last",
        "length",
        "list",
        "lower",
        "map",
        "max",
        "min",
        "reject",
        "rejectattr",
        "reverse",
    ),
    *("select", "selectattr", "sort", "title", "trim", "truncate", "unique", "upper", "wordcount"),
)
_JINJA_TESTS: tuple[str, ...] = (
    *(
        "!=",
        "<",
        "<=",
        "==",
        ">",
        ">=",
        "eq",
        "equalto",
        "ne",
        "ge",
        "gt",
        "greaterthan",
        "le",
        "lt",
        "lessthan",
    ),
    *("boolean", "defined", "divisibleby", "even", "false", "float", "in", "integer", "iterable", "lower"),
    *("mapping", "none", "number", "odd", "sameas", "sequence", "string", "true", "undefined", "upper"),
)
_BY_ITEM: tuple[str, ...] = (
    *("batch", "dictsort", "groupby", "join", "list", "map", "max", "min", "reject", "rejectattr"),
    *("reverse", "select", "selectattr", "slice", "sort", "sum", "unique"),
)
"""Filters that look at every item in Python: 4 units an item, 8 a character of a text."""
_BY_CHARACTER = ("indent", "title", "wordcount")
"""Filters that take a text apart in Python: one unit for 4 characters."""
FILTERS = frozenset((*_OWN, *_OWN_WITH_ENVIRONMENT, *_JINJA_FILTERS))
TESTS = frozenset(_JINJA_TESTS)


def _work(name: str, value: Any) -> int:
    """What a filter costs beyond the size of what it reads and makes."""
    if name in _BY_ITEM and isinstance(value, (str, list, tuple, dict)):
        return len(value) * (8 if isinstance(value, str) else 4)
    return len(value) // 4 if name in _BY_CHARACTER and isinstance(value, str) else 0


def _meter_call(name: str, call: Callable[..., Any], passes: str) -> Callable[..., Any]:
    """A filter or test that pays for what it reads and makes, and gives a list where it made an iterator."""

    @pass_context
    @wraps(call)
    def run(context: Context, *args: Any, **kwargs: Any) -> Any:
        meter = meter_of(context)
        for given in (*args, *kwargs.values()):
            meter.weigh(given)
        meter.spend(_work(name, args[0]) if args else 0)
        first = {"": (), "context": (context,), "environment": (context.environment,)}.get(passes)
        made = call(*(first if first is not None else (context.eval_ctx,)), *args, **kwargs)
        if isinstance(made, Iterator):
            made = collect_items(meter, made)
        meter.weigh(made)
        return made

    return run


def metered_filters() -> dict[str, Callable[..., Any]]:
    """Every filter a source may use, by name."""
    built_in: dict[str, Any] = dict(filters.FILTERS)
    jinja = {n: _meter_call(n, built_in[n], _passes(built_in[n])) for n in _JINJA_FILTERS}
    own = {n: _meter_call(n, call, "") for n, call in _OWN.items()}
    return jinja | own | {n: _meter_call(n, call, "environment") for n, call in _OWN_WITH_ENVIRONMENT.items()}


def metered_tests() -> dict[str, Callable[..., Any]]:
    """Every test (`x is defined`) a source may use, by name."""
    built_in: dict[str, Any] = dict(tests.TESTS)
    return {n: _meter_call(n, built_in[n], _passes(built_in[n])) for n in _JINJA_TESTS}


def _passes(call: Callable[..., Any]) -> str:
    """Which argument Jinja gives a built-in filter first: context, eval_context, environment or none."""
    mark = getattr(call, "jinja_pass_arg", None)
    return mark.name if mark is not None else ""
