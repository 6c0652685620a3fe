"""Values that steps read: refs loaded on demand, plain values as they are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from blocks.storage.artifacts import ArtifactStore
from workflows.core.errors import PhaselineError
from workflows.core.expressions.templates import Expression, Template, lone_expression
from workflows.core.refs import Ref, canonical_json, digest
from workflows.core.text.csv_table import UnreadableTable, read_csv


class UnreadableValue(PhaselineError):
    """A stored value is not what its type says."""

    final = True


@dataclass(frozen=True, slots=True)
class DocumentFile:
    """A document for a parameter annotated `Path`: it is written to a file with a fitting suffix."""

    name: str
    body: bytes
    media_type: str = "text/markdown"


@dataclass(frozen=True)
class Value:
    """A named value: a ref to a body, or plain JSON (None for a skipped producer)."""

    name: str
    ref: Ref | None = None
    plain: Any = None
    variable: str = ""
    """The variable whose value it stands for, of a secret; `plain` is then `[secret NAME]`."""

    @property
    def sha256(self) -> str:
        """What a content key sees of it."""
        return self.ref.sha256 if self.ref else digest(self.plain)

    async def body(self, store: ArtifactStore) -> bytes:
        """The bytes: those of the ref, or the plain value as JSON or text."""
        if self.ref is not None:
            return await store.get(self.ref)
        text = self.plain if isinstance(self.plain, str) else canonical_json(self.plain)
        return text.encode("utf-8", "replace")

    @property
    def media_type(self) -> str:
        """Of the body."""
        if self.ref is not None:
            return self.ref.media_type
        return "text/plain" if isinstance(self.plain, str) else "application/json"

    async def data(self, store: ArtifactStore) -> Any:
        """As expressions see it: rows of a table, a JSON value, a text."""
        if self.ref is None:
            return self.plain
        return parse_body(await store.get(self.ref), self.ref.media_type, self.name)

    async def document(self, store: ArtifactStore) -> DocumentFile:
        """As a handler gets it."""
        return DocumentFile(self.name, await self.body(store), self.media_type)


def parse_body(body: bytes, media_type: str, name: str) -> Any:
    """A body's data: CSV as a list of rows (texts by column), JSON as its value, anything else as text.

    Raises UnreadableValue for what is not what its type says.
    """
    text = body.decode("utf-8-sig", "replace")
    if media_type == "text/csv":
        try:
            return list(read_csv(text).rows)
        except UnreadableTable as fault:
            raise UnreadableValue(f"'{name}' is no table: line {fault.line}: {fault}", fault.cure) from None
    if media_type == "application/json":
        try:
            return json.loads(text)
        except json.JSONDecodeError as fault:
            raise UnreadableValue(
                f"'{name}' is no JSON: {fault.msg} (line {fault.lineno})", "mend the file"
            ) from None
        except (ValueError, RecursionError):  # a number of thousands of digits, a thousand levels
            message = f"'{name}' is no JSON that can be read: nested too deeply, or a number too long"
            raise UnreadableValue(message, "mend the file") from None
    return text


async def load_scope(
    names: Iterable[str], values: Mapping[str, Value], store: ArtifactStore
) -> dict[str, Any]:
    """Data by name, only of the names asked for."""
    return {name: await values[name].data(store) for name in names if name in values}


async def evaluate(
    source: str, values: Mapping[str, Value], store: ArtifactStore, extra: Mapping[str, Any]
) -> Any:
    """An expression's value."""
    parsed = Expression.parse(source)
    return parsed.evaluate({**await load_scope(parsed.names, values, store), **extra})


async def render(
    source: str, values: Mapping[str, Value], store: ArtifactStore, extra: Mapping[str, Any]
) -> str:
    """A template's text."""
    parsed = Template.parse(source)
    return parsed.render({**await load_scope(parsed.names, values, store), **extra})


async def fill_argument(
    written: Any, values: Mapping[str, Value], store: ArtifactStore, extra: Mapping[str, Any]
) -> Any:
    """An argument with its templates filled in; `{{ x }}` alone gives x itself."""
    if isinstance(written, str):
        inner = lone_expression(written)
        if inner is not None:
            return await evaluate(inner, values, store, extra)
        return await render(written, values, store, extra)
    if isinstance(written, Mapping):
        return {k: await fill_argument(v, values, store, extra) for k, v in written.items()}
    if isinstance(written, (list, tuple)):
        return [await fill_argument(v, values, store, extra) for v in written]
    return written


def json_body(value: Any) -> bytes:
    """A JSON value as the body of an artifact: readable, keys in their own order."""
    canonical_json(value)  # raises TypeError or ValueError on what is not JSON
    return (json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n").encode(
        "utf-8", "replace"
    )
