"""What the material says under a name: values by their keys, and rows by their columns."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from blocks.offline.material import Document, Material

Row = dict[str, Any]
TABULAR = ("text/csv", "text/tab-separated-values")
READ_CHARS = 400_000
_MOST_ROWS, _MOST_CELLS, _DEPTH = 1_000, 100_000, 4
_FACT = re.compile(r"(?:[-*+]\s++)?[\"'`]?([\w一-鿿 .-]{1,40}?)[\"'`]?\s{0,20}[:：]\s*+(\S.*)")
_LETTERS = re.compile(r"[^a-z0-9一-鿿]")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,14})(\.\d{1,15})?")


def facts_of(material: Material) -> dict[str, Any]:
    """Values by the letters of their keys; the instruction's word comes first, then the tools'."""
    facts = told_in(material.instruction)
    values = [parse_json(text) for _, text, is_error in material.results if not is_error]
    for document in material.documents:
        value: Any = parse_json(document.body) if "json" in document.media_type else None
        values.append(told_in(document.body) if value is None else value)
    for key, item in (member for value in values for member in _members(value)):
        facts.setdefault(fact_key(key), item)
    facts.pop("", None)
    return facts


def told_in(text: str) -> dict[str, Any]:
    """Values of the lines that say `key: value`, by the key's letters; the first of a key counts."""
    found = (_FACT.fullmatch(line.strip()) for line in reversed(text.splitlines()))
    return {fact_key(fact[1]): fact[2] for fact in found if fact}


def fact_key(name: str) -> str:
    """A name as facts are compared by: its letters and digits, without case."""
    return _LETTERS.sub("", name.casefold())


def rows_of(document: Document) -> list[Row]:
    """The rows of a CSV or of a JSON list of objects (also as the only list of an object); else none."""
    if document.media_type in TABULAR:
        return [{key: number_or_text(cell) for key, cell in row.items()} for row in csv_rows(document.body)]
    value: Any = parse_json(document.body) if "json" in document.media_type else None
    lists = (
        [item for item in value.values() if isinstance(item, list)] if isinstance(value, dict) else [value]
    )
    rows: list[Row] = lists[0] if len(lists) == 1 and is_rows(lists[0]) else []
    return rows


def rows_like(item: dict[str, Any], documents: Iterable[Document]) -> Iterator[Row]:
    """Rows of the first table that has every required column of a schema's items, cut to their keys."""
    columns = item.get("properties", {})
    required = set(item.get("required", [])) or set(columns)
    tables = (rows for document in documents if columns and (rows := rows_of(document)))
    texts = {key for key, part in columns.items() if isinstance(part, dict) and part.get("type") == "string"}
    for row in next((rows for rows in tables if required <= rows[0].keys()), []):
        yield {key: str(row[key]) if key in texts else row[key] for key in columns if key in row}


def csv_rows(text: str) -> list[Row]:
    """The rows of a CSV text, as far as they can be read; cells as they are written."""
    text = text[:READ_CHARS].lstrip("\ufeff")
    head = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=head.count))
    rows: list[Row] = []
    try:
        columns = next(reader, [])
        # Under a wide head a few thousand rows are a very large table.
        for cells in islice(reader, min(_MOST_ROWS, _MOST_CELLS // max(1, len(columns)))):
            rows.append(dict(zip(columns, cells, strict=False)))
    except csv.Error:  # such as a cell of 200,000 characters
        pass
    return rows


def is_rows(value: Any) -> bool:
    """Whether it is a list of objects, and not empty."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def number_or_text(value: Any) -> Any:
    """A cell as the number it spells, else as it is."""
    number = _NUMBER.fullmatch(value.strip()) if isinstance(value, str) else None
    return (float if number[1] else int)(number[0]) if number else value


def parse_json(text: str, **how: Any) -> Any:
    """The value of a JSON text; None for what is none. `how` as for `json.loads`."""
    try:
        return json.loads(text, **how)
    except (ValueError, RecursionError):
        return None


def _members(value: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and depth < _DEPTH:
        yield from value.items()
        for item in value.values():
            yield from _members(item, depth + 1)
