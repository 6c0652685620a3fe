"""What a text is about, as terms; what the offline model says itself, in English and Chinese."""

from __future__ import annotations

import re

NOTE_MARK = "offline model"
"""Stands in the note above everything that the offline model writes, so that later steps know it."""

PHRASES = {
    "note": (
        f"Made by phaseline's {NOTE_MARK} by fixed rules: tool results, and passages that hold a heading's "
        "words, stand under that heading. Nothing is judged; no language model was asked.",
        f"本文由 phaseline 的离线模型 ({NOTE_MARK}) 按固定规则生成：工具结果，以及含有标题用词的原文，"
        "列在标题下。不作判断，没有调用任何语言模型。",
    ),
    "speaker": ("Answered as", "回答者"),
    "answer": ("Answer", "答复"),
    "tools": ("Tool results", "工具结果"),
    "rest": ("Further tool results", "其他工具结果"),
    "failed": ("failed", "失败"),
    "inputs": ("From the inputs", "输入摘录"),
    "open": ("Left open", "留空"),
    "nothing": ("_The fixed rules found nothing for: {}_", "_固定规则没有找到可列的内容：{}_"),
    "appendix": ("How this was made", "附：本文的由来"),
    "task": ("Task", "任务"),
    "given": ("Inputs", "输入"),
    "none": ("No documents were given.", "没有给出文档。"),
    "placeholder": (f"(left open by the {NOTE_MARK})", "（离线模型留空）"),
    "guesses": (f"(placeholders of the {NOTE_MARK}: {{}})", "（离线模型占位：{}）"),
}


def phrase(name: str, chinese: bool, *values: object) -> str:
    """What the offline model says, with its places filled."""
    said = PHRASES[name][chinese]
    return said.format(*values) if values else said


_GLOSSARY = """
验收 acceptance | 异常 anomaly standsout | 假设 assumption | 可用性 availability uptime
基线 baseline | 容量 capacity | 组件 component | 置信 把握度 confidence interval | 混淆 confusion
约束 constraint | 问题 痛 problem pain | 成本 价格 cost price budget | 降级 degradation fallback
摘要 digest sha256 | 证据 原话 evidence quote source
特征 feature | 反馈 工单 feedback ticket | 门槛 gate | 转人工 handover | 编号 identifier id | 输入 input
影响 influence | 接口 interface api | 延迟 latency performance | 局限 limitation warning caution
指标 metric accuracy precision recall | 模型 model | 待确认 未决 open unclear clarify | 输出 output
通过 passed ready | 隐私 privacy security | 质量 quality | 需求 requirement
回滚 rollback | 灰度 上线 rollout canary shadow | 严重 severity | 阈值 threshold below
变好 变差 trend direction | 产品 product | 架构 技术 design architecture architect | 部署 deployed deployment
"""
"""Words that mean the same: the keys of tool results are English, headings may be asked for in Chinese."""
_STOP_WORDS = """
the and for with that this from are was has have its our you all can will one per any into than then them use
more most must should when what which who whom how why now not but each whether known list table section
document in of to by at on is it as or an be no"""
_STOP = frozenset(_STOP_WORDS.split())
_RUN = re.compile(r"[a-z0-9]+|[一-鿿]+")
_SAME_STEM = 7
"""Letters in which two English words agree that are one word here: `influence`, `influential`."""


def _stem(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        word = word[:-3] + "y"
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    return word[:_SAME_STEM]


_GROUPS = [group.split() for line in _GLOSSARY.strip().splitlines() for group in line.split("|")]
_MEANINGS = {_stem(word) if word.isascii() else word: f"#{words[0]}" for words in _GROUPS for word in words}
_CHINESE = [(word, meaning) for word, meaning in _MEANINGS.items() if not word.isascii()]


def terms(text: str) -> frozenset[str]:
    """English words by their stems, Chinese ones whole, or instead what the glossary says they mean."""
    found = {meaning for word, meaning in _CHINESE if word in text}
    before = ""
    for run in _RUN.findall(text.lower()):
        if run not in _STOP:
            joined = _MEANINGS.get(_stem(before + run))  # `hand_over` is `handover`
            found.add(joined or _MEANINGS.get(_stem(run)) or (_stem(run) if run.isascii() else run))
        before = run
    return frozenset(found)


_LINK = re.compile(r"!?\[([^\[\]]{0,500})\]\([^()]{0,500}\)")
_LEAD = re.compile(r"\s*+(?:(?:[-*+>]|\d{1,9}[.)]|#{1,6})\s++|\d{1,9}、\s*+|\[[ xX]\]\s++)")
_MARKS = re.compile(r"\*\*|(?<!\w)__|__(?!\w)|`")


def plain(text: str) -> str:
    """A line without its Markdown marks."""
    at = 0
    while (lead := _LEAD.match(text, at)) and lead.end() < len(text):
        at = lead.end()
    return _MARKS.sub("", _LINK.sub(r"\1", text[at:])).strip()
