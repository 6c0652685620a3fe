"""What the offline model says itself, in English and Chinese, and texts without their marks."""

from __future__ import annotations

import re

NOTE_MARK = "offline model"
"""Stands in the note above everything that the offline model writes, so that later steps know it."""

PHRASES = {
    "note": (
        f"Made by phaseline's {NOTE_MARK} by fixed rules: tool results and sections of the inputs, as they "
        "are, under the heading of their name. Nothing is judged; no language model was asked.",
        f"本文由 phaseline 的离线模型 ({NOTE_MARK}) 按固定规则生成：工具结果和输入的章节按名称原样列在"
        "标题下。不作判断，没有调用任何语言模型。",
    ),
    "speaker": ("Answered as", "回答者"),
    "answer": ("Answer", "答复"),
    "results": ("Results of: {}", "各工具给出的结果：{}"),
    "excerpts": ("Excerpts from: {}", "以下摘自各输入文档：{}"),
    "tools": ("Tool results", "工具结果"),
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
_LINK = re.compile(r"!?\[([^\[\]]{0,500})\]\([^()]{0,500}\)")
_LEAD = re.compile(r"\s*+(?:(?:[-*+>]|\d{1,9}[.)]|#{1,6})\s++|\d{1,9}、\s*+|\[[ xX]\]\s++)")
_MARKS = re.compile(r"\*\*|(?<!\w)__|__(?!\w)|`")


def phrase(name: str, chinese: bool, *values: object) -> str:
    """What the offline model says, with its places filled."""
    said = PHRASES[name][chinese]
    return said.format(*values) if values else said


def plain(text: str) -> str:
    """A line without its Markdown marks."""
    at = 0
    while (lead := _LEAD.match(text, at)) and lead.end() < len(text):
        at = lead.end()
    return _MARKS.sub("", _LINK.sub(r"\1", text[at:])).strip()


def shorten(text: str, limit: int) -> str:
    """One line of at most so many characters."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
