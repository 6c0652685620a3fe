"""What the offline model puts under which heading, and that it says nothing which it was not given."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blocks.offline import OfflineModel
from blocks.offline.outline import heading_for, requested_headings
from blocks.offline.words import PHRASES, plain
from tasks.outputs.stored import summary_of

Results = dict[str, Any]


def document(name: str, body: str, media_type: str = "text/markdown") -> str:
    return f'<document name="{name}" type="{media_type}">\n{body}\n</document>\n'


def written(text: str, results: Results | None = None, speaker: str = "", name: str = "answer") -> str:
    """The document for an instruction with its documents, after tools have answered."""
    note = f'<output_contract name="{name}" type="markdown">Markdown.</output_contract>'
    messages: list[dict[str, Any]] = [{"role": "user", "content": f"{text}\n\n{note}"}]
    if results:
        calls = [
            {"type": "tool_use", "id": f"t{n}", "name": tool, "input": {}} for n, tool in enumerate(results)
        ]
        told = [
            {"type": "tool_result", "tool_use_id": f"t{n}", "content": json.dumps(value, ensure_ascii=False)}
            for n, value in enumerate(results.values())
        ]
        messages += [{"role": "assistant", "content": calls}, {"role": "user", "content": told}]
    request = {
        "model": "m",
        "max_tokens": 100,
        "system": f"# {speaker}" if speaker else "",
        "messages": messages,
    }
    return asyncio.run(OfflineModel().send(request)).text


def section(text: str, name: str) -> str:
    """What stands under a heading, up to the next of its level; empty when there is none."""
    found = re.search(rf"^(#+) {re.escape(name)}\n(.*?)(?=^#{{1,2}} |\Z)", text, re.S | re.M)
    return found[2].strip() if found else ""


@pytest.mark.parametrize(
    ("instruction", "names"),
    [
        ("Write:\nInclude the sections:\n- Goal: why\n- Cost\n\nDone.", ["Goal", "Cost"]),
        (
            "方案依次包含：约束与假设、容量估算（写明假设、单位）、\n  上线步骤。随后说明：别的、事。",
            ["约束与假设", "容量估算", "上线步骤"],
        ),
        ("Include: goals (for whom, by when), cost\nand risks. Then stop.", ["goals", "cost", "risks"]),
        ("It must include, in this order: risks and cures, a gate.", ["risks and cures", "a gate"]),
        ("写：\n- 结论：通过 / 不通过\n- 本期不做、停止条件\n", ["结论", "本期不做", "停止条件"]),
        ("Include numbers:\n1. Read it.\n2. Count it.", []),
        ("Just answer.\n- number: FB-1", []),
    ],
)
def test_the_headings_that_are_asked_for(instruction: str, names: list[str]) -> None:
    assert requested_headings(instruction) == names


@pytest.mark.parametrize(
    ("name", "heading"),
    [
        ("confusion", "confusion matrix"),
        ("model_id", "model id"),
        ("Risk", "risks and cures"),
        ("停止条件", "本期不做与停止条件"),
        ("rows", None),
        ("a matrix of everything else", None),
        ("", None),
    ],
)
def test_what_a_heading_is_the_name_of(name: str, heading: str | None) -> None:
    asked = ["confusion matrix", "model id", "risks and cures", "本期不做与停止条件", "---"]
    assert heading_for(name, asked) == heading


def test_a_line_without_its_marks() -> None:
    texts = ("0.92", "1. Goal", "2、目标", "- **Goal**")
    assert [plain(text) for text in texts] == ["0.92", "Goal", "目标", "Goal"]


EVALUATION = {
    "model_id": "m-1",
    "accuracy": 0.90,
    "baseline": {"class": "0", "accuracy": 0.6},
    "confusion": {"0": {"0": 46, "1": 4}, "1": {"0": 5, "1": 29}},
    "model": {"algorithm": "a", "settings": {"depth": {"most": 2}}},
    "degradation": [{"level": 0, "answer": "model"}, {"level": 1, "answer": "a fixed rule"}],
}


class TestToolResults:
    def test_they_stand_under_the_heading_that_names_them(self) -> None:
        ask = "Report. Include: baseline, confusion matrix, degradation levels (in order), staffing."
        text = written(ask, {"ml__evaluate": EVALUATION})
        assert section(text, "baseline") == "- `baseline`: class: 0, accuracy: 0.6"
        table = "〔ml__evaluate · confusion〕\n\n| confusion | 0 | 1 |\n| --- | --- | --- |\n| 0 | 46 | 4 |"
        assert section(text, "confusion matrix").startswith(table)
        assert "| 1 | a fixed rule |" in section(text, "degradation levels")
        assert "found nothing for: staffing_" in section(text, "Left open")

    def test_what_no_heading_names_comes_after_and_nothing_twice(self) -> None:
        text = written("Report. Include: confusion matrix.", {"a": EVALUATION, "b": {"accuracy": 0.7}})
        rest = section(text, "Tool results")
        assert "### a\n" in rest and "- `accuracy`: 0.9\n" in rest and "### b\n\n- `accuracy`: 0.7" in rest
        assert "- `model.settings.depth`: most: 2" in rest and text.count("| 0 | 46 | 4 |") == 1

    def test_a_result_that_is_no_object_is_shown_too(self) -> None:
        assert "### say\n\n- Two of three.\n" in written("Go.", {"say": "Two of three."})

    def test_a_result_that_is_wholly_under_headings_is_not_shown_again(self) -> None:
        assert "Tool results" not in written("Include: accuracy, cost.", {"a": {"accuracy": 0.9}})


RESEARCH = """# Research

## Risks

| risk | answer |
| --- | --- |
| large accounts are misjudged | people look at them |

## Needs
- The service availability is at least 99.5 percent.
- Customer data stays in our account.
"""


class TestDocuments:
    def test_a_section_stands_as_it_is_under_the_heading_of_its_name(self) -> None:
        text = written(document("r", RESEARCH) + "Include: risks, availability, needs.")
        assert section(text, "risks").startswith(
            "〔r · Risks〕\n\n| risk | answer |\n| --- | --- |\n| large accounts"
        )
        assert section(text, "needs").endswith("percent.\n- Customer data stays in our account.")
        assert section(text, "Left open") == "_The fixed rules found nothing for: availability_"

    def test_without_a_heading_or_a_result_every_input_is_shown(self) -> None:
        given = (
            document("r", RESEARCH)
            + document("t", "a,b\n1,2\n", "text/csv")
            + document("j", '{"k": 1.50}', "application/json")
        )
        for ask in ("Sum up.", "Write:\n- Verdict: pass / fail\n"):
            shown = section(written(given + ask), "From the inputs")
            assert "#### Needs\n\n- The service availability" in shown
            assert "| 1 | 2 |" in shown and "`k`: 1.50" in shown
        assert "From the inputs" not in written(given + "Sum up.", {"count": {"rows": 3}})

    def test_a_long_section_is_cut_and_says_so(self) -> None:
        long = "# Log\n" + "".join(f"- line {n}\n" for n in range(99))
        assert section(written(document("r", long) + "Include: log."), "log").endswith("\n\n…")

    def test_a_fence_of_an_input_stays_in_it(self) -> None:
        body = "# A\n\n```python\ncode\n```\n\n~~~\nOpen.\n"
        text = written(document("r", body) + "Include: a b, a.")
        assert "Open." in text and "~~~" not in text and "code" not in text

    def test_chinese_requests_get_a_chinese_document(self) -> None:
        body = "# 调研\n\n## 关键要求（由访谈归纳）\n- 必须在 3 秒内给出结果。\n- 预算待确认。\n"
        text = written(document("research", body) + "写方案。\n\n依次包含：关键要求、预算、排班。")
        assert text.startswith("> 本文由 phaseline 的离线模型")
        assert "〔research · 关键要求（由访谈归纳）〕\n\n- 必须在 3 秒内" in section(text, "关键要求")
        assert section(text, "留空") == "_固定规则没有找到可列的内容：预算; 排班_"


@pytest.mark.parametrize(
    ("results", "line"),
    [
        ({"count": {"rows": 3}, "sum": {"total": 7}}, "Results of: count, sum"),
        ({}, "Excerpts from: doc"),
    ],
)
def test_its_first_line_says_what_it_is_made_of(results: dict[str, Any], line: str) -> None:
    text = written(document("doc", "## Part\n\nSome words.\n") + "Sum up.", results)
    assert summary_of(text).startswith(line)


# ------------------------------------------------------------------ it says nothing that it was not given

WORDS = [
    "price",
    "risk",
    "FB-035 weeks",
    "7 of 8",
    "survey 11 firms",
    "latency",
    "成本 12 元",
    "privacy",
    "a_b",
]
said = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(" ".join)
values = st.recursive(
    st.one_of(
        said, st.integers(-999, 999), st.floats(-9, 9).map(lambda n: round(n, 3)), st.booleans(), st.none()
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["risk", "cost", "rows", "a_b", "k"]), inner, max_size=3),
    ),
    max_leaves=8,
)
LINES = ("## {0}", "- {0}.", "{0}. More of {0}.", "\n| what | risk |\n| --- | --- |\n| {0} | 3 |\n")
markdown = st.lists(st.builds(str.format, st.sampled_from(LINES), said), max_size=8).map("\n".join)
asks = st.lists(said, max_size=4).map(
    lambda names: "Write it.\nInclude:\n" + "".join(f"- {name}\n" for name in names)
)


def scalars(value: Any) -> list[str]:
    """Keys and values, as they are written in JSON and without quotes."""
    if isinstance(value, dict):
        return [part for key, item in value.items() for part in (key, *scalars(item))]
    if isinstance(value, list):
        return [part for item in value for part in scalars(item)]
    return [value if isinstance(value, str) else json.dumps(value)]


OWN = sorted({bit for one in PHRASES.values() for said in one for bit in said.split("{}") if bit}, key=len)[
    ::-1
]


def atoms(text: str) -> list[str]:
    """Everything that a document says beside its own words, in its smallest parts, without marks."""
    found = []
    for line in (line.lstrip("> ") for line in text.splitlines()):
        line = re.sub(r"〔[^〔〕]*〕", "", line)
        for phrase in OWN:
            alone = line.strip("# ") == phrase
            line = line.replace(phrase, "") if alone or len(phrase) > 6 else line
        cells = re.split(r"(?<!\\)\|", line) if line.startswith("|") else [line]
        found += [part.strip(" `#-_~…;,:") for cell in cells for part in re.split(r"; |, |: |`", cell)]
    return [part for part in found if part]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(asks, markdown, values, values)
def test_it_says_nothing_that_it_was_not_given(ask: str, body: str, result: Any, data: Any) -> None:
    given_ = document("doc", body) + document("data", json.dumps(data), "application/json")
    text = written(given_ + ask, {"tool": result}, speaker="Somebody")
    parts = [*scalars(result), *scalars(data), json.dumps(result), body, ask, "Answered as Somebody 回答者"]
    parts += ["tool", "doc (text/markdown)", "data (application/json)", "~~~text", "Answer"]
    material = " ".join(" ".join(parts).split())
    for atom in atoms(text):
        # The keys that a value stands under are one word: `a.b`.
        assert atom in material or all(key in material for key in atom.strip(":").split(".")), (atom, text)
