"""Story skeletons made from requirement sentences; the gaps are questions, not inventions."""

import re
from pathlib import Path
from typing import Any

from _requirements import Requirement, read_requirements

_ROLES = ("客服主管", "一线客服", "企业负责人", "IT/数据负责人", "主管", "客服", "管理员", "客户", "用户")
_CONDITION = re.compile(
    r"(低于|高于|不低于|不高于|超过|不超过|小于|大于|[<>≤≥=])\s*(\d+(?:\.\d+)?\s*(?:%|秒|分钟|小时|天|元|万)?)"
)
_WHEN = re.compile(r"(?:当|如果|若)?([^,\uff0c。;\uff1b]{2,24}?)(?:时|后|的时候)")
_LABEL = re.compile(r"^[^:\uff1a,\uff0c。]{1,16}[:\uff1a]\s*")


def write_user_stories(document: Path, top: int = 12, role: str = "") -> dict[str, Any]:
    """Turn a document's requirements into story skeletons with acceptance criteria and open questions.

    Only what the text says is filled in. Whatever a story still lacks - role, benefit, a number, a vague
    word's meaning - is listed under `questions`, to be answered before the story is ready.

    Args:
        document: Markdown or text document, or a CSV or JSON table with a text column.
        top: Stories written, must before should before could.
        role: Who the stories are for when the sentence names nobody.
    """
    requirements = read_requirements(document)
    stories = [_story(requirement, role) for requirement in requirements[: max(1, top)]]
    ready = [story["id"] for story in stories if not story["questions"]]
    return {"stories": stories, "ready": ready, "requirements_left": max(0, len(requirements) - len(stories))}


def _story(requirement: Requirement, role: str) -> dict[str, Any]:
    text = _LABEL.sub("", requirement.text).rstrip("。;\uff1b.")
    who = next((name for name in _ROLES if name in text), role)
    limit = _CONDITION.search(text)
    questions = [f"「{word}」怎样算达到?" for word in requirement.vague]
    if not who:
        questions.append("谁需要它?")
    if not limit and requirement.kind != "functional":
        questions.append(f"{requirement.kind}:要求的数值是多少,怎样测量?")
    questions.append("这样做了,业务上哪个数字会变?")
    return {
        "id": requirement.id.replace("REQ", "US"),
        "requirement": requirement.id,
        "priority": requirement.strength,
        "story": f"作为{who or '(待定角色)'},我要「{text}」,以便(待补充收益)。",
        "acceptance": _criteria(text, limit),
        "questions": questions,
        "sources": list(requirement.sources),
    }


def _criteria(text: str, limit: re.Match[str] | None) -> list[str]:
    when = _WHEN.match(text)
    given = when[1] if when else "正常业务数据"
    criteria = [f"Given {given},When 触发该能力,Then {text}"]
    if limit:
        criteria.append(f"Given 度量结果,When 统计一周,Then 指标{limit[1]} {limit[2].strip()}")
    criteria.append("Given 依赖不可用,When 触发该能力,Then 给出提示且不丢数据")
    return criteria
