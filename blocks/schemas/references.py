"""Where the references of a JSON Schema lead: inside of it, or the schema cannot be used.

Nothing that a schema names is fetched, and one whose references lead in a circle means nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from workflows.core.read.output_schemas import REFERENCES
from workflows.core.text.cut_text import cut

_IN_PLACE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else")
"""Keywords whose schemas are held against the same value."""
_MOST_NAMED = 100
"""References by an anchor: each of them is looked for in the whole schema."""


def reference_fault(schema: Any) -> str | None:
    """Why the references of a schema cannot be followed, in one line; None when all of them can."""
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    found = list(dict.fromkeys(references(schema)))
    outside = next((reference for reference in found if not reference.startswith("#")), None)
    if outside is not None:
        return f"it refers to something outside of it: {cut(outside, 200)}"
    if sum("/" not in reference for reference in found) > _MOST_NAMED:
        return f"it has more than {_MOST_NAMED} references by name"
    if not found or "$id" in _keywords(schema):
        return None  # references then start at the nearest one; the validator itself finds what leads nowhere
    resolver = Registry().with_resource("", DRAFT202012.create_resource(schema)).resolver()
    leads: dict[str, list[str]] = {}
    for reference in found:
        try:
            leads[reference] = list(_in_place(resolver.lookup(reference).contents))
        except (Unresolvable, AttributeError, KeyError, TypeError, ValueError):
            # The latter are what the library says where a keyword on the way is of the wrong kind.
            return f"it refers to nothing: {cut(reference, 200)}"
        except RecursionError:
            return "it is nested too deeply"
    circle = _circle(leads)
    return None if circle is None else f"it refers to itself for ever: {cut(circle, 200)}"


def references(schema: Any) -> Iterator[str]:
    """Every reference in a schema, in the order of the walk."""
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting.extend(part)
        elif isinstance(part, Mapping):
            for key, value in part.items():
                if key in REFERENCES and isinstance(value, str):
                    yield value
                else:
                    waiting.append(value)


def _circle(leads: Mapping[str, list[str]]) -> str | None:
    """A reference that leads back to itself without going into the value."""
    done: set[str] = set()
    for start in leads:
        came: dict[str, Iterator[str]] = {start: iter(leads[start])}
        while came:
            here = next(reversed(came))
            further = next(came[here], None)
            if further is None:
                came.popitem()
                done.add(here)
            elif further in came:
                return further
            elif further not in done:
                came[further] = iter(leads.get(further, ()))
    return None


def _in_place(schema: Any) -> Iterator[str]:
    """References that are followed without going into the value, so that a circle of them has no end."""
    if not isinstance(schema, Mapping):
        return
    for key in REFERENCES:
        if isinstance(schema.get(key), str):
            yield schema[key]
    for key in _IN_PLACE:
        part = schema.get(key)
        for inner in part if isinstance(part, list) else (part,):
            yield from _in_place(inner)


def _keywords(schema: Any) -> set[str]:
    found: set[str] = set()
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Mapping):
            found.update(map(str, part))
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
    return found
