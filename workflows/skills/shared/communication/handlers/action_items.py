"""What somebody has to do, by when."""

import re
from pathlib import Path
from typing import Any

# \uff0c \uff1a \uff1b \uff09 are the full-width comma, colon, semicolon and bracket of Chinese text.
_TASK = re.compile(r"\s*+(?:(?:[-*+]|\d++[.、)\uff09])\s*+)?\[([ xX])\]\s*(.+)")
_MARKED = re.compile(
    r"\s*+(?:(?:[-*+]|\d++[.、)\uff09])\s*+)?"
    r"\**+(待办|行动项|下一步|TODO|Action(?: item)?|跟进)\**+\s*+[:\uff1a]\s*(.+)",
    re.IGNORECASE,
)
_BULLET = re.compile(r"\s*+(?:[-*+]|\d++[.、)\uff09])\s+(.+)")
_OWNER = re.compile(
    r"@([\w·-]+)|(?:由|负责人[:\uff1a]\s*|owner[:\uff1a]\s*)([\w·-]{1,20}?)(?=负责|完成|跟进|提供|确认|[,\uff0c。;\uff1b)\uff09\s]|$)",
    re.IGNORECASE,
)
_DUE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}\s*月\s*\d{1,2}\s*日|(?:本|下)?周[一二三四五六日天末]"
    r"|(?<!\d)\d++\s*+(?:个)?(?:工作日|小时|天|周)(?:之?内)|(?:月|季度|年)底|today|tomorrow|by \w+day",
    re.IGNORECASE,
)
_SECTION = re.compile(r"#{1,6}\s++.*(待办|行动|下一步|next steps|action items|to-?do)", re.IGNORECASE)


def action_items(document: Path) -> dict[str, Any]:
    """Collect the action items of a document with owner, due date and line, and say what is missing.

    Finds check boxes, lines such as 「待办:」 or `TODO:`, and bullets below a heading on next steps.

    Args:
        document: Markdown or text document: minutes, a report, a review.
    """
    items, inside = [], False
    for number, line in enumerate(document.read_text(encoding="utf-8-sig").splitlines(), 1):
        if line.startswith("#"):
            inside = bool(_SECTION.match(line))
            continue
        text, done = _task(line, inside)
        if text:
            items.append(_item(text, done, number))
    waiting = [item for item in items if not item["done"]]
    return {
        "items": items,
        "open": len(waiting),
        "done": len(items) - len(waiting),
        "without_owner": [item["line"] for item in waiting if not item["owner"]],
        "without_due_date": [item["line"] for item in waiting if not item["due"]],
    }


def _task(line: str, inside: bool) -> tuple[str, bool]:
    if box := _TASK.fullmatch(line):
        return box[2].strip(), box[1] != " "
    if marked := _MARKED.fullmatch(line):
        return marked[2].strip(), False
    bullet = _BULLET.fullmatch(line) if inside else None
    return (bullet[1].strip(), False) if bullet else ("", False)


def _item(text: str, done: bool, line: int) -> dict[str, Any]:
    owner, due = _OWNER.search(text), _DUE.search(text)
    return {
        "text": text,
        "owner": next(filter(None, owner.groups())) if owner else "",
        "due": due[0] if due else "",
        "done": done,
        "line": line,
    }
