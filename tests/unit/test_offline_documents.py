"""What the offline model puts under which heading: one test per rule, in Chinese and English."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any

import pytest

from blocks.offline import OfflineModel
from blocks.offline.outline import Section, requested_sections
from blocks.offline.words import plain, terms

Results = dict[str, Any]


def document(name: str, body: str, media_type: str = "text/markdown") -> str:
    return f'<document name="{name}" type="{media_type}">\n{body}\n</document>\n'


def written(text: str, results: Results | None = None, system: str = "", name: str = "answer") -> str:
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
    request = {"model": "m", "max_tokens": 100, "system": system, "messages": messages}
    return asyncio.run(OfflineModel().send(request)).text


def section(text: str, name: str) -> str:
    """What stands under a heading, up to the next of its level."""
    found = re.search(rf"^(#+) {re.escape(name)}\n(.*?)(?=^#{{1,2}} |\Z)", text, re.S | re.M)
    assert found, f"no section {name} in:\n{text}"
    return found[2].strip()


class TestWhatIsAskedFor:
    def test_bullets_below_a_line_that_asks(self) -> None:
        found = requested_sections("Write:\nInclude the sections:\n- Goal: why\n- Cost\n\nDone.")
        assert [one.name for one in found] == ["Goal", "Cost"]

    def test_a_sentence_goes_on_over_lines_and_ends_at_its_stop(self) -> None:
        found = requested_sections(
            "方案依次包含：约束与假设、容量估算（写明假设）、\n  上线步骤。随后说明：别的、事。"
        )
        assert [one.name for one in found] == ["约束与假设", "容量估算", "上线步骤"]
        english = requested_sections("Include: goals (for whom, by when, how), cost\nand risks. Then stop.")
        assert [one.name for one in english] == ["goals", "cost", "risks"]
        assert english[0].details == ("for whom", "by when", "how")

    def test_numbered_steps_are_no_sections(self) -> None:
        assert requested_sections("Include numbers:\n1. Read it.\n2. Count it.") == []
        assert requested_sections("Just answer.") == []

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            (
                "- 需求表：编号、强度（必须/应该）、来源",
                Section("需求表", ("编号", "强度（必须/应该）", "来源")),
            ),
            ("- 结论：通过 / 不通过，一句话理由", Section("结论", choices=("通过", "不通过"))),
            ("- 我认可的部分：最多三条", Section("我认可的部分", limit=3)),
            ("- Strengths: at most two", Section("Strengths", limit=2)),
            ("- 证据：每条写明来源、带编号、按时间", Section("证据")),
            ("- 趋势：变好、变差、还是没有变化", Section("趋势")),
        ],
    )
    def test_what_is_said_of_a_section(self, line: str, expected: Section) -> None:
        (found,) = requested_sections(f"写：\n{line}")
        assert (found.name, found.details, found.choices, found.limit) == (
            expected.name,
            expected.details,
            expected.choices,
            expected.limit,
        )


class TestTerms:
    def test_languages_meet_in_concepts(self) -> None:
        assert set(terms("混淆矩阵")) & set(terms("confusion"))
        assert set(terms("降级与回滚")) & set(terms("roll_back_when"))
        assert set(terms("转人工阈值")) & set(terms("hand_over: below 0.7"))
        assert not set(terms("混淆矩阵")) & set(terms("delivery date"))

    def test_the_longest_name_counts(self) -> None:
        assert "#flow" in terms("数据流")
        assert "#data" not in terms("数据流")

    def test_plural_and_single_are_one(self) -> None:
        assert terms("requirements policies") == terms("requirement policy")

    def test_numbers_are_no_list_marks(self) -> None:
        assert [plain(text) for text in ("0.92", "1. Goal", "2、目标", "3.目标")] == [
            "0.92",
            "Goal",
            "目标",
            "目标",
        ]


EVALUATION = {
    "accuracy": 0.9,
    "accuracy_95": [0.85, 0.94],
    "baseline": {"class": "0", "accuracy": 0.6},
    "confusion": {"0": {"0": 46, "1": 4}, "1": {"0": 5, "1": 29}},
    "weights": {"1": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]},
    "degradation": [{"level": 0, "answer": "model"}, {"level": 1, "answer": "a fixed rule"}],
}


class TestToolResults:
    def test_headings_of_the_other_language_are_filled_from_keys(self) -> None:
        text = written(
            "写交付说明。依次包含：基线与指标（带置信区间）、混淆矩阵、降级层级。",
            {"ml__evaluate": EVALUATION},
        )
        assert "`baseline`: class 0, accuracy 0.6 〔ml__evaluate〕" in section(text, "基线与指标")
        assert "`accuracy_95`: 0.85; 0.94" in section(text, "基线与指标")
        assert "| confusion | 0 | 1 |\n| --- | --- | --- |\n| 0 | 46 | 4 |" in section(text, "混淆矩阵")
        assert "| 1 | a fixed rule |" in section(text, "降级层级")

    def test_english_headings_too(self) -> None:
        text = written("Report. Include: confusion matrix, fallback levels.", {"evaluate": EVALUATION})
        assert "| 0 | 46 | 4 |" in section(text, "confusion matrix")
        assert "a fixed rule" in section(text, "fallback levels")

    def test_what_no_heading_shows_comes_after_and_nothing_twice(self) -> None:
        text = written("Report. Include: confusion matrix.", {"evaluate": EVALUATION})
        rest = section(text, "Further tool results")
        assert "- weights.1: 0.1; 0.2" in rest
        assert "- accuracy: 0.9" in rest
        assert text.count("| 0 | 46 | 4 |") == 1

    def test_the_inside_of_something_is_under_no_heading(self) -> None:
        text = written("Report. Include: influence and weights.", {"evaluate": EVALUATION})
        assert "hold nothing" in section(text, "influence")
        assert "0.1; 0.2" not in section(text, "weights")

    def test_tool_results_come_before_documents(self) -> None:
        given = document("notes", "# Notes\n\nThe accuracy was measured by hand last year.")
        text = written(given + "Report. Include: accuracy.", {"evaluate": EVALUATION})
        assert section(text, "accuracy").startswith("- `accuracy")

    def test_a_fact_that_two_tools_give_is_shown_once(self) -> None:
        text = written("Include: accuracy.", {"a": {"accuracy": 0.9}, "b": {"accuracy": 0.9}})
        assert text.count("`accuracy`: 0.9") == 1

    def test_asked_columns_are_filled_and_values_said_as_offered(self) -> None:
        found = [
            {"id": "R1", "text": "必须在 3 秒内给出结果。", "strength": "must", "sources": ["line 4"]},
            {"id": "R2", "text": "希望能导出为表格文件。", "strength": "should", "sources": []},
        ]
        asked = "写规格，包含：\n- 需求表：编号、需求、强度（必须/应该/可以）、来源、验收标准\n"
        table = section(written(asked, {"extract_requirements": {"requirements": found}}), "需求表")
        assert "| 编号 | 需求 | 强度 | 来源 | 验收标准 |" in table
        assert "| R1 | 必须在 3 秒内给出结果。 | 必须 | line 4 | — |" in table
        assert "| R2 | 希望能导出为表格文件。 | 应该 | — | — |" in table
        assert "「—」：材料里没有给出" in table


RESEARCH = """# 调研

## 关键要求
- 结果必须在 3 秒内给出（P99 < 3 秒）。
- 服务可用性不低于 99.5%。
- 客户数据保留 180 天，可以按客户删除。

## 风险

| 风险 | 应对 |
| --- | --- |
| 误判大客户的工单 | 重点客户强制人工复核 |

## 建议
停止条件：正确率低于 78% 时退回规则。
"""


class TestDocuments:
    def test_sentences_under_the_headings_they_fit(self) -> None:
        text = written(document("research", RESEARCH) + "写方案，依次包含：延迟、可用性、隐私、停止条件。")
        assert "结果必须在 3 秒内给出" in section(text, "延迟")
        assert section(text, "可用性").startswith("- 服务可用性不低于 99.5%。 〔research · 关键要求〕")
        assert "可以按客户删除" in section(text, "隐私")
        assert "正确率低于 78%" in section(text, "停止条件")

    def test_tables_and_their_rows(self) -> None:
        text = written(document("research", RESEARCH) + "写方案，依次包含：风险。")
        assert "| 误判大客户的工单 | 重点客户强制人工复核 |" in section(text, "风险")
        rows = written(
            document("log", "id,text\nA-1,the export fails every night\n", "text/csv") + "Include: export."
        )
        assert "- A-1 · the export fails every night 〔log〕" in section(rows, "export")

    def test_parts_of_a_section_are_answered_one_by_one(self) -> None:
        text = written(document("research", RESEARCH) + "写方案，包含：\n- 质量要求：延迟、可用性、价格\n")
        asked = section(text, "质量要求")
        assert re.search(r"### 延迟\n\n- 结果必须在 3 秒内", asked)
        assert re.search(r"### 可用性\n\n- 服务可用性", asked)
        assert "_没有提到：价格。_" in asked

    def test_where_nothing_fits_one_line_says_so(self) -> None:
        text = written(document("r", RESEARCH) + "Include: staffing.")
        assert section(text, "staffing") == "_The inputs and tool results hold nothing about this._"

    def test_a_heading_whose_answer_stands_elsewhere_says_where(self) -> None:
        given = document("r", "# R\n\nThe uptime target is 99.5 percent.")
        text = written(given + "Include: uptime target and uptime.")
        shown = [section(text, name) for name in ("uptime target", "uptime")]
        assert sorted("99.5" in told for told in shown) == [False, True]
        assert any("_See “" in told for told in shown)

    def test_sections_do_not_repeat_each_other(self) -> None:
        text = written(document("r", RESEARCH) + "依次包含：延迟、响应时间、秒级结果。")
        assert text.count("结果必须在 3 秒内给出") == 1

    def test_a_limit_is_kept(self) -> None:
        body = "# R\n\n" + "".join(f"- The risk number {n} is that part {n} breaks.\n" for n in range(9))
        text = written(document("r", body) + "Include:\n- Risks: at most two\n")
        assert section(text, "Risks").count("\n- ") == 1

    def test_the_instruction_is_no_material(self) -> None:
        given = document("r", "# R\n\nThe price is 40.")
        text = written(given + "Without a network, search only these documents.\n\nInclude: network, price.")
        assert "hold nothing" in section(text, "network")
        assert section(text, "How this was made").count("Without a network") == 1


class TestLaterSteps:
    def test_a_step_does_not_read_what_an_earlier_one_said_of_itself(self) -> None:
        first = written(
            document("r", RESEARCH) + "没有外网：只检索给定的文档。\n\n依次包含：延迟、矛盾。", name="first"
        )
        text = written(document("first", first) + "依次包含：外网、延迟、矛盾。", name="second")
        assert "没有外网" not in text
        assert "离线模型 (offline model)" not in text.split("\n", 1)[1]
        assert section(text, "延迟").startswith("- 结果必须在 3 秒内给出（P99 < 3 秒）。 〔first · 延迟〕")
        assert "输入和工具结果里没有" not in section(text, "延迟")

    def test_empty_sections_and_missing_parts_are_gaps_for_a_review(self) -> None:
        first = written(
            document("r", RESEARCH) + "包含：\n- 延迟\n- 排班\n- 质量：可用性、价格、延迟\n", name="first"
        )
        text = written(document("first", first) + "写：\n- 问题清单：问题、严重度、证据\n", name="review")
        table = section(text, "问题清单")
        assert "| 「排班」没有内容 | — | 〔first · 排班〕 |" in table
        assert "| 「价格」没有内容 | — | 〔first · 价格〕 |" in table

    def test_tables_of_the_inputs_keep_their_names_on_the_way(self) -> None:
        first = written(document("r", RESEARCH) + "依次包含：延迟。", name="first")
        assert "### 风险" in section(first, "其他要点")
        text = written(document("first", first) + "依次包含：风险与应对。", name="second")
        assert "| 误判大客户的工单 |" in section(text, "风险与应对")


SPEC = "# Spec\n\n## Demand\nThe recall must be at least 80%, users pay 12 each.\n"
MODEL = "# Model\n\n## Metrics\n- recall: 0.75\n- training_rows: 400\n"
SYSTEM = "# {}: {}\n\n## How I Work\n{}"


class TestVoices:
    def review(self, who: str, does: str, works: str, ask: str = "") -> str:
        given = document("product_spec", SPEC) + document("trained_model", MODEL)
        return written(
            given + (ask or "写：\n- 结论：通过 / 不通过\n- 矛盾\n"), system=SYSTEM.format(who, does, works)
        )

    def test_each_draws_on_the_document_nearest_to_it(self) -> None:
        manager = section(self.review("Manager", "product and users", "Ask what users pay."), "结论")
        engineer = section(self.review("Engineer", "trains the model", "Metrics first."), "结论")
        assert "users pay 12" in manager
        assert "training_rows" not in manager
        assert "users pay 12" not in engineer

    def test_a_verdict_is_left_to_people(self) -> None:
        told = section(self.review("Manager", "product", "Ask."), "结论")
        assert told.endswith("_由人判定：通过 / 不通过。这里只列依据，不作判断。_")

    def test_rules_of_the_house_and_skills_are_no_persona(self) -> None:
        from workflows.core.prompts import HOUSE_RULES

        plain_voice = self.review("Manager", "product", "Ask.")
        ruled = self.review(
            "Manager", "product", f"Ask.\n\n{HOUSE_RULES}\n\n## Skills\nmodel training metrics"
        )
        assert ruled == plain_voice

    def test_a_figure_beyond_a_stated_bound_is_a_contradiction(self) -> None:
        told = section(self.review("Manager", "product", "Ask."), "矛盾")
        assert "product_spec 写 The recall must be at least 80%，trained_model 给出 recall 0.75" in told
        assert "| recall | trained_model | recall 0.75 |" in told

    def test_a_bound_without_a_figure_is_named(self) -> None:
        given = document("a", "# A\n\nThe uptime must be at least 99%.") + document("b", "# B\n\nIt is blue.")
        told = section(written(given + "Include: contradictions."), "contradictions")
        assert "Bounds that no document gives a figure for" in told
        assert "- The uptime must be at least 99% 〔a〕" in told


def test_large_documents_are_cheap_and_answered_the_same_every_time() -> None:
    line = "- 第 {n} 条：结果必须在 {n} 秒内给出，可用性不低于 9{n}%，数据保留 {n} 天。\n"
    body = "# 要求\n\n" + "".join(line.format(n=n) for n in range(500))
    asked = document("big", body) + "依次包含：约束与假设、延迟、可用性、隐私、降级与回滚、未决问题。"
    assert len(body.encode()) > 45_000
    begun = time.process_time()
    first = written(asked)
    # Ten times what it takes: a guard against work that grows with the square of the text.
    assert time.process_time() - begun < 0.6
    assert written(asked) == first
