"""A long document in parts that can be read one by one."""

import re
from pathlib import Path
from typing import Any

from _outline import read_sections

_BREAK = re.compile(r"(?<=[。!?\uff01\uff1f\n])")


def split_document(document: Path, max_chars: int = 4000, part: int = 0) -> dict[str, Any]:
    """Split a Markdown or text document at its headings, then at paragraphs and sentences.

    Joining the texts of all parts gives the document's content in order. With `part` 0 only a list of the
    parts is returned; ask for one part by its number to read it.

    Args:
        document: Markdown or text document.
        max_chars: Most characters in one part, 200 to 20000.
        part: Number of the part to read, from 1; 0 lists all parts without their text.
    """
    limit = max(200, min(max_chars, 20_000))
    parts: list[tuple[str, str]] = []
    for section in read_sections(document.read_text(encoding="utf-8-sig")):
        head = f"{'#' * section.level} {section.title}\n" if section.level else ""
        for piece in _pieces(head + section.body + "\n", limit):
            if parts and len(parts[-1][1]) + len(piece) <= limit:
                parts[-1] = (parts[-1][0], parts[-1][1] + piece)
            else:
                parts.append((" / ".join(section.path), piece))
    if part > len(parts):
        raise ValueError(f"there are {len(parts)} parts; part {part} does not exist")
    listed = [
        {"part": number, "starts_in": place, "characters": len(text), "begins": text.strip()[:60]}
        for number, (place, text) in enumerate(parts, 1)
    ]
    if part < 1:
        return {"parts": len(parts), "list": listed}
    return {"parts": len(parts), **listed[part - 1], "text": parts[part - 1][1]}


def _pieces(text: str, limit: int) -> list[str]:
    """The text in order in pieces of at most `limit`, cut after a sentence where there is one."""
    pieces = [""]
    for sentence in _BREAK.split(text):
        for start in range(0, len(sentence), limit):
            bit = sentence[start : start + limit]
            if len(pieces[-1]) + len(bit) <= limit:
                pieces[-1] += bit
            else:
                pieces.append(bit)
    return [piece for piece in pieces if piece]
