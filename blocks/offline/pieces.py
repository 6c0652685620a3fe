"""The material in pieces, as it is written there, each with the name it stands under."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from blocks.offline.facts import READ_CHARS, TABULAR, Row, csv_rows, is_rows, parse_json
from blocks.offline.material import Document
from blocks.offline.words import NOTE_MARK, PHRASES, plain, shorten
from workflows.core.text.fences import without_fences
from workflows.core.text.markdown_tables import row_cells

_PLACE_CHARS, _LINE_CHARS, _FACT_CHARS, _CELL_CHARS = 120, 400, 240, 160
_MOST_PIECES, _ROWS, _COLUMNS, _DEPTH = 2_000, 20, 8, 4
_FLAT = 6
"""Members of an object that one line says."""
_HEADING = re.compile(r"#{1,6}[ \t]++(\S.*)")
_ORIGIN = re.compile(r"(?<!\s)\s*+〔[^〔〕]{1,400}〕$")
_OWN_ENDS = (*PHRASES["open"], *PHRASES["appendix"])


@dataclass(frozen=True)
class Piece:
    """A fact of one line, or a table or section of several.

    `place` is its keys or its heading, `name` the last of its keys or that heading.
    """

    source: str
    place: str
    name: str
    lines: tuple[str, ...]
    fact: bool = False


def data_pieces(text: str, source: str) -> list[Piece]:
    """A JSON text's facts, and tables of lists of objects; numbers stay as they are written."""
    value = parse_json(text, parse_int=str, parse_float=str, parse_constant=str)
    return list(islice(_of_value(value, source, ""), _MOST_PIECES))


def document_pieces(document: Document) -> list[Piece]:
    """A document's sections, rows or data in order."""
    if "json" in document.media_type:
        return data_pieces(document.body, document.name)
    if document.media_type in TABULAR:
        table = table_lines(csv_rows(document.body))
        return [Piece(document.name, "", "", tuple(table))] if table else []
    return list(islice(_of_markdown(document.body, document.name), _MOST_PIECES))


def _of_value(value: Any, source: str, place: str) -> Iterator[Piece]:
    name = place.rpartition(".")[2]
    if rows := _rows_in(value, name):
        table = table_lines(rows)
        yield from [Piece(source, place, name, tuple(table))] if table else []
    elif isinstance(value, dict) and place.count(".") < _DEPTH and not (place and _is_flat(value)):
        for key, item in value.items():
            yield from _of_value(item, source, (f"{place}.{key}" if place else key)[-_PLACE_CHARS:])
    elif (text := cell_text(value, _FACT_CHARS)).strip("; "):
        yield Piece(source, place, name, (f"- `{place}`: {text}" if place else f"- {text}",), fact=True)


def _is_flat(value: Row) -> bool:
    return len(value) <= _FLAT and not any(isinstance(item, dict | list) for item in value.values())


def _rows_in(value: Any, name: str) -> list[Row]:
    """The rows of a list of objects, or of an object of flat objects, whose keys then are a column."""
    if not isinstance(value, dict):
        return value if is_rows(value) else []
    flat = len(value) > 1 and all(isinstance(item, dict) and _is_flat(item) for item in value.values())
    return [{name: key, **item} for key, item in value.items()] if name and flat else []


def _of_markdown(text: str, source: str) -> Iterator[Piece]:
    place, body = "", list[str]()
    own = NOTE_MARK in text
    for line in (*without_fences(text[:READ_CHARS]).splitlines(), "# end"):
        if not (heading := _HEADING.fullmatch(line.strip())):
            # What the offline model said itself is no material: its note, and where something stood.
            dropped = line.lstrip().startswith(("```", "~~~")) or (
                own and line[:1] == ">" and NOTE_MARK in line
            )
            line = _ORIGIN.sub("", line.rstrip()) if own else line.rstrip()
            if not dropped and (line or (body and body[-1])):
                body.append(line if len(line) <= _LINE_CHARS else line[: _LINE_CHARS - 1] + "…")
            continue
        while body and not body[-1]:
            body.pop()
        if body:
            yield Piece(source, place, place, tuple(body))
        place, body = shorten(plain(heading[1].rstrip(" \t#")), _PLACE_CHARS), []
        if own and place in _OWN_ENDS:
            return


def cell_text(value: Any, limit: int) -> str:
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


def table_lines(rows: Sequence[Row]) -> list[str]:
    """A Markdown table of the first rows and of the columns that hold most."""
    shown = [{str(name): cell_text(cell, _CELL_CHARS) for name, cell in row.items()} for row in rows[:_ROWS]]
    filled = Counter(name for row in shown for name, cell in row.items() if cell)
    fullest = {name for name, _ in filled.most_common(_COLUMNS)}
    columns = list(dict.fromkeys(name for row in shown for name in row if name in fullest))
    cells = [columns, ["---"] * len(columns), *([row.get(name, "") for name in columns] for row in shown)]
    cells += [["…"] * len(columns)] if len(rows) > _ROWS else []
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in cells]
    return lines if columns else []
