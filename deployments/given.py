"""Inputs as people give them on the command line: `-i name=value`, `-i name=@file`, `--inputs FILE`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workflows.core.errors import UsageError, did_you_mean
from workflows.core.inputs import SUFFIXES, bind_inputs, unreadable_suffix
from workflows.core.plan import Plan
from workflows.core.source import Unreadable, read_source

MOST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class GivenFile:
    """A file read by the command; it is stored as an artifact before the run starts."""

    path: Path
    body: bytes
    media_type: str


def read_inputs(plan: Plan, pairs: Iterable[str], inputs_file: str | None) -> dict[str, Any]:
    """Typed values by input name; files as GivenFile. Raises UsageError for what cannot be used.

    What is missing is not told here: a run that is continued has its earlier inputs.
    """
    given: dict[str, Any] = dict(_from_file(inputs_file)) if inputs_file else {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"'{pair}' is no input", "write -i name=value, or -i name=@file")
        given[name] = value
    known = {i.name: i for i in plan.inputs}
    for name in given:
        if name not in known:
            raise UsageError(
                f"the workflow '{plan.workflow}' has no input '{name}'",
                did_you_mean(name, known) or "it takes none",
            )
    files = {
        n: _opened(n, v, known[n].type) for n, v in given.items() if isinstance(v, str) and v.startswith("@")
    }
    plain = {n: v for n, v in given.items() if n not in files}
    whole = plan.model_copy(update={"inputs": tuple(i for i in plan.inputs if i.name in plain)})
    values = bind_inputs(whole, plain)
    return {**values, **dict(files.items())}


def _from_file(name: str) -> Mapping[str, Any]:
    path = Path(name)
    try:
        data = read_source(path, name).data
    except Unreadable as fault:
        raise UsageError(str(fault.mistakes[0]), "") from None
    if not isinstance(data, dict):
        raise UsageError(f"{name} holds no inputs", "write `name: value` lines, or a JSON object")
    return data


def _opened(name: str, value: str, kind: str) -> Any:
    file = read_file(name, value[1:])
    if kind == "file":
        return file
    text = file.body.decode("utf-8-sig")
    return json.loads(text) if file.media_type == "application/json" else text


def read_file(name: str, written: str) -> GivenFile:
    """A document for the input `name`. Raises UsageError when it cannot be read as what its suffix says."""
    path = Path(written).expanduser()
    if path.suffix.lower() not in SUFFIXES:
        message, cure = unreadable_suffix(path.suffix.lower())
        raise UsageError(f"the input '{name}': {message}", cure)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(f"the input '{name}': {written} is larger than 64 MiB", "split it")
        body = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"the input '{name}': there is no file {written}", "check the path") from None
    except OSError as fault:
        raise UsageError(f"the input '{name}': {written}: {fault.strerror}", "check the file") from None
    media_type = SUFFIXES[path.suffix.lower()]
    _check(name, written, body, media_type)
    return GivenFile(path, body, media_type)


def _check(name: str, written: str, body: bytes, media_type: str) -> None:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"the input '{name}': {written} is no UTF-8 text", "save it as UTF-8") from None
    if media_type == "application/json":
        try:
            json.loads(text)
        except json.JSONDecodeError as fault:
            raise UsageError(
                f"the input '{name}': {written}:{fault.lineno}:{fault.colno}: {fault.msg}", "mend the JSON"
            ) from None
    if media_type == "text/csv":
        try:
            rows = list(csv.reader(io.StringIO(text, newline="")))
        except csv.Error as fault:
            raise UsageError(f"the input '{name}': {written}: {fault}", "mend the CSV") from None
        if not rows or not any(cell.strip() for cell in rows[0]):
            raise UsageError(
                f"the input '{name}': {written} has no header line", "name the columns in its first line"
            )
