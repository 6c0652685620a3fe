"""JSON as people give it on the command line: whole, from a file, or one field at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from blocks.paths import expand_home
from workflows.core.compile.inputs import is_unicode, read_json
from workflows.core.errors import UsageError
from workflows.core.read.files import FileTooLarge, read_file
from workflows.core.read.source import shorten_value

_MOST = 1024 * 1024
_WORDS = {"yes": True, "no": False, "true": True, "false": False}


def read_object(written: str, option: str) -> dict[str, Any]:
    """The JSON object that `written` is, or that the file @name holds. Raises UsageError."""
    text = _file(written[1:], option) if written.startswith("@") else written
    cure = f'write {option} \'{{"name": "value"}}\''
    if not is_unicode(text):
        raise UsageError(f"{option} is no UTF-8", "write it in UTF-8")
    try:
        value = read_json(text)
    except (ValueError, RecursionError) as fault:
        raise UsageError(f"{option} is no JSON: {fault}", cure) from None
    if not isinstance(value, dict):
        raise UsageError(f"{option} is {shorten_value(text)}, not an object with fields", cure)
    return value


def _file(name: str, option: str) -> str:
    path = expand_home(name, option)
    try:
        body = read_file(path, _MOST)
    except FileTooLarge:
        raise UsageError(f"{option}: {name} is larger than 1 MiB", "give less") from None
    except OSError as fault:
        raise UsageError(f"{option}: {name}: {fault.strerror}", "check the file") from None
    return body.decode("utf-8-sig", "surrogateescape")


def parse_field(text: str, schema: Any) -> Any:
    """A field's text as its schema wants it; what does not fit stays a text, for the form to refuse."""
    schema = schema if isinstance(schema, Mapping) else {}
    kinds = schema.get("type")
    if "string" in (kinds if isinstance(kinds, list) else [kinds]):
        return text
    if kinds == "boolean":
        return _WORDS.get(text.strip().lower(), text)
    if text in (schema.get("enum") or ()):
        return text
    with contextlib.suppress(ValueError, RecursionError):
        return read_json(text)
    return text
