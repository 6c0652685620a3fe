"""Handlers: what a skill's Python function offers as a tool, read from its text.

The file is parsed, never imported: checking a catalog must not run what people put into it. A handler is a
module with a function of the module's own name; its annotations become the JSON Schema of the tool, its
docstring the description, the entries of `Args:` the descriptions of the parameters.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from workflows.core.errors import did_you_mean
from workflows.core.tools.handler_types import DOCUMENT, Reader, SignatureError, Type, spell_annotation

SOURCE_BYTES = 512 * 1024

_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_ARGS = re.compile(r"^[ \t]*(?:Args|Arguments|Parameters):[ \t]*$", re.MULTILINE)
_SECTION = re.compile(r"^[A-Z][A-Za-z ]{2,20}:[ \t]*$")
_ENTRY = re.compile(r"^\*{0,2}([^\W\d]\w*)\s*+(?:\([^()]*\)\s*+)?:\s*(.*)$")

__all__ = ["HandlerSpec", "SignatureError", "inspect_handler", "tool_name", "with_documents"]


@dataclass(frozen=True)
class HandlerSpec:
    """A handler as it can be offered to an agent."""

    name: str
    description: str
    input_schema: dict[str, Any]
    documents: tuple[str, ...]
    """Parameters annotated `Path`, `Path | None` or `list[Path]`: they take names of documents."""
    defaults: dict[str, Any] = field(default_factory=dict)
    """Defaults that are plain data; a computed one is left to the function."""
    is_async: bool = False
    line: int = 1


def inspect_handler(source: str, name: str) -> HandlerSpec:
    """Read the function `name` of a module's text.

    Raises SignatureError (a ValueError) with the line and the cure: not Python, no such function, a missing
    or unknown annotation, `*args`, `**kwargs`, an entry of `Args:` that is no parameter.
    """
    tree = _parse(source)
    function = _find_function(tree, name)
    reader = Reader(tree)
    description, entries = _docstring(function, name)
    properties: dict[str, Any] = {}
    required, documents = [], []
    defaults: dict[str, Any] = {}
    for argument, default in _parameters(function):
        kind = _parameter_type(reader, argument, default)
        properties[argument.arg] = _property(kind, entries.get(argument.arg, ""))
        if kind.document:
            documents.append(argument.arg)
        if default is None:
            required.append(argument.arg)
        else:
            _add_default(properties[argument.arg], defaults, argument.arg, default)
    _check_entries(entries, properties, function)
    schema = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
    return HandlerSpec(
        name,
        description,
        schema,
        tuple(documents),
        defaults,
        isinstance(function, ast.AsyncFunctionDef),
        function.lineno,
    )


def tool_name(skill_id: str, handler: str) -> str:
    """The tool's name in a request: `shared/data-analysis`, `trend` -> `data-analysis__trend`.

    The Messages API takes 64 of `a-z A-Z 0-9 _ -`; what does not fit is shortened or replaced, with a
    digest of the whole at the end, so that two names stay two.
    """
    whole = f"{skill_id.rsplit('/', 1)[-1]}__{handler}"
    if _TOOL_NAME.fullmatch(whole):
        return whole
    mark = hashlib.sha256(f"{skill_id}\n{handler}".encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{re.sub(r'[^a-zA-Z0-9_-]', '-', whole)[:55]}_{mark}"


def with_documents(schema: dict[str, Any], documents: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """A copy of a tool's schema whose document parameters may only name one of `names`.

    Without any name, optional document parameters disappear; a required one raises ValueError, because the
    handler cannot be called in such a step and must not be offered.
    """
    made = copy.deepcopy(schema)
    for parameter in documents:
        if names:
            made["properties"][parameter] = _narrow_to(made["properties"][parameter], names)
        elif parameter in made["required"]:
            raise ValueError(f"the handler needs a document for '{parameter}' and the step has none")
        else:
            del made["properties"][parameter]
    return made


def _narrow_to(schema: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Every text in a document parameter's schema is the name of a document."""
    made = dict(schema)
    if made.get("type") == "string":
        made["enum"] = list(names)
    if "items" in made:
        made["items"] = _narrow_to(made["items"], names)
    if "anyOf" in made:
        made["anyOf"] = [_narrow_to(option, names) for option in made["anyOf"]]
    return made


# --- the function -------------------------------------------------------------------------------------


def _parse(source: str) -> ast.Module:
    if len(source) > SOURCE_BYTES:
        raise SignatureError("the handler's file is too large", f"keep it under {SOURCE_BYTES // 1024} KB", 1)
    try:
        return ast.parse(source.removeprefix("\ufeff"))
    except SyntaxError as exc:
        raise SignatureError(f"not Python: {exc.msg}", "mend the line", exc.lineno or 1) from None
    except (ValueError, RecursionError, MemoryError) as exc:
        raise SignatureError(f"not Python: {exc or 'nested too deeply'}", "mend the file", 1) from None


def _find_function(tree: ast.Module, name: str) -> ast.FunctionDef | ast.AsyncFunctionDef:
    functions = [n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    for function in reversed(functions):  # as in Python, the last definition counts
        if function.name == name:
            return function
    near = did_you_mean(name, [f.name for f in functions if not f.name.startswith("_")])
    cure = f"define `def {name}(...)`, or start the file's name with _ if it is no handler"
    raise SignatureError(f"the file has no function '{name}'", f"{near} {cure}".strip(), 1)


def _parameters(
    function: ast.FunctionDef | ast.AsyncFunctionDef,
) -> list[tuple[ast.arg, ast.expr | None]]:
    given = function.args
    for argument, stars in ((given.vararg, "*"), (given.kwarg, "**")):
        if argument is not None:
            cure = "name every parameter, since the tool's schema lists them"
            raise SignatureError(
                f"'{stars}{argument.arg}' cannot be a tool's parameter", cure, argument.lineno
            )
    if given.posonlyargs:
        first = given.posonlyargs[0]
        cure = "remove the '/': tools are called by name"
        raise SignatureError(f"'{first.arg}' cannot be given by name", cure, first.lineno)
    missing: list[ast.expr | None] = [None] * (len(given.args) - len(given.defaults))
    positional = zip(given.args, [*missing, *given.defaults], strict=True)
    return [*positional, *zip(given.kwonlyargs, given.kw_defaults, strict=True)]


def _parameter_type(reader: Reader, argument: ast.arg, default: ast.expr | None) -> Type:
    if not _PARAMETER.fullmatch(argument.arg):
        cure = "name it with A-Z a-z 0-9 _ (64 at most), as tools need"
        raise SignatureError(f"'{argument.arg}' cannot be a tool's parameter", cure, argument.lineno)
    if argument.annotation is None:
        cure = f"write its type, such as '{argument.arg}: str'"
        raise SignatureError(f"'{argument.arg}' has no annotation", cure, argument.lineno)
    kind = reader.read(argument.annotation)
    if isinstance(default, ast.Constant) and default.value is None and not kind.nullable:
        cure = f"write '{argument.arg}: {spell_annotation(argument.annotation)} | None = None'"
        raise SignatureError(f"'{argument.arg}' is None by default, its type is not", cure, argument.lineno)
    return kind


def _property(kind: Type, entry: str) -> dict[str, Any]:
    text = entry or kind.description
    if kind.document:
        text = f"{text.rstrip('.')}. {DOCUMENT}" if text else DOCUMENT
    return {**kind.schema, "description": text} if text else dict(kind.schema)


def _add_default(schema: dict[str, Any], defaults: dict[str, Any], name: str, default: ast.expr) -> None:
    try:
        value = ast.literal_eval(default)
        json.dumps(value, allow_nan=False)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return  # computed, or no data: the function fills it in itself
    plain = json.loads(json.dumps(value))
    defaults[name] = plain
    if plain is not None:
        schema["default"] = plain


# --- the docstring ------------------------------------------------------------------------------------


def _docstring(function: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> tuple[str, dict[str, str]]:
    """The description without `Args:`, and what `Args:` says of each parameter."""
    text = ast.get_docstring(function) or ""
    found = _ARGS.search(text)
    if not found:
        return text.strip() or name.replace("_", " "), {}
    entries, rest = _entries(text[found.end() :].splitlines())
    description = "\n\n".join(part for part in (text[: found.start()].strip(), rest) if part)
    return description or name.replace("_", " "), entries


def _entries(lines: list[str]) -> tuple[dict[str, str], str]:
    entries: dict[str, str] = {}
    current, depth = "", -1
    for number, line in enumerate(lines):
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        if text and indent == 0 and (_SECTION.match(text) or entries):
            return entries, "\n".join(lines[number:]).strip()
        found = _ENTRY.match(text)
        if found and (depth < 0 or indent <= depth):
            current, depth = found[1], indent
            entries[current] = found[2].strip()
        elif current and text:
            entries[current] = f"{entries[current]} {text}".strip()
    return entries, ""


def _check_entries(
    entries: dict[str, str], known: dict[str, Any], function: ast.FunctionDef | ast.AsyncFunctionDef
) -> None:
    for name in entries:
        if name not in known:
            cure = did_you_mean(name, known) or "remove it from the docstring"
            message = f"the docstring describes '{name}', which is no parameter"
            raise SignatureError(message, cure, function.lineno)
