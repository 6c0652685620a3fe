"""The numbers a design must meet, and the qualities nobody has put a number to."""

import re
from pathlib import Path
from typing import Any

QUALITIES = {
    "latency": re.compile(r"P9\d|响应|延迟|以内给出|\d\s*(?:毫秒|秒)|latency|ms\b", re.I),
    "availability": re.compile(r"可用性|可用率|不可用|降级|容灾|availability|uptime|SLA", re.I),
    "throughput": re.compile(
        r"吞吐|并发|每[天日月秒分].{0,8}[条单次]|(?:日|月)均|万条|req/|throughput|QPS|requests per", re.I
    ),
    "quality": re.compile(r"准确率|召回率|误报率|正确率|把握|precision|recall|accuracy|F1", re.I),
    "privacy": re.compile(r"脱敏|隐私|出境|个人信息|泄露|训练.{0,8}模型|privacy|GDPR", re.I),
    "retention": re.compile(r"(?:日志|数据|记录)?保留\s*\d|留存|归档|retention|\bTTL\b", re.I),
    "cost": re.compile(r"成本|价格|每坐席|预算|上限.{0,6}元|cost|budget|price", re.I),
    "time_to_market": re.compile(r"\d\s*周|上线|灰度|期限|deadline|milestone", re.I),
}
_AMOUNT = re.compile(
    r"(?:P9\d(?:\.\d{1,9})?\s*+)?(?:(?:不低于|不高于|不超过|低于|高于|小于|大于|超过|至少|最多|[<>≤≥]=?)\s*+)?"
    r"(?<!\d)(?<!\d,)\d++(?:,\d++)*+(?:\.\d++)?\s*+(?:%|毫秒|秒|分钟|小时|天|周|个月|元|万元|万条|万|条|家|ms|s\b|MB|GB|QPS|req/\w+)",
    re.I,
)


def find_constraints(document: Path, top: int = 40) -> dict[str, Any]:
    """Find the measurable constraints of a document by quality attribute, and the attributes without one.

    Args:
        document: Markdown or text document: a product specification, research, a design.
        top: Constraints returned, in document order.
    """
    found = []
    for number, line in enumerate(document.read_text(encoding="utf-8-sig").splitlines(), 1):
        for sentence in re.split(r"(?<=[。;\uff1b])", line.strip()):
            qualities = [name for name, cue in QUALITIES.items() if cue.search(sentence)]
            if qualities and not line.startswith("#"):
                amounts = [match.strip() for match in _AMOUNT.findall(sentence)]
                found.append(
                    {"line": number, "qualities": qualities, "amounts": amounts, "text": _bare(sentence)}
                )
    measured = [entry for entry in found if entry["amounts"]]
    covered = {quality for entry in measured for quality in entry["qualities"]}
    return {
        "constraints": measured[: max(1, top)],
        "left_out": max(0, len(measured) - max(1, top)),
        "measured": sorted(covered),
        "no_number": [name for name in QUALITIES if name not in covered],
        "mentioned_without_number": [
            {"line": e["line"], "qualities": e["qualities"], "text": e["text"]}
            for e in found
            if not e["amounts"]
        ][: max(1, top)],
    }


def _bare(text: str) -> str:
    return re.sub(r"^[\s>]*(?:[-*+]|\d+[.、)\uff09])?\s*|\*\*", "", text)
