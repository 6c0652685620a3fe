"""Inputs as people give them on the command line: `-i name=value`, `-i name=@file`, `--inputs FILE`."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from blocks.paths import expand_home, here
from blocks.secrecy import secrets
from deployments.runs.stored_inputs import GivenFile
from workflows.core.compile.inputs import (
    MOST_BYTES,
    SUFFIXES,
    read_json,
    unreadable_suffix,
)
from workflows.core.errors import UsageError
from workflows.core.plans.plan import InputPlan
from workflows.core.read.documents import read_source
from workflows.core.read.files import read_file as read_bounded
from workflows.core.read.source import Unreadable, shorten_value
from workflows.core.text.csv_table import UnreadableTable, read_csv

_EMPTY = b" \t\r\n\xef\xbb\xbf"
"""Bytes of a file that says nothing: blanks, line ends, a byte order mark."""


def read_written(pairs: Iterable[str], inputs_file: str | None) -> dict[str, Any]:
    """Values by input name, as they are written: of a file, and of words, which win. Raises UsageError."""
    given: dict[str, Any] = dict(_from_file(inputs_file)) if inputs_file else {}
    given.update(_from_words(pairs))
    return given


def open_value(spec: InputPlan, value: Any) -> Any:
    """The value itself, or what the file that it names (`@file`) holds. Raises UsageError."""
    if spec.type == "file":
        _refuse_bare_path(spec.name, value)
    return _read_named_file(spec.name, value, spec.type)


def _from_words(pairs: Iterable[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"'{pair}' is no input", "write -i name=value, or -i name=@file")
        if name in given:
            raise UsageError(f"the input '{name}' is given twice", f"leave one -i {name}=... out")
        given[name] = value
    return given


def _refuse_bare_path(name: str, value: Any) -> None:
    """The name of a file in place of its content: a forgotten `@`, which a model would take for the text."""
    if not isinstance(value, str) or value.startswith("@") or "\n" in value.strip():
        return
    written = value.strip()
    try:
        there = bool(written) and here(Path(written).expanduser()).is_file()
    except (OSError, RuntimeError, ValueError):  # longer than a name can be, or nobody's home
        there = False
    if there or Path(written).suffix.lower() in SUFFIXES:
        raise UsageError(
            f"the input '{name}' is a document, and '{shorten_value(written)}' looks like the name of one",
            f"did you mean -i {name}=@{shorten_value(written)}?",
        )


def _from_file(name: str) -> Mapping[str, Any]:
    path = expand_home(name, "--inputs")
    try:
        data = read_source(path, name).data
    except Unreadable as fault:
        raise UsageError(str(fault.mistakes[0]), "") from None
    except RecursionError:
        raise UsageError(f"{name} is nested too deep to be read", "nest it less") from None
    if not isinstance(data, dict):
        raise UsageError(f"{name} holds no inputs", "write `name: value` lines, or a JSON object")
    return data


def _read_named_file(name: str, value: Any, kind: str) -> Any:
    """The value itself, or what the file that it names holds."""
    if not isinstance(value, str) or not value.startswith("@"):
        return value
    file = read_file(name, value[1:])
    if kind == "file":
        if not file.body.strip(_EMPTY):
            raise UsageError(f"the input '{name}': {value[1:]} is empty", "name a file that holds something")
        return file
    text = file.body.decode("utf-8-sig")
    return read_json(text) if file.media_type == "application/json" and kind != "string" else text


def read_file(name: str, written: str) -> GivenFile:
    """A document for the input `name`. Raises UsageError when it cannot be read as what its suffix says."""
    path = expand_home(written, f"the input '{name}'")
    # That there is no such file is told before what its name ends in.
    status = _status(name, written, path)
    if stat.S_ISDIR(status.st_mode):
        raise UsageError(f"the input '{name}': {written} is a folder, no file", "name a file in it")
    if path.suffix.lower() not in SUFFIXES:
        message, cure = unreadable_suffix(path.suffix.lower())
        raise UsageError(f"the input '{name}': {message}", cure)
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"the input '{name}': {written} is no regular file", "save it as a file first")
    if status.st_size > MOST_BYTES:
        raise UsageError(f"the input '{name}': {written} is larger than 64 MiB", "split it")
    try:
        body = read_bounded(path, MOST_BYTES)
    except OSError as fault:
        raise UsageError(f"the input '{name}': {written}: {fault.strerror}", "check the file") from None
    media_type = SUFFIXES[path.suffix.lower()]
    note = _check(name, written, body, media_type)
    body = secrets.current_secrets().body(body, media_type)
    return GivenFile(path, body, media_type, note and f"{written}: {note}")


def _status(name: str, written: str, path: Path) -> os.stat_result:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"the input '{name}': there is no file {written}", "check the path") from None
    except OSError as fault:
        raise UsageError(f"the input '{name}': {written}: {fault.strerror}", "check the file") from None
    except ValueError:  # a null byte
        raise UsageError(f"the input '{name}': no file can have this name", "check the path") from None


def _check(name: str, written: str, body: bytes, media_type: str) -> str:
    """Refuses a body that is not what its type says; gives what is assumed of it."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"the input '{name}': {written} is no UTF-8 text", "save it as UTF-8") from None
    if media_type == "application/json":
        _check_json(name, written, text)
    return _check_table(name, written, text) if media_type == "text/csv" else ""


def _check_json(name: str, written: str, text: str) -> None:
    try:
        read_json(text)
    except json.JSONDecodeError as fault:
        raise UsageError(
            f"the input '{name}': {written}:{fault.lineno}:{fault.colno}: {fault.msg}", "mend the JSON"
        ) from None
    except ValueError as fault:
        raise UsageError(f"the input '{name}': {written} cannot be used", str(fault)) from None


def _check_table(name: str, written: str, text: str) -> str:
    try:
        table = read_csv(text)
    except UnreadableTable as fault:
        raise UsageError(f"the input '{name}': {written}:{fault.line}: {fault}", fault.cure) from None
    if not any(column.strip() for column in table.columns):
        raise UsageError(
            f"the input '{name}': {written} has no header line", "name the columns in its first line"
        )
    return table.note
