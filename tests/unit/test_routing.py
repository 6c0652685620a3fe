"""Routing: order, time limits, bad patterns, and what people are told."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflows.core.routing.matching import Rule, choose, explain
from workflows.core.text.patterns import PATTERN_CHARS, pattern_fault

RULES = (
    Rule("ml_model_training", "(训练|模型|深度学习|神经网络)", 10, ("agent-ai-001",), timeout=3600),
    Rule("product_strategy", "(产品|需求|用户|功能)", 8, ("agent-pm-002",)),
    Rule("system_architecture", "(架构|设计|系统|基础设施)", 8, ("agent-arch-003",)),
    Rule("delivery", "(端到端|完整方案|从需求到上线)", 15, workflow="end-to-end-delivery"),
    Rule("default_shared_skills", ".*", 1, skill="shared/web-search"),
)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("请训练一个产品推荐模型", "ml_model_training"),
        ("用户想要新功能", "product_strategy"),
        ("产品的系统设计", "product_strategy"),
        ("系统的产品设计", "product_strategy"),
        ("设计缓存", "system_architecture"),
        ("从需求到上线的模型", "delivery"),
        ("hello", "default_shared_skills"),
        ("", "default_shared_skills"),
    ],
)
def test_priority_then_file_order(text: str, rule: str) -> None:
    choice = choose(RULES, text)
    assert choice.rule is not None
    assert choice.rule.name == rule
    assert choice.tried[-1].matched
    assert len(choice.tried) + len(choice.untried) == len(RULES)


def test_nothing_matched_is_said_not_guessed() -> None:
    choice = choose(RULES[:2], "hello")
    assert choice.rule is None
    assert [entry.matched for entry in choice.tried] == [False, False]
    assert explain(choice).splitlines()[0] == "no rule matches"
    assert choice.to_json()["rule"] is None
    assert choose([], "x").rule is None


def test_a_given_default_is_named_as_such() -> None:
    choice = choose(RULES[:2], "hello", default=RULES[4])
    assert choice.rule is RULES[4]
    assert "default" in choice.tried[-1].reason


def test_a_search_without_end_ends() -> None:
    text = "a" * 60 + "!"
    for pattern in (r"(a+)+$", r"(a|aa)+$", r"(.*a){20}$", r"(\w+\s?)*\d$"):
        choice = choose([Rule("slow", pattern, 2), Rule("next", "!", 1)], text)
        assert choice.rule is not None
        assert choice.rule.name == "next"
    slow = choose([Rule("slow", "(a|aa)+$")], text).tried[0]
    assert not slow.matched
    assert "took more than" in slow.reason


@pytest.mark.parametrize(
    ("pattern", "part"),
    [
        ("(训练", "missing"),
        ("*a", "nothing to repeat at character 1"),
        ("[a", "unterminated"),
        ("a" * (PATTERN_CHARS + 1), "at most"),
        ("((a{100}){100}){100}", "multiply"),
        ("x{99999999999999999999}", "multiply"),
        ("(" * 499 + "a" + ")" * 499, "nested"),
    ],
)
def test_patterns_that_cannot_be_used(pattern: str, part: str) -> None:
    assert part in (pattern_fault(pattern) or "")
    choice = choose([Rule("bad", pattern, 2), Rule("good", "a", 1)], "a")
    assert choice.rule is not None
    assert choice.rule.name == "good"
    assert "cannot be used" in choice.tried[0].reason


@pytest.mark.parametrize("pattern", ["", ".*", "(?i)训练", r"\d{4}-\d{2}-\d{2}", r"\p{Han}+", "(a+)+$"])
def test_patterns_that_can(pattern: str) -> None:
    assert pattern_fault(pattern) is None


def test_explain_shows_every_rule() -> None:
    shown = explain(choose(RULES, "请帮我们的团队为新的业务线训练一个可以解释的模型")).splitlines()
    assert shown[0] == "rule ml_model_training -> agent-ai-001"
    assert shown[1] == "   no  delivery (priority 15): not found in the text"
    assert shown[2].startswith("  yes  ml_model_training (priority 10): ...")
    assert "[训练]" in shown[2]
    assert shown[3:] == [
        f"  -  {name} (priority {priority}): not tried"
        for name, priority in (
            ("product_strategy", 8),
            ("system_architecture", 8),
            ("default_shared_skills", 1),
        )
    ]


def test_json_has_the_keys_of_the_command_line() -> None:
    made = choose(RULES, "端到端").to_json()
    assert made["rule"] == "delivery"
    assert made["workflow"] == "end-to-end-delivery"
    assert made["agents"] is None
    assert made["tried"][0] == {
        "rule": "delivery",
        "priority": 15,
        "matched": True,
        "reason": "found",
        "span": [0, 3],
        "excerpt": "[端到端]",
    }


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(-3, 3), st.sampled_from(["a", "b", "c", ".*"])), max_size=8),
    st.text("abc"),
)
def test_the_winner_is_the_first_match_by_priority(pairs: list[tuple[int, str]], text: str) -> None:
    rules = [Rule(f"r{n}", pattern, priority) for n, (priority, pattern) in enumerate(pairs)]
    matching = [rule for rule in rules if rule.pattern == ".*" or rule.pattern in text]
    expected = min(matching, key=lambda rule: (-rule.priority, rules.index(rule)), default=None)
    assert choose(rules, text).rule is expected
