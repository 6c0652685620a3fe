"""Where templates and expressions run: Jinja2's sandbox, narrowed to pure data and metered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, Undefined, pass_context
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from workflows.core.errors import did_you_mean
from workflows.core.expressions.filters import metered_filters, metered_tests
from workflows.core.expressions.meter import (
    RANGE,
    LimitReached,
    as_text,
    check_int,
    collect_items,
    kind_of,
    meter_of,
)

_LOOP_FIELDS = frozenset(
    ("index", "index0", "revindex", "revindex0", "first", "last", "length", "previtem", "nextitem", "cycle")
)
_TEXT_METHODS = frozenset(
    ("upper", "lower", "capitalize", "title", "strip", "lstrip", "rstrip", "startswith", "endswith", "split")
)
METHODS: dict[type, frozenset[str]] = {
    str: _TEXT_METHODS | {"splitlines", "count", "find"},
    Mapping: frozenset(("get", "keys", "values", "items")),
    list: frozenset(("index", "count")),
    tuple: frozenset(("index", "count")),
    LoopContext: frozenset(("cycle",)),
}
"""The methods a source may call, by the kind of value."""


class DataEnvironment(ImmutableSandboxedEnvironment):
    """Jinja2 over JSON data only: fields are keys, the few methods are listed, everything is metered."""

    # Every operator goes through call_binop. `**` is refused when the source is read.
    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%"})

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`obj.name`: a key of a mapping, else one of the listed methods."""
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        return self._field(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`obj[x]`: a key or an index, never an attribute of a Python object."""
        if isinstance(obj, Undefined):
            return obj[argument]  # raises UndefinedError, naming what is missing
        if isinstance(obj, (Mapping, Sequence)):
            try:
                return obj[argument]
            except (TypeError, LookupError):
                pass
        if isinstance(argument, str):
            return self._field(obj, argument)
        return self.undefined(hint=f"{kind_of(obj)} has no item {argument!r}", obj=obj, name=argument)

    def _field(self, obj: Any, name: str) -> Any:
        if isinstance(obj, Undefined):
            return getattr(obj, name)  # raises UndefinedError for every plain name
        for kind, methods in METHODS.items():
            if isinstance(obj, kind) and name in methods:
                return getattr(obj, name)
        if isinstance(obj, LoopContext) and name in _LOOP_FIELDS:
            return getattr(obj, name)
        if isinstance(obj, tuple) and name in getattr(obj, "_fields", ()):
            return getattr(obj, name)  # what groupby makes: .grouper, .list
        known = [str(k) for k in list(obj)[:200]] if isinstance(obj, Mapping) else []
        near = f"; {did_you_mean(name, known)}" if known else ""
        return self.undefined(hint=f"{kind_of(obj)} has no field {name!r}{near}", obj=obj, name=name)

    def is_safe_callable(self, obj: Any) -> bool:
        """Only `range` and the listed methods may be called."""
        if obj is capped_range:
            return True
        owner = getattr(obj, "__self__", None)
        return any(
            isinstance(owner, kind) and getattr(obj, "__name__", "") in methods
            for kind, methods in METHODS.items()
        )

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic on numbers; `+` also joins two texts or two lists. Nothing is ever repeated."""
        meter = meter_of(context)
        if isinstance(left, (int, float)) and isinstance(right, (int, float)):
            meter.spend(1)
            if isinstance(left, int) and isinstance(right, int):
                check_int(left)
                check_int(right)
            return self.binop_table[operator](left, right)
        for side in (left, right):
            if isinstance(side, Undefined):
                str(side)  # raises UndefinedError, naming what is missing
        both: Any = (left, right)
        if operator == "+" and any(all(isinstance(side, kind) for side in both) for kind in (str, list)):
            meter.weigh([left, right])
            return left + right
        raise TypeError(_binop_message(operator, left, right))


def _binop_message(operator: str, left: Any, right: Any) -> str:
    hint = ""
    if operator == "+":
        hint = "; to join texts write a ~ b"
    elif operator == "*":
        hint = "; texts and lists cannot be repeated"
    elif operator == "%":
        hint = "; to put values into text write them in {{ }}"
    return f"'{operator}' does not work on {kind_of(left)} and {kind_of(right)}{hint}"


def capped_range(*args: int) -> range:
    """`range`, of at most `RANGE` items."""
    found = range(*args)
    if len(found) > RANGE:
        raise LimitReached(f"a range has more than {RANGE:,} items")
    return found


# --- what the rewritten source calls; no source can spell these names ---------------------------------


@pass_context
def _weigh_value(context: Context, value: Any) -> Any:
    if isinstance(value, range):
        meter_of(context).spend(1)
        return value
    if isinstance(value, Iterator):
        value = collect_items(meter_of(context), value)
    meter_of(context).weigh(value)
    return value


@pass_context
def _charge_items(context: Context, value: Any, cost: int) -> Iterator[Any]:
    """The items of a loop, each charged with the size of the loop's body."""
    meter = meter_of(context)
    for item in value:
        meter.spend(cost)
        yield item


@pass_context
def _concat_texts(context: Context, first: Any, *rest: Any) -> str:
    meter = meter_of(context)
    meter.weigh([first, *rest])
    return "".join(as_text(part) for part in (first, *rest))


@pass_context
def finalize(context: Context, value: Any) -> str:
    """What `{{ value }}` prints."""
    meter_of(context).weigh(value)
    return as_text(value)


@lru_cache(maxsize=1)
def environment() -> DataEnvironment:
    """The one environment, built on first use. It keeps nothing of an evaluation, so threads may share it."""
    made = DataEnvironment(
        undefined=StrictUndefined,
        finalize=finalize,
        autoescape=False,
        optimized=False,  # folding constants would run filters before anything is metered
        trim_blocks=True,
        lstrip_blocks=True,
        cache_size=0,
    )
    made.globals.clear()
    made.globals["range"] = capped_range
    made.filters.clear()
    made.filters.update(metered_filters())
    made.filters.update({"*weighed": _weigh_value, "*each": _charge_items, "*concat": _concat_texts})
    made.tests.clear()
    made.tests.update(metered_tests())
    return made
