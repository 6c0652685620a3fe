"""Written files as they are read: the bytes of a YAML or JSON file to a Source, or every mistake in them."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import yaml

from workflows.core.errors import Mistake
from workflows.core.read.files import FileTooLarge, NoRegularFile, read_file
from workflows.core.read.source import Source, Unreadable
from workflows.core.read.yaml_source import MAX_DIGITS, DocumentTooLarge, yaml_source
from workflows.core.text.cut_text import cut

MAX_BYTES = 1024 * 1024


def read_source(path: Path, file: str) -> Source:
    """Reads a .yaml, .yml, .json or .yao file. Raises Unreadable with every mistake found."""
    try:
        body = read_file(path, MAX_BYTES)
    except FileNotFoundError:
        raise _unreadable(file, "the file does not exist", "check the name and the folder") from None
    except FileTooLarge:
        raise _unreadable(
            file,
            f"the file is larger than {MAX_BYTES // 1024} KiB",
            "move large content into files of its own",
        ) from None
    except NoRegularFile as fault:
        message = f"the file cannot be read: {fault.strerror}"
        raise _unreadable(file, message, "put a file in its place") from None
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or str(fault)
        raise _unreadable(file, f"the file cannot be read: {reason}", "check its permissions") from None
    return parse_source(body, file, as_json=path.suffix in (".json", ".yao"))


def parse_source(body: bytes, file: str, *, as_json: bool = False) -> Source:
    """Parses the bytes of a written file. Raises Unreadable."""
    text = _decode_text(body, file)
    if as_json:
        return _parse_json(text, file)
    tab = re.search(r"^( *)\t", text, re.MULTILINE)
    try:
        return yaml_source(text, file)
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        if tab and text.count("\n", 0, tab.start()) + 1 in (line, line - 1):
            line = text.count("\n", 0, tab.start()) + 1
            raise _unreadable(file, "a tab indents this line", "indent with spaces", line, 1) from None
        problem = re.sub(r"\s+", " ", str(fault.problem or "not YAML"))
        if "another document" in problem:
            cure = "keep one document to a file; remove the line '---'"
            raise _unreadable(file, "a second document begins here", cure, line, column) from None
        raise _unreadable(file, f"not YAML: {problem}", _yaml_cure(problem), line, column) from None
    except yaml.YAMLError as fault:
        raise _unreadable(file, f"not YAML: {str(fault).splitlines()[0]}", "save it as UTF-8 text") from None
    except RecursionError:
        raise _unreadable(file, "nested too deeply", "flatten the file") from None


def _yaml_cure(problem: str) -> str:
    if "mapping values are not allowed" in problem:
        return "put quotes around a text that holds ': ', or mend the indentation"
    if "cannot start any token" in problem:
        return "put quotes around a text that begins with @, `, % or a tab"
    if "alias" in problem:
        return "define the anchor (&name) before its alias (*name)"
    return "mend the indentation, quotes or brackets at this place"


def _unreadable(file: str, message: str, cure: str, line: int = 1, column: int = 1) -> Unreadable:
    return Unreadable([Mistake(file, line, column, "", None, message, cure)])


def _decode_text(body: bytes, file: str) -> str:
    body = body.removeprefix(b"\xef\xbb\xbf")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as fault:
        line = body.count(b"\n", 0, fault.start) + 1
        raise _unreadable(file, "not UTF-8 text", "save the file as UTF-8", line) from None
    control = re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]", text)
    if control:
        line = text.count("\n", 0, control.start()) + 1
        raise _unreadable(file, "holds control characters; it looks binary", "write it as text", line)
    return text.replace("\r\n", "\n")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_constant(text)


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a whole number of {len(text):,} digits")
    return int(text)


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")


def _parse_json(text: str, file: str) -> Source:
    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, value in pairs:
            if key in out:
                line = text.count("\n", 0, max(text.rfind(f'"{key}"'), 0)) + 1
                raise _unreadable(file, f"the key '{key}' stands twice", "keep one of them", line)
            out[key] = value
        return out

    try:
        data = json.loads(
            text,
            object_pairs_hook=no_duplicates,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_whole,
        )
        json.dumps(data, ensure_ascii=False).encode()
    except json.JSONDecodeError as fault:
        raise _unreadable(
            file,
            f"not JSON: {fault.msg}",
            "mend the commas, quotes or brackets here",
            fault.lineno,
            fault.colno,
        ) from None
    except UnicodeEncodeError:
        raise _unreadable(
            file, "half a surrogate pair (\\ud800 to \\udfff)", "write the character itself"
        ) from None
    except ValueError as fault:  # digits beyond Python's limit, NaN
        raise _unreadable(file, cut(f"not JSON: {fault}", 120), "write a finite, shorter number") from None
    except RecursionError:
        raise _unreadable(file, "nested too deeply", "flatten the file") from None
    try:
        # JSON is YAML but for tabs, so the composer gives the positions.
        marked = yaml_source(text.replace("\t", " "), file)
        return Source(file, data, marked.marks, marked.key_marks)
    except DocumentTooLarge:
        raise
    except (yaml.YAMLError, Unreadable):
        return Source(file, data)
