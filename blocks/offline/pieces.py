"""The material in pieces: what can stand under a heading, as it is written there, and what has a name."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, Literal

from blocks.offline.material import Document, Material
from blocks.offline.words import NOTE_MARK, PHRASES, plain, terms
from workflows.core.text.fences import without_fences
from workflows.core.text.markdown_tables import is_rule, row_cells

Row = dict[str, Any]
TABULAR = ("text/csv", "text/tab-separated-values")
_READ_CHARS, _PASSAGE_CHARS, _PLACE_CHARS, _FACT_CHARS, _CELL_CHARS = 400_000, 400, 120, 240, 160
_MOST_PIECES, _MOST_ROWS, _MOST_CELLS, _COLUMNS = 2_000, 1_000, 100_000, 8
_DEPTH, _FLAT = 4, 6
"""How deep objects are taken apart; members of one that a line says."""
_LONG_LIST, _KIND_CHARS = 4, 20
"""More numbers than these are the inside of something; a cell so short says of what kind a row is."""
_HEADING = re.compile(r"#{1,6}[ \t]++(\S.*)")
_BULLET = re.compile(r"[ \t]*+(?:[-*+>]|\d{1,9}[.)、])[ \t]++\S")
_SENTENCE = re.compile(r"(?<=[。！？!?])(?=[^」』”’\"）)])|(?<=\.)\s")
_ORIGIN = re.compile(r"(?<!\s)\s*+〔[^〔〕]{1,400}〕$")
_OWN_ENDS = (*PHRASES["rest"], *PHRASES["open"], *PHRASES["appendix"])
_OWN_REMARK = re.compile(rf"_.*_|〔.*〕|>.*{NOTE_MARK}.*")
_FACT = re.compile(r"(?:[-*+]\s++)?[\"'`]?([\w一-鿿 .-]{1,40}?)[\"'`]?\s{0,20}[:：]\s*+(\S.*)")
_LETTERS = re.compile(r"[^a-z0-9一-鿿]")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,14})(\.\d{1,15})?")


@dataclass(frozen=True)
class Piece:
    """One thing of the material.

    `place` is the heading or the keys it stands under. A fact has a `key` and its value as `text`, a table
    its `rows`, a passage its `text`. `label` are the terms of what it is called, `body` those of its members.
    """

    kind: Literal["fact", "table", "passage"]
    source: str
    place: str
    text: str = ""
    key: str = ""
    rows: tuple[Row, ...] = ()
    label: frozenset[str] = frozenset()
    body: frozenset[str] = frozenset()

    @cached_property
    def kinds(self) -> list[list[frozenset[str]]]:
        """Per row, the terms of each short cell: such cells say of what kind a row is."""
        cells = (
            [c for item in row.values() for c in (item if isinstance(item, list) else [item])]
            for row in self.rows
        )
        return [
            [terms(c) for c in row if isinstance(c, str) and len(c) <= 30 and c.count(" ") < 2]
            for row in cells
        ]


def result_pieces(material: Material) -> list[Piece]:
    """What the tools' results say as data, the same fact once, and the documents that are data."""
    sources = [(name, text, "") for name, text, is_error in material.results if not is_error]
    sources += [(d.name, d.body, d.name) for d in material.documents if "json" in d.media_type]
    found = (
        piece for name, text, called in sources for piece in _of_value(_as_written(text), name, "", called)
    )
    once: dict[tuple[str, ...], Piece] = {}
    for n, piece in enumerate(islice(found, _MOST_PIECES)):
        once.setdefault((piece.key, piece.text) if piece.key else (str(n),), piece)
    return list(once.values())


def document_pieces(document: Document) -> list[Piece]:
    """A document's tables, bullets and sentences in order, each under its heading."""
    if document.media_type in TABULAR:
        return [_table(csv_rows(document.body), document.name, "", "")]
    if "json" in document.media_type:
        return list(islice(_of_value(_as_written(document.body), document.name, "", ""), _MOST_PIECES))
    return list(_of_markdown(document.body, document.name))


def left_open_in(document: Document) -> list[str]:
    """What the offline model left open when it wrote the document."""
    begun = tuple(f"_{said.strip('_').split('{}')[0]}" for said in PHRASES["nothing"])
    lines = document.body.splitlines() if NOTE_MARK in document.body else []
    return [line.strip("_") for line in lines if line.startswith(begun)][:1]


def _as_written(text: str) -> Any:
    """A JSON value whose numbers stay as they are written; None for what is none."""
    try:
        return json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        return None


def _of_value(value: Any, source: str, place: str, called: str) -> Iterator[Piece]:
    """A value by the keys it stands under; `called` are names that count like keys."""
    if rows := _rows_in(value, place):
        yield _table(rows, source, place, called)
    elif isinstance(value, dict):
        for key, item in value.items():
            below = (f"{place}.{key}" if place else key)[-_PLACE_CHARS:]
            nested = isinstance(item, dict) and not _is_flat(item) and below.count(".") < _DEPTH
            if isinstance(item, str) and "\n" in item:
                yield from _of_markdown(item, f"{source}.{key[:_PLACE_CHARS]}")
            elif nested or _rows_in(item, key):
                yield from _of_value(item, source, below, called)
            elif not (isinstance(item, list) and len(item) > _LONG_LIST and all(map(_is_number, item))):
                yield from _fact(key, item, source, place, called)
    else:
        yield from _fact("", value, source, place, called)


def _is_number(item: Any) -> bool:
    return isinstance(item, str) and bool(_NUMBER.fullmatch(item))


def _is_flat(value: Row) -> bool:
    return len(value) <= _FLAT and not any(isinstance(item, dict) for item in value.values())


def _rows_in(value: Any, name: str) -> list[Row]:
    """The rows of a list of objects, of an object of flat objects, or of one with many members."""
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return value
    if not name or not isinstance(value, dict) or len(value) < 2:
        return []
    name = name.rpartition(".")[2]
    if all(isinstance(item, dict) and _is_flat(item) for item in value.values()):
        return [{name: key, **item} for key, item in value.items()]
    many = len(value) > _FLAT and not any(isinstance(item, dict) for item in value.values())
    return [{name: key, " ": item} for key, item in value.items()] if many else []


def _fact(key: str, value: Any, source: str, place: str, called: str) -> Iterator[Piece]:
    if (text := cell_text(value, _FACT_CHARS)).strip("; "):
        label = terms(f"{called} {place} {key[:_PLACE_CHARS]}")
        members = terms(" ".join(value)) if isinstance(value, dict) else frozenset()
        yield Piece("fact", source, place, text, key[:_PLACE_CHARS], label=label, body=members)


def _table(rows: Sequence[Row], source: str, place: str, called: str) -> Piece:
    columns = terms(" ".join(str(column) for row in rows[:20] for column in row))
    return Piece("table", source, place, rows=tuple(rows), label=terms(f"{called} {place}"), body=columns)


def csv_rows(text: str) -> list[Row]:
    """The rows of a CSV text, as far as they can be read; cells as they are written."""
    text = text[:_READ_CHARS].lstrip("\ufeff")
    head = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=head.count))
    rows: list[Row] = []
    try:
        columns = next(reader, [])
        # Under a wide head a few thousand rows are a very large table.
        room = min(_MOST_ROWS, _MOST_CELLS // max(1, len(columns)))
        for cells in islice(reader, room):
            rows.append(dict(zip(columns, cells, strict=False)))
    except csv.Error:  # such as a cell of 200,000 characters
        pass
    return rows


def _of_markdown(text: str, source: str) -> Iterator[Piece]:
    place, paragraph, table = "", "", list[str]()
    lines = [line.strip() for line in without_fences(text[:_READ_CHARS]).splitlines()]
    for line in (*(_without_remarks(lines) if NOTE_MARK in text else lines), ""):
        heading, bullet = _HEADING.fullmatch(line), _BULLET.match(line)
        if table and not line.startswith("|"):
            yield from _markdown_table(table, source, place)
            table = []
        if line.startswith("|"):
            table.append(line)
        elif line and not heading and not bullet:
            paragraph = f"{paragraph} {line}"
            continue
        for said in (*_SENTENCE.split(paragraph), *([line] if bullet else [])):
            text = shorten(plain(_ORIGIN.sub("", said.strip())), _PASSAGE_CHARS)
            yield from [Piece("passage", source, place, text)] if text.strip("-*_| ") else []
        paragraph = ""
        place = shorten(plain(heading[1].rstrip(" \t#")), _PLACE_CHARS) if heading else place


def _without_remarks(lines: Sequence[str]) -> list[str]:
    """The lines without what the offline model says itself: note, remarks, what no heading asked for."""
    ends = (n for n, line in enumerate(lines) if line.startswith("#") and line.lstrip("# ") in _OWN_ENDS)
    return [line for line in lines[: next(ends, len(lines))] if not _OWN_REMARK.fullmatch(line)]


def _markdown_table(lines: Sequence[str], source: str, place: str) -> Iterator[Piece]:
    if len(lines) > 1 and is_rule(lines[1], 3):
        head = [plain(cell) for cell in row_cells(lines[0])]
        room = min(_MOST_ROWS, _MOST_CELLS // max(1, len(head)))
        rows = [dict(zip(head, map(plain, row_cells(line)), strict=False)) for line in lines[2 : 2 + room]]
        yield _table(rows, source, place, "")


def shorten(text: str, limit: int) -> str:
    """One line of at most so many characters."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def cell_text(value: Any, limit: int = _CELL_CHARS) -> str:
    """A value in one line: `a: 1, b: 2` for an object, the items of a list, empty for nothing."""
    return "" if value in (None, [], {}) else shorten(_inline(value), limit)


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_inline(item)}" for key, item in value.items())
    if isinstance(value, list):
        items = (": ".join(map(_inline, i.values())) if isinstance(i, dict) else _inline(i) for i in value)
        return "; ".join(items)
    if isinstance(value, str) and value.startswith("|"):
        return max(row_cells(value), key=len)  # the line of a table: what it says is its longest cell
    return value if isinstance(value, str) else json.dumps(value)


def row_text(row: Row) -> str:
    """The longest thing that a row says; empty where that is a word or two."""
    cells = [cell_text(cell, _FACT_CHARS) for cell in row.values() if isinstance(cell, str)]
    said = max(cells, key=len, default="")
    return said if len(said) > _KIND_CHARS else ""


def table_lines(rows: Sequence[Row], limit: int) -> list[str]:
    """A Markdown table of the first rows and of the columns that hold most."""
    shown = [{str(name): cell_text(cell) for name, cell in row.items()} for row in rows[:limit]]
    filled = Counter(name for row in shown for name, cell in row.items() if cell)
    fullest = {name for name, _ in filled.most_common(_COLUMNS)}
    columns = list(dict.fromkeys(name for row in shown for name in row if name in fullest))
    cells = [columns, ["---"] * len(columns), *([row.get(name, "") for name in columns] for row in shown)]
    cells += [["…"] * len(columns)] if len(rows) > limit else []
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in cells]
    return lines if columns else []


def facts_of(material: Material) -> dict[str, Any]:
    """Values by the letters of their keys; the instruction's word comes first, then the tools'."""
    facts = told_in(material.instruction)
    values = [_parse_json(text) for _, text, is_error in material.results if not is_error]
    for document in material.documents:
        value = _parse_json(document.body) if "json" in document.media_type else None
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
    value = _parse_json(document.body) if "json" in document.media_type else None
    lists = (
        [item for item in value.values() if isinstance(item, list)] if isinstance(value, dict) else [value]
    )
    return _rows_in(lists[0], "") if len(lists) == 1 else []


def rows_like(item: dict[str, Any], documents: Iterable[Document]) -> Iterator[Row]:
    """Rows of the first table that has every required column of a schema's items, cut to their keys."""
    columns = item.get("properties", {})
    required = set(item.get("required", [])) or set(columns)
    tables = (rows for document in documents if columns and (rows := rows_of(document)))
    for row in next((rows for rows in tables if required <= rows[0].keys()), []):
        texts = {
            name for name, part in columns.items() if isinstance(part, dict) and part.get("type") == "string"
        }
        yield {name: str(row[name]) if name in texts else row[name] for name in columns if name in row}


def number_or_text(value: Any) -> Any:
    """A cell as the number it spells, else as it is."""
    number = _NUMBER.fullmatch(value.strip()) if isinstance(value, str) else None
    return (float if number[1] else int)(number[0]) if number else value


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _members(value: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and depth < _DEPTH:
        yield from value.items()
        for item in value.values():
            yield from _members(item, depth + 1)
