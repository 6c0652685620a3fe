"""Every regular expression and parser that sees foreign text, fed with its worst case.

Foreign text: what models, tools, MCP servers and people say, and the files of a catalog. The work of
a text must not grow faster than the text: what is compared are the seconds of processor time that a parser or
a pattern takes for texts of several sizes, beyond a least time in which nothing can be told. A text with a
limit of its own must end within a bound that is many times what the limit allows. The cases run in processes
of their own, one for each kind, which are killed when one hangs.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import importlib
import importlib.util
import inspect
import itertools
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from workflows.core.errors import PhaselineError

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("workflows/core", "blocks", "tasks", "flows", "deployments")
SKILLS = ROOT / "workflows" / "skills"
HANG_S = 1_200
BOMB_S = 60
"""Processor time for one text that is made to take long; the limits allow some seconds."""

# ------------------------------------------------------------------ parsers

Work = Callable[[int], Callable[[], Any]]
"""Makes the worst text of a size, and gives what reads it."""


def _deep(n: int) -> str:
    return "[" * n


def _parsers() -> dict[str, Work]:
    """What takes a text apart, each with texts that make it slow if anything does."""
    from blocks.offline.model import _content
    from tasks.outputs.answer_data import csv_rows, embedded_json, markdown_rows
    from workflows.core.graph.svg import _shorten, _wrap
    from workflows.core.read.documents import parse_source
    from workflows.core.text.csv_table import read_csv
    from workflows.core.text.fences import fenced_blocks, without_fences
    from workflows.core.text.markdown_tables import is_rule, row_cells

    def offline(text: str) -> Any:
        return _content({"messages": [{"role": "user", "content": text}]}, "k" * 32)

    def yaml(text: str) -> Any:
        return parse_source(text.encode(), "f")

    def as_json(text: str) -> Any:
        return parse_source(text.encode(), "f", as_json=True)

    def document(body: str, kind: str = "text/markdown") -> str:
        return f'write\n<document name="d" type="{kind}">\n{body}\n</document>\n'

    texts: dict[str, tuple[Callable[[str], Any], Callable[[int], str]]] = {
        "fences that open only": (fenced_blocks, lambda n: "```a\n" * (n // 5)),
        "fences of many lengths": (
            fenced_blocks, lambda n: "".join("`" * (3 + i % 99) + "\n" for i in range(n // 52))
        ),
        "fences in a document": (without_fences, lambda n: "~~~x\n" * (n // 5)),
        "brackets": (embedded_json, _deep),
        "brackets in prose": (embedded_json, lambda n: "see [a] and {b} " * (n // 16)),
        "objects": (embedded_json, lambda n: '{"a":' * (n // 5)),
        "open texts": (embedded_json, lambda n: '[" ' * (n // 3)),
        "brackets in texts": (embedded_json, lambda n: '["[",' * (n // 5)),
        "escaped quotes": (embedded_json, lambda n: '["\\"' * (n // 4)),
        "links": (embedded_json, lambda n: "[1](" * (n // 4)),
        "blanks in lists": (embedded_json, lambda n: "[ " * (n // 2) + " " * n),
        "digits": (embedded_json, lambda n: "[" * 50 + "9" * n),
        "a rule of blanks": (is_rule, lambda n: "|" + " " * n + "x"),
        "a rule of dashes": (is_rule, lambda n: "--|" * (n // 3) + "x"),
        "a row of pipes": (row_cells, lambda n: "\\|" * (n // 2) + "|" * n),
        "a table of pipes": (markdown_rows, lambda n: "a|b\n--|--\n" + "|" * n),
        "a wide head": (csv_rows, lambda n: "a," * (n // 4) + "\n" + "b\n" * (n // 4)),
        "a wide head given": (read_csv, lambda n: ",".join(map(str, range(n // 8))) + "\nb" * (n // 4)),
        "a quote in a table": (read_csv, lambda n: 'a,b\n"' + 'x\n' * (n // 2)),
        "YAML in flow": (yaml, lambda n: "[" + "a," * (n // 2) + "]"),
        "YAML too deep": (yaml, _deep),
        "YAML lists in lists": (yaml, lambda n: "- " * (n // 2)),
        "YAML keys twice": (yaml, lambda n: "a: 1\n" * (n // 5)),
        "YAML anchors": (yaml, lambda n: "".join(f"- &a{i} x\n" for i in range(n // 9))),
        "YAML quotes": (yaml, lambda n: '"\n' * (n // 2)),
        "YAML digits": (yaml, lambda n: "a: 0x" + "f" * n),
        "JSON digits": (as_json, lambda n: "[" + "9" * n + "]"),
        "JSON keys twice": (as_json, lambda n: "{" + '"a":1,' * (n // 6)),
        "a title of one word": (lambda t: _wrap(t, 100, 2, False), lambda n: "a" * n),
        "a title of words": (lambda t: _wrap(t, 100, 2, False), lambda n: "a " * (n // 2)),
        "a label in a picture": (lambda t: _shorten(t, 12, 100), lambda n: "语" * n),
        "documents that open only": (offline, lambda n: '<document name="a" type="b">' * (n // 28)),
        "tags that open only": (offline, lambda n: '<document name="a" type="b"' * (n // 27)),
        "contexts": (offline, lambda n: "<context>" * (n // 9)),
        "contracts": (offline, lambda n: "<output_contract a" * (n // 18)),
        "an offline fence": (offline, lambda n: document("```a\n" * (n // 5))),
        "offline blanks": (offline, lambda n: document(" " * n + "x")),
        "offline headings": (offline, lambda n: document("# a\n" * (n // 4))),
        "offline marks": (offline, lambda n: document("# " * (n // 2) + "x")),
        "offline links": (offline, lambda n: document("[a](" * (n // 4))),
        "offline facts": (offline, lambda n: document("a: b\n" * (n // 5))),
        "offline quotes": (offline, lambda n: document("「" * n)),
        "an offline table": (offline, lambda n: document("|a|b|\n|--|--|\n" + "|a|b|\n" * (n // 6))),
        "an offline CSV": (offline, lambda n: document("a," * (n // 4) + "\nb" * (n // 4), "text/csv")),
        "offline JSON": (offline, lambda n: document('[{"a":1},' * (n // 9), "application/json")),
        "an offline listing": (offline, lambda n: "include: " + "a、" * (n // 2)),
        "offline brackets": (offline, lambda n: "include: " + "(a、" * (n // 3)),
        "offline line ends": (offline, lambda n: "include: a" + "\n" * n + "b"),
        "offline listings": (offline, lambda n: "include: a " * (n // 11)),
        "offline sentences": (offline, lambda n: "include: a, b, c.\n" + document("a. " * (n // 3))),
        "offline quoted lines": (offline, lambda n: document("offline model\n" + "_〔" * (n // 2))),
        "an offline heading": (offline, lambda n: document("# " + "a" * n + "\n- a" * (n // 40))),
        "offline words": (offline, lambda n: "include: a b, c d.\n" + document("- a b c\n" * (n // 8))),
        "offline Chinese": (offline, lambda n: "包含：成本、隐私。\n" + document("成本价格" * (n // 4))),
        "an offline table's line": (offline, lambda n: document(json.dumps(["|" * n]), "application/json")),
        "offline keys": (
            offline, lambda n: document(json.dumps({f"k{i}": i for i in range(n // 9)}), "application/json")
        ),
        "a long offline key": (
            offline,
            lambda n: document(json.dumps({"k" * (n // 2): {f"k{i}": {} for i in range(n // 20)}}), "a/json"),
        ),
        "offline rows": (
            offline,
            lambda n: "include: a, b, c\n" + document(json.dumps([{"a": "b"}] * (n // 12)), "x/json"),
        ),
    }  # fmt: skip
    return {name: _over(read, make) for name, (read, make) in texts.items()}


def _over(read: Callable[[str], Any], make: Callable[[int], str]) -> Work:
    def work(n: int) -> Callable[[], Any]:
        text = make(n)
        return lambda: read(text)

    return work


# ------------------------------------------------------------------ handlers of the default catalog


def _lines(text: str) -> Callable[[int], str]:
    """As many lines as fit; `{n}` is their number."""
    return lambda size: "".join(text.format(n=n) + "\n" for n in range(size // (len(text) + 1)))


TEXTS: dict[str, Callable[[int], str]] = {
    "blanks": lambda n: " " * n + "x",
    "line ends": lambda n: "\n" * n,
    "one word": lambda n: "a" * n,
    "digits": lambda n: "- [ ] " + "1" * n + "周",
    "digits and commas": lambda n: "延迟 " + "1," * (n // 2),
    "digits and blanks": lambda n: "响应 1" + "1" * (n // 2) + " " * (n // 2) + "月",
    "headings": lambda n: "# a\n" * (n // 4),
    "a heading of blanks": lambda n: "# a" + " " * n + "x",
    "a heading of marks": lambda n: "# a" + "#" * n + "x",
    "boxes": lambda n: "- [ ] " + "[x] " * (n // 4),
    "stars": lambda n: " " * (n // 2) + "*" * (n // 2) + "TODO",
    "owners": lambda n: "- [ ] " + "由" * n,
    "many voices": _lines("n{n}: said thing {n}"),
    "one voice": lambda n: "## a\n" + _lines("- thing {n} not")(n),
    "requirements": _lines("必须支持{n}号功能"),
    "equal requirements": _lines("必须支持同一功能"),
    "links": lambda n: "](" * (n // 2),
    "open quotes": lambda n: "「" * n,
    "quotes": _lines('"quote number {n}"'),
    "block quotes": _lines("> aaaa {n}"),
    "a rule of pipes": lambda n: "a|b\n" + "|-" * (n // 2) + "x",
    "a rule of blanks": lambda n: "a|b\n--|" + " " * n + "x",
    "lines that return": _lines("line {n}"),
}
TABLES: dict[str, Callable[[int], str]] = {
    "a wide head.csv": lambda n: ",".join(f"c{i}" for i in range(n // 8)) + "\n" + "1\n" * (n // 8),
    "a long table.csv": lambda n: "text,who,rating,severity\n" + _lines("must {n},w{n},{n},s{n}")(n),
    "equal rows.csv": lambda n: "text,who\n" + "a,b\n" * (n // 4),
    "an open quote.csv": lambda n: 'text,who\n"' + "a\n" * (n // 2),
    "a large cell.csv": lambda n: "t,v\n" + "1" * n + ",1\n2,2\n",
    "a key for each row.json": lambda n: "[" + ",".join(f'{{"k{i}":1}}' for i in range(n // 12)) + "]",
    "brackets.json": _deep,
}
GIVEN = {"query": "a thing", "by": "who", "time": "rating", "value": "rating"}
"""What else handlers want to know."""
HANDLER_S = 60
"""Processor time of one call. A handler that takes longer than its own timeout is ended besides."""


@cache
def _handler(file: Path) -> Any:
    """A handler's module, loaded as the product loads it: by its path, with its folder on the search path."""
    sys.dont_write_bytecode = True
    before = list(sys.path)
    sys.path.insert(0, str(file.parent))
    try:
        for name in [n for n in sys.modules if n.startswith("_") and (file.parent / f"{n}.py").exists()]:
            del sys.modules[name]
        spec = importlib.util.spec_from_file_location(f"skill_{file.stem}", file)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path[:] = before


def _handlers() -> dict[str, Work]:
    """Every handler that reads a document, with every text."""
    found: dict[str, Work] = {}
    for file in sorted(SKILLS.rglob("handlers/*.py")):
        function = None if file.stem.startswith("_") else getattr(_handler(file), file.stem)
        wanted = inspect.signature(function).parameters if function else {}
        documents = [name for name, given in wanted.items() if given.annotation is Path]
        for name, make in (TEXTS | TABLES).items() if documents else ():
            given = {
                n: GIVEN.get(n, "a") for n, p in wanted.items() if p.default is p.empty and n not in documents
            }
            found[f"{file.stem}: {name}"] = _reads(function, documents, given, name, make)
    return found


def _reads(
    function: Any, documents: list[str], given: dict[str, str], name: str, make: Callable[[int], str]
) -> Work:
    def work(size: int) -> Callable[[], Any]:
        folder, text = Path(tempfile.mkdtemp()), make(size)
        paths = [folder / f"{n}{Path(name).suffix or '.md'}" for n in range(len(documents))]
        for number, path in enumerate(paths):
            # Of two documents the second one has every other line changed.
            changed = "\n".join(line + "z" * (n % 2) for n, line in enumerate(text.splitlines()))
            path.write_text(changed if number else text, "utf-8")

        def call() -> None:
            try:
                function(**dict(zip(documents, paths, strict=True)), **given)
            except RecursionError:
                pass  # an error of the handler, as any other; nothing is recovered from it
            finally:
                shutil.rmtree(folder)

        return call

    return work


# ------------------------------------------------------------------ bombs: little text, endless work


def _bombs() -> dict[str, Callable[[], Any]]:
    """Each ends with an error that says so, or with an answer, after bounded work."""
    from blocks.ledger.waits.forms import check_answer
    from blocks.offline.model import _content
    from blocks.schemas.checking import errors_of, schema_fault
    from tasks.outputs.contract import Contract
    from tasks.outputs.schema_dialect import strict_schema
    from tasks.tools import argument_problems
    from workflows.core.expressions.templates import Expression, Template
    from workflows.core.plans.plan import OutputPlan
    from workflows.core.read.documents import parse_source
    from workflows.core.routing.matching import Rule, choose
    from workflows.core.text.patterns import found_in, pattern_fault
    from workflows.core.units import parse_duration, parse_rate, parse_share, parse_size

    slow, text = "^(a|aa)+$", "a" * 5_000 + "!"
    asked: dict[str, Any] = {"properties": {"a": {"pattern": slow}}}
    many: dict[str, Any] = {"t": "a" * 100_000}

    def rendered(source: str) -> str:
        return Template.parse(source).render({})

    def value(source: str, scope: dict[str, Any]) -> Any:
        return Expression.parse(source).evaluate(scope)

    doubling: dict[str, Any] = {
        "$defs": {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(40)} | {"a40": {}},
        "$ref": "#/$defs/a0",
    }
    either: dict[str, Any] = {"type": "integer"}
    for _ in range(16):
        either = {"anyOf": [either, either]}
    merges = "a0: &a0 {x: 1}\n" + "".join(
        f"a{i + 1}: &a{i + 1} {{<<: [{', '.join([f'*a{i}'] * 9)}]}}\n" for i in range(12)
    )

    def offline(schema: Any) -> Any:
        request = {
            "messages": [{"role": "user", "content": "do"}],
            "output_config": {"format": {"schema": schema}},
        }
        return _content(request, "k" * 32)

    def contract(schema: dict[str, Any], answer: str) -> Any:
        return Contract(OutputPlan(name="o", type="json", schema=schema)).accept(answer)

    return {
        "a pattern": lambda: found_in(slow, text),
        "a pattern that calls itself": lambda: found_in("(a(?1)?b)+c", "a" * 50_000),
        "a pattern of repeats": lambda: pattern_fault("(?:a{1000}){1000}"),
        "a routing rule": lambda: choose([Rule("r", slow)], text),
        "a schema's pattern": lambda: errors_of({"pattern": slow}, text),
        "a thousand patterns": lambda: errors_of({"items": {"pattern": slow}}, [text] * 1_000),
        "a key's pattern": lambda: errors_of({"patternProperties": {slow: {}}}, {text: 1}),
        "a pattern for further keys": lambda: errors_of(
            {"patternProperties": {slow: {}}, "additionalProperties": False}, {text: 1}
        ),
        "a pattern of what is left": lambda: errors_of(
            {"patternProperties": {slow: {}}, "unevaluatedProperties": False}, {text: 1}
        ),
        "a pattern of another draft": lambda: errors_of(
            {"properties": {"a": {"$schema": "http://json-schema.org/draft-07/schema#", "pattern": slow}}},
            {"a": text},
        ),
        "references that double": lambda: errors_of(doubling, "x"),
        "choices that double": lambda: errors_of(either, "x"),
        "a reference to itself": lambda: errors_of({"$ref": "#"}, 1),
        "messages of a long text": lambda: errors_of({"anyOf": [{"type": "integer"}] * 5_000}, "x" * 500_000),
        "equal items": lambda: errors_of({"uniqueItems": True}, [[n, {"a": n}] for n in range(50_000)]),
        "a long enum": lambda: errors_of({"items": {"enum": list(range(50_000))}}, list(range(-20_000, 0))),
        "an enum of lists": lambda: errors_of(
            {"items": {"enum": [[1, 2, n] for n in range(9_000)]}}, [[1, 2, -1]] * 9_000
        ),
        "names that are looked for": lambda: errors_of(
            {"$defs": {f"d{n}": {"$anchor": f"a{n}"} for n in range(3_000)}, "items": {"$ref": "#a2999"}},
            [1] * 20_000,
        ),
        "many names": lambda: schema_fault(
            {"$defs": {f"d{n}": {"$anchor": f"a{n}", "$ref": f"#a{n + 1}"} for n in range(3_000)}}
        ),
        "keys nobody knows": lambda: errors_of({"items": {f"x{n}": 1 for n in range(20_000)}}, [1] * 20_000),
        "a large schema": lambda: schema_fault({"properties": {f"k{n}": {} for n in range(200_000)}}),
        "a form": lambda: check_answer({"type": "object", **asked}, {"a": text}),
        "a tool's arguments": lambda: argument_problems(asked, {"a": text}),
        "an output": lambda: contract({"type": "object", **asked}, json.dumps({"a": text})),
        "an output of references": lambda: contract(doubling, '{"a": 1}'),
        "a schema for the provider": lambda: strict_schema(doubling),
        "an offline value": lambda: offline(doubling),
        "an offline pattern of stars": lambda: offline({"pattern": "(((((a*)*)*)*)*){9999}", "minLength": 9}),
        "an offline alternative": lambda: offline({"type": "string", "pattern": "(a|b)" * 1_500}),
        "an offline pattern": lambda: offline({"type": "string", "pattern": "(((a{256}){256}){256}){256}"}),
        "an offline list": lambda: offline({"type": "array", "minItems": 10**9, "items": {}}),
        "an offline text": lambda: offline({"type": "string", "minLength": 10**12}),
        "offline keys": lambda: offline({"type": "object", "minProperties": 10**9}),
        "YAML merges": lambda: parse_source(merges.encode(), "f"),
        "YAML aliases": lambda: parse_source(merges.replace("{<<: ", "").replace("]}", "]").encode(), "f"),
        "YAML within itself": lambda: parse_source(b"a: &a {<<: *a}", "f"),
        "a long duration": lambda: parse_duration("1" * 1_000_000),
        "a huge duration": lambda: parse_duration(int("f" * 5_000, 16)),
        "a huge size": lambda: parse_size("9" * 500 + "Ti"),
        "a huge rate": lambda: parse_rate("9" * 1_000_000 + "/s"),
        "a huge share": lambda: parse_share(int("f" * 5_000, 16)),
        "a loop in loops": lambda: rendered(
            "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}x"
            "{% endfor %}{% endfor %}{% endfor %}"
        ),
        "a macro in itself": lambda: rendered("{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}"),
        "a repeated text": lambda: value("'a' * 999999999", {}),
        "a doubled text": lambda: rendered(
            "{% set ns = namespace(t='aaaa') %}"
            "{% for i in range(60) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}"
        ),
        "text replaced by text": lambda: value("t | replace('a', t) | replace('a', t)", many),
        "joined texts": lambda: value("range(9999) | join(t)", many),
        "indented text": lambda: value("t | indent(999999999)", {"t": "a\n" * 1_000}),
        "a huge power": lambda: value("9 ** 9 ** 9", {}),
        "a wide format": lambda: rendered("{{ '%999999999d' | format(1) }}"),
        "deep JSON in a template": lambda: value("t | from_json", {"t": "[" * 100_000}),
    }  # fmt: skip


# ------------------------------------------------------------------ the fixed patterns of our own code

EXEMPT: dict[str, str] = {
    "blocks/offline/model.py:found": "a tool's name, escaped",
    "blocks/secrecy/forms.py:text": "known secrets, escaped, one after the other",
    "blocks/secrecy/forms.py:_mark_body": "known secrets, escaped, one after the other",
    "blocks/offline/values.py:_names_option": "an option, escaped",
    "workflows/core/expressions/templates.py:found": "a word of the source, escaped",
    "deployments/commands/new.py:_write_into": "one of two fixed patterns, on a name of the command line",
}
"""Uses whose pattern is not written where it is used, by file and place, and why they are safe."""
SHORT: dict[str, str] = {}
"""Fixed patterns that may grow faster than their text, and what keeps the text short."""

SAMPLE = 1_000
"""Characters of a text for a pattern; four times as many must not take much more than four times as long."""


class Use:
    """One place that uses Python's own `re`."""

    def __init__(self, file: str, call: ast.Call, name: str, methods: set[str], made: Any) -> None:
        self.file, self.line, self.name, self.made = file, call.lineno, name, made
        own = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        self.methods = methods or {"search"} if own == "compile" else {own}

    @property
    def key(self) -> str:
        return f"{self.file}:{self.name}"


@cache
def uses() -> tuple[Use, ...]:
    """Every use of `re` in the packages and skills. `made` is its pattern where that is fixed, else None."""
    found: list[Use] = []
    for path in sources():
        found += _uses_of(path.relative_to(ROOT).as_posix(), ast.parse(path.read_text("utf-8")))
    return tuple(found)


def sources() -> list[Path]:
    """Every Python file of the packages, and of the skills of the default catalog."""
    folders = [*(ROOT / package for package in PACKAGES), SKILLS]
    return [p for folder in folders for p in sorted(folder.rglob("*.py")) if "migrations" not in p.parts]


def _uses_of(file: str, tree: ast.Module) -> Iterator[Use]:
    names = {
        id(node.value): target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets[:1]
        if isinstance(target, ast.Name)
    }
    methods: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            methods.setdefault(node.value.id, set()).add(node.attr)
    inside = {
        id(inner): function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(function)
    }
    for node in ast.walk(tree):
        if _is_use(node):
            assert isinstance(node, ast.Call)
            name = names.get(id(node)) or inside.get(id(node), "")
            yield Use(file, node, name, methods.get(name, set()) & METHODS, _made(file, node))


METHODS = {"match", "search", "fullmatch", "sub", "subn", "split", "findall", "finditer"}


def _is_use(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "re"
        and node.func.attr in METHODS | {"compile"}
    )


def _made(file: str, call: ast.Call) -> re.Pattern[str] | None:
    """The compiled pattern of a call whose pattern needs nothing but its module."""
    path = ROOT / file
    module = _handler(path) if path.is_relative_to(SKILLS) else importlib.import_module(_dotted(file))
    arguments = {k.arg: k.value for k in call.keywords}
    position = {"sub": 4, "subn": 4, "split": 3}.get(getattr(call.func, "attr", ""), 2)
    if getattr(call.func, "attr", "") == "compile":
        position = 1
    flags = arguments.get("flags") or (call.args[position] if len(call.args) > position else None)
    try:
        pattern, flag = (_evaluated(part, module) for part in (call.args[0], flags))
        return re.compile(pattern, flag or 0)
    except (NameError, TypeError):
        return None


def _dotted(file: str) -> str:
    return file.removesuffix(".py").replace("/", ".")


def _evaluated(part: ast.expr | None, module: Any) -> Any:
    if part is None:
        return None
    return eval(compile(ast.Expression(part), "<pattern>", "eval"), vars(module))


def pumped(pattern: str) -> Iterator[tuple[str, str, str]]:
    """Beginnings, what is repeated, and ends, made of what the pattern speaks of."""
    marks = "|-:`~[](){}<>\"'#*_、。.,，；;“”「」〔/@%=!?$&+"
    said = [c for c in dict.fromkeys(pattern) if c in marks or "一" <= c <= "鿿"][:7]
    words = [w.lower() for w in re.findall(r"[A-Za-z]{3,}", pattern)][:4]
    single = list(dict.fromkeys(["a", "1", " ", "\n", *said]))
    pairs = ["".join(pair) for pair in itertools.permutations(single[:7], 2)]
    pumps = [*single, *pairs, *words, *(f"\n{c}a" for c in said)]
    yield from itertools.product(["", *single[:6], *words[:1]], pumps, ("!",))


def slow_text(use: Use) -> str | None:
    """A text on which a use takes far more than four times as long when it is four times as long."""
    for method in sorted(use.methods):
        run = getattr(use.made, "findall" if method in ("sub", "subn", "split", "finditer") else method)
        pattern = use.made.pattern
        if isinstance(pattern, bytes):
            run = _of_bytes(run)
        for start, pump, end in pumped(pattern if isinstance(pattern, str) else pattern.decode("latin-1")):
            # Step by step: what grows with the third power would hang at the last one.
            if any(_spent(run, start, pump, end, size) > 0.02 for size in (100, 300, SAMPLE)):
                return f"{method}: {start!r} + {pump!r} * n + {end!r} (beyond all bounds)"
            first = _spent(run, start, pump, end, 4 * SAMPLE)
            if first > 0.03 and first > 8 * _spent(run, start, pump, end, SAMPLE):
                return f"{method}: {start!r} + {pump!r} * n + {end!r}"
    return None


def _of_bytes(run: Callable[[bytes], Any]) -> Callable[[str], Any]:
    return lambda text: run(text.encode())


def _spent(run: Callable[[str], Any], start: str, pump: str, end: str, size: int) -> float:
    text = start + pump * (size // len(pump)) + end
    begun = time.thread_time()
    run(text)
    return time.thread_time() - begun


# ------------------------------------------------------------------ in processes that can be killed


def _measure(kind: str) -> None:
    """Prints one JSON line for each case."""
    if kind == "parsers":
        for name, work in _parsers().items():
            print(json.dumps(["begun", name]), flush=True)
            print(json.dumps([name, _time(work(40_000)), _time(work(160_000))]), flush=True)
    elif kind == "handlers":
        for name, work in _handlers().items():
            print(json.dumps(["begun", name]), flush=True)
            long = _time(work(400_000))
            short = _time(work(80_000)) if long > 0.5 else long
            print(json.dumps([name, short, long]), flush=True)
    elif kind == "bombs":
        for name, run in _bombs().items():
            print(json.dumps(["begun", name]), flush=True)
            print(json.dumps([name, _time(run), 0]), flush=True)
    else:
        for use in uses():
            if use.made is not None and use.key not in SHORT:
                print(json.dumps(["begun", f"{use.key} line {use.line}"]), flush=True)
                print(json.dumps([f"{use.key} line {use.line}", slow_text(use), 0]), flush=True)


def _time(run: Callable[[], Any]) -> float:
    """Seconds of this thread's work. What says what is wrong is an answer; a fault of Python's is none."""
    from blocks.schemas.checking import Unchecked
    from tasks.outputs.contract import Rejected
    from tasks.outputs.schema_dialect import Inexpressible
    from workflows.core.read.source import Unreadable
    from workflows.core.text.csv_table import UnreadableTable
    from workflows.core.text.patterns import TakesTooLong

    expected = (
        *(Unchecked, Rejected, Inexpressible, UnreadableTable, PhaselineError, TakesTooLong, Unreadable),
        ValueError,
    )
    begun = time.thread_time()
    with contextlib.suppress(*expected):
        run()
    return time.thread_time() - begun


def measured(kind: str) -> dict[str, list[Any]]:
    """What the cases of a kind took, by name. The process that measures is killed when one hangs."""
    code = f"import test_worst_cases; test_worst_cases._measure({kind!r})"
    try:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            cwd=ROOT,
            env={"PYTHONPATH": f"{ROOT}:{Path(__file__).parent}", "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=HANG_S,
        )
        out, fault = done.stdout, done.stderr
    except subprocess.TimeoutExpired as late:
        out, fault = (late.stdout or b"").decode(), "it hangs"
    lines = [json.loads(line) for line in out.splitlines()]
    ended = {line[0]: line[1:] for line in lines if line[0] != "begun"}
    left = [line[1] for line in lines if line[0] == "begun" and line[1] not in ended]
    assert not left and not fault, f"{left}: {fault[-2000:]}"
    return ended


def test_no_parser_takes_longer_than_its_text_is_long() -> None:
    wrong = {
        name: times
        for name, times in measured("parsers").items()
        if times[1] > 0.3 and times[1] > 8 * max(times[0], 0.01)
    }
    assert wrong == {}


def test_no_handler_of_the_catalog_takes_longer_than_its_document_is_long() -> None:
    """At five times the text: what is beyond a limit of the handler is refused, which is fast."""
    wrong = {
        name: times
        for name, times in measured("handlers").items()
        if times[1] > HANDLER_S or (times[1] > 0.5 and times[1] > 10 * max(times[0], 0.02))
    }
    assert wrong == {}


def test_little_text_never_makes_endless_work() -> None:
    """Every limit is one of counted work or of a pattern's time: seconds of a slow machine, not more."""
    took = {name: times[0] for name, times in measured("bombs").items()}
    assert took
    assert {name: seconds for name, seconds in took.items() if seconds > BOMB_S} == {}


def test_no_fixed_pattern_takes_longer_than_its_text_is_long() -> None:
    assert {name: said for name, (said, _) in measured("patterns").items() if said} == {}


def test_every_pattern_is_fixed_or_on_the_list() -> None:
    """Who adds `re.search(pattern_of_somebody, ...)` finds this test: such a pattern is for `found_in`."""
    known = {use.key for use in uses()}
    open_ = {use.key for use in uses() if use.made is None}
    assert open_ - EXEMPT.keys() == set()
    assert (EXEMPT | SHORT).keys() - known == set()


def test_the_regex_package_is_used_in_one_place() -> None:
    """Its searches need a time limit, which `found_in` and the routing rules give."""
    using = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"^\s*(?:import|from) regex\b", path.read_text("utf-8"), re.M)
    }
    assert using == {"workflows/core/text/patterns.py"}


def test_no_validator_of_schemas_works_without_a_budget() -> None:
    using = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"Draft\w+Validator|validator_for", path.read_text("utf-8"))
    }
    assert using == {"blocks/schemas/checking.py"}


async def _ticks_during(work: Awaitable[Any]) -> int:
    """How often the event loop came round while something was at work."""
    task, ticks = asyncio.ensure_future(work), 0
    while not task.done():
        await asyncio.sleep(0.01)
        ticks += 1
    with contextlib.suppress(PhaselineError):
        task.result()
    return ticks


def test_the_timeout_of_a_step_fires_while_foreign_text_is_checked() -> None:
    """A tool's arguments, and an answer of the offline model: the event loop goes round meanwhile."""
    from blocks.offline.model import OfflineModel
    from tasks.tools import Tool, ToolResult, ToolSet

    async def never(arguments: dict[str, Any]) -> ToolResult:
        raise AssertionError(arguments)

    schema = {"type": "object", "properties": {"a": {"pattern": "^(a|aa)+$"}}}
    tools = ToolSet((Tool("t", "", schema, never),))
    assert asyncio.run(_ticks_during(tools.call("t", {"a": "a" * 5_000 + "!"}))) > 5
    choices: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": 0}
    for _ in range(3):
        choices = {"anyOf": [choices] * 20}
    request = {
        "messages": [{"role": "user", "content": "do"}],
        "output_config": {"format": {"schema": choices}},
    }
    assert asyncio.run(_ticks_during(OfflineModel().send(request))) > 5


def test_no_file_hides_its_patterns() -> None:
    """They are found by the word `re.`. Its parser, which matches nothing, may have another."""
    hidden = {
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if (
            isinstance(node, ast.ImportFrom)
            and node.module in ("re", "regex")
            and not all(a.name.startswith("_") for a in node.names)
        )
        or (isinstance(node, ast.Import) and any(a.name in ("re", "regex") and a.asname for a in node.names))
    }
    assert hidden == set()


@pytest.mark.parametrize("kind", ["parsers", "bombs", "patterns"])
def test_the_cases_are_there(kind: str) -> None:
    count = {"parsers": len(_parsers()), "bombs": len(_bombs()), "patterns": len(uses())}[kind]
    assert count > 30
