"""Reads a template or expression: refuses what is not data work, finds the names, adds the meter."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from jinja2 import nodes
from jinja2.exceptions import TemplateSyntaxError
from jinja2.meta import find_undeclared_variables
from jinja2.parser import Parser
from jinja2.visitor import NodeTransformer

from workflows.core.errors import did_you_mean
from workflows.core.expressions.filters import FILTERS, TESTS
from workflows.core.expressions.meter import RANGE
from workflows.core.expressions.sandbox import METHODS, environment
from workflows.core.text.cut_text import cut

RESULT = "result"
"""Name an expression's value is assigned to in the compiled code."""

_DEPTH = 60
_LOOPS = 8
_ALL_METHODS = frozenset().union(*METHODS.values())
_PLAIN = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.If,
    nodes.With,
    nodes.Name,
    nodes.Const,
    nodes.Tuple,
    nodes.List,
    nodes.Dict,
    nodes.Pair,
    nodes.Keyword,
    nodes.CondExpr,
    nodes.Concat,
    nodes.Compare,
    nodes.Operand,
    nodes.Slice,
    nodes.Getitem,
    nodes.Add,
    nodes.Sub,
    nodes.Mul,
    nodes.Div,
    nodes.FloorDiv,
    nodes.Mod,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.Neg,
    nodes.Pos,
)
_TAGS: dict[type[nodes.Node], str] = {
    nodes.Macro: "macro",
    nodes.CallBlock: "call",
    nodes.FilterBlock: "filter",
    nodes.AssignBlock: "set ... endset",
    nodes.Block: "block",
    nodes.Extends: "extends",
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "from ... import",
    nodes.ScopedEvalContextModifier: "autoescape",
    nodes.ExprStmt: "do",
}


class SyntaxFault(Exception):
    """What is wrong with a source, and where: `line` from 1, `word` to find the column by."""

    def __init__(self, message: str, cure: str = "", line: int = 1, word: str = "") -> None:
        super().__init__(message)
        self.message, self.cure, self.line, self.word = message, cure, line, word


@dataclass(frozen=True, slots=True)
class Reading:
    """What a source reads from its scope."""

    names: frozenset[str]
    steps: frozenset[str]


def read(source: str, expression: bool) -> Reading:
    """Check a source and say what it reads. Raises SyntaxFault."""
    tree = parse(source, expression)
    seen: list[nodes.Node] = []
    _check(tree, 0, 0, seen)
    return Reading(frozenset(_free_names(tree)), frozenset(_step_ids(seen)))


def parse(source: str, expression: bool) -> nodes.Template:
    """The syntax tree; an expression becomes one assignment to `RESULT`. Raises SyntaxFault."""
    try:
        return _parse_expression(source) if expression else environment().parse(source)
    except TemplateSyntaxError as exc:
        raise SyntaxFault(_message(exc), _syntax_cure(source, expression), exc.lineno) from None
    except RecursionError:
        raise SyntaxFault("it is nested too deeply", "split it into smaller parts") from None


def _parse_expression(source: str) -> nodes.Template:
    parser = Parser(environment(), source, state="variable")
    made = parser.parse_expression()
    if not parser.stream.eos:
        token = parser.stream.current
        raise TemplateSyntaxError(f"unexpected {token.value!r} after the expression", token.lineno)
    tree = nodes.Template([nodes.Assign(nodes.Name(RESULT, "store"), made, lineno=1)], lineno=1)
    tree.set_environment(environment())
    return tree


def _message(exc: TemplateSyntaxError) -> str:
    text = exc.message or "it cannot be read"
    tag = re.search(r"Encountered unknown tag '(\w+)'", text)
    if tag:
        return f"the tag {{% {tag[1]} %}} is not known here"
    return cut(text.rstrip("."), 300)


def _syntax_cure(source: str, expression: bool) -> str:
    if expression and source.strip().startswith(("{{", "{%")):
        return "write the expression alone, without {{ }} or {% %}"
    if expression:
        return "write a Jinja2 expression such as: score >= 0.8 and not draft"
    return "write Jinja2: {{ name }}, {% if x %}...{% endif %}, {% for x in xs %}...{% endfor %}"


# --- what is refused ----------------------------------------------------------------------------------


def _check(node: nodes.Node, depth: int, loops: int, seen: list[nodes.Node]) -> None:
    """Refuse what is not data work; collect every node in `seen`."""
    seen.append(node)
    loops += isinstance(node, nodes.For)
    if depth > _DEPTH or loops > _LOOPS:
        raise SyntaxFault("it is nested too deeply", "split it into smaller parts", node.lineno)
    if not isinstance(node, _PLAIN):
        _check_kind(node)
    elif isinstance(node, nodes.Sub):
        _check_hyphen(node)
    elif isinstance(node, nodes.Name) and node.name == "self":
        raise SyntaxFault("'self' is Jinja's own name", "choose another name", node.lineno, "self")
    for child in node.iter_child_nodes():
        _check(child, depth + 1, loops, seen)


def _check_kind(node: nodes.Node) -> None:
    if isinstance(node, nodes.For):
        if node.recursive:
            raise SyntaxFault(
                "a recursive loop is not allowed", "write nested loops", node.lineno, "recursive"
            )
    elif isinstance(node, nodes.Assign):
        _check_targets(node)
    elif isinstance(node, nodes.Filter):
        _check_known(node.name, FILTERS, "filter", node)
    elif isinstance(node, nodes.Test):
        _check_known(node.name, TESTS, "test", node)
    elif isinstance(node, nodes.Getattr):
        if node.attr.startswith("_"):
            cure = f"for a key of data write ['{node.attr}']"
            raise SyntaxFault(f"the field '{node.attr}' is private", cure, node.lineno, node.attr)
    elif isinstance(node, nodes.Call):
        _check_call(node)
    elif isinstance(node, nodes.Pow):
        raise SyntaxFault("'**' is not allowed", "write the multiplication out", node.lineno, "**")
    else:
        tag = _TAGS.get(type(node))
        what = f"{{% {tag} %}}" if tag else type(node).__name__
        raise SyntaxFault(f"{what} is not allowed", "use if, for, set, filters and {{ }} only", node.lineno)


def _check_targets(node: nodes.Assign) -> None:
    for target in (node.target, *node.target.find_all((nodes.NSRef, nodes.Name))):
        if isinstance(target, nodes.NSRef):
            raise SyntaxFault("a field cannot be set", "set a plain name", node.lineno, "set")
        if isinstance(target, nodes.Name) and target.name == "steps":
            raise SyntaxFault("'steps' cannot be set", "choose another name", node.lineno, "steps")


def _check_known(name: str | None, known: frozenset[str], what: str, node: nodes.Node) -> None:
    if name not in known:
        raise SyntaxFault(
            f"there is no {what} '{name}'", did_you_mean(str(name), known), node.lineno, str(name)
        )


def _check_call(node: nodes.Call) -> None:
    if node.dyn_args is not None or node.dyn_kwargs is not None:
        raise SyntaxFault("'*' and '**' in a call are not allowed", "write the arguments out", node.lineno)
    called = node.node
    if isinstance(called, nodes.Name) and called.name == "range":
        return _check_range(node)
    if isinstance(called, nodes.Getattr) and called.attr in _ALL_METHODS:
        return None
    name = called.name if isinstance(called, nodes.Name) else getattr(called, "attr", "")
    cure = "use a filter (value | filter), or one of: range, " + ", ".join(sorted(_ALL_METHODS))
    raise SyntaxFault(f"calling '{name}' is not allowed", cure, node.lineno, str(name))


def _check_range(node: nodes.Call) -> None:
    values = [arg.value for arg in node.args if isinstance(arg, nodes.Const)]
    if len(values) != len(node.args) or not all(type(v) is int for v in values):
        return
    try:
        length = len(range(*values))
    except (TypeError, ValueError, OverflowError) as exc:
        raise SyntaxFault(
            f"range: {exc}", "write range(stop) or range(start, stop)", node.lineno, "range"
        ) from None
    if length > RANGE:
        cure = f"a range may have {RANGE:,} items at most"
        raise SyntaxFault(f"the range has {length:,} items", cure, node.lineno, "range")


def _check_hyphen(node: nodes.Sub) -> None:
    """`steps.step-1` reads as a subtraction; nobody means that."""
    left = node.left
    if not (isinstance(left, nodes.Getattr) and _is_steps(left.node)):
        return
    if isinstance(node.right, (nodes.Const, nodes.Name)):
        right = node.right.value if isinstance(node.right, nodes.Const) else node.right.name
        cure = f"write steps['{left.attr}-{right}']"
        raise SyntaxFault(f"'steps.{left.attr}-{right}' is a subtraction", cure, node.lineno, "steps")


# --- what is read -------------------------------------------------------------------------------------


def _free_names(tree: nodes.Template) -> set[str]:
    """The names a source reads from outside.

    Jinja's own answer costs a whole code generation; it is asked only where a name may or may not be set.
    """
    conditional = any(list(node.find_all(nodes.Assign)) for node in tree.find_all(nodes.If))
    if conditional:
        return find_undeclared_variables(tree)
    found: set[str] = set()
    _collect(tree.body, set(), found)
    return found - environment().globals.keys()


def _collect(body: Iterable[nodes.Node], bound: set[str], found: set[str]) -> None:
    """Add the names read in `body` that are not `bound`; what a `set` binds holds for what follows."""
    for node in body:
        if isinstance(node, nodes.For):
            _collect([node.iter], bound, found)
            inner = bound | {"loop"} | _targets(node.target)
            _collect([node.test] if node.test is not None else [], inner, found)
            _collect(node.body, inner, found)
            _collect(node.else_, set(bound), found)
        elif isinstance(node, nodes.With):
            _collect(node.values, bound, found)
            _collect(node.body, bound.union(*map(_targets, node.targets)), found)
        elif isinstance(node, nodes.Assign):
            _collect([node.node], bound, found)
            bound |= _targets(node.target)
        elif isinstance(node, nodes.Name):
            if node.name not in bound:
                found.add(node.name)
        else:
            _collect(node.iter_child_nodes(), bound, found)


def _targets(target: nodes.Node) -> set[str]:
    """The names a loop, `set` or `with` binds."""
    names = {target.name} if isinstance(target, nodes.Name) else set()
    return names | {name.name for name in target.find_all(nodes.Name)}


def _is_steps(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and node.name == "steps" and node.ctx == "load"


def _step_ids(seen: list[nodes.Node]) -> Iterator[str]:
    """Ids in `steps.x` and `steps['x']`. Edges are drawn from them, so any other use is refused."""
    read_by_id = set()
    for node in seen:
        if not isinstance(node, (nodes.Getattr, nodes.Getitem)) or not _is_steps(node.node):
            continue
        if isinstance(node, nodes.Getattr):
            yield node.attr
        elif isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
            yield node.arg.value
        else:
            continue
        read_by_id.add(id(node.node))
    for node in seen:
        if _is_steps(node) and id(node) not in read_by_id:
            cure = "name the step: steps['step-1']"
            raise SyntaxFault("'steps' is read without the id of a step", cure, node.lineno, "steps")


# --- the meter ----------------------------------------------------------------------------------------


class Metering(NodeTransformer):
    """Charges what Jinja's own sandbox lets pass uncounted: loops, literals, `~`, comparisons."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        body = sum(1 for part in (*node.body, node.test) if part is not None for _ in _walk(part))
        self.generic_visit(node)
        node.iter = _filter(node.iter, "*each", nodes.Const(body + 1))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filter(node.nodes[0], "*concat", *node.nodes[1:])

    def visit_List(self, node: nodes.List) -> nodes.Node:
        self.generic_visit(node)
        return _filter(node, "*weighed")

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        return _filter(node, "*weighed")

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _filter(node, "*weighed") if node.ctx == "load" else node

    def visit_Call(self, node: nodes.Call) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node.node, nodes.Getattr):
            node.node.node = _filter(node.node.node, "*weighed")
        return _filter(node, "*weighed")

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _filter(node.expr, "*weighed")
        for operand in node.ops:
            operand.expr = _filter(operand.expr, "*weighed")
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _filter(node.node, "*weighed")
        return node


def _filter(node: nodes.Node, name: str, *args: nodes.Expr) -> nodes.Expr:
    assert isinstance(node, nodes.Expr)
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)


def _walk(node: nodes.Node) -> Iterator[nodes.Node]:
    yield node
    for child in node.iter_child_nodes():
        yield from _walk(child)


def parse_metered(source: str, expression: bool) -> nodes.Template:
    """The tree of a checked source with the meter in it, ready to compile."""
    tree: nodes.Template = Metering().visit(parse(source, expression))
    tree.set_environment(environment())
    return tree
