"""Who said what: reading statements by speaker from a document, and telling like statements."""

import csv
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_HEADING = re.compile(r"#{1,6}\s+(.+?)\s*#*\s*")
_BULLET = re.compile(r"\s*(?:[-*+]|\d+[.、)\uff09])\s+(?:\[[ xX]\]\s*)?(.+)")
_SPOKEN = re.compile(r"\*{0,2}([\w·/ -]{1,30}?)\*{0,2}\s*[:\uff1a]\s*(\S.+)")
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
        found = _from_rows([dict(row) for row in csv.DictReader(io.StringIO(text))])
    elif path.suffix == ".json":
        found = _from_json(json.loads(text))
    else:
        found = _from_markdown(text)
    if not found:
        raise ValueError(
            "no statement found; write '## name' with bullets below it, or rows with who and text"
        )
    return found


def likeness(one: str, other: str) -> float:
    """How alike two statements are, 0 to 1: shared character pairs against the shorter one's."""
    a, b = _pairs(one), _pairs(other)
    return len(a & b) / min(len(a), len(b)) if a and b else 0.0


def _pairs(text: str) -> set[str]:
    plain = re.sub(r"[\W_]+", "", text.lower())
    return {plain[i : i + 2] for i in range(len(plain) - 1)}


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
    headed = any(_HEADING.fullmatch(line) for line in text.splitlines())
    for line in text.splitlines():
        title = _HEADING.fullmatch(line)
        bullet = _BULLET.fullmatch(line)
        spoken = _SPOKEN.fullmatch(bullet[1] if bullet else line.strip())
        if title:
            who = title[1]
        elif not headed and spoken:
            found.append(Statement(spoken[1].strip(), spoken[2].strip()))
        elif headed and who and line.strip() and not line.lstrip().startswith(("|", "```", ">")):
            found.append(Statement(who, bullet[1].strip() if bullet else line.strip()))
    return found
