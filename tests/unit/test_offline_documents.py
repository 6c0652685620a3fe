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
from blocks.offline.outline import Section, requested_sections
from blocks.offline.words import PHRASES, plain, terms

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


class TestWhatIsAskedFor:
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
            ("写：\n- 结论\n- 本期不做、停止条件\n", ["结论", "本期不做", "停止条件"]),
            ("Include numbers:\n1. Read it.\n2. Count it.", []),
            ("Just answer.\n- number: FB-1", []),
        ],
    )
    def test_headings(self, instruction: str, names: list[str]) -> None:
        assert [one.name for one in requested_sections(instruction)] == names

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("- 需求表：编号、强度（必须/应该）、来源", Section("需求表")),
            ("- Requirements table: id, strength, source", Section("Requirements table")),
            ("- 结论：通过 / 不通过，一句话理由", Section("结论", decides=True)),
            (
                "- Qualities: latency, availability, privacy, each with a number",
                Section("Qualities", ("latency", "availability", "privacy")),
            ),
            ("- 证据：每条写明来源、带编号、按时间", Section("证据")),
            ("- Trend: better, worse, or unchanged, and by how much", Section("Trend")),
        ],
    )  # fmt: skip
    def test_what_is_said_of_a_heading(self, line: str, expected: Section) -> None:
        assert requested_sections(f"写：\n{line}") == [expected]


def test_words_meet_across_languages_and_endings() -> None:
    assert terms("混淆矩阵") & terms("confusion")
    assert terms("转人工阈值") & terms("hand_over: below 0.7")
    assert terms("most influential features") <= terms("influence of a feature")
    assert not terms("contradictions") & terms("contract")
    assert [plain(text) for text in ("0.92", "1. Goal", "2、目标", "- **Goal**")] == [
        "0.92",
        "Goal",
        "目标",
        "Goal",
    ]


EVALUATION = {
    "model_id": "m-1",
    "accuracy": 0.90,
    "accuracy_95": [0.85, 0.94],
    "baseline": {"class": "0", "accuracy": 0.6},
    "confusion": {"0": {"0": 46, "1": 4}, "1": {"0": 5, "1": 29}},
    "weights": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
    "model": {"algorithm": "a", "settings": {"depth": {"most": 2}}},
    "degradation": [{"level": 0, "answer": "model"}, {"level": 1, "answer": "a fixed rule"}],
}
FOUND = {
    "constraints": [
        {"kind": "privacy", "text": "Logs are kept for 180 days, and no longer than that."},
        {"kind": "latency", "text": "Every answer arrives within three seconds."},
    ]
}


class TestToolResults:
    @pytest.mark.parametrize(
        ("ask", "baseline", "confusion", "levels"),
        [
            ("依次包含：{}（带置信区间）、{}、{}。", "基线与指标", "混淆矩阵", "降级层级"),
            ("Include: {}, {}, {}.", "baseline", "confusion matrix", "degradation levels"),
        ],
    )
    def test_they_stand_under_the_heading_that_names_them(
        self, ask: str, baseline: str, confusion: str, levels: str
    ) -> None:
        text = written(f"Report. {ask.format(baseline, confusion, levels)}", {"ml__evaluate": EVALUATION})
        assert "- `baseline`: class: 0, accuracy: 0.6 〔ml__evaluate〕" in section(text, baseline)
        table = "〔ml__evaluate · confusion〕\n\n| confusion | 0 | 1 |\n| --- | --- | --- |\n| 0 | 46 | 4 |"
        assert section(text, confusion).startswith(table)
        assert "| 1 | a fixed rule |" in section(text, levels)

    def test_a_heading_is_not_filled_by_a_word_that_everything_shares(self) -> None:
        text = written("Report. Include: model id, staffing.", {"evaluate": EVALUATION})
        assert section(text, "model id") == "- `model_id`: m-1 〔evaluate〕"
        assert "found nothing for: staffing_" in section(text, "Left open")

    def test_what_no_heading_names_comes_after_and_nothing_twice(self) -> None:
        text = written("Report. Include: confusion matrix.", {"a": EVALUATION, "b": {"accuracy": 0.9}})
        rest = section(text, "Further tool results")
        assert "- `accuracy`: 0.9\n" in rest and text.count("`accuracy`") == 1
        assert "0.1; 0.2" not in text and text.count("| 0 | 46 | 4 |") == 1

    def test_rows_also_stand_under_the_heading_that_names_their_kind(self) -> None:
        text = written("Include: constraints, data and privacy, cost.", {"find": FOUND})
        assert section(text, "constraints").count("\n| ") == 4
        assert (
            section(text, "data and privacy")
            == "- Logs are kept for 180 days, and no longer than that. 〔find · constraints〕"
        )

    def test_a_result_that_is_no_object_is_shown_too(self) -> None:
        assert "### say\n\n- Two of three.\n" in written("Go.", {"say": "Two of three."})


RESEARCH = """# Research

## Risks

| risk | answer |
| --- | --- |
| large accounts are misjudged | people look at them |

## Needs
- The service availability is at least 99.5 percent.
- Customer data stays in our account.

Stop condition: the right share is below 78 percent. Nothing else stops it.
"""


class TestDocuments:
    def test_passages_under_the_headings_whose_words_they_hold(self) -> None:
        text = written(document("r", RESEARCH) + "Include: availability, stop condition, staffing.")
        assert (
            section(text, "availability")
            == "- The service availability is at least 99.5 percent. 〔r · Needs〕"
        )
        assert (
            section(text, "stop condition")
            == "- Stop condition: the right share is below 78 percent. 〔r · Needs〕"
        )
        assert section(text, "staffing") == ""

    def test_what_stands_under_a_heading_of_that_name(self) -> None:
        text = written(document("r", RESEARCH) + "Include: risks.")
        assert section(text, "risks").startswith(
            "〔r · Risks〕\n\n| risk | answer |\n| --- | --- |\n| large accounts"
        )

    def test_the_things_listed_after_a_name_are_told_one_by_one(self) -> None:
        text = written(document("r", RESEARCH) + "Write:\n- Qualities: availability, customer data, price\n")
        asked = section(text, "Qualities")
        assert re.search(
            r"### availability\n\n- The service .*\n\n### customer data\n\n- Customer data stays", asked
        )
        assert section(text, "Left open") == "_The fixed rules found nothing for: price_"

    def test_verdicts_are_left_to_people(self) -> None:
        text = written(document("r", RESEARCH) + "Write:\n- Needs: pass / fail\n- Risks\n")
        assert section(text, "Needs") == "" and "nothing for: Needs_" in text

    def test_the_instruction_is_no_material(self) -> None:
        text = written(document("r", RESEARCH) + "Without a network.\n\nInclude: network, price.")
        assert "nothing for: network; price_" in text and text.count("Without a network") == 1

    def test_without_headings_every_input_is_shown(self) -> None:
        given = (
            document("r", RESEARCH)
            + document("t", "a,b\n1,2\n", "text/csv")
            + document("j", '{"k": 1.50}', "application/json")
        )
        text = written(given + "Sum up.")
        assert (
            "#### Needs\n\n- The service availability" in text and "| 1 | 2 |" in text and "`k`: 1.50" in text
        )

    def test_where_no_heading_is_filled_the_input_nearest_to_who_answers_is_shown(self) -> None:
        given = document("product_spec", "# A\n\nOne.") + document("tech_design", "# B\n\nTwo.")
        asked = given + "Write:\n- Verdict: pass / fail\n"
        assert "### tech_design" in written(
            asked, speaker="Architect: technical design"
        ) and "One." not in written(asked, speaker="Architect: technical design")
        assert "One." in written(asked, speaker="Product manager")

    def test_chinese_requests_get_a_chinese_document(self) -> None:
        body = "# 调研\n\n## 关键要求\n- 必须在 3 秒内给出结果。\n- 预算待确认。\n"
        text = written(document("research", body) + "写方案。\n\n依次包含：关键要求、预算、排班。")
        assert text.startswith("> 本文由 phaseline 的离线模型")
        assert "- 必须在 3 秒内给出结果。 〔research · 关键要求〕" in section(text, "关键要求")
        assert section(text, "留空") == "_固定规则没有找到可列的内容：预算; 排班_"


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
