"""Pictures of plans: every step once, valid in each format, readable boxes that do not overlap."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.plans import delivery, plan, step
from workflows.core.errors import UsageError
from workflows.core.graph.drawing import draw
from workflows.core.graph.layout import Box, arrange, layers_of
from workflows.core.graph.picture import picture_of
from workflows.core.graph.svg import text_width
from workflows.core.plans.plan import (
    ApprovalPlan,
    AwaitEventPlan,
    ForEachPlan,
    MergePlan,
    Plan,
    RepeatPlan,
    SkillPlan,
)

SVG = "{http://www.w3.org/2000/svg}"
FORMATS: tuple[Any, ...] = ("mermaid", "dot", "svg")

MERMAID_LINE = re.compile(
    r"\s*("
    r'n\d+(_m\d+)?(\(\[|\[|\{\{|>)"[^"\n]+"(\]\)|\]|\}\})'
    r'|subgraph n\d+\["[^"\n]+"\]|direction TB|end'
    r'|n\d+ (-->\|"[^"\n]+"\||-\.->) n\d+'
    r"|style n\d+ fill:#\w{6},stroke:#\w{6},color:#\w{6}(,stroke-dasharray:4 3)?"
    r"|accTitle: [\w .-]+|flowchart TB|%%\{init: .*\}%%"
    r")"
)
DOT_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|[{}\[\];=,]|->|[A-Za-z_]\w*|[\d.]+|\s+')


def rich() -> Plan:
    """Everything a picture can show."""
    inner = plan(
        "phase-chain",
        step("goals", reads=("event",)),
        step(
            "tasks",
            reads=("goals",),
            depends_on=("goals",),
            repeat=RepeatPlan(until="tasks\n| length", max=3),
        ),
        inputs=("event",),
    )
    merged = MergePlan(agent=step("m", "agent-m").agents[0])
    skill = SkillPlan(id="shared/communication", name="c", description="", folder="", digest="")
    return plan(
        'rich "quoted" <流程> [x] & more',
        step("a", name='读取 "文件" [1] <b> #quot; `x` %% ; \\n', reads=("src",), makes="rows"),
        step(
            "b",
            reads=("rows",),
            depends_on=("a",),
            makes="scores",
            for_each=ForEachPlan(items="rows", max_concurrent=4),
            when="rows | length > 0",
        ),
        step(
            "chain", (), kind="workflow", workflow=inner, depends_on=("a",), reads=("rows",), makes="planned"
        ),
        step(
            "review",
            ("agent-p", "agent-q"),
            reads=("scores", "planned"),
            depends_on=("b", "chain"),
            merge=merged,
        ),
        step("publish", (), kind="skill", skill=skill, depends_on=("review",)),
        inputs=("src", "unread"),
        finally_=(
            step("notify", reads=("review", "src"), depends_on=("review",)),
            step("z", depends_on=("notify",)),
        ),
    )


def mermaid_of(source: Plan, **more: Any) -> str:
    """The chart, every line of it checked."""
    text = draw(source, "mermaid", **more)
    depth = 0
    for line in text.splitlines():
        assert MERMAID_LINE.fullmatch(line), line
        depth += line.strip().startswith("subgraph") - (line.strip() == "end")
        assert depth >= 0
    assert depth == 0
    return text


def dot_of(source: Plan) -> str:
    """The graph, split into dot's tokens without a rest."""
    text = draw(source, "dot")
    at = 0
    for token in DOT_TOKEN.finditer(text):
        assert token.start() == at, text[at : at + 40]
        at = token.end()
    assert at == len(text)
    quiet = re.sub(r'"(?:\\.|[^"\\])*"', '""', text)
    assert quiet.count("{") == quiet.count("}")
    return text


def svg_of(source: Plan, **more: Any) -> ET.Element:
    """The drawing, parsed."""
    return ET.fromstring(draw(source, "svg", **more))


def boxes_of(root: ET.Element) -> Iterator[tuple[str, float, float, float, float]]:
    """Each node's id with x, y, width and height in its own group."""
    for group in root.iter(f"{SVG}g"):
        if group.get("id"):
            yield group.get("id", ""), *_bounds(group)


def _bounds(group: ET.Element) -> tuple[float, float, float, float]:
    box, cut = group.find(f"{SVG}rect"), group.find(f"{SVG}polygon")
    if cut is not None:
        points = [tuple(map(float, point.split(","))) for point in cut.get("points", "").split()]
        (left, top), (right, bottom) = (
            map(min, zip(*points, strict=True)),
            map(max, zip(*points, strict=True)),
        )
        return left, top, right - left, bottom - top
    assert box is not None
    x, y, width, height = (float(box.get(k, "0")) for k in ("x", "y", "width", "height"))
    return x, y, width, height


def test_mermaid_of_the_delivery() -> None:
    text = mermaid_of(delivery())
    assert 'n3["step-1 需求分析<br/>agent-pm-002 · claude-opus-5-5"]' in text
    assert 'subgraph n6["step-4 交付评审 · panel of 3"]' in text
    assert 'n6_m2(["agent-ai-001"])' in text
    assert 'n0 -->|"user_feedback"| n3' in text
    assert 'n3 -->|"product_spec"| n6' in text
    assert "-.->" not in text


def test_edges_without_data_are_dashed() -> None:
    source = plan("p", step("a"), step("b", depends_on=("a",)))
    assert "n0 -.-> n1" in mermaid_of(source)
    assert "n0 -> n1 [style=dashed];" in dot_of(source)
    assert "stroke-dasharray" in draw(source, "svg")


def test_everything_is_shown_in_every_format() -> None:
    for text in (mermaid_of(rich()), dot_of(rich()), draw(rich(), "svg")):
        for part in (
            *("when rows", "for each (4 at once): rows", "repeat (at most 3) until tasks", "agent-q"),
            *("shared/communication", "workflow phase-chain", "merged by agent-m", "finally", "notify"),
            *("unread", "event", "scores"),
        ):
            assert part in text, part


def asking() -> Plan:
    """Steps that wait: people with a deadline, anybody, an outside system."""
    several = ApprovalPlan(
        ask="?",
        assignees=("alice", "bob"),
        quorum=2,
        deadline=86_400,
        on_timeout="escalate",
        escalate_to=("carol",),
    )
    event = AwaitEventPlan(type="payment.settled", key="{{ decision\n.data.id }}", deadline=60)
    return plan(
        "asking",
        step("decide", (), kind="approval", approval=several, reads=("order",), makes="decision"),
        step("any", (), kind="approval", approval=ApprovalPlan(ask="?"), depends_on=("decide",)),
        step(
            "paid",
            (),
            kind="await_event",
            await_event=event,
            depends_on=("any",),
            reads=("order", "decision"),
        ),
        step("three", (), kind="approval", approval=ApprovalPlan(ask="?", quorum=3), depends_on=("paid",)),
        inputs=("order",),
    )


def test_steps_that_wait_have_shapes_of_their_own() -> None:
    chart, graph, root = mermaid_of(asking()), dot_of(asking()), svg_of(asking())
    assert 'n1{{"decide<br/>approval by 2 of alice, bob<br/>deadline 1d, then escalate to carol"}}' in chart
    assert 'n2{{"any<br/>approval by anybody"}}' in chart
    assert 'n3>"paid<br/>event payment.settled, key #123;#123; decision .data.id #125;#125;' in chart
    assert 'n4{{"three<br/>approval by any 3 people"}}' in chart
    assert graph.count("shape=hexagon") == 3 and graph.count("shape=cds") == 1
    assert len(list(root.iter(f"{SVG}polygon"))) == 4
    assert sorted(box[0] for box in boxes_of(root)) == ["any", "decide", "input:order", "paid", "three"]


def test_what_people_wrote_never_becomes_syntax() -> None:
    text = mermaid_of(rich())
    assert "#34;文件#34; #91;1#93; #60;b#62; #35;quot#59; #96;x#96; #37;#37; #59; #92;n" in text
    assert 'n0["1#46; list' in mermaid_of(plan("p", step("1. list")))
    assert 'n0["#45; list' in mermaid_of(plan("p", step("- list")))
    assert '\\"文件\\"' in dot_of(rich())
    assert "\\\\n" in dot_of(rich())


def test_edges_of_groups_in_dot_end_at_the_group() -> None:
    text = dot_of(rich())
    cluster = re.search(r'subgraph (cluster_n\d+) \{\n\s+graph \[label="chain', text)
    assert cluster
    assert f"lhead={cluster[1]}" in text
    assert f"ltail={cluster[1]}" in text


def test_svg_is_complete_and_accessible() -> None:
    root = svg_of(rich())
    assert root.get("role") == "img"
    title, about = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None
    assert about is not None
    assert title.text == 'rich "quoted" <流程> [x] & more'
    assert (about.text or "").startswith("5 steps: a ")
    ids = [box[0] for box in boxes_of(root)]
    assert sorted(ids) == sorted(node.id for node in picture_of(rich()).flat())
    assert min(float(t.get("font-size", "0")) for t in root.iter(f"{SVG}text")) >= 11
    text = draw(rich(), "svg")
    assert "<script" not in text
    assert text.count("http") == 1  # the namespace


def test_states_colour_the_steps() -> None:
    states = {"a": "completed", "b": "failed", "chain/goals": "running", "notify": "skipped", "review": "odd"}
    text = mermaid_of(rich(), states=states)
    assert text.count("fill:#dafbe1") == 1
    assert text.count("fill:#ffebe9") == 1
    assert "stroke-dasharray" in text
    shown = [t.text for t in svg_of(rich(), states=states).iter(f"{SVG}text")]
    assert {"completed", "failed", "running", "skipped", "odd"} <= set(shown)


def test_an_unknown_format_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="svgg") as caught:
        draw(delivery(), "svgg")  # type: ignore[arg-type]
    assert "did you mean 'svg'?" in caught.value.cure


def test_a_wide_fan_out_is_drawn_from_left_to_right() -> None:
    parts = [step(f"part-{n}", reads=("corpus",), depends_on=("collect",)) for n in range(50)]
    names = tuple(f"part-{n}" for n in range(50))
    source = plan("fan", step("collect", makes="corpus"), *parts, step("join", reads=names, depends_on=names))
    root = svg_of(source)
    assert float(root.get("width", "0")) < 1_100
    assert len(list(boxes_of(root))) == 52


def test_chinese_is_wider() -> None:
    assert text_width("需求", 10) == 20
    assert text_width("ab", 10) < 14


def test_an_empty_plan_has_a_picture() -> None:
    for kind in FORMATS:
        assert draw(plan("empty"), kind)


def test_layers_put_sources_next_to_what_they_feed() -> None:
    #  0 -> 1 -> 2 -> 3 and 4 -> 3: the source 4 stands one layer before 3
    assert layers_of(5, [(0, 1), (1, 2), (2, 3)]) == [0, 1, 2, 3, 0]
    assert layers_of(5, [(0, 2), (2, 3), (1, 4), (3, 4)]) == [0, 2, 1, 2, 3]
    assert layers_of(3, [(0, 1)], last=[2]) == [0, 1, 2]


def test_crossings_are_removed_where_they_can_be() -> None:
    boxes = [Box(10, 10)] * 6
    layout = arrange(boxes, [(0, 5), (1, 4), (2, 3)], 10, 5)
    across = [corner[1] for corner in layout.corners]
    pairs = sorted((across[a], across[b]) for a, b in ((0, 5), (1, 4), (2, 3)))
    assert [b for _, b in pairs] == sorted(b for _, b in pairs)


TEXT = st.text(max_size=20)


@st.composite
def plans(make: st.DrawFn) -> Plan:
    """Any plan: steps read and wait for earlier ones, with names of all kinds."""
    count = make(st.integers(0, 12))
    inputs = make(st.lists(st.sampled_from(["in1", "in2", "输入"]), unique=True))
    steps = []
    for n in range(count):
        before = [f"s{m}" for m in range(n)]
        choose = st.lists(st.sampled_from(before), unique=True, max_size=3) if before else st.just([])
        reads = [f"out-{s}" for s in make(choose)] + make(
            st.lists(st.sampled_from(["in1", "nobody"]), max_size=1)
        )
        doers = make(st.sampled_from(["agent", ["p", "q"], [], "approval", "await_event"]))
        waits = {
            "approval": {"kind": "approval", "approval": ApprovalPlan(ask="?", deadline=5)},
            "await_event": {"kind": "await_event", "await_event": AwaitEventPlan(type=make(TEXT) or "x")},
        }
        more: dict[str, Any] = waits.get(str(doers), {})
        steps.append(
            step(
                f"s{n}",
                [] if more else doers,
                **more,
                name=make(TEXT),
                makes=f"out-s{n}",
                reads=tuple(reads),
                depends_on=tuple(make(choose)),
                when=make(st.none() | TEXT),
            )
        )
    last = (
        (step("end", name=make(TEXT), reads=tuple(f"out-{s.id}" for s in steps[:2])),)
        if make(st.booleans())
        else ()
    )
    return plan(make(TEXT), *steps, inputs=inputs, finally_=last)


@settings(max_examples=120, deadline=None)
@given(plans())
def test_any_plan_draws_every_step_once(source: Plan) -> None:
    nodes = picture_of(source).flat()
    text = mermaid_of(source)
    for number in range(len(nodes)):
        assert len(re.findall(rf'^\s*(?:subgraph )?n{number}(?:\(\[|\[|\{{\{{|>)"', text, re.MULTILINE)) == 1
    graph = dot_of(source)
    for number in range(len(nodes)):
        assert len(re.findall(rf"^\s*(?:subgraph cluster_)?n{number} (?:\[|\{{)", graph, re.MULTILINE)) == 1
    root = svg_of(source)
    boxes = list(boxes_of(root))
    assert sorted(box[0] for box in boxes) == sorted(node.id for node in nodes)
    outer = [box for box in boxes if box[0] != "end"]
    for n, (_, x, y, width, height) in enumerate(outer):
        for _, x2, y2, width2, height2 in outer[n + 1 :]:
            apart = x + width <= x2 or x2 + width2 <= x or y + height <= y2 or y2 + height2 <= y
            assert apart, "two boxes overlap"
        assert 0 <= x <= x + width <= float(root.get("width", "0"))
        assert 0 <= y <= y + height <= float(root.get("height", "0"))


def test_a_large_plan_is_drawn() -> None:
    steps = [
        step(
            f"s{n}",
            depends_on=tuple({f"s{n // 2}", f"s{max(0, n - 7)}"} - {f"s{n}"}),
            reads=("s0",) if n else (),
        )
        for n in range(400)
    ]
    assert len(list(boxes_of(svg_of(plan("large", *steps))))) == 400


def test_a_step_that_reads_its_own_output_has_no_line_to_itself() -> None:
    assert mermaid_of(plan("p", step("a"), step("b", reads=("a", "b")))).count("-->") == 1
