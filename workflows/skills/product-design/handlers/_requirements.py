"""Finding requirement sentences in Chinese and English documents and feedback tables."""

import csv
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Strength = Literal["must", "should", "could"]
_CUES: tuple[tuple[Strength, re.Pattern[str]], ...] = (
    (
        "must",
        re.compile(
            r"必须|务必|不得|禁止|绝不|(?:数据|工单|结果)不能|不能(?:自动|丢失|泄露|中断|硬)|不低于|不高于|不超过|\bmust\b|\bshall\b|\bcannot\b",
            re.I,
        ),
    ),
    (
        "should",
        re.compile(
            r"应该|应当|应(?=支持|提供|在|不|能)|需要|希望|想要|要求|\bshould\b|\bneeds? to\b|\bwant", re.I
        ),
    ),
    (
        "could",
        re.compile(
            r"(?:^|[,\uff0c。;\uff1b:\uff1a])\s*建议(?!基本|帮|都|比)|可以(?=增加|支持|提供|按|保存|放|再)"
            r"|最好|如果能|\bcould\b|\bwould (?:love|be nice)|\bnice to have",
            re.I,
        ),
    ),
)
_KINDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "security",
        re.compile(
            r"安全|权限|泄露|脱敏|合规|审计|隐私|加密|删除|训练.{0,6}模型|security|privacy|permission", re.I
        ),
    ),
    ("reliability", re.compile(r"可用性|降级|丢失|容灾|备份|重复|不可用|availab|failover|retry", re.I)),
    (
        "performance",
        re.compile(r"毫秒|\d\s*秒|P9\d|响应|延迟|吞吐|并发|太慢|latency|rate limit|throughput", re.I),
    ),
    ("quality", re.compile(r"准确率|召回率|误报率|正确率|把握|误判|precision|recall|accuracy", re.I)),
    ("cost", re.compile(r"价格|成本|毛利|预算|每坐席|price|cost|budget", re.I)),
)
_VAGUE = re.compile(
    r"尽快|尽量|友好|快速|方便|合理|适当|大量|较好|更好|灵活|易用|实时|等等|fast|easy|user-friendly|robust|flexible",
    re.I,
)
_NUMBER = re.compile(r"\d")
_SENTENCE = re.compile(r"(?<=[。!?;\uff1b\uff01\uff1f])|\n")
MOST = 1_000
"""Different sentences that are held against each other."""
LONGEST = 500
"""Characters of a sentence that are compared."""
MOST_CELLS = 1_000_000
"""Cells of a table, those counted that short rows leave empty."""
_TEXT_COLUMNS = ("text", "feedback", "comment", "content", "message", "反馈", "内容")


@dataclass(frozen=True)
class Requirement:
    """One requirement as somebody wrote it. `sources` are lines or row ids."""

    id: str
    text: str
    strength: Strength
    kind: str
    measurable: bool
    vague: tuple[str, ...]
    sources: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "id": self.id,
            "text": self.text,
            "strength": self.strength,
            "kind": self.kind,
            "measurable": self.measurable,
            "vague": list(self.vague),
            "sources": list(self.sources),
        }


def read_requirements(path: Path) -> list[Requirement]:
    """The requirements of a document, must before should before could; like sentences are one."""
    found: list[tuple[Strength, str, list[str]]] = []
    compared: list[set[str]] = []
    twins: dict[str, int] = {}
    for source, sentence in _sentences(path):
        strength = next((name for name, cue in _CUES if cue.search(sentence)), None)
        if strength is None or len(sentence) < 6:
            continue
        if sentence not in twins:
            if len(twins) == MOST:
                raise ValueError(f"more than {MOST:,} different requirements; give the document in parts")
            pairs = _pairs(sentence)
            twins[sentence] = next(
                (n for n, other in enumerate(compared) if _alike(other, pairs)), len(found)
            )
        if twins[sentence] == len(found):
            found.append((strength, sentence, []))
            compared.append(pairs)
        found[twins[sentence]][2].append(source)
    order = ("must", "should", "could")
    found.sort(key=lambda entry: order.index(entry[0]))
    return [
        Requirement(
            id=f"REQ-{number:03d}",
            text=text,
            strength=strength,
            kind=next((kind for kind, cue in _KINDS if cue.search(text)), "functional"),
            measurable=bool(_NUMBER.search(text)),
            vague=tuple(dict.fromkeys(_VAGUE.findall(text))),
            sources=tuple(dict.fromkeys(sources)),
        )
        for number, (strength, text, sources) in enumerate(found, 1)
    ]


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file or of a JSON list, cells as text. Raises ValueError when there are none."""
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".json":
        value = json.loads(text)
        records = value if isinstance(value, list) else []
        rows = [{str(k): str(v) for k, v in r.items()} for r in records if isinstance(r, dict)]
    else:
        rows = [{k: v or "" for k, v in r.items() if k} for r in _csv_rows(text)]
    if not rows:
        raise ValueError("no rows found; give a CSV table or a JSON list of objects")
    return rows


def text_column(row: dict[str, str]) -> str:
    """The name of the column that holds people's words. Raises ValueError when there is none."""
    name = next((column for column in _TEXT_COLUMNS if column in row), "")
    if not name:
        raise ValueError(f"no column of free text; name it one of: {', '.join(_TEXT_COLUMNS)}")
    return name


def _sentences(path: Path) -> list[tuple[str, str]]:
    if path.suffix in {".csv", ".json"}:
        rows = read_rows(path)
        column = text_column(rows[0])
        pairs = [(row.get("id") or f"row {n}", row.get(column, "")) for n, row in enumerate(rows, 1)]
    else:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        pairs = [
            (f"line {n}", _bare(line)) for n, line in enumerate(lines, 1) if not line.startswith(("#", "|"))
        ]
    return [(source, bit.strip()) for source, text in pairs for bit in _SENTENCE.split(text) if bit.strip()]


def _bare(line: str) -> str:
    return re.sub(r"^[\s>]*(?:[-*+]|\d+[.、)\uff09])?\s*|\*\*", "", line)


def _pairs(text: str) -> set[str]:
    return {text[i : i + 2] for i in range(min(len(text), LONGEST) - 1)}


def _alike(a: set[str], b: set[str]) -> bool:
    return bool(a and b) and len(a & b) / len(a | b) >= 0.6


def _csv_rows(text: str) -> list[dict[str, str]]:
    """The rows of a CSV text. Raises ValueError for one that is none, or too wide and long."""
    rows, cells = [], 0
    try:
        for row in csv.DictReader(io.StringIO(text)):
            cells += len(row)  # those counted that a short row leaves empty
            if cells > MOST_CELLS:
                raise ValueError(f"the table has more than {MOST_CELLS:,} cells; give a part of it")
            rows.append(row)
    except csv.Error as fault:
        raise ValueError(f"this CSV cannot be read: {fault}") from None
    return rows
