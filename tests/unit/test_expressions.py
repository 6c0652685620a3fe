"""Templates and expressions: what they compute, what they refuse, and that nothing makes them run on."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Environment
from jinja2.meta import find_undeclared_variables

from workflows.core.errors import PhaselineError
from workflows.core.expressions.templates import Expression, ExpressionError, Template

SCOPE: dict[str, Any] = {
    "feedback": "太慢了",
    "score": 0.9,
    "none": None,
    "rows": [{"name": "甲", "n": 1}, {"name": "乙", "n": 3}],
    "review": {"items": 2, "verdict": {"passed": True}, "_id": "x"},
    "steps": {"step-1": {"output": "spec"}},
    "long": "a" * 100_000,
}


def value(source: str, scope: Mapping[str, Any] = SCOPE) -> Any:
    return Expression.parse(source).evaluate(scope)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("score >= 0.8 and not none", True),
        ("rows | selectattr('n', 'gt', 1) | map(attribute='name')", ["乙"]),
        ("rows | sum(attribute='n')", 4),
        ("rows | map(attribute='name') | join('、')", "甲、乙"),
        ("rows | tojson", '[{"name": "甲", "n": 1}, {"name": "乙", "n": 3}]'),
        ("'[1, {\"a\": null}]' | from_json", [1, {"a": None}]),
        ("'a\n\n b \n' | lines", ["a", "b"]),
        ("'a  b' | words | length", 2),
        ("review.items", 2),
        ("review['_id']", "x"),
        ("steps['step-1'].output ~ '!' ~ 1", "spec!1"),
        ("range(3)", [0, 1, 2]),
        ("missing is defined", False),
        ("missing | default('x')", "x"),
        ("feedback if true else missing", "太慢了"),
        ("'no'", "no"),
        ("rows[0:1] | length", 1),
        ("rows | groupby('n') | map(attribute='grouper')", [1, 3]),
        ("feedback.startswith('太') and 'a' in 'abc'", True),
        ("review.verdict.get('gone', 7)", 7),
        ("1 + 2 * 3 - 4 / 2", 5.0),
        ("'a-b' | replace('-', '+')", "a+b"),
        ("2.345 | round(1, 'ceil')", 2.4),
        ("[1, 2, 3] | batch(2)", [[1, 2], [3]]),
        ("{'a': none, 'b': (1, 2)}", {"a": None, "b": [1, 2]}),
    ],
)
def test_expression_computes(source: str, expected: Any) -> None:
    assert value(source) == expected


def test_lone_name_gives_the_value_itself() -> None:
    thing = object()
    assert value("thing", {"thing": thing}) is thing
    assert value(" (thing) ", {"thing": thing}) is thing


def test_a_name_called_result_is_an_ordinary_name() -> None:
    assert Expression.parse("result > 3").names == {"result"}
    assert value("result > 3", {"result": 4}) is True


@pytest.mark.parametrize(
    ("source", "true"),
    [
        ("'false'", True),
        ("'no'", True),
        ("''", False),
        ("[]", False),
        ("0", False),
        ("none", False),
        ("{}", False),
    ],
)
def test_truth_is_pythons(source: str, true: bool) -> None:
    assert Expression.parse(source).holds({}) is true


def test_template_prints_text_null_and_json() -> None:
    source = (
        "{{ feedback }}|{{ none }}|{{ true }}|{{ rows[0] }}\n"
        "{% for r in rows if r.n > 0 %}\n"
        "  {% set label = r.name ~ loop.index %}\n"
        "{{ label }}/{{ loop.length }}\n"
        "{% endfor %}"
    )
    made = Template.parse(source)
    assert made.names == {"feedback", "rows"}
    assert made.render(SCOPE) == '太慢了||true|{"name": "甲", "n": 1}\n甲1/2\n乙2/2\n'


def test_plain_text_is_rendered_as_it_is() -> None:
    text = "没有变量 100% # }} \n"
    assert Template.parse(text).render({}) == text


def test_sources_are_values() -> None:
    assert Expression.parse("a") == Expression.parse("a") != Expression.parse("b")
    assert len({Template.parse("{{ a }}"), Template.parse("{{ a }}")}) == 1
    assert Template.parse("x") != Expression.parse("x")


def test_names_and_steps_are_what_is_read_from_outside() -> None:
    made = Template.parse(
        "{% for x in xs %}{{ x.y }}{{ steps.a.output }}{% endfor %}{{ steps['b-2'] }}{{ range(2) }}"
    )
    assert made.names == {"xs", "steps"}
    assert made.steps == {"a", "b-2"}


@pytest.mark.parametrize(
    "source",
    [
        "{{ a.b[c] | default(d) }}{{ range(e) }}",
        "{% for x, y in pairs if x > limit %}{{ loop.index }}{{ z }}{% else %}{{ x }}{% endfor %}{{ y }}",
        "{{ x }}{% set x = x2 %}{{ x }}{% set a, b = c %}{{ a }}{{ b }}",
        "{% for i in xs %}{% set t = i %}{{ t }}{% endfor %}{{ t }}",
        "{% if a %}{% set b = 1 %}{% endif %}{{ b }}",
        "{% if a %}{{ b }}{% elif c %}{{ d }}{% else %}{{ e }}{% endif %}",
        "{% with p = q %}{{ p }}{% endwith %}{{ p }}{{ loop }}",
        "{% for x in x %}{{ x }}{% endfor %}",
        "{{ a if b else c }}{{ d is divisibleby(e) }}{{ f[g:h] }}{{ {'i': j, k: l} }}",
    ],
)
def test_free_names_are_those_jinja_finds(source: str) -> None:
    environment = Environment()
    assert Template.parse(source).names == find_undeclared_variables(environment.parse(source))


@pytest.mark.parametrize(
    ("source", "cure"),
    [
        ("steps", "steps['step-1']"),
        ("steps | length", "steps['step-1']"),
        ("steps[name].output", "steps['step-1']"),
        ("steps.step-1", "steps['step-1']"),
    ],
)
def test_steps_are_read_by_a_written_id(source: str, cure: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        Expression.parse(source)
    assert cure in caught.value.cure


class Store(Mapping[str, Any]):
    """Loads on access and remembers what it loaded."""

    def __init__(self) -> None:
        self.loaded: list[str] = []

    def __getitem__(self, key: str) -> Any:
        if key not in ("a", "b"):
            raise KeyError(key)
        self.loaded.append(key)
        return {"key": key}

    def __iter__(self) -> Iterator[str]:
        return iter(("a", "b"))

    def __len__(self) -> int:
        return 2


def test_only_what_is_read_is_loaded() -> None:
    scope, steps = Store(), Store()
    assert value("a.key", scope) == "a"
    assert scope.loaded == ["a"]
    assert value("steps['b'].key", {"steps": steps}) == "b"
    assert steps.loaded.count("a") == 0
    assert value("n + 1", {"n": lambda: 4}) == 5


def test_a_fault_of_the_store_is_not_blamed_on_the_source() -> None:
    def broken() -> Any:
        raise OSError("disk gone")

    for scope in ({"x": broken}, {"x": _Broken()}):
        with pytest.raises(OSError, match="disk gone"):
            value("x['y'] ~ ''", scope)


class _Broken(Store):
    def __getitem__(self, key: str) -> Any:
        raise OSError("disk gone")


@pytest.mark.parametrize(
    ("source", "part", "position"),
    [
        ("feedbak", "nothing is called 'feedbak'", (1, 1)),
        ("1 +\n  feedbak", "nothing is called 'feedbak'", (2, 3)),
        ("review.verdit", "no field 'verdit'; did you mean 'verdict'", (1, 0)),
        ("rows[9].n", "has no item 9", (1, 0)),
        ("feedback + 1", "to join texts write a ~ b", (1, 0)),
        ("'%s' % 3", "put values into text", (1, 0)),
        ("1 / 0", "division by zero", (1, 0)),
        ("rows | map(attribute='m') | list", "no field 'm'", (1, 0)),
        ("'{' | from_json", "not JSON", (1, 0)),
        ("rows < 3", "not supported", (1, 0)),
        ("rows | sum", "sum needs numbers", (1, 0)),
        ("range('a')", "integer", (1, 0)),
    ],
)
def test_faults_at_run_time_say_what_and_where(source: str, part: str, position: tuple[int, int]) -> None:
    with pytest.raises(ExpressionError) as caught:
        value(source)
    assert part in caught.value.message
    assert caught.value.position == position
    assert caught.value.cure
    assert isinstance(caught.value, PhaselineError)


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("", "empty"),
        ("a b", "after the expression"),
        ("{{ a }}", "cannot|expected|unexpected|got"),
        ("a | uper", "no filter 'uper'"),
        ("a is definde", "no test 'definde'"),
        ("2 ** 8", "'\\*\\*'"),
        ("a.__class__", "private"),
        ("a._secret", "private"),
        ("f(1)", "calling 'f'"),
        ("a.format(1)", "calling 'format'"),
        ("a.__class__()", "private|calling"),
        ("range(*a)", "'\\*'"),
        ("range(1000000)", "1,000,000 items"),
        ("dict(a=1)", "calling 'dict'"),
        ("self", "Jinja's own"),
        ("(" * 500 + "1" + ")" * 500, "nested too deeply"),
        ("not " * 900 + "1", "nested too deeply"),
        ("-" * 3000 + "1", "nested too deeply"),
        ("'" + "a" * 5000 + "'", "4 KB"),
        ("'" + "好" * 1500 + "'", "4 KB"),
        ("a | random", "no filter 'random'"),
        ("'unclosed", "unexpected|end"),
        ("a.b.", "expected|unexpected"),
    ],
)
def test_expressions_refused_when_read(source: str, part: str) -> None:
    with pytest.raises(ExpressionError, match=part):
        Expression.parse(source)


@pytest.mark.parametrize(
    "source",
    [
        "{% macro m() %}{% endmacro %}",
        "{% import 'x' as y %}",
        "{% from 'x' import y %}",
        "{% include 'x' %}",
        "{% extends 'x' %}",
        "{% block b %}{% endblock %}",
        "{% call x() %}{% endcall %}",
        "{% filter upper %}x{% endfilter %}",
        "{% set x %}y{% endset %}",
        "{% set ns.x = 1 %}",
        "{% set steps = 1 %}",
        "{% autoescape true %}{% endautoescape %}",
        "{% for x in y recursive %}{{ loop(x) }}{% endfor %}",
        "{% do x %}",
        "{% nonsense %}",
        "{% if x %}",
        "{{ x",
        "{{ x|*weighed }}",
        "{% for a in a %}" * 9 + "{% endfor %}" * 9,
        "x" * 70_000 + "{{ a }}",
        "{{ cycler('a') }}{{ lipsum() }}",
        "{{ namespace(a=1) }}",
    ],
)
def test_templates_refused_when_read(source: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        Template.parse(source)
    assert caught.value.message
    assert caught.value.exit_code == 2


def test_the_line_and_column_of_a_mistake() -> None:
    with pytest.raises(ExpressionError) as caught:
        Template.parse("one\ntwo {{ a | uper }}\n")
    assert caught.value.position == (2, 12)
    assert "did you mean 'upper'?" in caught.value.cure
    assert Template.parse("a\n{{ name }}").locate("name") == (2, 4)


ATTACKS = [
    "{{ ''['__class__'] }}",
    "{{ ''['__class__']['__mro__'] }}",
    "{{ [''] | map(attribute='__class__') | list }}",
    "{{ [rows] | map('attr', '__class__') | list }}",
    "{{ rows | map(attribute='__class__.__mro__') | list }}",
    "{{ rows | groupby('__class__') }}",
    "{{ rows | sort(attribute='__class__') }}",
    "{{ rows['append'] }}",
    "{{ long['join'] }}",
    "{{ range['__doc__'] }}",
    "{{ (rows | first)['pop'] }}",
    "{% for x in rows %}{{ loop['__init__'] }}{% endfor %}",
    "{% for x in rows %}{{ loop._iterable }}{% endfor %}",
    "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}",
    "{% for a in range(9000) %}{{ long | lower | length }}{% endfor %}",
    "{% for a in range(10000) %}" + "x" * 1000 + "{% endfor %}",
    "{% for a in range(10000) %}{{ long }}{% endfor %}",
    "{% for a in range(10000) %}{% if 'b' in long and 'b' in long and 'b' in long %}{% endif %}{% endfor %}",
    "{% set x = long %}" + "{% set x = x ~ x %}" * 40 + "{{ x | length }}",
    "{% set x = long %}" + "{% set x = x + x %}" * 40 + "{{ x | length }}",
    "{% set x = [1] %}" + "{% set x = x + x %}" * 60 + "{{ x | length }}",
    "{% set x = [1] %}" + "{% set x = [x, x] %}" * 60 + "{{ x }}",
    "{% set x = [1] %}" + "{% set x = {'a': x, 'b': x} %}" * 60 + "{{ x }}",
    "{% set x = (1,) %}" + "{% set x = (x, x) %}" * 60 + "{{ x == x }}",
    "{% set x = 9 %}" + "{% set x = x * x %}" * 60 + "{{ x }}",
    "{% set x = 9 %}" + "{% set x = x + x %}" * 2000 + "{{ x }}",
    "{{ 'a' * 1000000000 }}",
    "{{ [0] * 1000000000 }}",
    "{{ '%0999999999d' % 1 }}",
    "{{ long | replace('a', long) }}",
    "{{ rows | join(long * 9) }}",
    "{{ range(10000) | join(long) }}",
    "{{ 'a\nb' | indent(1000000000) }}",
    "{{ 'a\nb' | indent(long) }}",
    "{{ 1.5 | round(100000000, 'floor') }}",
    "{{ rows | batch(1000000000, 0) | list }}",
    "{{ rows | slice(1000000000) | list }}",
    "{{ range(1000000 * 1000000) }}",
    "{{ rows | tojson(indent=100000000) }}",
    "{{ '9' * 5000 }}",
    "{{ ('9' ~ long) | int + 1 ~ 'x' }}{{ 'a'.zfill(9) }}",
    "{{ long.split('') }}",
    "{{ [[]] | sum(start=[]) }}",
    "{{ '[' ~ ('[' | list | join) }}{{ ('[' ~ long) | from_json }}",
    "{{ long | map('upper') | map('upper') | map('upper') | map('list') | list | list | tojson | length }}"
    + "{{ long | list | unique | list }}" * 50
    + "{{ long | sort }}" * 500,
    "{% for a in range(9000) %}{{ long | title | length }}{% endfor %}",
    "{% for a in range(9000) %}{{ long | unique | length }}{% endfor %}",
    "{{ (long ~ long ~ long ~ long ~ long ~ long) | sort(attribute='a') }}",
]


@pytest.mark.parametrize("source", ATTACKS, ids=range(len(ATTACKS)))
def test_attack_ends_in_an_error(source: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        Template.parse(source).render(SCOPE)
    assert len(caught.value.message) < 2_000


def test_deeply_nested_data_is_refused_not_fatal() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    for source in ("x | tojson", "x == x", "[x]", "x ~ ''"):
        with pytest.raises(ExpressionError, match="nested more than"):
            value(source, {"x": deep})


def test_results_are_json_and_bounded() -> None:
    for bad in (object(), {1: 2}, {"a": {3}}):
        with pytest.raises(ExpressionError, match=r"JSON|text"):
            value("[x][0]", {"x": bad})
    with pytest.raises(ExpressionError, match="characters"):
        value("[x]", {"x": "a" * (9 * 2**20)})
    with pytest.raises(ExpressionError, match="262,144"):
        Template.parse("{{ x }}").render({"x": "a" * 300_000})


def test_ten_thousand_items_fit() -> None:
    rows = [{"id": n, "ok": n % 2 == 0, "text": "好" * 20} for n in range(10_000)]
    assert len(value("rows | selectattr('ok') | map(attribute='id')", {"rows": rows})) == 5_000


def test_works_in_any_thread() -> None:
    found: list[Any] = []

    def work(n: int) -> None:
        found.append(value("n * 2", {"n": n}))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [n * 2 for n in range(8)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(JSON)
def test_tojson_and_from_json_are_opposites(thing: Any) -> None:
    assert value("x | tojson | from_json", {"x": thing}) == thing
    assert json.loads(value("x | tojson", {"x": thing})) == thing


ATOMS = st.sampled_from(["a", "b.c", "1", "'x'", "rows", "none", "steps['s'].output", "a.b[0]"])
SOURCES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "~", "-", "*", "and", "==", "in", "<", "%", "//"]), inner).map(
            lambda t: f"({t[0]} {t[1]} {t[2]})"
        ),
        st.tuples(inner, st.sampled_from(["upper", "list", "tojson", "length", "join", "sort", "first"])).map(
            lambda t: f"{t[0]} | {t[1]}"
        ),
        st.lists(inner, max_size=3).map(lambda parts: "[" + ", ".join(parts) + "]"),
        inner.map(lambda x: f"({x} if a else {x})"),
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(SOURCES, st.dictionaries(st.sampled_from(["a", "b", "rows", "steps"]), JSON))
def test_any_expression_gives_json_or_an_expression_error(source: str, scope: dict[str, Any]) -> None:
    try:
        json.dumps(value(source, scope))
    except ExpressionError as exc:
        assert exc.message


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="{}%()[]'\"abc.|~+-*# \n1_:,set for in endfor if", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for kind in (Template, Expression):
        try:
            kind.parse(text)
        except ExpressionError as exc:
            assert exc.message


def test_the_deepest_allowed_nesting_compiles() -> None:
    for source in ("(" * 20 + "1" + " == 1)" * 20, "[" * 40 + "1" + "]" * 40, "not " * 50 + "1"):
        value(source)
    for source in ("1" + " + 1" * 55, "'a'" + " | upper" * 55, "a" + ".a" * 50 + " is defined"):
        try:
            value(source, {"a": {}})
        except ExpressionError as exc:
            assert "nothing" in exc.message or "no field" in exc.message, exc.message


@pytest.mark.parametrize(
    ("text", "word", "after", "position"),
    [
        ("facts first\n\nthen {{ facts }}", "facts", "", (3, 9)),
        ("{% if x %}\n{{ a\n + facts }}{% endif %}", "facts", "", (3, 4)),
        ("step-1 says\n{{ steps['step-1'].status }}", "step-1", "steps", (2, 11)),
        ("nothing", "facts", "", (1, 0)),
    ],
)
def test_a_name_is_found_where_it_is_read(
    text: str, word: str, after: str, position: tuple[int, int]
) -> None:
    assert Template.parse(text).locate(word, after) == position
