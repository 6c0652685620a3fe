"""Templates (prompts, argument texts) and expressions (`when`, `for_each`, `repeat.until`).

Both are Jinja2 over JSON data: no files, no environment, no clock, no chance; the same source over the same
values gives the same result on every machine. What a source may do is decided in `expression_syntax`,
what it may cost in `expression_meter`.

Sources: an expression may have 4 KB, since a condition that long should be a step. A template may have
64 KB, because a prompt carries instructions, examples and house rules, which 4 KB would push into files
for no gain in safety: what bounds the work is the meter, not the length. Results: 256 Ki characters for a
template (larger bodies travel as documents), 8 Mi characters and a million parts for an expression.

Printing: text as it is, null as nothing, anything else as JSON. Truth (`Expression.holds`) is Python's:
null, false, 0, "" and empty lists and mappings are false, everything else is true; the texts "false" and
"no" are not empty, so they are true.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import CodeType
from typing import Any

from jinja2 import Template as Compiled
from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError, UndefinedError

from workflows.core.errors import PhaselineError, did_you_mean
from workflows.core.expressions.meter import METER, LimitReached, WorkMeter, to_json_data
from workflows.core.expressions.sandbox import environment
from workflows.core.expressions.syntax import RESULT, Reading, SyntaxFault, parse, parse_metered, read
from workflows.core.text.cut_text import cut

EXPRESSION_BYTES = 4 * 2**10
TEMPLATE_BYTES = 64 * 2**10
RENDERED_CHARS = 256 * 2**10

# What a person's source or data can raise. Faults of a lazily loaded value (OSError, PhaselineError) pass.
_FAULTS = (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)


class ExpressionError(PhaselineError):
    """A template or an expression is wrong, or failed on its values.

    `position` is (line, column) in the source, from 1; column 0 means unknown.
    """

    final = True

    exit_code = 2

    def __init__(self, message: str, cure: str = "", position: tuple[int, int] = (1, 0)) -> None:
        super().__init__(message, cure)
        self.position = position


@dataclass(frozen=True, slots=True)
class _Source:
    source: str
    names: frozenset[str] = field(compare=False, repr=False)
    """Free names it reads from its scope."""
    steps: frozenset[str] = field(compare=False, repr=False)
    """Ids of the steps it reads by `steps['x']` or `steps.x`."""

    def locate(self, word: str, after: str = "") -> tuple[int, int]:
        """Line and column (from 1) where the source reads a name, or a word behind the name `after`.

        A line of a template that merely mentions the word is passed over; (1, 0) when it stands nowhere.
        """
        for line in _lines_reading(self.source, isinstance(self, Expression), after or word):
            found = _locate(self.source, word, line)
            if found[0] == line and found[1]:
                return found
        return _locate(self.source, word, 1)


class Template(_Source):
    """A text with `{{ }}` in it. Equal and hashable by its source."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Template:
        """Check a template. Raises ExpressionError."""
        found = _read(text, expression=False)
        return cls(text, found.names, found.steps)

    def render(self, scope: Mapping[str, Any]) -> str:
        """The text with its values in. `scope` may load lazily: see `Expression.evaluate`.

        Raises ExpressionError for a missing name, a value of the wrong type, and work or text without end.
        """
        if "{" not in self.source:
            return self.source
        values = _values(self, scope)
        text: str = _run_guarded(self.source, scope, lambda: _render(self.source, values))
        return text


class Expression(_Source):
    """A formula over values. Equal and hashable by its source."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Expression:
        """Check an expression. Raises ExpressionError."""
        found = _read(text, expression=True)
        return cls(text, found.names, found.steps)

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """The value: dicts, lists, text, numbers, booleans, null. A lone name gives its value untouched.

        Only names the source mentions are asked of `scope`, each once, when the evaluation starts; a value
        that is callable is called without arguments. A value may be a Mapping whose `__getitem__` loads.
        Raises ExpressionError for a missing name, a value of the wrong type, and work or data without end.
        """
        values = _values(self, scope)
        return _run_guarded(self.source, scope, lambda: _evaluate(self.source, values))

    def holds(self, scope: Mapping[str, Any]) -> bool:
        """Whether the value is true, as Python has it: the texts "false" and "no" are true."""
        return bool(self.evaluate(scope))


def _render(source: str, values: dict[str, Any]) -> str:
    code = _compile_source(source, expression=False)
    pieces, size = [], 0
    for piece in code.root_render_func(code.new_context(values)):
        size += len(piece)
        if size > RENDERED_CHARS:
            raise LimitReached(f"the text has more than {RENDERED_CHARS:,} characters")
        pieces.append(piece)
    return "".join(pieces)


def _evaluate(source: str, values: dict[str, Any]) -> Any:
    name = _lone_name(source)
    if name is not None and name in values:
        return values[name]
    code = _compile_source(source, expression=True)
    context = code.new_context(values)
    for _ in code.root_render_func(context):
        pass
    made = context.vars[RESULT]
    values[METER].weigh(made)
    return to_json_data(made)


def _values(source: _Source, scope: Mapping[str, Any]) -> dict[str, Any]:
    """What the source reads, loaded, and the meter."""
    found: dict[str, Any] = {METER: WorkMeter()}
    for name in sorted(source.names):
        try:
            value = scope[name]
        except KeyError:
            continue  # it may be asked for by `is defined`, or in a branch not taken
        found[name] = value() if callable(value) else value
    return found


def _run_guarded(source: str, scope: Mapping[str, Any], run: Callable[[], Any]) -> Any:
    try:
        return run()
    except UndefinedError as exc:
        raise _missing_name(source, exc, scope) from None
    except SecurityError as exc:
        cure = "make it smaller, or do the work in a skill's handler"
        raise ExpressionError(f"{_quote_source(source)}: {exc.message or 'not allowed'}", cure) from None
    except _FAULTS as exc:
        detail = (
            "it is nested too deeply" if isinstance(exc, RecursionError) else str(exc) or type(exc).__name__
        )
        raise ExpressionError(
            f"{_quote_source(source)}: {cut(detail, 500)}", "mend the source or its values"
        ) from None


def lone_expression(text: str) -> str | None:
    """The inner of `{{ inner }}` when nothing stands around it: such an argument keeps its type."""
    stripped = text.strip()
    if not (stripped.startswith("{{") and stripped.endswith("}}")):
        return None
    inner = stripped[2:-2].strip(" -\n\t")
    return inner if inner and "{{" not in inner and "}}" not in inner and "{%" not in inner else None


def _missing_name(source: str, exc: UndefinedError, scope: Iterable[str]) -> ExpressionError:
    text = (exc.message or "a value is missing").strip()
    name = re.fullmatch(r"'([^']*)' is undefined", text)
    if name is None:
        cure = "mend the field's name, or give it another value: x | default('...')"
        return ExpressionError(f"{_quote_source(source)}: {text}", cure)
    near = did_you_mean(name[1], [str(k) for k in scope])
    cure = near or f"declare '{name[1]}' as an input, or let a step make it"
    message = f"{_quote_source(source)}: nothing is called '{name[1]}' here"
    return ExpressionError(message, cure, _locate(source, name[1], 1))


def _quote_source(source: str) -> str:
    first = " ".join(source.split())
    return f"'{first[:80]}{'...' if len(first) > 80 else ''}'"


@lru_cache(maxsize=8192)
def _read(text: str, expression: bool) -> Reading:
    most = EXPRESSION_BYTES if expression else TEMPLATE_BYTES
    what = "an expression" if expression else "a template"
    if len(text) > most or len(text.encode("utf-8", "surrogatepass")) > most:
        cure = "move the work into a step" if expression else "move the text into a file a step attaches"
        raise ExpressionError(f"{what} may have {most // 1024} KB at most", cure)
    if expression and not text.strip():
        raise ExpressionError("the expression is empty", "write a condition such as: score >= 0.8")
    if not expression and "{" not in text:
        return Reading(frozenset(), frozenset())
    try:
        return read(text, expression)
    except SyntaxFault as exc:
        raise ExpressionError(exc.message, exc.cure, _locate(text, exc.word, exc.line)) from None


@lru_cache(maxsize=2048)
def _compile_source(source: str, expression: bool) -> Compiled:
    env = environment()
    try:
        code = env.compile(parse_metered(source, expression))
    except (SyntaxError, RecursionError, MemoryError):  # Python's own limits on nested code
        raise LimitReached("it is nested too deeply") from None
    assert isinstance(code, CodeType)
    return Compiled.from_code(env, code, env.globals)


@lru_cache(maxsize=2048)
def _lone_name(source: str) -> str | None:
    body = parse(source, expression=True).body[0]
    made = body.node if isinstance(body, nodes.Assign) else None
    return made.name if isinstance(made, nodes.Name) else None


def _lines_reading(source: str, expression: bool, name: str) -> list[int]:
    """The lines in which a checked source reads or sets a name."""
    return sorted(_names_read(source, expression).get(name, ()))


@lru_cache(maxsize=4)
def _names_read(source: str, expression: bool) -> dict[str, set[int]]:
    """The lines of each name: a source with a thousand wrong ones is parsed once."""
    found: dict[str, set[int]] = {}
    for node in parse(source, expression).find_all(nodes.Name):
        found.setdefault(node.name, set()).add(node.lineno)
    return found


def _locate(source: str, word: str, line: int) -> tuple[int, int]:
    """Where a word stands, at or below a line; Jinja itself only knows lines."""
    if not word:
        return line, 0
    edge = r"(?<!\w)", r"(?!\w)"
    pattern = re.escape(word) if not word[0].isalnum() else edge[0] + re.escape(word) + edge[1]
    rows = source.splitlines() or [""]
    for number in range(line, len(rows) + 1):
        found = re.search(pattern, rows[number - 1])
        if found:
            return number, found.start() + 1
    return line, 0
