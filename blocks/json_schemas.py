"""JSON Schemas of other people: of servers' tools, of forms, of what an author asks of an answer.

Every validator is made here. Nothing a schema names is fetched (an empty registry; the library's own would
open any address), and a `pattern` of it cannot run for long. A schema that means nothing, such as one that
points nowhere or into itself for ever, is UnusableSchema, never an error of the library.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from workflows.core.output_schemas import REFERENCES

PATTERN_SECONDS = 0.5
_SHOWN = 5
_LENGTH = 300
_IN_PLACE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else")
"""Keywords whose schemas are held against the same value."""


class UnusableSchema(ValueError):
    """A schema that nothing can be held against; the message says why."""


class SlowPattern(UnusableSchema):
    """A pattern takes too long for what it is held against; another text may be quick."""


def validator(schema: Mapping[str, Any] | bool) -> Any:
    """A validator of jsonschema for the dialect a schema names. Its use may raise what `usable` turns."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for
    from referencing import Registry

    kind = _limited(validator_for(schema, default=Draft202012Validator))
    return kind(schema, registry=Registry(), format_checker=kind.FORMAT_CHECKER)


@lru_cache(maxsize=16)
def _limited(kind: Any) -> Any:
    from jsonschema.validators import extend

    return extend(kind, {"pattern": _matches})


def _matches(validator: Any, pattern: str, value: Any, _schema: Any) -> Iterator[Exception]:
    import regex
    from jsonschema.exceptions import ValidationError

    if isinstance(value, str) and not regex.search(pattern, value, timeout=PATTERN_SECONDS):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


@contextmanager
def usable() -> Iterator[None]:
    """Turns what a validator raises about its schema into UnusableSchema."""
    import regex
    from jsonschema.exceptions import SchemaError, UndefinedTypeCheck, UnknownType
    from referencing.exceptions import Unresolvable

    try:
        yield
    except UnusableSchema:
        raise
    except SchemaError as error:
        raise UnusableSchema(f"{error.json_path}: {_cut(error.message)}") from None
    except Unresolvable as error:
        raise UnusableSchema(f"it refers to nothing: {_cut(str(error.ref))}") from None
    except RecursionError:
        raise UnusableSchema("it is nested too deeply, or refers to itself for ever") from None
    except (UnknownType, UndefinedTypeCheck) as error:
        raise UnusableSchema(f"it names a type that there is not: {_cut(str(error.type))}") from None  # type: ignore[union-attr]
    except regex.error as error:
        raise UnusableSchema(f"a pattern of it is none: {_cut(str(error))}") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # What the library says of keywords of the wrong kind when it was not asked to check them first.
        raise UnusableSchema(f"a keyword of it is not what it should be ({type(error).__name__})") from None
    except TimeoutError:
        raise SlowPattern("a pattern of it takes too long to check") from None


def check_schema(schema: Any) -> None:
    """Raises UnusableSchema for what is no JSON Schema, or refers to nothing, to elsewhere or in a circle."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for

    with usable():
        validator_for(schema, default=Draft202012Validator).check_schema(schema)
        _check_references(schema)


def _check_references(schema: Any) -> None:
    from referencing import Registry
    from referencing.jsonschema import DRAFT202012

    found = list(references(schema))
    for reference in found:
        if not reference.startswith("#"):
            raise UnusableSchema(f"it refers to something outside of it: {_cut(reference)}")
    if "$id" in _keywords(schema):
        return  # references then start at the nearest one; the validator itself finds what leads nowhere
    resolver = Registry().with_resource("", DRAFT202012.create_resource(schema)).resolver()
    leads = {ref: list(_in_place(resolver.lookup(ref).contents)) for ref in found}
    done: set[str] = set()
    for reference in found:
        _walk(reference, leads, (), done)


def _walk(reference: str, leads: Mapping[str, list[str]], came: tuple[str, ...], done: set[str]) -> None:
    if reference in came:
        raise UnusableSchema(f"it refers to itself for ever: {_cut(reference)}")
    if reference not in done:
        for further in leads[reference]:
            _walk(further, leads, (*came, reference), done)
        done.add(reference)


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


def schema_problems(schema: Mapping[str, Any] | bool, data: Any) -> list[str]:
    """What is wrong with data, as sentences that begin with the place. Raises UnusableSchema."""
    with usable():
        errors = validator(schema).iter_errors(data)
        return [f"{path}: {told}" for path, told in sorted((e.json_path, e.message) for e in errors)]


def foreign_problems(schema: Mapping[str, Any] | bool, data: Any) -> list[str]:
    """At most five problems, cut, for a schema that nobody has looked at yet. Raises UnusableSchema."""
    check_schema(schema)
    return [_cut(problem) for problem in schema_problems(schema, data)[:_SHOWN]]


def _cut(text: str) -> str:
    return text if len(text) <= _LENGTH else text[: _LENGTH - 3] + "..."
