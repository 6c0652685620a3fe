"""The data in what a model says: JSON among prose, tables. Each is found in one pass.

Answers may be long and made to be slow to read: a bracket on every word, a line of blanks. So
nothing here looks at a character more than a few times, whatever the text is.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import re
from typing import Any

from workflows.core.text.cut_text import cut
from workflows.core.text.markdown_tables import is_rule, row_cells

_STRING = re.compile(r'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+"')
_PLAIN = re.compile(r"-?(?:0|[1-9][0-9]{0,4000})(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![0-9])|true|false|null")
_BLANKS = re.compile(r"[ \t\n\r]*")
_WHOLE = re.compile(r"-?(0|[1-9]\d{0,14})")
_REAL = re.compile(r"-?(0|[1-9]\d{0,14})\.\d{1,15}")
_MOST_CELLS = 500_000
_CLOSERS = {"[": "]", "{": "}"}


class NoNumber(ValueError):
    """A number in JSON that no reader could keep."""


class TooDeep(ValueError):
    """JSON that is nested beyond what can be read."""


def load_json(text: str) -> Any:
    """The value of a JSON text. Raises ValueError; NoNumber and TooDeep end the search for others."""
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_number)
    except RecursionError:
        raise TooDeep from None


def embedded_json(text: str) -> Any:
    """The first object or list that stands whole in the prose and holds something; None when none does."""
    found = _Brackets(text)
    decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_number)
    for match in re.finditer(r"[\[{]", text):
        end = found.end_of(match.start())
        # [text](link) is Markdown, not a list.
        if end is None or text[end : end + 1] == "(" or found.is_empty(match.start()):
            continue
        try:
            return decoder.raw_decode(text, match.start())[0]
        except RecursionError:
            raise TooDeep from None
    return None


def markdown_rows(text: str) -> list[dict[str, Any]] | None:
    """The rows of the first Markdown table; None when there is no table."""
    lines = text.splitlines()
    for number, line in enumerate(lines[1:], start=1):
        if "|" not in lines[number - 1] or not is_rule(line):
            continue
        head = row_cells(lines[number - 1])
        body = itertools.takewhile(lambda row: "|" in row, lines[number + 1 :])
        return [dict(zip(head, map(cell_value, row_cells(row)), strict=False)) for row in body]
    return None


class _Brackets:
    """Where the lists and objects of a text end.

    Reading one from its bracket tells of all inside of it too, so that each is read once: how a bracket that
    stands in no text goes on does not depend on what stands before it.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._ends: dict[int, int | None] = {}

    def end_of(self, start: int) -> int | None:
        """The place behind the list or object that begins at `start`; None when it is none."""
        if start not in self._ends:
            self._scan_from(start)
        return self._ends[start]

    def _scan_from(self, start: int) -> None:
        text, ends = self._text, self._ends
        open_, at, after_value = [start], start + 1, False
        while open_:
            opener, at = text[open_[-1]], self._skip(at)
            closes = text[at : at + 1] == _CLOSERS[opener]
            if closes:
                ends[open_.pop()] = at + 1
                at, after_value = at + 1, True
                continue
            if after_value:
                if text[at : at + 1] != ",":
                    break
                at = self._skip(at + 1)
            value = at if opener == "[" else self._behind_key(at)
            if value is None:
                break
            if text[value : value + 1] not in ("[", "{"):
                behind = _STRING.match(text, value) or _PLAIN.match(text, value)
                end = behind.end() if behind else None
            elif value not in ends:
                open_.append(value)
                at, after_value = value + 1, False
                continue
            else:
                end = ends[value]
            if end is None:
                break
            at, after_value = end, True
        ends.update(dict.fromkeys(open_))

    def _skip(self, at: int) -> int:
        blanks = _BLANKS.match(self._text, at)
        return blanks.end() if blanks else at

    def _behind_key(self, at: int) -> int | None:
        """Where the value of an object's key begins."""
        key = _STRING.match(self._text, at)
        colon = self._skip(key.end()) if key else -1
        return self._skip(colon + 1) if self._text[colon : colon + 1] == ":" and key else None

    def is_empty(self, start: int) -> bool:
        return self._text[self._skip(start + 1)] == _CLOSERS[self._text[start]]


def csv_rows(text: str) -> list[dict[str, Any]] | None:
    """The rows of a CSV; cells without a column are under `...`. None when it is none that can be read."""
    reader = csv.DictReader(io.StringIO(text.strip()), restkey="...", restval="")
    rows, cells = [], 0
    try:
        for row in reader:
            # Short rows are filled up: a wide head makes a long list of them very large.
            cells += len(reader.fieldnames or ()) + len(row)
            if cells > _MOST_CELLS:
                return None
            rows.append({str(key): cell_value(value) for key, value in row.items()})
    except csv.Error:
        return None
    return rows


def looks_like_csv(text: str) -> bool:
    """Whether every line has as many commas as the others, and more than none."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    counts = {line.count(",") for line in lines}
    return len(lines) > 1 and len(counts) == 1 and counts != {0}


def cell_value(value: Any) -> Any:
    """A table's text as the number it spells, else as text; `007` and `1e5` stay text."""
    text = str(value).strip()
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _REAL.fullmatch(text) else text


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise NoNumber(f"the number {cut(text, 40)} is beyond the range of a JSON number; write it as a text")
    return number
