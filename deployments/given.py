"""Inputs as people give them on the command line: `-i name=value`, `-i name=@file`, `--inputs FILE`."""

from __future__ import annotations

import csv
import io
import json
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blocks.paths import expanded
from workflows.core.errors import UsageError, did_you_mean
from workflows.core.inputs import SUFFIXES, bind_inputs, read_json, unreadable_suffix
from workflows.core.plan import Plan
from workflows.core.source import Unreadable, read_source, shortened

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
    given.update(_from_words(pairs))
    known = {i.name: i for i in plan.inputs}
    for name in given:
        if name not in known:
            raise UsageError(
                f"the workflow '{plan.workflow}' has no input '{name}'",
                did_you_mean(name, known) or "it takes none",
            )
        if known[name].type == "file":
            _refuse_bare_path(name, given[name])
    read = {n: _opened(n, v, known[n].type) for n, v in given.items()}
    files = {n: v for n, v in read.items() if isinstance(v, GivenFile)}
    plain = {n: v for n, v in read.items() if n not in files}
    whole = plan.model_copy(update={"inputs": tuple(i for i in plan.inputs if i.name in plain)})
    values = bind_inputs(whole, plain)
    return {**values, **files}


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
        there = bool(written) and Path(written).expanduser().is_file()
    except (OSError, RuntimeError, ValueError):  # longer than a name can be, or nobody's home
        there = False
    if there or Path(written).suffix.lower() in SUFFIXES:
        raise UsageError(
            f"the input '{name}' is a document, and '{shortened(written)}' looks like the name of one",
            f"did you mean -i {name}=@{shortened(written)}?",
        )


def _from_file(name: str) -> Mapping[str, Any]:
    path = expanded(name, "--inputs")
    try:
        data = read_source(path, name).data
    except Unreadable as fault:
        raise UsageError(str(fault.mistakes[0]), "") from None
    except RecursionError:
        raise UsageError(f"{name} is nested too deep to be read", "nest it less") from None
    if not isinstance(data, dict):
        raise UsageError(f"{name} holds no inputs", "write `name: value` lines, or a JSON object")
    return data


def _opened(name: str, value: Any, kind: str) -> Any:
    """The value itself, or what the file that it names holds."""
    if not isinstance(value, str) or not value.startswith("@"):
        return value
    file = read_file(name, value[1:])
    if kind == "file":
        return file
    text = file.body.decode("utf-8-sig")
    return read_json(text) if file.media_type == "application/json" and kind != "string" else text


def read_file(name: str, written: str) -> GivenFile:
    """A document for the input `name`. Raises UsageError when it cannot be read as what its suffix says."""
    path = expanded(written, f"the input '{name}'")
    if path.suffix.lower() not in SUFFIXES:
        message, cure = unreadable_suffix(path.suffix.lower())
        raise UsageError(f"the input '{name}': {message}", cure)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"the input '{name}': {written} is no regular file", "save it as a file first")
        if status.st_size > MOST_BYTES:
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
            read_json(text)
        except json.JSONDecodeError as fault:
            raise UsageError(
                f"the input '{name}': {written}:{fault.lineno}:{fault.colno}: {fault.msg}", "mend the JSON"
            ) from None
        except ValueError as fault:
            raise UsageError(f"the input '{name}': {written} cannot be used", str(fault)) from None
    if media_type == "text/csv":
        try:
            rows = list(csv.reader(io.StringIO(text, newline="")))
        except csv.Error as fault:
            raise UsageError(f"the input '{name}': {written}: {fault}", "mend the CSV") from None
        if not rows or not any(cell.strip() for cell in rows[0]):
            raise UsageError(
                f"the input '{name}': {written} has no header line", "name the columns in its first line"
            )
