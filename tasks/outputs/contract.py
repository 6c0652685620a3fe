"""The output contract: how it is asked for, and whether an answer keeps it.

JSON and tables with a schema are asked for through `output_config.format`, which guarantees less than
JSON Schema can say; so the answer is always checked against the schema as it was written. Where the
provider's dialect says less, the prompt holds the written schema too; where it cannot say it, only the prompt
does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from blocks.schemas.checking import TooMuchWork, UnusableSchema, problems_of
from tasks.outputs.answer_data import (
    NoNumber,
    TooDeep,
    csv_rows,
    embedded_json,
    load_json,
    looks_like_csv,
    markdown_rows,
)
from tasks.outputs.schema_dialect import Inexpressible, loses, strict_schema
from workflows.core.errors import UsageError
from workflows.core.plans.plan import OutputPlan
from workflows.core.text.cut_text import cut
from workflows.core.text.fences import fenced_blocks

Rule = Callable[[Any], Sequence[str]]
"""A further check of an accepted value (text, or data): gives what is wrong, empty when nothing is."""

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
        accepted = self._parse_text(text)
        value = accepted.data if self.structured else accepted.text
        problems = [sentence for rule in self._rules for sentence in rule(value)]
        if problems:
            raise Rejected(problems[:_MAX_PROBLEMS])
        return accepted

    def accept_data(self, data: Any) -> Accepted:
        """Data made by code instead of an answer, held to the same contract. Raises Rejected."""
        accepted = self._check_data(data)
        problems = [sentence for rule in self._rules for sentence in rule(data)]
        if problems:
            raise Rejected(problems[:_MAX_PROBLEMS])
        return accepted

    def _parse_text(self, text: str) -> Accepted:
        if not text.strip():
            raise Rejected(["the answer has no text"])
        if not self.structured:
            return Accepted(text.strip() + "\n")
        data = _data(text, tables=self._output.type == "table")
        if self._wrapper and isinstance(data, dict) and set(data) == {self._wrapper}:
            data = data[self._wrapper]
        return self._check_data(data)

    def _check_data(self, data: Any) -> Accepted:
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
        return [cut(problem, 400) for problem in problems_of(schema, data)[:_MAX_PROBLEMS]]
    except TooMuchWork as fault:
        return [f"$: {fault}; give a shorter or simpler value"]
    except UnusableSchema as error:
        raise UsageError(
            f"the step's output schema cannot be used: {error}",
            "mend the schema; references may only lead to parts of it, such as '#/$defs/name'",
        ) from None


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
            told = f"$[{n}]: a row {' and '.join(said)}; every row has the keys of the first"
            problems.append(cut(told, 400))
    return problems[:_MAX_ROWS]


def _data(text: str, tables: bool) -> Any:
    """The data in an answer: all of it, a fenced block, or the first JSON value in its prose; for tables
    also CSV or a Markdown table."""
    blocks = fenced_blocks(text)
    candidates = [text, *(body for kind, body in blocks if kind in ("json", "")), *(b for _, b in blocks)]
    try:
        for candidate in candidates:
            try:
                return load_json(candidate)
            except (NoNumber, TooDeep):
                raise
            except ValueError:
                continue
        found = next((v for source in (*(b for _, b in blocks), text) if (v := embedded_json(source))), None)
    except TooDeep:
        raise Rejected([_TOO_DEEP]) from None
    except NoNumber as fault:
        raise Rejected([str(fault)]) from None
    if found is not None:
        return found
    rows = _table(text, blocks) if tables else None
    if rows is not None:
        return rows
    raise Rejected(["the answer holds no readable JSON value" + _json_fault(text)])


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


def _table(text: str, blocks: list[tuple[str, str]]) -> list[dict[str, Any]] | None:
    for kind, body in blocks:
        if kind == "csv":
            return csv_rows(body)
    return markdown_rows(text) or (csv_rows(text) if looks_like_csv(text) else None)
