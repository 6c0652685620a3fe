"""The output contract: how it is asked for, and whether an answer keeps it.

JSON and tables with a schema are asked for through `output_config.format`, which guarantees less than
JSON Schema can say; so the answer is always checked against the schema as it was written. Where the
provider's dialect says less, the prompt holds the written schema too; where it cannot say it, only the prompt
does.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from blocks.json_schemas import Unchecked, errors_of
from tasks.schema_dialect import Inexpressible, loses, strict_schema
from workflows.core.plan import OutputPlan

Rule = Callable[[Any], Sequence[str]]
"""A further check of an accepted value (text, or data): gives what is wrong, empty when nothing is."""

_FENCE = re.compile(r"^[ \t]*(```+|~~~+)[ \t]*([\w+-]*)[^\n]*\n(.*?)^[ \t]*\1[ \t]*$", re.M | re.S)
_MAX_PROBLEMS = 20
_TOO_DEEP = "the JSON value is nested too deeply; nest it less"
_MAX_ROWS = 5
"""Wrong rows of a table that are named."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """An answer that keeps the contract. `data` is None for markdown and text, rows for a table."""

    text: str
    data: Any = None


class Rejected(Exception):
    """An answer that does not; `problems` are sentences a model can act on."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = list(problems)


class Contract:
    """One step's output contract in the provider's terms."""

    def __init__(self, output: OutputPlan, rules: Sequence[Rule] = ()) -> None:
        self._output = output
        self._rules = tuple(rules)
        self._wrapper, schema = _asked_schema(output)
        self._format = _format(schema)
        self._prompted_schema = schema if self._format is None or loses(schema) else None
        if self._format is None and schema is not None:
            # Nothing demands an object, and a reference to the schema's own root keeps its meaning.
            self._wrapper, self._prompted_schema = "", _value_schema(output)

    @property
    def format(self) -> dict[str, Any] | None:
        """`output_config.format` of the request, or None."""
        return self._format

    @property
    def structured(self) -> bool:
        """Whether the answer is data, not prose."""
        return self._output.type in ("json", "table")

    @property
    def note(self) -> str:
        """What the request tells the model about its answer, after the instruction."""
        lines = [_FORM[self._output.type]]
        if self._wrapper:
            lines.append(f'Put it into an object under the key "{self._wrapper}".')
        if self._prompted_schema is not None:
            lines.append("It must satisfy this JSON Schema:")
            # An escaped slash is the same JSON and cannot close the tag.
            written = json.dumps(self._prompted_schema, ensure_ascii=False).replace("</", "<\\/")
            lines.append(f"<output_schema>{written}</output_schema>")
        head = f'<output_contract name="{self._output.name}" type="{self._output.type}">'
        return "\n".join([head, *lines, "</output_contract>"])

    def accept(self, text: str) -> Accepted:
        """The answer as this contract wants it. Raises Rejected."""
        accepted = self._parsed(text)
        value = accepted.data if self.structured else accepted.text
        problems = [sentence for rule in self._rules for sentence in rule(value)]
        if problems:
            raise Rejected(problems[:_MAX_PROBLEMS])
        return accepted

    def accept_data(self, data: Any) -> Accepted:
        """Data made by code instead of an answer, held to the same contract. Raises Rejected."""
        accepted = self._checked(data)
        problems = [sentence for rule in self._rules for sentence in rule(data)]
        if problems:
            raise Rejected(problems[:_MAX_PROBLEMS])
        return accepted

    def _parsed(self, text: str) -> Accepted:
        if not text.strip():
            raise Rejected(["the answer has no text"])
        if not self.structured:
            return Accepted(text.strip() + "\n")
        data = _data(text, tables=self._output.type == "table")
        if self._wrapper and isinstance(data, dict) and set(data) == {self._wrapper}:
            data = data[self._wrapper]
        return self._checked(data)

    def _checked(self, data: Any) -> Accepted:
        problems = _schema_problems(_value_schema(self._output), data)
        if self._output.type == "table":
            problems = _no_rows(data) or [*_key_problems(data), *problems]
        if problems:
            raise Rejected(problems[:_MAX_PROBLEMS])
        try:
            text = json.dumps(data, ensure_ascii=False, indent=2, allow_nan=False)
        except ValueError:
            raise Rejected(["a number is not finite; JSON has only finite ones"]) from None
        return Accepted(text + "\n", data)


_FORM = {
    "markdown": "Answer with the finished Markdown document itself, without a preamble or closing remark.",
    "text": "Answer with the finished plain text itself, without a preamble or closing remark.",
    "json": "Answer with one JSON value and nothing else.",
    "table": "Answer with a JSON list of objects, one per row, all with the same keys, and nothing else.",
}


def _value_schema(output: OutputPlan) -> dict[str, Any]:
    """The written schema as one of the whole value: a table's schema may describe one row."""
    schema = output.schema_ or {}
    if output.type != "table" or schema.get("type") == "array":
        return schema
    if not schema:
        return {"type": "array", "items": {"type": "object"}}
    row = {key: value for key, value in schema.items() if key not in ("$defs", "definitions", "$schema")}
    hoisted: dict[str, Any] = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    return {**hoisted, "type": "array", "items": row}


def _asked_schema(output: OutputPlan) -> tuple[str, dict[str, Any] | None]:
    """The schema to ask for, and the key its value is wrapped in: an answer is always an object."""
    if output.type not in ("json", "table") or not output.schema_:
        return "", None
    schema = _value_schema(output)
    if output.type == "json" and (schema.get("type") == "object" or "$ref" in schema):
        return "", schema
    wrapper = "rows" if output.type == "table" else "value"
    inner = {key: value for key, value in schema.items() if key not in ("$defs", "definitions", "$schema")}
    hoisted: dict[str, Any] = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    asked = {**hoisted, "type": "object", "properties": {wrapper: inner}, "required": [wrapper]}
    return wrapper, asked


def _format(schema: dict[str, Any] | None) -> dict[str, Any] | None:
    if schema is None:
        return None
    try:
        return {"type": "json_schema", "schema": strict_schema(schema)}
    except Inexpressible:
        return None


def _schema_problems(schema: dict[str, Any], data: Any) -> list[str]:
    if not schema:
        return []
    try:
        errors = errors_of(schema, data)
    except Unchecked as fault:
        return [f"$: {fault}; give a shorter or simpler value"]
    return [f"{error.json_path}: {error.message}"[:400] for error in errors[:_MAX_PROBLEMS]]


def _no_rows(data: Any) -> list[str]:
    if not isinstance(data, list):
        return ["$: a table is a list of objects, one per row"]
    wrong = [f"$[{n}]: a row is an object" for n, row in enumerate(data) if not isinstance(row, dict)]
    return wrong[:_MAX_ROWS]


def _key_problems(rows: list[dict[str, Any]]) -> list[str]:
    """Rows that have not the keys of the first one."""
    problems = []
    for n, row in enumerate(rows):
        missing = [key for key in rows[0] if key not in row]
        extra = [key for key in row if key not in rows[0]]
        said = [
            f"{word} {', '.join(map(repr, keys))}"
            for word, keys in (("without the key", missing), ("with the further key", extra))
            if keys
        ]
        if said:
            problems.append(f"$[{n}]: a row {' and '.join(said)}; every row has the keys of the first"[:400])
    return problems[:_MAX_ROWS]


def _data(text: str, tables: bool) -> Any:
    """The data in an answer: all of it, a fenced block, or the first JSON value in its prose; for tables
    also CSV or a Markdown table."""
    blocks = [(match[2].lower(), match[3]) for match in _FENCE.finditer(text)]
    candidates = [text, *(body for kind, body in blocks if kind in ("json", "")), *(b for _, b in blocks)]
    for candidate in candidates:
        try:
            return json.loads(candidate, parse_constant=_refuse_constant, parse_float=_number)
        except ValueError:
            continue
        except RecursionError:
            raise Rejected([_TOO_DEEP]) from None
    found = [value for source in (*(b for _, b in blocks), text) for value in _embedded(source)]
    if found:
        return found[0]
    rows = _table(text, blocks) if tables else None
    if rows is not None:
        return rows
    raise Rejected(["the answer holds no readable JSON value" + _json_fault(text)])


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Rejected([f"the number {text[:40]} is beyond the range of a JSON number; write it as a text"])
    return number


def _json_fault(text: str) -> str:
    stripped = text.strip()
    if not stripped.startswith(("{", "[")):
        return ""
    try:
        json.loads(stripped)
    except json.JSONDecodeError as error:
        return f" (line {error.lineno} column {error.colno}: {error.msg})"
    except ValueError as error:  # a whole number of thousands of digits
        return f" ({error})"
    return ""


def _embedded(text: str) -> list[Any]:
    """The first object or list that stands in the prose, if it is whole."""
    decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_number)
    for match in re.finditer(r"[\[{]", text):
        try:
            value, end = decoder.raw_decode(text, match.start())
        except ValueError:
            continue
        except RecursionError:
            raise Rejected([_TOO_DEEP]) from None
        if value and text[end : end + 1] != "(":  # [text](link) is Markdown, not a list
            return [value]
    return []


def _table(text: str, blocks: list[tuple[str, str]]) -> list[dict[str, Any]] | None:
    for kind, body in blocks:
        if kind == "csv":
            return _csv_rows(body)
    return _markdown_rows(text) or (_csv_rows(text) if _looks_like_csv(text) else None)


def _looks_like_csv(text: str) -> bool:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    counts = {line.count(",") for line in lines}
    return len(lines) > 1 and len(counts) == 1 and counts != {0}


def _csv_rows(text: str) -> list[dict[str, Any]]:
    reader = csv.DictReader(io.StringIO(text.strip()), restkey="...", restval="")
    return [{str(key): _cell(value) for key, value in row.items()} for row in reader]


def _markdown_rows(text: str) -> list[dict[str, Any]] | None:
    lines = text.splitlines()
    for n, line in enumerate(lines[1:], start=1):
        if re.fullmatch(r"\s*\|?\s*:?-{2,}:?\s*(\|\s*:?-{2,}:?\s*)*\|?\s*", line) and "|" in lines[n - 1]:
            head = _cells(lines[n - 1])
            body = [_cells(row) for row in lines[n + 1 : _table_end(lines, n + 1)]]
            return [dict(zip(head, map(_cell, row), strict=False)) for row in body]
    return None


def _table_end(lines: list[str], start: int) -> int:
    end = start
    while end < len(lines) and "|" in lines[end]:
        end += 1
    return end


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def _cell(value: Any) -> Any:
    """A table's text as the number it spells, else as text; `007` and `1e5` stay text."""
    text = str(value).strip()
    if re.fullmatch(r"-?(0|[1-9]\d{0,14})", text):
        return int(text)
    return float(text) if re.fullmatch(r"-?(0|[1-9]\d{0,14})\.\d{1,15}", text) else text
