"""What kind of file this is and whether it is whole."""

import csv
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any


def inspect_document(document: Path) -> dict[str, Any]:
    """Inspect a document: type, size, digest, lines, words, structure, and what looks damaged.

    Args:
        document: Any text document of the step: Markdown, text, CSV or JSON.
    """
    body = document.read_bytes()
    text = body.decode("utf-8-sig", errors="replace")
    return {
        "type": document.suffix.lstrip(".") or "text",
        "bytes": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
        "lines": len(text.splitlines()),
        "chinese_characters": len(re.findall(r"[㐀-鿿]", text)),
        "latin_words": len(re.findall(r"[A-Za-z][A-Za-z'-]*", text)),
        "structure": _structure(document.suffix, text),
        "problems": _problems(document.suffix, body, text),
    }


def _structure(suffix: str, text: str) -> dict[str, Any]:
    if suffix == ".csv":
        try:
            rows = list(csv.reader(io.StringIO(text)))
        except csv.Error:
            return {}
        return {"columns": rows[0] if rows else [], "rows": max(0, len(rows) - 1)}
    if suffix == ".json":
        try:
            value = json.loads(text)
        except ValueError:
            return {}
        keys = list(value)[:50] if isinstance(value, dict) else None
        return {
            "holds": type(value).__name__,
            "entries": len(value) if isinstance(value, (list, dict)) else 1,
        } | ({"keys": keys} if keys else {})
    return {
        "headings": len(re.findall(r"(?m)^#{1,6}\s", text)),
        "tables": len(re.findall(r"(?m)^\|?[ \t]*+:?-{2,}+:?[ \t]*+\|", text)),
        "links": _links(text),
        "code_blocks": len(re.findall(r"(?m)^```", text)) // 2,
    }


def _links(text: str) -> int:
    """How often `](address)` stands there."""
    count, start = 0, text.find("](")
    while start >= 0 and (end := text.find(")", start)) >= 0:
        count += end > start + 2
        start = text.find("](", end)
    return count


def _problems(suffix: str, body: bytes, text: str) -> list[str]:
    found = []
    if not text.strip():
        found.append("the document is empty")
    if "�" in text:
        found.append("not UTF-8: some characters could not be read (often GBK from a spreadsheet)")
    if b"\x00" in body:
        found.append("holds NUL bytes: probably not a text file")
    if text.count("```") % 2:
        found.append("a code block is never closed")
    if suffix == ".json":
        try:
            json.loads(text)
        except ValueError as error:
            found.append(f"not valid JSON: {error}")
    if suffix == ".csv":
        try:
            rows = [row for row in csv.reader(io.StringIO(text)) if row]
        except csv.Error as error:
            return [*found, f"not valid CSV: {error}"]
        odd = [n for n, row in enumerate(rows, 1) if len(row) != len(rows[0])]
        if odd:
            found.append(
                f"{len(odd)} rows have another number of cells than the header, first: line {odd[0]}"
            )
    return found
