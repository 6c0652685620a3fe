"""YAML text to plain data with positions, within limits of size and depth.

It is read as people mean it: `on`, `no` and `12:30` stay texts, only `true` and `false` are booleans, and
numbers remember how they were spelled, so that `version: 1.10` can be read as text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from workflows.core.errors import Mistake
from workflows.core.read.source import Key, Position, Source, Unreadable, shorten_value, shown_key

MAX_NODES = 200_000
MAX_DEPTH = 60
_COMPOSER_DEPTH = 500
MAX_DIGITS = 40
"""Characters of a whole number."""
_REAL_CHARS = 400


class SpelledInt(int):
    """An integer that remembers its spelling."""

    spelling: str


class SpelledFloat(float):
    """A float that remembers its spelling (`1.10`)."""

    spelling: str


class DocumentTooLarge(Unreadable):
    """Readable text that holds more, or nests deeper, than a written file may."""


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


def yaml_source(text: str, file: str) -> Source:
    """The data of a text, with marks. Raises yaml.YAMLError, RecursionError, Unreadable."""
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
                raise DocumentTooLarge(
                    [Mistake(file, line, 1, "", None, "nested too deeply", "flatten the file")]
                )
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            depth -= 1


def _integer(text: str) -> SpelledInt:
    if len(text) > MAX_DIGITS:
        raise ValueError("longer than a whole number is")  # in base 16 Python would read any length
    number = SpelledInt(int(text, 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10))
    number.spelling = text
    return number


def _real(text: str) -> SpelledFloat:
    if len(text) > _REAL_CHARS:
        raise ValueError("longer than a number is")
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

    def count_value(self, node: yaml.Node, depth: int) -> Position:
        """Counts a value, also one that an alias or a merge repeats. Raises DocumentTooLarge."""
        self.count += 1
        line, column = node.start_mark.line + 1, node.start_mark.column + 1
        if depth > MAX_DEPTH:
            message = "nested too deeply, or an alias stands inside its own anchor"
            raise DocumentTooLarge([Mistake(self.file, line, column, "", None, message, "flatten the file")])
        if self.count > MAX_NODES:
            # Aliases multiply: nine levels of nine make 400 million nodes out of a few lines.
            message = "too many values; aliases may multiply them"
            raise DocumentTooLarge(
                [Mistake(self.file, line, column, "", None, message, "write the values out")]
            )
        return line, column

    def build(self, node: yaml.Node, path: Key, depth: int) -> Any:
        self.marks[path] = self.count_value(node, depth)
        if isinstance(node, (yaml.MappingNode, yaml.SequenceNode)) and node.tag not in _CONTAINERS:
            self.add_mistake(node, shown_key(path), f"the tag {node.tag} is not read", "remove the tag")
        if isinstance(node, yaml.MappingNode):
            return self.build_mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, i), depth + 1) for i, item in enumerate(node.value)]
        return self.build_scalar(node, path)

    def build_mapping(self, node: yaml.MappingNode, path: Key, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                for part in self.merge_sources(value_node):
                    self.count_value(part, depth)
                    for key, value in self.build_mapping(part, path, depth + 1).items():
                        merged.setdefault(key, value)
                continue
            key = self.read_key(key_node, path)
            here = (*path, key)
            if key in own:
                self.report_duplicate(key, key_node, here)
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
                self.add_mistake(
                    part, "<<", "'<<' merges mappings only", "give it an alias of a mapping (*name)"
                )

    def read_key(self, node: yaml.Node, path: Key) -> str:
        if not isinstance(node, yaml.ScalarNode):
            self.add_mistake(node, shown_key(path), "a key must be a plain text", "put quotes around the key")
            return "?"
        return str(node.value)

    def report_duplicate(self, key: str, node: yaml.Node, path: Key) -> None:
        first = self.key_marks[path][0]
        self.add_mistake(
            node, shown_key(path), f"the key '{key}' stands twice (first in line {first})", "keep one of them"
        )

    def build_scalar(self, node: yaml.Node, path: Key) -> Any:
        text, tag = str(node.value), node.tag.removeprefix("tag:yaml.org,2002:")
        if isinstance(node, yaml.ScalarNode) and node.style == "|":
            self.note_block(node.start_mark.line + 1, text, path)
        if tag == "null":
            return None
        try:
            value = _READ.get(tag, str)(text)
        except ValueError:  # an explicit tag such as `!!int x`, or more digits than Python reads
            self.add_mistake(
                node, shown_key(path), "not a number that can be read", "write a shorter number, or a text"
            )
            return None
        if isinstance(value, float) and not math.isfinite(value):
            self.add_mistake(node, shown_key(path), "infinite or not a number", "write a finite number")
        if tag not in _READ and tag != "str":
            self.add_mistake(node, shown_key(path), f"the tag {node.tag} is not read", "remove the tag")
        return value

    def note_block(self, start: int, text: str, path: Key) -> None:
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

    def add_mistake(self, node: yaml.Node, path: str, message: str, cure: str) -> None:
        mark = node.start_mark
        value = shorten_value(node.value) if isinstance(node, yaml.ScalarNode) else None
        self.mistakes.append(Mistake(self.file, mark.line + 1, mark.column + 1, path, value, message, cure))
