"""Texts cut to a length, so that it can be seen: who masks secrets looks for half of one beside the mark."""

from __future__ import annotations

MARK = "..."


def cut(text: str, most: int) -> str:
    """The text, or its beginning and a mark: `most` characters in all."""
    return text if len(text) <= most else f"{text[: max(0, most - len(MARK))]}{MARK}"


def cut_before(text: str, most: int) -> str:
    """The text, or a mark and its end: `most` characters in all."""
    return text if len(text) <= most else f"{MARK}{text[len(text) - max(0, most - len(MARK)) :]}"
