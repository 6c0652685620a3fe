"""The material in pieces: each one thing that can be shown under a heading, with what it is about."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from blocks.offline.document import TABULAR, Document, Part
from blocks.offline.material import Material
from blocks.offline.tables import Row, cell_text, json_value, number_or_text, rows_of, split_row
from blocks.offline.words import plain, terms

_DEPTH = 3
_FLAT = 6
_ROW_LIMIT = 400
_PROSE = 12
"""A cell of so many characters is something said, not a value."""
_ABSENT = re.compile(r"(?:no|not|missing|without)_|.*_without_|to_clarify|unclear|warnings$")
_LONG_LIST = 4
"""More numbers than these in a row are the inside of something."""


@dataclass(frozen=True)
class Piece:
    """One thing of the material.

    `source` names the document or tool, `place` the heading or key it stands under. A fact has a `key` and
    its value as `text`; a table its `rows`; a passage or a table's row its `text`; a gap is a heading with
    nothing below it. `label` holds the terms of what it is called, `body` those of what it says.
    """

    kind: Literal["fact", "table", "passage", "row", "gap"]
    source: str
    place: str
    text: str = ""
    key: str = ""
    value: Any = None
    rows: tuple[Row, ...] = ()
    count: int = 0
    """Rows of the table before those that say the same were left out."""
    tool: bool = False
    repeated: bool = False
    """Whether the offline model wrote it down before, so that a reader has seen it."""
    label: frozenset[str] = frozenset()
    body: frozenset[str] = frozenset()

    @property
    def inner(self) -> bool:
        """Whether it is the inside of something (a row of weights), which no heading asks for."""
        return (
            self.kind == "fact"
            and isinstance(self.value, list)
            and len(self.value) > _LONG_LIST
            and all(isinstance(item, (int, float)) for item in self.value)
        )

    @property
    def said(self) -> str:
        """The words of a passage or row, without the short values beside them; empty for data."""
        if self.kind == "row":
            return str(self.value)
        return self.text if self.kind == "passage" else ""


def pieces_of(material: Material) -> list[Piece]:
    """All pieces: of the tool results first, then of the documents; facts that tools repeat only once."""
    found: dict[tuple[str, ...], Piece] = {}
    for n, piece in enumerate(_all(material)):
        same = (
            (piece.key, piece.text)
            if piece.kind == "fact" and piece.tool
            else (piece.source, piece.text, str(n))
        )
        found.setdefault(same if piece.kind != "passage" else (piece.source, piece.text), piece)
    return list(found.values())


def _all(material: Material) -> Iterator[Piece]:
    for name, text, is_error in material.results:
        value = None if is_error else _parsed(text)
        if isinstance(value, (dict, list)):
            yield from _of_value(value, name, "", tool=True)
    for document in material.documents:
        value = json_value(document)
        if value is not None:
            yield from _of_value(value, document.name, "", tool=False)
        elif document.media_type in TABULAR:
            yield from _said_rows(rows_of(document), document.name, "")
        else:
            found = _of_document(document)
            yield from (replace(piece, repeated=True) for piece in found) if document.ours else found


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _of_document(document: Document) -> Iterator[Piece]:
    for part in document.parts:
        if part.kind == "table":
            rows = _table_rows(part)
            yield _table(rows, document.name, part.place, tool=False)
            yield from _said_rows(rows, document.name, part.place)
        elif part.kind == "gap":
            yield Piece("gap", document.name, part.place, part.text, label=_terms("open issue " + part.place))
        elif part.kind == "passage":
            yield _of_passage(part, document)


def _of_passage(part: Part, document: Document) -> Piece:
    """A passage, or the fact that a short `key: value` is."""
    head, colon, value = part.text.replace("：", ":", 1).partition(":")
    labelled = colon and len(head) <= 30 and not re.search(r"[。；;，,]", head)
    label = _terms(f"{part.place} {head if labelled else ''}")
    if labelled and re.fullmatch(r"[a-z][a-z0-9_. -]*", head) and len(value) <= 200:
        text = value.strip()
        number = number_or_text(text)
        return Piece("fact", document.name, part.place, text, head, number, label=label, body=_terms(text))
    body = frozenset(document.passage_terms[part.text])
    return Piece("passage", document.name, part.place, part.text, label=label, body=body)


def _table_rows(part: Part) -> list[Row]:
    head, _, *lines = (split_row(line) for line in part.lines)
    names = [plain(name) or f"column {n + 1}" for n, name in enumerate(head)]
    return [
        {name: number_or_text(plain(cell)) for name, cell in zip(names, line, strict=False)}
        for line in lines[:_ROW_LIMIT]
    ]


def _of_value(value: Any, source: str, place: str, *, tool: bool) -> Iterator[Piece]:
    """A JSON value as facts and tables, by the keys they stand under."""
    rows = _rows(value, place.rpartition(" › ")[2])
    if rows:
        yield _table(rows, source, place, tool=tool)
        yield from _said_rows(rows, source, place, tool=tool)
        return
    if not isinstance(value, dict):
        yield from [_fact("", value, source, place, tool)] if value not in (None, "", [], {}) else []
        return
    for key, item in value.items():
        below = f"{place} › {key}".removeprefix(" › ")
        if _rows(item, key) or (isinstance(item, dict) and not _flat(item) and below.count("›") < _DEPTH):
            yield from _of_value(item, source, below, tool=tool)
        elif item not in (None, "", [], {}):
            yield _fact(key, item, source, place, tool)


def _rows(value: Any, name: str) -> list[Row]:
    """The rows of a list of objects, or of an object whose values are objects with shared keys."""
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return value
    if not name or not isinstance(value, dict) or len(value) < 2:
        return []
    if all(isinstance(item, dict) and _flat(item) for item in value.values()):
        return [{name: key, **item} for key, item in value.items()]
    if len(value) > _FLAT and all(_plain(item) for item in value.values()):
        return [{name: key, "value": item} for key, item in value.items()]
    return []


def _flat(value: Mapping[str, Any]) -> bool:
    """An object of a few plain values: one line says it."""
    return len(value) <= _FLAT and all(_plain(item) for item in value.values())


def _plain(item: Any) -> bool:
    short = isinstance(item, list) and len(item) <= 3 and not any(isinstance(i, (dict, list)) for i in item)
    return short or not isinstance(item, (dict, list))


def _fact(key: str, value: Any, source: str, place: str, tool: bool) -> Piece:
    words = f"{key} {place}"
    if isinstance(value, list) and len(value) == 2 and all(isinstance(item, (int, float)) for item in value):
        words += " interval"
    words += " open limitation" if _ABSENT.match(key) and value else ""
    # The keys of an object say what it holds; the items of a list are only values.
    inner = (
        " ".join(value) if isinstance(value, dict) else "" if isinstance(value, list) else cell_text(value)
    )
    inner += f" {_handler(source)}" if tool else ""
    return Piece(
        "fact",
        source,
        place,
        cell_text(value, 240),
        key,
        value,
        tool=tool,
        label=_terms(words),
        body=_terms(inner),
    )


def _table(rows: Sequence[Row], source: str, place: str, *, tool: bool) -> Piece:
    columns = " ".join(str(column) for column in dict.fromkeys(key for row in rows[:20] for key in row))
    words = f"{place} {'open limitation' if _ABSENT.match(place) else ''}"
    body = _terms(f"{columns} {_handler(source) if tool else source}")
    once = {_longest(row) or str(n): row for n, row in reversed(list(enumerate(rows)))}
    kept = tuple(reversed(once.values()))
    return Piece(
        "table", source, place, rows=kept, count=len(rows), tool=tool, label=_terms(words), body=body
    )


def _longest(row: Row) -> str:
    """What a row says in words; empty for a row of values."""
    said = max((item for item in row.values() if isinstance(item, str)), key=len, default="")
    return cell_text(said) if len(said) >= _PROSE and not re.fullmatch(r"[\w.-]+", said) else ""


def _said_rows(rows: Sequence[Row], source: str, place: str, *, tool: bool = False) -> Iterator[Piece]:
    """The rows that say something in words, as passages: short values before the longest cell."""
    for row in rows[:_ROW_LIMIT]:
        cells = [text for item in row.values() if (text := cell_text(item, 160)) not in ("", "—")]
        said = max((cell for cell in cells if re.search(r"[^\W\d_]", cell)), key=len, default="")
        if len(said) < _PROSE or re.fullmatch(r"[\w.-]+", said):
            continue
        # A number without its column's name says nothing.
        shown = [cell for cell in cells if cell == said or (len(cell) <= 16 and re.search(r"[^\W\d_]", cell))]
        text = " · ".join(shown if len(shown) <= 4 else [*[cell for cell in shown if cell != said][:3], said])
        yield Piece("row", source, place, text, value=said, tool=tool, label=_terms(place), body=_terms(text))


def _handler(name: str) -> str:
    """A tool's own name without its skill's."""
    return name.rpartition("__")[2]


@lru_cache(maxsize=64)  # the same headings and names again and again
def _terms(text: str) -> frozenset[str]:
    return frozenset(terms(text))
