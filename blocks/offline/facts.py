"""Facts among the material: what is written as key and value, and the passages worth quoting."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from blocks.offline.material import Material
from blocks.offline.tables import json_value

_FACT = re.compile(r"(?:[-*+]\s++)?[\"'`]?([\w一-鿿 .-]{1,40}?)[\"'`]?\s{0,20}[:：]\s*+(\S.*)")


def facts_of(material: Material) -> dict[str, Any]:
    """What is written as key and value, by the key's letters; the instruction's word comes first."""
    facts: dict[str, Any] = {}
    for key, value in _told(material.instruction):
        facts.setdefault(fact_key(key), value)
    for _, text, is_error in material.results:
        if not is_error and text.startswith("{"):
            for key, value in _json_facts(text):
                facts.setdefault(fact_key(key), value)
    for document in material.documents:
        value = json_value(document)
        for key, item in _walk(value) if value is not None else _told(document.prose):
            facts.setdefault(fact_key(key), item)
    facts.pop("", None)
    return facts


def _told(text: str) -> Iterator[tuple[str, str]]:
    """Keys and values of the lines that say `key: value`."""
    found = (_FACT.fullmatch(line.strip()) for line in text.splitlines())
    yield from ((fact[1], fact[2]) for fact in found if fact)


def _json_facts(text: str) -> Iterator[tuple[str, Any]]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return
    yield from _walk(value)


def _walk(value: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and depth < 4:
        yield from value.items()
        for item in value.values():
            yield from _walk(item, depth + 1)


def passages_of(material: Material) -> list[str]:
    """Key passages of each document in turn; the instruction's lines when there are none."""
    per_document = [document.key_points(12) for document in material.documents]
    longest = max((len(points) for points in per_document), default=0)
    mixed = [points[n] for n in range(longest) for points in per_document if n < len(points)]
    return mixed or [line.strip() for line in material.instruction.splitlines() if line.strip()]


def fact_key(name: str) -> str:
    """A name as facts are compared by: its letters and digits, without case."""
    return re.sub(r"[^a-z0-9一-鿿]", "", name.casefold())
