"""The document the offline model writes: what the inputs hold, laid out as the instruction asks."""

from __future__ import annotations

import json
import re
from typing import Any

from blocks.offline.material import NOTE_MARK, Document, Material, plain
from blocks.offline.tables import describe, json_value, markdown_table, rows_of, rows_table

_LABELS = {
    "note": (
        f"Made by phaseline's {NOTE_MARK} from this step's inputs by fixed rules: "
        "passages are extracted and tables counted, nothing is judged. No language model was asked.",
        f"本文由 phaseline 的离线模型 ({NOTE_MARK}) 按固定规则从本步骤的输入生成：只摘录原文、统计表格，"
        "不作判断，没有调用任何语言模型。",
    ),
    "task": ("Task", "任务"),
    "speaker": ("Answered as", "回答者"),
    "nothing": ("The inputs hold no passage about this.", "输入中没有与此相关的内容。"),
    "inputs": ("Inputs", "输入"),
    "tools": ("Tool results", "工具结果"),
    "open": ("Open questions found in the inputs", "输入中的未决问题"),
    "outline": ("Outline", "提纲"),
    "points": ("Key passages", "关键内容"),
    "none": ("No documents were given.", "没有给出文档。"),
    "failed": ("failed", "失败"),
    "answer": ("Answer", "答复"),
}
_ASKS = re.compile(r"依次包含|包含|写出|写：|列出|章节|include|sections?|cover|consist|list\b", re.I)
_OPEN = re.compile(r"[?？]\s*$|待确认|未决|待定|TBD|to be (?:decided|confirmed)|open question", re.I)
_RESULT_LIMIT = 1500


def write_document(material: Material) -> str:
    """The answer as Markdown, or as plain text when the contract asks for that. Begins with the note."""

    def say(label: str) -> str:
        return _LABELS[label][material.chinese]

    # In the note's own line, which later steps do not quote.
    by = f" {say('speaker')}: {material.speaker}" if material.speaker else ""
    lines = [f"> {say('note')}{by}", "", f"# {material.output_name or material.title or say('answer')}", ""]
    lines += _task(material, say("task"))
    for section in requested_sections(material.instruction):
        lines += [f"## {section}", "", *_section(material, section, say("nothing")), ""]
    lines += _tool_results(material, say("tools"), say("failed"))
    lines += [f"## {say('inputs')}", "", *(_overview(material) or [say("none")]), ""]
    for document in material.documents:
        lines += _about(document, material, say("outline"), say("points"))
    lines += _open_questions(material, say("open"))
    text = "\n".join(lines).strip() + "\n"
    return _as_plain(text) if material.output_type == "text" else text


def requested_sections(instruction: str) -> list[str]:
    """The sections an instruction lists: in one line (`include: a, b, c`) or as bullets below such a line."""
    sections: list[str] = []
    listing = False
    for line in instruction.splitlines():
        bullet = re.match(r"\s*[-*+]\s+(.*)", line)
        if bullet and listing:
            sections.append(_name(bullet[1]))
            continue
        if line.strip():
            listing = bool(_ASKS.search(line)) and bool(re.search(r"[:：]", line))
        tail = re.search(r"(?:依次包含|包含|include[s]?|cover[s]?|sections?)\s*[:：]\s*(.+)$", line, re.I)
        if tail:
            parts = re.split(r"[、，,;；]|\band\b", re.sub(r"[(（][^)）]*[)）]", "", tail[1]).rstrip("。."))
            sections += [_name(part) for part in parts]
    return list(dict.fromkeys(name for name in sections if 1 < len(name) <= 40))[:14]


def _name(text: str) -> str:
    return plain(re.split(r"[:：]", text, maxsplit=1)[0]).strip(" 。.")


def _task(material: Material, label: str) -> list[str]:
    first = material.instruction.split("\n\n")[0].strip()
    quoted = [f"> {line}" for line in first[:800].splitlines()]
    return [f"## {label}", "", *quoted, ""] if first else []


def _section(material: Material, section: str, nothing: str) -> list[str]:
    found = material.relevant(section, 4)
    return [f"- {passage} ({document.name})" for document, passage in found] or [nothing]


def _overview(material: Material) -> list[str]:
    if not material.documents:
        return []
    chinese = material.chinese
    head = ["名称", "类型", "字符", "标题数"] if chinese else ["name", "type", "characters", "headings"]
    rows = [[d.name, d.media_type, str(len(d.body)), str(len(d.headings))] for d in material.documents]
    return markdown_table(head, rows)


def _about(document: Document, material: Material, outline: str, points: str) -> list[str]:
    lines = [f"### {document.name}", ""]
    rows = rows_of(document)
    if rows:
        return [*lines, *describe(rows, material.chinese), "", *rows_table(rows, 5), ""]
    value = json_value(document)
    if value is not None:
        return [*lines, *_json_lines(value), ""]
    if document.headings:
        lines += [f"{outline}:", "", *(f"- {heading}" for heading in document.headings[:12]), ""]
    found = document.key_points(6)
    if found:
        lines += [f"{points}:", "", *(f"- {passage}" for passage in found), ""]
    return lines


def _tool_results(material: Material, label: str, failed: str) -> list[str]:
    lines: list[str] = []
    for name, text, is_error in material.results:
        lines += [f"### {name}{f' ({failed})' if is_error else ''}", ""]
        try:
            lines += _json_lines(json.loads(text))
        except ValueError:
            shortened = text if len(text) <= _RESULT_LIMIT else text[:_RESULT_LIMIT] + "\n..."
            lines += ["~~~text", shortened.replace("~~~", "~ ~ ~"), "~~~"]
        lines.append("")
    return [f"## {label}", "", *lines] if lines else []


def _json_lines(value: Any, depth: int = 0) -> list[str]:
    """A JSON value as bullets and tables, three levels deep."""
    indent = "  " * depth
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return rows_table(value) if depth == 0 else [indent + row for row in rows_table(value, 8)]
    if isinstance(value, list):
        return [f"{indent}- {_scalar(item)}" for item in value[:12]]
    if not isinstance(value, dict):
        return [f"{indent}{_scalar(value)}"]
    lines: list[str] = []
    for key, item in list(value.items())[:24]:
        if isinstance(item, (dict, list)) and item and depth < 2:
            lines += [f"{indent}- {key}:", "", *_json_lines(item, depth + 1), ""]
        else:
            lines.append(f"{indent}- {key}: {_scalar(item)}")
    return lines


def _scalar(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= 300 else text[:297] + "..."


def _open_questions(material: Material, label: str) -> list[str]:
    found = [
        f"- {passage} ({document.name})"
        for document in material.documents
        for passage in document.passages
        if _OPEN.search(passage)
    ]
    return [f"## {label}", "", *found[:8], ""] if found else []


def _as_plain(text: str) -> str:
    """Without Markdown marks, for an output of type text."""
    lines = [plain(line) if not line.startswith("|") else line.strip("| ") for line in text.splitlines()]
    return "\n".join(lines).strip() + "\n"
