"""The forms of waits: JSON Schemas of an object, whose properties are the fields that people fill in.

A form may come from a model or another server, so that nothing in it is fetched and no pattern of it may
run for long.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from blocks.schemas.checking import TooMuchWork, UnusableSchema, errors_of, schema_fault
from workflows.core.errors import UsageError, did_you_mean

FREE_FIELD = "text"
"""The one field of a wait that gives no form."""

_SHOWN = 5
_PROBLEMS = 200
"""That are looked for: each may cost a look at all fields."""
_OPENING = (
    *("additionalProperties", "unevaluatedProperties", "patternProperties", "propertyNames"),
    *("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "dependentSchemas"),
)
"""Keywords by which a form has more fields than its `properties`, or says itself which it has not."""
_LENGTH = 300
_LOCAL = "write the form out, with references inside of it only, such as '#/$defs/name'"
_EXAMPLE = "write it as {type: object, properties: {amount: {type: integer}}, required: [amount]}"


class UnfitForm(UsageError):
    """The form of a wait is no JSON Schema of an object."""


class UnfitAnswer(UsageError):
    """An answer does not fit the form of its wait."""


def free_form(*, required: bool) -> dict[str, Any]:
    """The form with one field of free text."""
    field = {"type": "string", "minLength": 1} if required else {"type": "string"}
    needed = {"required": [FREE_FIELD]} if required else {}
    return {"type": "object", "properties": {FREE_FIELD: field}, **needed, "additionalProperties": False}


def checked_form(form: Any) -> dict[str, Any]:
    """A form with its `type` written out; UnfitForm when it is not a JSON Schema of an object."""
    if not isinstance(form, Mapping):
        raise UnfitForm(f"the form is {_kind(form)}, not a JSON Schema of an object", _EXAMPLE)
    whole = {**({"type": "object"} if isinstance(form.get("properties"), Mapping) else {}), **form}
    if whole.get("type") != "object":
        known = whole.get("type", "not given")
        raise UnfitForm(f"the form describes no object: its `type` is {known}", _EXAMPLE)
    _check_schema(whole)
    return whole


def check_answer(form: Mapping[str, Any], data: Any) -> None:
    """UnfitAnswer, naming the fields, when `data` does not fit the form."""
    if not isinstance(data, dict):
        raise UnfitAnswer(f"the answer is {_kind(data)}, not an object with fields", _cure(form))
    problems = [*_problems(form, data), *_undeclared_fields(form, data)]
    if problems:
        shown = "; ".join(problems[:_SHOWN])
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise UnfitAnswer(f"the answer does not fit the form: {shown}{more}", _cure(form))


def _undeclared_fields(form: Mapping[str, Any], data: dict[str, Any]) -> Iterator[str]:
    """Fields that a form of `properties` does not have: a mistyped one would be lost without a word.

    A form that says what else there may be is held to what it says.
    """
    known = form.get("properties")
    if not isinstance(known, Mapping) or any(word in form for word in _OPENING):
        return
    for name in data:
        if name not in known:
            yield _shorten(_no_field(name, known))


def _check_schema(form: dict[str, Any]) -> None:
    fault = schema_fault(form)
    if fault is not None:
        cure = _LOCAL if "refers to" in fault else _EXAMPLE
        raise UnfitForm(f"the form cannot be used: {_shorten(fault)}", cure)


def _problems(form: Mapping[str, Any], data: dict[str, Any]) -> list[str]:
    try:
        errors = errors_of(form, data, formats=True)
    except UnusableSchema as fault:
        raise UnfitAnswer(f"the form itself cannot be used: {fault}", "reject with a note") from None
    except TooMuchWork as fault:
        raise UnfitAnswer(f"the answer cannot be checked: {fault}", "give a shorter text") from None
    # One error stands for each missing field, and each tells of all of them.
    told = {(error.validator, tuple(error.absolute_path), error.message): error for error in errors}
    once = {key[:2] if key[0] == "required" else key: error for key, error in told.items()}
    lines = (_shorten(line) for error in once.values() for line in _lines(error))
    return list(dict.fromkeys(islice(lines, _PROBLEMS)))


def _lines(error: Any) -> Iterator[str]:
    """An error as sentences that begin with the field they are about."""
    where = list(error.absolute_path)
    if error.validator == "required":
        for name in error.validator_value:
            if name not in error.instance:
                yield f"{_path([*where, name])} is missing"
    elif error.validator == "additionalProperties" and error.validator_value is False:
        known = error.schema.get("properties", {})
        for name in error.instance:
            if name not in known and not error.schema.get("patternProperties"):
                yield _no_field(_path([*where, name]), known, name)
    else:
        yield f"{_path(where)}: {error.message}"


def _no_field(where: str, known: Mapping[str, Any], name: str | None = None) -> str:
    cure = did_you_mean(where if name is None else name, known) if known else "it has none"
    return f"{where} is no field of it ({cure})"


def _path(parts: Any) -> str:
    """Such as `items[0].price`."""
    shown = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return shown.removeprefix(".") or "the whole"


def field_lines(form: Mapping[str, Any]) -> list[str]:
    """The fields of a form for people, at most twelve: `amount (integer, required)`."""
    required = form.get("required", [])
    return [
        f"{name} ({_type(schema)}{', required' if name in required else ''})"
        for name, schema in list(form.get("properties", {}).items())[:12]
    ]


def _cure(form: Mapping[str, Any]) -> str:
    shown = field_lines(form)
    return f"give a JSON object with the fields {', '.join(shown)}" if shown else "give a JSON object"


def _type(schema: Any) -> str:
    if not isinstance(schema, Mapping):
        return "any"
    if isinstance(schema.get("enum"), list):
        return "one of " + ", ".join(map(str, schema["enum"][:8]))
    kind = schema.get("type", "any")
    return " or ".join(map(str, kind)) if isinstance(kind, list) else str(kind)


def _kind(value: Any) -> str:
    names: dict[type, str] = {list: "a list", str: "a text", bool: "true or false", type(None): "empty"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)


def _shorten(text: str) -> str:
    return text if len(text) <= _LENGTH else text[: _LENGTH - 3] + "..."
