"""Who said what: reading statements by speaker from a document, and telling like statements."""

import csv
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BULLET = re.compile(r"\s*+(?:[-*+]|\d++[.、)\uff09])\s++(?:\[[ xX]\]\s*)?(.+)")
_SPOKEN = re.compile(r"\*{0,2}([\w·/ -]{1,30}?)\*{0,2}\s*[:\uff1a]\s*(\S.+)")
LONGEST = 500
"""Characters of a statement that are compared."""
MOST_CELLS = 1_000_000
"""Cells of a table, those counted that short rows leave empty."""
_WHO = ("who", "speaker", "author", "reviewer", "agent", "from", "channel", "user_segment")
_WHAT = ("text", "comment", "feedback", "statement", "content", "message")


@dataclass(frozen=True)
class Statement:
    """One thing one voice said."""

    who: str
    text: str


def read_statements(path: Path) -> list[Statement]:
    """The statements of a document: CSV rows, JSON (`{who: [texts]}` or rows), Markdown by heading.

    In Markdown a heading names the voice and each bullet or paragraph is a statement; without headings,
    lines such as `name: text` count. Raises ValueError when there is none.
    """
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".csv":
        found = _from_rows(_csv_rows(text))
    elif path.suffix == ".json":
        found = _from_json(json.loads(text))
    else:
        found = _from_markdown(text)
    if not found:
        raise ValueError(
            "no statement found; write '## name' with bullets below it, or rows with who and text"
        )
    return found


def likeness(a: frozenset[str], b: frozenset[str]) -> float:
    """How alike two statements are by their `pairs`, 0 to 1: those shared against the shorter one's."""
    return len(a & b) / min(len(a), len(b)) if a and b else 0.0


def pairs(text: str) -> frozenset[str]:
    """The pairs of neighbouring letters in the first characters of a text."""
    plain = re.sub(r"[\W_]+", "", text[:LONGEST].lower())
    return frozenset(plain[i : i + 2] for i in range(len(plain) - 1))


def _from_rows(rows: list[dict[str, Any]]) -> list[Statement]:
    if not rows:
        return []
    who = next((name for name in _WHO if name in rows[0]), "")
    what = next((name for name in _WHAT if name in rows[0]), "")
    if not what:
        raise ValueError(f"no column of statements; name one of the columns: {', '.join(_WHAT)}")
    return [
        Statement(str(row.get(who) or "(unnamed)"), str(row[what]).strip())
        for row in rows
        if str(row.get(what) or "").strip()
    ]


def _from_json(value: Any) -> list[Statement]:
    if isinstance(value, list):
        return _from_rows([entry for entry in value if isinstance(entry, dict)])
    found = []
    for who, said in value.items() if isinstance(value, dict) else ():
        texts = said if isinstance(said, list) else [said]
        found += [Statement(str(who), str(text).strip()) for text in texts if str(text).strip()]
    return found


def _from_markdown(text: str) -> list[Statement]:
    found, who = [], ""
    headed = any(_heading(line) for line in text.splitlines())
    for line in text.splitlines():
        title = _heading(line)
        bullet = _BULLET.fullmatch(line)
        spoken = _SPOKEN.fullmatch(bullet[1] if bullet else line.strip())
        if title:
            who = title[1]
        elif not headed and spoken:
            found.append(Statement(spoken[1].strip(), spoken[2].strip()))
        elif headed and who and line.strip() and not line.lstrip().startswith(("|", "```", ">")):
            found.append(Statement(who, bullet[1].strip() if bullet else line.strip()))
    return found


def _heading(line: str) -> tuple[int, str] | None:
    """Level and title of a Markdown heading."""
    level = len(line) - len(line.lstrip("#"))
    title = line[level:].strip()
    if not 1 <= level <= 6 or not title or not line[level].isspace():
        return None
    return level, title.rstrip("#").rstrip() or "#"


def _csv_rows(text: str) -> list[dict[str, str]]:
    """The rows of a CSV text. Raises ValueError for one that is none, or too wide and long."""
    rows, cells = [], 0
    try:
        for row in csv.DictReader(io.StringIO(text)):
            cells += len(row)  # those counted that a short row leaves empty
            if cells > MOST_CELLS:
                raise ValueError(f"the table has more than {MOST_CELLS:,} cells; give a part of it")
            rows.append(row)
    except csv.Error as fault:
        raise ValueError(f"this CSV cannot be read: {fault}") from None
    return rows
