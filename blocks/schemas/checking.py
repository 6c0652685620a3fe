"""JSON Schemas that others wrote, checked against what others say, at a bounded cost.

A schema of a few lines can ask for more work than there is time (`anyOf` in `anyOf`, a pattern such as
`(a|aa)+$`, `uniqueItems` over a long list), and nothing stops Python while it does it. So work is counted:
every visit of a schema, every keyword and every message costs units, and a check that spends more than its
budget ends with TooMuchWork. A count, not a clock: the same answer over the same schema gives the same
verdict on every machine, also when a run is resumed. Only patterns have a time limit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from blocks.schemas.references import reference_fault
from workflows.core.text.cut_text import cut, cut_before
from workflows.core.text.patterns import TakesTooLong, UnusablePattern, found_in, schema_pattern_fault

UNITS = 200_000
"""What any check may cost; 100,000 units take about a second."""
UNITS_PER_PART = 40
"""What it may cost beyond that for each value in the checked data."""
MOST_UNITS = 2_000_000
PATTERN_SECONDS = 1.0
"""Time that all patterns of one check may take together."""
SCHEMA_PARTS = 20_000
"""Values that a schema from outside may hold."""

_ERRORS_READ = 2_000
_SHORT, _LONG = 256, 4_000
"""Characters of a text whose messages cost nothing, and of a message that is cut."""
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_IN_PLACE = (*_REFERENCES, "allOf", "anyOf", "oneOf", "not", "if", "dependentSchemas", "dependencies")
"""Keywords that hold further schemas against the same value."""
_VALUES = ("const", "enum", "default", "examples")
_DEPTH = 200


class Unchecked(Exception):
    """A check was not made to its end; the message says why, as a sentence for whoever made the text."""


class TooMuchWork(Unchecked):
    """It took more than its budget, or a pattern more than its time."""


class UnusableSchema(Unchecked):
    """The schema leads nowhere, or in a circle, or holds no pattern that can be used."""


@dataclass
class CheckBudget:
    """What one check, or one run of checks, may still cost: units of work, and seconds of patterns."""

    units: int
    anchor_cost: int = 0
    """A reference by name is looked for in the whole schema."""
    seconds: float = PATTERN_SECONDS
    depth: int = 0

    def spend(self, units: int) -> None:
        self.units -= units
        if self.units < 0:
            raise TooMuchWork("the schema takes too much work to check on this value")


_SPENDING: ContextVar[CheckBudget | None] = ContextVar("phaseline_schema_budget", default=None)


def validator(schema: Any, *, formats: bool = False) -> Any:
    """A validator of the schema's own draft that fetches nothing. Use it inside of `spending`."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for
    from referencing import Registry

    named = schema if isinstance(schema, Mapping) and isinstance(schema.get("$schema"), str) else {}
    kind: Any = validator_for(named, default=Draft202012Validator)
    # An empty registry fetches nothing; the default one would open any address a schema names.
    checker = kind.FORMAT_CHECKER if formats else None
    return _counting_validator(kind)(schema, registry=Registry(), format_checker=checker)


def budget_for(schema: Any, value: Any) -> CheckBudget:
    """A budget whose size goes with the value's."""
    units = UNITS + UNITS_PER_PART * parts_of(value, MOST_UNITS // UNITS_PER_PART)
    return CheckBudget(min(units, MOST_UNITS), parts_of(schema, SCHEMA_PARTS))


@contextmanager
def spending(budget: CheckBudget) -> Iterator[None]:
    """Within it, validators, `spend` and `matches` work on the budget. Raises Unchecked."""
    from jsonschema.exceptions import UndefinedTypeCheck, UnknownType
    from referencing.exceptions import Unresolvable

    token = _SPENDING.set(budget)
    try:
        yield
    except TakesTooLong as slow:
        raise TooMuchWork(str(slow)) from None
    except RecursionError:
        raise UnusableSchema("the schema leads in a circle, or something is nested too deeply") from None
    except Unresolvable as fault:
        raise UnusableSchema(
            f"the schema's reference {cut(str(fault.ref), 100)!r} leads to nothing"
        ) from None
    except UnusablePattern as fault:
        raise UnusableSchema(str(fault)) from None
    except (UnknownType, UndefinedTypeCheck) as fault:
        raise UnusableSchema(f"it names a type that there is not: {cut(str(fault.type), 100)}") from None
    except (AttributeError, KeyError, TypeError, ValueError) as fault:
        # What the library says of keywords of the wrong kind when it was not asked to check them first.
        raise UnusableSchema(f"a keyword of it is not what it should be ({type(fault).__name__})") from None
    finally:
        _SPENDING.reset(token)


def errors_of(schema: Any, value: Any, *, formats: bool = False) -> list[Any]:
    """What is wrong with the value, in order, as jsonschema's errors (some thousand at most).

    Raises Unchecked.
    """
    found: list[Any] = []
    with spending(budget_for(schema, value)):
        for error in validator(schema, formats=formats).iter_errors(value):
            found.append(error)
            if len(found) >= _ERRORS_READ:
                break
    return sorted(found, key=lambda error: (error.json_path, error.message))


def problems_of(schema: Any, value: Any) -> list[str]:
    """The same as sentences that begin with the place. Raises Unchecked."""
    return [f"{error.json_path}: {error.message}" for error in errors_of(schema, value)]


def foreign_problems(schema: Any, value: Any) -> list[str]:
    """At most five problems, cut, for a schema that nobody has looked at yet. Raises Unchecked."""
    if (fault := schema_fault(schema)) is not None:
        raise UnusableSchema(fault)
    return [cut(problem, 300) for problem in problems_of(schema, value)[:5]]


def schema_fault(schema: Any) -> str | None:
    """Why something is no JSON Schema that can be used, in one line; None when it is one."""
    if parts_of(schema, SCHEMA_PARTS) >= SCHEMA_PARTS:
        return f"it holds more than {SCHEMA_PARTS:,} values"
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for

    named = schema if isinstance(schema, Mapping) and isinstance(schema.get("$schema"), str) else {}
    kind: Any = validator_for(named, default=Draft202012Validator)
    try:
        error = next(iter(errors_of(kind.META_SCHEMA, schema)), None)
    except Unchecked as fault:
        return str(fault)
    if error is not None:
        return cut(f"{error.json_path}: {error.message}", 300)
    if (wrong := reference_fault(schema)) is not None:
        return wrong
    return next((cut(f"{where}: {wrong}", 300) for where, wrong in _pattern_faults(schema)), None)


def _pattern_faults(schema: Any) -> Iterator[tuple[str, str]]:
    """Patterns of a schema that cannot be used, with where they stand."""
    waiting: list[tuple[str, Any]] = [("$", schema)]
    while waiting:
        where, part = waiting.pop()
        if isinstance(part, list):
            waiting += [(f"{where}[{place}]", inner) for place, inner in enumerate(part)]
        if not isinstance(part, Mapping):
            continue
        if isinstance(part.get("pattern"), str) and (fault := schema_pattern_fault(part["pattern"])):
            yield f"{where}.pattern", fault
        by_pattern = part.get("patternProperties")
        for pattern in by_pattern if isinstance(by_pattern, Mapping) else ():
            if fault := schema_pattern_fault(str(pattern)):
                yield f"{where}.patternProperties", fault
        waiting += [
            (cut_before(f"{where}.{name}", 300), inner) for name, inner in part.items() if name not in _VALUES
        ]


def parts_of(value: Any, most: int) -> int:
    """How many values a value holds, itself counted, at most `most`."""
    count, waiting = 0, [value]
    while waiting and count < most:
        part = waiting.pop()
        count += 1
        if isinstance(part, Mapping):
            count += len(part)
            waiting.extend(part.values())
        elif isinstance(part, (list, tuple)):
            waiting.extend(part)
    return min(count, most)


def _current_budget() -> CheckBudget:
    return _SPENDING.get() or CheckBudget(UNITS)  # a match outside of any check


def spend(units: int) -> None:
    """Pay for work beside the checks themselves."""
    _current_budget().spend(units)


def matches(pattern: Any, text: str, *, whole: bool = False) -> bool:
    """Whether a pattern is found, on the time that the patterns of this budget have left."""
    import time

    budget = _current_budget()
    budget.spend(2 + len(text) // 256)
    begun = time.monotonic()
    try:
        return found_in(str(pattern), text, budget.seconds, whole=whole)
    finally:
        budget.seconds -= time.monotonic() - begun


@lru_cache(maxsize=16)
def _counting_validator(kind: Any) -> Any:
    """A draft's validator whose work is counted, with patterns that have a time limit."""
    from jsonschema.validators import extend

    own = {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "uniqueItems": _unique_items,
        "unevaluatedProperties": _unevaluated_properties,
        "unevaluatedItems": _unevaluated_items,
    }
    words = {**kind.VALIDATORS, **{word: made for word, made in own.items() if word in kind.VALIDATORS}}
    made: Any = extend(  # type: ignore[no-untyped-call]
        kind, {word: _paying_keyword(word, check) for word, check in words.items()}
    )

    def evolve(self: Any, **changes: Any) -> Any:
        # A `$schema` further in would choose a class that counts nothing.
        schema = changes.get("schema", self.schema)
        spend(1 + (len(schema) if isinstance(schema, Mapping) else 0))
        kept = {
            "schema": schema,
            "format_checker": self.format_checker,
            "registry": self._registry,
            "_resolver": self._resolver,
        }
        return made(**{**kept, **changes})

    made.evolve = evolve
    return made


def _paying_keyword(word: str, check: Callable[..., Any]) -> Callable[..., Any]:
    """A keyword that pays for what it looks at, and for the messages it makes."""

    def check_and_pay(validator: Any, asked: Any, instance: Any, schema: Any) -> Any:
        budget = _current_budget()
        budget.spend(1 + (len(asked) // 4 if isinstance(asked, (dict, list)) else 0))
        if word in _REFERENCES and "/" not in str(asked):
            budget.spend(budget.anchor_cost)
        if not isinstance(instance, (dict, list)):
            # A short value makes short messages.
            short = not isinstance(instance, str) or len(instance) < _SHORT
            errors = check(validator, asked, instance, schema)
            return errors if short and word not in _IN_PLACE else _pay_for_errors(errors)
        budget.spend(len(instance) // 4)
        if word in ("enum", "const"):
            held = parts_of(instance, 100_000)
            budget.spend(held * (1 + (len(asked) if word == "enum" else 1)))
        return _pay_for_errors(check(validator, asked, instance, schema))

    return check_and_pay


def _pay_for_errors(errors: Any) -> Iterator[Any]:
    """The errors, each paid for. How deep checks stand in each other is limited as well."""
    budget, waiting = _current_budget(), iter(errors or ())
    while True:
        budget.depth += 1
        if budget.depth > _DEPTH:
            # Python's own limit comes later, and in the middle of native code that does not bear it.
            raise RecursionError
        try:
            error = next(waiting, None)
        finally:
            budget.depth -= 1
        if error is None:
            return
        budget.spend(1 + len(error.message) // 128)
        if len(error.message) > _LONG:
            error.message = error.message[: _LONG // 2] + " ... " + error.message[-_LONG // 4 :]
        yield error


def _pattern(validator: Any, pattern: Any, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    if isinstance(instance, str) and not matches(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, asked: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if not isinstance(instance, Mapping):
        return
    for pattern, inner in asked.items():
        for name, value in instance.items():
            if matches(pattern, name):
                yield from validator.descend(value, inner, path=name, schema_path=pattern)


def _additional_properties(validator: Any, asked: Any, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    if not isinstance(instance, Mapping):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    extras = [
        name for name in instance if name not in known and not any(matches(each, name) for each in patterns)
    ]
    if isinstance(asked, Mapping):
        for name in extras:
            yield from validator.descend(instance[name], asked, path=name)
    elif not asked and extras:
        shown = ", ".join(map(repr, sorted(extras)))
        verb = "was" if len(extras) == 1 else "were"
        if patterns:
            told = ", ".join(map(repr, sorted(patterns)))
            verb = "does" if len(extras) == 1 else "do"
            yield ValidationError(f"{shown} {verb} not match any of the regexes: {told}")
        else:
            yield ValidationError(f"Additional properties are not allowed ({shown} {verb} unexpected)")


def _unique_items(validator: Any, asked: Any, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    if not asked or not isinstance(instance, list):
        return
    seen: set[str] = set()
    for item in instance:
        spend(parts_of(item, 100_000))
        spelt = json.dumps(_spell_alike(item), sort_keys=True)
        if spelt in seen:
            yield ValidationError(f"{instance!r} has non-unique elements")
            return
        seen.add(spelt)


def _spell_alike(value: Any) -> Any:
    """Numbers that JSON Schema takes for equal, spelt alike: 1.0 is 1, and true is not."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {name: _spell_alike(inner) for name, inner in value.items()}
    return [_spell_alike(inner) for inner in value] if isinstance(value, list) else value


def _unevaluated_properties(validator: Any, asked: Any, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    if not isinstance(instance, Mapping):
        return
    known = _find_evaluated(validator, instance, schema, _own_names)
    wrong = [
        name for name, value in instance.items() if name not in known and not _fits(validator, value, asked)
    ]
    if wrong:
        shown, verb = ", ".join(map(repr, sorted(wrong))), "was" if len(wrong) == 1 else "were"
        yield ValidationError(f"Unevaluated properties are not allowed ({shown} {verb} unexpected)")


def _unevaluated_items(validator: Any, asked: Any, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    if not isinstance(instance, list):
        return
    known = _find_evaluated(validator, instance, schema, _own_places)
    wrong = [
        item
        for place, item in enumerate(instance)
        if place not in known and not _fits(validator, item, asked)
    ]
    if wrong:
        shown, verb = ", ".join(map(repr, wrong)), "was" if len(wrong) == 1 else "were"
        yield ValidationError(f"Unevaluated items are not allowed ({shown} {verb} unexpected)")


Own = Callable[[Any, Any, Mapping[str, Any]], Iterator[Any]]


def _find_evaluated(validator: Any, instance: Any, schema: Any, own: Own) -> set[Any]:
    """The names or places of a value that a schema, or one it applies to the same value, speaks of."""
    found: set[Any] = set()
    waiting: list[tuple[Any, Any]] = [(validator, schema)]
    while waiting:
        at, schema = waiting.pop()
        if not isinstance(schema, Mapping):
            continue
        spend(1 + len(schema))
        found.update(own(at, instance, schema))
        for word in ("$ref", "$dynamicRef"):
            if word in schema:
                spend(2 if "/" in str(schema[word]) else _current_budget().anchor_cost)
                target = at._resolver.lookup(schema[word])
                waiting.append(
                    (at.evolve(schema=target.contents, _resolver=target.resolver), target.contents)
                )
        if "$recursiveRef" in schema:
            from referencing.jsonschema import lookup_recursive_ref

            waiting.append(_follow_reference(at, lookup_recursive_ref(at._resolver)))
        waiting += [(at, part) for part in _applied_schemas(at, instance, schema)]
    return found


def _fits(validator: Any, instance: Any, schema: Any) -> bool:
    return next(validator.descend(instance, schema), None) is None


def _follow_reference(validator: Any, target: Any) -> tuple[Any, Any]:
    return validator.evolve(schema=target.contents, _resolver=target.resolver), target.contents


def _applied_schemas(validator: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
    """The schemas inside of a schema that hold for the same value."""
    for word in ("allOf", "oneOf", "anyOf"):
        for part in schema.get(word, ()):
            if _fits(validator, instance, part):
                yield part
    if isinstance(instance, Mapping):
        yield from (part for name, part in schema.get("dependentSchemas", {}).items() if name in instance)
    if "if" in schema:
        if _fits(validator, instance, schema["if"]):
            yield from (schema[word] for word in ("if", "then") if word in schema)
        elif "else" in schema:
            yield schema["else"]


def _own_names(validator: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[str]:
    spend(len(instance))
    yield from (name for name in schema.get("properties", ()) if name in instance)
    for pattern in schema.get("patternProperties", ()):
        yield from (name for name in instance if matches(pattern, name))
    for word in ("additionalProperties", "unevaluatedProperties"):
        if word in schema:
            yield from (n for n, v in instance.items() if _fits(validator, v, schema[word]))


def _own_places(validator: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[int]:
    spend(len(instance))
    listed = schema.get("prefixItems", schema["items"] if isinstance(schema.get("items"), list) else ())
    yield from range(len(listed))
    if ("items" in schema and not isinstance(schema["items"], list)) or "additionalItems" in schema:
        yield from range(len(instance))
    for word in ("contains", "unevaluatedItems"):
        if word in schema:
            fits = (n for n, v in enumerate(instance) if _fits(validator, v, schema[word]))
            yield from fits
