"""Where templates and expressions run: Jinja2's sandbox, narrowed to pure data and metered.

Time is bounded by counting work, not by a clock: a clock differs between machines and cannot stop a
computation outside the main thread, while the same source over the same values always spends the same.
Each loop turn costs the number of syntax nodes in its body, each operator, filter, test and call costs
the size of what it reads and makes. `WORK` units take at most about two seconds on a slow core.

No value an expression makes may be larger than `CELLS` nested values or `CHARS` characters, counted as if
nothing were shared: `[x, x]` repeated thirty times would otherwise print as a billion items.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, Undefined, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from workflows.core.errors import did_you_mean

WORK = 4_000_000
CELLS = 1_000_000
CHARS = 8 * 2**20
RANGE = 10_000
METER = "*meter"
"""Name the meter travels under in Jinja's context; no source can spell it."""

_INT_BITS = 512
_DEPTH = 100
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


class TooMuch(SecurityError):
    """A limit of the sandbox was reached."""


class Meter:
    """Counts the work of one evaluation. Raises TooMuch when a limit is reached."""

    def __init__(self) -> None:
        self.left = WORK

    def spend(self, units: int) -> None:
        self.left -= units
        if self.left < 0:
            raise TooMuch(f"it takes more than {WORK:,} steps of work")

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
                    raise TooMuch(f"a value is nested more than {_DEPTH} deep")
                cells += len(item)
                self._check(cells, chars)
                pending.extend((part, depth + 1) for part in _parts(item))
        self._check(cells, chars)
        self.spend(cells + chars // 256)

    @staticmethod
    def _check(cells: int, chars: int) -> None:
        if cells > CELLS:
            raise TooMuch(f"a value has more than {CELLS:,} parts")
        if chars > CHARS:
            raise TooMuch(f"a value has more than {CHARS:,} characters")


def check_int(value: int) -> None:
    """Refuse whole numbers no workflow needs (over 512 bits)."""
    if value.bit_length() > _INT_BITS:
        raise TooMuch(f"a whole number has more than {_INT_BITS} bits")


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
        indent = small(indent, "indent", 16)
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=indent)


def plain(value: Any, depth: int = 0) -> Any:
    """A value as dicts, lists, text, numbers, booleans and null. Raises TypeError on anything else."""
    if value is None or isinstance(value, (bool, str)):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, Undefined):
        return str(value)  # raises UndefinedError
    if depth > _DEPTH:
        raise TooMuch(f"a value is nested more than {_DEPTH} deep")
    if isinstance(value, Mapping):
        return {_key(k): plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple, range)) or _is_view(value):
        return [plain(v, depth + 1) for v in value]
    raise TypeError(f"a {type(value).__name__} is not JSON data")


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a key of a mapping must be text, not {type(key).__name__}")
    return str(key)


def _is_view(value: Any) -> bool:
    return isinstance(value, (type({}.keys()), type({}.values()), type({}.items())))


def small(value: Any, what: str, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -most <= value <= most:
        raise TooMuch(f"{what} must be a whole number of at most {most:,}")
    return value


def meter_of(context: Context) -> Meter:
    """The meter of the evaluation this context belongs to."""
    meter: Meter = context.parent[METER]
    return meter


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


def capped_range(*args: int) -> range:
    """`range`, of at most `RANGE` items."""
    found = range(*args)
    if len(found) > RANGE:
        raise TooMuch(f"a range has more than {RANGE:,} items")
    return found


# --- what the rewritten source calls; no source can spell these names ---------------------------------


@pass_context
def _weighed(context: Context, value: Any) -> Any:
    if isinstance(value, range):
        meter_of(context).spend(1)
        return value
    if isinstance(value, Iterator):
        value = listed(meter_of(context), value)
    meter_of(context).weigh(value)
    return value


@pass_context
def _each(context: Context, value: Any, cost: int) -> Iterator[Any]:
    """The items of a loop, each charged with the size of the loop's body."""
    meter = meter_of(context)
    for item in value:
        meter.spend(cost)
        yield item


@pass_context
def _concat(context: Context, first: Any, *rest: Any) -> str:
    meter = meter_of(context)
    meter.weigh([first, *rest])
    return "".join(as_text(part) for part in (first, *rest))


@pass_context
def finalize(context: Context, value: Any) -> str:
    """What `{{ value }}` prints."""
    meter_of(context).weigh(value)
    return as_text(value)


def listed(meter: Meter, items: Iterable[Any]) -> list[Any]:
    made = []
    for item in items:
        meter.spend(1)
        made.append(item)
        if len(made) > CELLS:
            raise TooMuch(f"a list has more than {CELLS:,} items")
    return made


@lru_cache(maxsize=1)
def environment() -> DataEnvironment:
    """The one environment, built on first use. It keeps nothing of an evaluation, so threads may share it."""
    from workflows.core.expression_filters import metered_filters, metered_tests

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
    made.filters.update({"*weighed": _weighed, "*each": _each, "*concat": _concat})
    made.tests.clear()
    made.tests.update(metered_tests())
    return made
