"""From the data of a written file to its model: every mistake at once, each with place and cure."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable
from typing import Any, TypeVar, Union

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from workflows.core.errors import Mistake, did_you_mean
from workflows.core.read.source import Key, Source

M = TypeVar("M", bound=BaseModel)


def read_model(model: type[M], source: Source, at: Key = ()) -> tuple[M | None, list[Mistake]]:
    """Validates the data at a path of a source. A model, or None and at least one mistake."""
    data = source.value(at)
    if not isinstance(data, dict) and not _takes_other(model):
        kind = next((k for t, k in _KINDS if isinstance(data, t)), "something else")
        known = ", ".join(_written_names(model))
        return None, [
            source.mistake(at, f"expected keys and values here, found {kind}", f"known keys: {known}")
        ]
    try:
        return model.model_validate(data), []
    except ValidationError as fault:
        mistakes = [_mistake(model, source, at, error) for error in fault.errors(include_url=False)]
        return None, _select_mistakes(mistakes)
    except RecursionError:
        return None, [source.mistake(at, "nested too deeply", "flatten it")]


_KINDS: tuple[tuple[type, str], ...] = (
    (type(None), "nothing"),
    (bool, "true or false"),
    (str, "a text"),
    (list, "a list"),
    (int, "a number"),
    (float, "a number"),
)


def _select_mistakes(mistakes: list[Mistake]) -> list[Mistake]:
    """One mistake per place and kind, in file order; what only follows from another is left out."""
    by_place: dict[tuple[str, str], Mistake] = {}
    for mistake in mistakes:
        kind = "type" if mistake.message.startswith("should be ") else mistake.message
        by_place.setdefault((mistake.path, kind), mistake)
    paths = {m.path for m in by_place.values()}
    kept = [
        m
        for m in by_place.values()
        # A list whose entries are all wrong counts as too short as well.
        if not (m.message.startswith("too few") and any(p.startswith(f"{m.path}[") for p in paths))
        and not (m.message.startswith("should be ") and _is_told_better(m, by_place.values()))
    ]
    return sorted(kept, key=lambda m: (m.line, m.column))


def _is_told_better(mistake: Mistake, others: Iterable[Mistake]) -> bool:
    """Whether another branch of a union got further: a mistake below this place, or a nearer one at it."""
    at = mistake.path
    return any(
        o.path.startswith((f"{at}.", f"{at}[")) or (o.path == at and not o.message.startswith("should be "))
        for o in others
    )


def _takes_other(model: type[BaseModel]) -> bool:
    return "root" in model.model_fields


def _mistake(model: type[BaseModel], source: Source, at: Key, error: ErrorDetails) -> Mistake:
    loc, owner = _place(model, source, at, error["loc"])
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        word = str(loc[-1])
        known = _written_names(owner) if owner else []
        return source.mistake(loc, f"unknown key '{word}'", did_you_mean(word, known), of_key=True)
    if kind == "missing":
        parent, word = loc[:-1], str(loc[-1])
        found = _near_miss(source, parent, word, owner)
        cure = f"add `{word}:`" + (f" (is '{found}' meant to be it?)" if found else "")
        return source.mistake(parent, f"the key '{word}' is missing", cure)
    if kind == "value_error":
        message, _, cure = str(context.get("error", error["msg"])).partition("; ")
        return source.mistake(loc, message, cure or "mend the value")
    if kind in ("literal_error", "enum"):
        choices = [c.strip("' ") for c in str(context.get("expected", "")).replace(" or ", ", ").split(",")]
        value = source.value(loc)
        return source.mistake(loc, f"'{value}' is not one of the choices", did_you_mean(str(value), choices))
    if kind == "string_pattern_mismatch":
        return source.mistake(loc, "not a valid name", _pattern_cure(str(context.get("pattern", ""))))
    return source.mistake(loc, _plain(error), _type_cure(kind, context))


def _near_miss(source: Source, parent: Key, word: str, owner: type[BaseModel] | None) -> str:
    here = source.value(parent)
    if not isinstance(here, dict) or owner is None:
        return ""
    known = set(_written_names(owner))
    strangers = [k for k in here if k not in known]
    hint = did_you_mean(word, strangers) if strangers else ""
    return hint.split("'")[1] if hint.startswith("did you mean") else ""


def _pattern_cure(pattern: str) -> str:
    if pattern.startswith("^[a-z0-9"):
        return "use lower-case letters, digits and hyphens, at most one '/'"
    if "/" in pattern:
        return "use letters, digits, '-', '_' and '.', with '/' between parts; no '..'"
    return "use letters, digits and '_', beginning with a letter" + (
        ", '-' and '.' too" if "-]" in pattern else ""
    )


def _plain(error: ErrorDetails) -> str:
    kind, message = error["type"], error["msg"]
    wanted = {
        "string_type": "a text",
        "tuple_type": "a list",
        "list_type": "a list",
        "dict_type": "a map of keys and values",
        "model_type": "a map of keys and values",
        "model_attributes_type": "a map of keys and values",
        "bool_type": "true or false",
        "bool_parsing": "true or false",
        "int_type": "a whole number",
        "int_parsing": "a whole number",
        "int_from_float": "a whole number",
        "float_type": "a number",
        "float_parsing": "a number",
    }.get(kind)
    if wanted:
        return f"should be {wanted}"
    if kind == "too_short":
        return "too few entries"
    if kind == "string_too_long":
        return f"longer than {error.get('ctx', {}).get('max_length')} characters"
    return message.removeprefix("Input ").replace("Input", "it")


def _type_cure(kind: str, context: dict[str, Any]) -> str:
    cures = {
        "string_type": "write a text",
        "bool_type": "write true or false",
        "bool_parsing": "write true or false",
        "int_type": "write a whole number",
        "int_parsing": "write a whole number",
        "int_from_float": "write a whole number",
        "float_type": "write a number",
        "float_parsing": "write a number",
        "tuple_type": "write a list: `[a, b]` or one '- a' per line",
        "list_type": "write a list: `[a, b]` or one '- a' per line",
        "dict_type": "write keys and values",
        "model_type": "write keys and values below it",
        "model_attributes_type": "write keys and values below it",
        "too_short": "give at least one",
    }
    for name in ("ge", "gt", "le", "lt"):
        if name in context:
            words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
            return f"write {words[name]} {context[name]}"
    return cures.get(kind, "mend the value")


def _written_names(model: type[BaseModel]) -> list[str]:
    """Field names as people write them."""
    return [f.alias or name for name, f in model.model_fields.items()]


def error_path(model: type[BaseModel], source: Source, loc: tuple[int | str, ...]) -> Key:
    """Where one of pydantic's errors stands in the data."""
    return _place(model, source, (), loc)[0]


def _place(
    model: type[BaseModel], source: Source, at: Key, loc: tuple[int | str, ...]
) -> tuple[Key, type[BaseModel] | None]:
    """The path of an error in the data, without the union branches pydantic adds, and the model there."""
    path: Key = at
    here: Any = source.value(at)
    owner: type[BaseModel] | None = model
    annotation: Any = model
    for position, part in enumerate(loc):
        last = position == len(loc) - 1
        inside = (isinstance(here, dict) and part in here) or (
            isinstance(here, list) and isinstance(part, int) and part < len(here)
        )
        if not inside and not (
            last and isinstance(part, str) and isinstance(here, dict) and part in _fields(annotation)
        ):
            annotation = _branch(annotation, part)
            owner = _model_of(annotation) or owner
            continue
        owner = _model_of(annotation) or owner
        path = (*path, part)
        here = here[part] if inside else None
        annotation = _below(annotation, part)
    return path, owner


def _fields(annotation: Any) -> set[str]:
    model = _model_of(annotation)
    return set(_written_names(model)) if model else set()


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The one model an annotation may be, unions and containers opened."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) is typing.Annotated:
        return _model_of(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (Union, types.UnionType):
        found = [m for a in typing.get_args(annotation) if (m := _model_of(a))]
        return found[0] if found else None
    return None


def _branch(annotation: Any, part: int | str) -> Any:
    """The member of a union that pydantic named, else the annotation itself."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _branch(typing.get_args(annotation)[0], part)
    if typing.get_origin(annotation) in (Union, types.UnionType):
        for member in typing.get_args(annotation):
            if getattr(member, "__name__", "") == part or str(part).startswith(
                str(typing.get_origin(member))
            ):
                return member
    return annotation


def _below(annotation: Any, part: int | str) -> Any:
    """The annotation of a value below another."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _below(typing.get_args(annotation)[0], part)
    model = _model_of(annotation)
    if model is not None:
        for name, info in model.model_fields.items():
            if part in (name, info.alias):
                return info.annotation
        return None
    if typing.get_origin(annotation) in (Union, types.UnionType):
        for member in typing.get_args(annotation):
            below = _below(member, part)
            if below is not None:
                return below
        return None
    arguments = typing.get_args(annotation)
    if not arguments:
        return None
    return arguments[-1] if typing.get_origin(annotation) is dict else arguments[0]
