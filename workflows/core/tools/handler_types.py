"""Annotations of a handler's parameters, as JSON Schema, read from the syntax tree."""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace
from typing import Any

from workflows.core.text.cut_text import cut

DOCUMENT = "Takes the name of an input document."
"""What is added to the description of a parameter annotated `Path`."""

_SIMPLE: dict[str, dict[str, Any]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "list": {"type": "array"},
    "dict": {"type": "object"},
    "typing.List": {"type": "array"},
    "typing.Dict": {"type": "object"},
    "typing.Any": {},
}
_LISTS = frozenset(("list", "typing.List"))
_DICTS = frozenset(("dict", "typing.Dict"))
_KNOWN = "str, int, float, bool, list[...], dict[str, ...], Literal[...], Path, X | None, Annotated[X, '...']"
_DEPTH = 30
_NODES = 2_000


class SignatureError(ValueError):
    """A function cannot be a tool. `line` counts from 1 in its file."""

    def __init__(self, message: str, cure: str, line: int) -> None:
        super().__init__(f"line {line}: {message}; {cure}")
        self.message, self.cure, self.line = message, cure, line


@dataclass(frozen=True)
class Type:
    """What an annotation says."""

    schema: dict[str, Any]
    description: str = ""
    document: bool = False
    nullable: bool = False


def spell_annotation(node: ast.expr) -> str:
    """The annotation as it is written, shortened."""
    try:
        return cut(ast.unparse(node), 120)
    except RecursionError:
        return "..."


class Reader:
    """Reads annotations of one module: knows its imports and its aliases of types."""

    def __init__(self, tree: ast.Module) -> None:
        self._imports: dict[str, str] = {}
        self._aliases: dict[str, ast.expr] = {}
        self._left = _NODES  # aliases of aliases could otherwise multiply without end
        for node in tree.body:
            self._note_names(node)

    def read(self, node: ast.expr) -> Type:
        """The type an annotation means. Raises SignatureError for one that has no JSON."""
        return self._read(node, 0)

    def _note_names(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Import):
            for name in node.names:
                self._imports[name.asname or name.name] = name.name
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for name in node.names:
                self._imports[name.asname or name.name] = f"{node.module}.{name.name}"
        elif (
            isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)
        ):
            self._aliases[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            self._aliases[node.target.id] = node.value

    def _read(self, node: ast.expr, depth: int) -> Type:
        self._left -= 1
        if depth > _DEPTH or self._left < 0:
            raise self._unknown(node)
        if isinstance(node, ast.Constant):
            return self._read_constant(node, depth)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return self._read_union([node.left, node.right], node, depth)
        if isinstance(node, ast.Subscript):
            return self._read_subscript(node, depth)
        name = self._full_name(node)
        if name == "pathlib.Path":
            return Type({"type": "string"}, document=True)
        if name in _SIMPLE:
            return Type(dict(_SIMPLE[name]), nullable=name == "typing.Any")
        if isinstance(node, ast.Name) and node.id in self._aliases:
            return self._read(self._aliases[node.id], depth + 1)
        raise self._unknown(node)

    def _read_constant(self, node: ast.Constant, depth: int) -> Type:
        if node.value is None:
            return Type({"type": "null"}, nullable=True)
        if isinstance(node.value, str):  # a quoted annotation
            try:
                quoted = ast.parse(node.value, mode="eval").body
            except SyntaxError:
                raise self._unknown(node) from None
            return self._read(ast.copy_location(quoted, node), depth + 1)
        raise self._unknown(node)

    def _read_subscript(self, node: ast.Subscript, depth: int) -> Type:
        name = self._full_name(node.value)
        parts = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
        if name == "typing.Literal":
            return self._read_literal(parts, node)
        if name == "typing.Annotated":
            return self._read_annotated(parts, depth)
        if name in ("typing.Optional", "typing.Union"):
            none: list[ast.expr] = [ast.copy_location(ast.Constant(None), node)]
            return self._read_union(parts + (none if name == "typing.Optional" else []), node, depth)
        if name in _LISTS and len(parts) == 1:
            item = self._read(parts[0], depth + 1)
            return Type({"type": "array", "items": item.schema}, item.description, item.document)
        if name in _DICTS and len(parts) == 2 and self._full_name(parts[0]) == "str":
            return Type({"type": "object", "additionalProperties": self._read_data(parts[1], depth).schema})
        raise self._unknown(node)

    def _read_literal(self, parts: list[ast.expr], node: ast.expr) -> Type:
        values = [part.value for part in parts if isinstance(part, ast.Constant)]
        allowed = all(value is None or type(value) in (str, int, bool) for value in values)
        if len(values) != len(parts) or not allowed:
            raise self._unknown(node)
        kinds = {str: "string", int: "integer", bool: "boolean", type(None): "null"}
        types = {kinds[type(value)] for value in values}
        made: dict[str, Any] = {"type": types.pop()} if len(types) == 1 else {}
        return Type({**made, "enum": values}, nullable=None in values)

    def _read_annotated(self, parts: list[ast.expr], depth: int) -> Type:
        made = self._read(parts[0], depth + 1)
        texts = [p.value for p in parts[1:] if isinstance(p, ast.Constant) and isinstance(p.value, str)]
        return replace(made, description=texts[0]) if texts else made

    def _read_union(self, parts: list[ast.expr], node: ast.expr, depth: int) -> Type:
        options = [self._read(part, depth + 1) for part in parts]
        schemas: list[dict[str, Any]] = []
        for option in options:
            for schema in option.schema.get("anyOf", [option.schema]):
                if schema not in schemas:
                    schemas.append(schema)
        document = any(option.document for option in options)
        if document and any(not o.document and o.schema != {"type": "null"} for o in options):
            cure = "give the document a parameter of its own"
            raise SignatureError(f"'{spell_annotation(node)}' mixes Path with other types", cure, node.lineno)
        schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        if {} in schemas:
            schema = {}  # Any among them takes everything
        return Type(schema, document=document, nullable=any(o.nullable for o in options))

    def _read_data(self, node: ast.expr, depth: int) -> Type:
        made = self._read(node, depth + 1)
        if made.document:
            cure = "use Path, Path | None or list[Path]"
            raise SignatureError("documents cannot be values of a dict", cure, node.lineno)
        return made

    def _full_name(self, node: ast.expr) -> str:
        """The full name behind `Path`, `pathlib.Path`, `t.Literal`; empty when it is no name."""
        if isinstance(node, ast.Name):
            return self._imports.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            base = self._full_name(node.value)
            return f"{base}.{node.attr}" if base else ""
        return ""

    def _unknown(self, node: ast.expr) -> SignatureError:
        shown = spell_annotation(node)
        name = self._full_name(node.value if isinstance(node, ast.Subscript) else node)
        if name in ("Path", "Literal", "Optional", "Union", "Any", "Annotated"):
            return SignatureError(f"'{shown}' is not imported", f"import {name} in this file", node.lineno)
        return SignatureError(f"a tool cannot take '{shown}'", f"use {_KNOWN}", node.lineno)
