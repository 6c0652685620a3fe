"""JSON as people give it on the command line: whole, from a file, or one field at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from blocks.paths import expand_home
from workflows.core.compile.inputs import is_unicode, read_json
from workflows.core.errors import UsageError
from workflows.core.read.files import FileTooLarge, read_file
from workflows.core.read.source import shorten_value

_MOST = 1024 * 1024


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


def read_fields(pairs: Iterable[str]) -> dict[str, str]:
    """What `-f name=value` gives, by name. Raises UsageError."""
    fields = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"'{pair}' is no field", "write -f name=value")
        fields[name] = text
    return fields


def _file(name: str, option: str) -> str:
    path = expand_home(name, option)
    try:
        body = read_file(path, _MOST)
    except FileTooLarge:
        raise UsageError(f"{option}: {name} is larger than 1 MiB", "give less") from None
    except OSError as fault:
        raise UsageError(f"{option}: {name}: {fault.strerror}", "check the file") from None
    return body.decode("utf-8-sig", "surrogateescape")
