"""Written files with positions: YAML or JSON text to plain data plus the line and column of every value.

YAML is read as people mean it: `on`, `no` and `12:30` stay texts, only `true` and `false` are booleans,
and numbers remember how they were spelled, so that `version: 1.10` can be read as text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from workflows.core.errors import Mistake

MAX_BYTES = 1024 * 1024
MAX_NODES = 200_000
MAX_DEPTH = 60
_COMPOSER_DEPTH = 500

Position = tuple[int, int]
Key = tuple[str | int, ...]


class SpelledInt(int):
    """An integer that remembers its spelling."""

    spelling: str


class SpelledFloat(float):
    """A float that remembers its spelling (`1.10`)."""

    spelling: str


@dataclass(frozen=True)
class Source:
    """The data of one file and where each value stood, by paths such as ('steps', 0, 'id')."""

    file: str
    data: Any
    marks: dict[Key, Position] = field(default_factory=dict)
    key_marks: dict[Key, Position] = field(default_factory=dict)
    blocks: dict[Key, Position] = field(default_factory=dict)
    """Where the content of a literal block (`|`) begins; its lines are the value's lines."""

    def position(self, path: Key, *, of_key: bool = False) -> Position:
        """Line and column (from 1) of the value at `path`, or of the nearest parent that is known."""
        if of_key and path in self.key_marks:
            return self.key_marks[path]
        while path and path not in self.marks:
            path = path[:-1]
        return self.marks.get(path, (1, 1))

    def mistake(
        self,
        path: Key,
        message: str,
        cure: str,
        *,
        of_key: bool = False,
        within: Position | None = None,
    ) -> Mistake:
        """A mistake at `path`, its value taken from the data.

        `within` is a line and column (from 1, 0 for unknown) in a text; it counts where the file's own lines
        are the text's, that is in a literal block.
        """
        line, column = self.position(path, of_key=of_key)
        if within is not None and path in self.blocks:
            first, indent = self.blocks[path]
            line, column = first + within[0] - 1, indent + max(within[1], 1)
        return Mistake(self.file, line, column, shown_key(path), shortened(self.value(path)), message, cure)

    def value(self, path: Key) -> Any:
        """The data at `path`, None where there is none."""
        here = self.data
        for part in path:
            try:
                here = here[part]
            except (KeyError, IndexError, TypeError):
                return None
        return here


class Unreadable(Exception):
    """A file that is no YAML or JSON; carries the mistakes."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__(mistakes[0].message)
        self.mistakes = mistakes


class _TooMuch(Unreadable):
    """Readable text that holds more, or nests deeper, than a written file may."""


def shown_key(path: Key) -> str:
    """`steps[0].retries.max`."""
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else (f".{part}" if out else str(part))
    return out


def shortened(value: Any) -> Any:
    """A value fit for an error message: JSON, 120 characters at most."""
    if isinstance(value, (dict, list)):
        text = json.dumps(value, ensure_ascii=False, default=str)
    elif isinstance(value, str):
        text = value
    else:
        return value
    return text if len(text) <= 120 else text[:117] + "..."


class _Loader(yaml.CSafeLoader):
    """A loader whose implicit types are those of YAML 1.2's core schema."""


_Loader.yaml_implicit_resolvers = {}  # else those of YAML 1.1 stay

_TYPES = (
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("tag:yaml.org,2002:merge", r"<<", "<"),
)
for _tag, _pattern, _first in _TYPES:
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), list(_first))


def read_source(path: Path, file: str) -> Source:
    """Reads a .yaml, .yml, .json or .yao file. Raises Unreadable with every mistake found."""
    try:
        body = path.read_bytes() if path.stat().st_size <= MAX_BYTES else None
    except FileNotFoundError:
        raise _unreadable(file, "the file does not exist", "check the name and the folder") from None
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or str(fault)
        raise _unreadable(file, f"the file cannot be read: {reason}", "check its permissions") from None
    if body is None:
        raise _unreadable(
            file,
            f"the file is larger than {MAX_BYTES // 1024} KiB",
            "move large content into files of its own",
        )
    return parse_source(body, file, as_json=path.suffix in (".json", ".yao"))


def parse_source(body: bytes, file: str, *, as_json: bool = False) -> Source:
    """Parses the bytes of a written file. Raises Unreadable."""
    text = _decoded(body, file)
    if as_json:
        return _parse_json(text, file)
    tab = re.search(r"^( *)\t", text, re.MULTILINE)
    try:
        return _build(text, file)
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        if tab and text.count("\n", 0, tab.start()) + 1 in (line, line - 1):
            line = text.count("\n", 0, tab.start()) + 1
            raise _unreadable(file, "a tab indents this line", "indent with spaces", line, 1) from None
        problem = re.sub(r"\s+", " ", str(fault.problem or "not YAML"))
        if "another document" in problem:
            cure = "keep one document to a file; remove the line '---'"
            raise _unreadable(file, "a second document begins here", cure, line, column) from None
        raise _unreadable(file, f"not YAML: {problem}", _yaml_cure(problem), line, column) from None
    except yaml.YAMLError as fault:
        raise _unreadable(file, f"not YAML: {str(fault).splitlines()[0]}", "save it as UTF-8 text") from None
    except RecursionError:
        raise _unreadable(file, "nested too deeply", "flatten the file") from None


def _yaml_cure(problem: str) -> str:
    if "mapping values are not allowed" in problem:
        return "put quotes around a text that holds ': ', or mend the indentation"
    if "cannot start any token" in problem:
        return "put quotes around a text that begins with @, `, % or a tab"
    if "alias" in problem:
        return "define the anchor (&name) before its alias (*name)"
    return "mend the indentation, quotes or brackets at this place"


def _unreadable(file: str, message: str, cure: str, line: int = 1, column: int = 1) -> Unreadable:
    return Unreadable([Mistake(file, line, column, "", None, message, cure)])


def _decoded(body: bytes, file: str) -> str:
    body = body.removeprefix(b"\xef\xbb\xbf")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as fault:
        line = body.count(b"\n", 0, fault.start) + 1
        raise _unreadable(file, "not UTF-8 text", "save the file as UTF-8", line) from None
    control = re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]", text)
    if control:
        line = text.count("\n", 0, control.start()) + 1
        raise _unreadable(file, "holds control characters; it looks binary", "write it as text", line)
    return text.replace("\r\n", "\n")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_constant(text)


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")


def _parse_json(text: str, file: str) -> Source:
    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, value in pairs:
            if key in out:
                line = text.count("\n", 0, max(text.rfind(f'"{key}"'), 0)) + 1
                raise _unreadable(file, f"the key '{key}' stands twice", "keep one of them", line)
            out[key] = value
        return out

    try:
        data = json.loads(
            text, object_pairs_hook=no_duplicates, parse_constant=_no_constant, parse_float=_finite
        )
        json.dumps(data, ensure_ascii=False).encode()
    except json.JSONDecodeError as fault:
        raise _unreadable(
            file,
            f"not JSON: {fault.msg}",
            "mend the commas, quotes or brackets here",
            fault.lineno,
            fault.colno,
        ) from None
    except UnicodeEncodeError:
        raise _unreadable(
            file, "half a surrogate pair (\\ud800 to \\udfff)", "write the character itself"
        ) from None
    except ValueError as fault:  # digits beyond Python's limit, NaN
        raise _unreadable(file, f"not JSON: {fault}"[:120], "write a finite, shorter number") from None
    except RecursionError:
        raise _unreadable(file, "nested too deeply", "flatten the file") from None
    try:
        # JSON is YAML but for tabs, so the composer gives the positions.
        marked = _build(text.replace("\t", " "), file)
        return Source(file, data, marked.marks, marked.key_marks)
    except _TooMuch:
        raise
    except (yaml.YAMLError, Unreadable):
        return Source(file, data)


def _build(text: str, file: str) -> Source:
    loader = _Loader(text)
    try:
        if _may_be_deep(text):
            _check_events(text, file)
        node = loader.get_single_node()
    finally:
        loader.dispose()
    builder = _Builder(file, text)
    data = builder.build(node, (), 0) if node is not None else None
    if builder.mistakes:
        raise Unreadable(builder.mistakes)
    return Source(file, data, builder.marks, builder.key_marks, builder.blocks)


def _may_be_deep(text: str) -> bool:
    """Whether a text could nest deeper than the composer's own recursion bears (a bound, not a count).

    A level needs a bracket, or one more column before the text of its line; a list may stand at its key's
    column, hence two levels to a column. The exact limit is the builder's.
    """
    brackets = text.count("[") + text.count("{")
    columns = max(len(lead) for lead in re.findall(r"^[ ?:-]*", text, re.MULTILINE))
    return brackets + 2 * columns > _COMPOSER_DEPTH


def _check_events(text: str, file: str) -> None:
    """Refuses nesting beyond MAX_DEPTH before the composer recurses into it."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            depth += 1
            if depth > MAX_DEPTH:
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise _TooMuch([Mistake(file, line, 1, "", None, "nested too deeply", "flatten the file")])
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            depth -= 1


def _integer(text: str) -> SpelledInt:
    number = SpelledInt(int(text, 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10))
    number.spelling = text
    return number


def _real(text: str) -> SpelledFloat:
    real = SpelledFloat(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    real.spelling = text
    return real


_READ: dict[str, Callable[[str], Any]] = {
    "bool": lambda t: t.lower() == "true",
    "int": _integer,
    "float": _real,
}

_CONTAINERS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


class _Builder:
    """One walk over the composed nodes: data, marks, and every duplicate key."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.lines = text.split("\n")
        self.blocks: dict[Key, Position] = {}
        self.marks: dict[Key, Position] = {}
        self.key_marks: dict[Key, Position] = {}
        self.mistakes: list[Mistake] = []
        self.count = 0

    def build(self, node: yaml.Node, path: Key, depth: int) -> Any:
        self.count += 1
        line, column = node.start_mark.line + 1, node.start_mark.column + 1
        if depth > MAX_DEPTH:
            message = "nested too deeply, or an alias stands inside its own anchor"
            raise _TooMuch([Mistake(self.file, line, column, "", None, message, "flatten the file")])
        if self.count > MAX_NODES:
            # Aliases multiply: nine levels of nine make 400 million nodes out of a few lines.
            message = "too many values; aliases may multiply them"
            raise _TooMuch([Mistake(self.file, line, column, "", None, message, "write the values out")])
        self.marks[path] = (line, column)
        if isinstance(node, (yaml.MappingNode, yaml.SequenceNode)) and node.tag not in _CONTAINERS:
            self.add(node, shown_key(path), f"the tag {node.tag} is not read", "remove the tag")
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, i), depth + 1) for i, item in enumerate(node.value)]
        return self.scalar(node, path)

    def mapping(self, node: yaml.MappingNode, path: Key, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                for part in self.merge_sources(value_node):
                    merged = {**self.mapping(part, path, depth + 1), **merged}
                continue
            key = self.key(key_node, path)
            here = (*path, key)
            if key in own:
                self.duplicate(key, key_node, here)
                continue
            self.key_marks[here] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            own[key] = self.build(value_node, here, depth + 1)
        return {**merged, **own}

    def merge_sources(self, node: yaml.Node) -> Iterator[yaml.MappingNode]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for part in nodes:
            if isinstance(part, yaml.MappingNode):
                yield part
            else:
                self.add(part, "<<", "'<<' merges mappings only", "give it an alias of a mapping (*name)")

    def key(self, node: yaml.Node, path: Key) -> str:
        if not isinstance(node, yaml.ScalarNode):
            self.add(node, shown_key(path), "a key must be a plain text", "put quotes around the key")
            return "?"
        return str(node.value)

    def duplicate(self, key: str, node: yaml.Node, path: Key) -> None:
        first = self.key_marks[path][0]
        self.add(
            node, shown_key(path), f"the key '{key}' stands twice (first in line {first})", "keep one of them"
        )

    def scalar(self, node: yaml.Node, path: Key) -> Any:
        text, tag = str(node.value), node.tag.removeprefix("tag:yaml.org,2002:")
        if isinstance(node, yaml.ScalarNode) and node.style == "|":
            self.block(node.start_mark.line + 1, text, path)
        if tag == "null":
            return None
        try:
            value = _READ.get(tag, str)(text)
        except ValueError:  # an explicit tag such as `!!int x`, or more digits than Python reads
            self.add(
                node, shown_key(path), "not a number that can be read", "write a shorter number, or a text"
            )
            return None
        if isinstance(value, float) and not math.isfinite(value):
            self.add(node, shown_key(path), "infinite or not a number", "write a finite number")
        if tag not in _READ and tag != "str":
            self.add(node, shown_key(path), f"the tag {node.tag} is not read", "remove the tag")
        return value

    def block(self, start: int, text: str, path: Key) -> None:
        """Notes where a literal block's content lies, if every line of it is the file's (`start` from 0)."""
        content = text.split("\n")
        written = self.lines[start : start + len(content)]
        first = next((i for i, line in enumerate(content) if line), None)
        if first is None or first >= len(written):
            return
        indent = len(written[first]) - len(content[first])
        lines = zip(content, written, strict=False)
        if indent >= 0 and all(not c or w[indent:] == c for c, w in lines):
            self.blocks[path] = (start + 1, indent)

    def add(self, node: yaml.Node, path: str, message: str, cure: str) -> None:
        mark = node.start_mark
        value = shortened(node.value) if isinstance(node, yaml.ScalarNode) else None
        self.mistakes.append(Mistake(self.file, mark.line + 1, mark.column + 1, path, value, message, cure))
