"""Feedback rows by topic: how many, how bad, whose, with quotations."""

from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any

from _requirements import read_rows, text_column

TOPICS = {
    "分派与转派": ("分派", "转派", "分到", "分组", "assign"),
    "升级与优先级": ("升级", "优先", "紧急", "SLA", "催", "escalat", "重点客户"),
    "分类准确": ("分类", "标签", "误判", "把握", "混在一起", "硬分"),
    "安全与权限": ("泄露", "权限", "账号", "数据", "审计", "验证码"),
    "稳定与性能": ("报错", "慢", "延迟", "重复", "打不开", "不同步", "丢", "fail", "limit", "API"),
    "报表与统计": ("报表", "周报", "统计", "看板", "导出", "report"),
    "渠道与对接": ("微信", "邮件", "电话", "表单", "钉钉", "对接", "短信"),
    "界面与操作": ("颜色", "图标", "按钮", "界面", "快捷", "shortcut", "手机端", "移动端", "主题", "搜索"),
    "价格与服务": ("价格", "试用期", "发票", "续费", "客服响应", "文档"),
}
"""Topic -> words that show it. A row may belong to several; a row without any is 'other'."""
WEIGHTS = {"critical": 8, "high": 4, "medium": 2, "low": 1}


def summarise_feedback(feedback: Path, quotes: int = 2) -> dict[str, Any]:
    """Group feedback by topic with counts, mean rating, severity, segments and quotations.

    `pain` adds 8, 4, 2, 1 per critical, high, medium and low row (1 without a severity column), so that a
    topic with few but grave complaints ranks above one with many wishes.

    Args:
        feedback: CSV or JSON rows with a text column; id, rating, severity, user_segment are used when there.
        quotes: Quotations per topic, gravest first.
    """
    rows = read_rows(feedback)
    column = text_column(rows[0])
    topics: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        for topic in _topics(row[column]):
            topics.setdefault(topic, []).append(row)
    ranked = [_topic(name, members, column, max(0, quotes)) for name, members in topics.items()]
    ranked.sort(key=lambda t: (-t["pain"], t["topic"]))
    ratings = _ratings(rows)
    return {
        "rows": len(rows),
        "mean_rating": round(fmean(ratings), 2) if ratings else None,
        "topics": ranked,
        "caution": "a row may count in several topics; topics are found by key words, read the quotations",
    }


def _topics(text: str) -> list[str]:
    lowered = text.lower()
    return [name for name, words in TOPICS.items() if any(w.lower() in lowered for w in words)] or ["other"]


def _topic(name: str, rows: list[dict[str, str]], column: str, quotes: int) -> dict[str, Any]:
    ordered = sorted(rows, key=lambda row: -_weight(row))
    ratings = _ratings(rows)
    return {
        "topic": name,
        "rows": len(rows),
        "pain": sum(map(_weight, rows)),
        "mean_rating": round(fmean(ratings), 2) if ratings else None,
        "severity": _counts(rows, "severity"),
        "segments": _counts(rows, "user_segment"),
        "quotes": [{"id": row.get("id", ""), "text": row[column]} for row in ordered[:quotes]],
    }


def _weight(row: dict[str, str]) -> int:
    return WEIGHTS.get(row.get("severity", "").lower(), 1)


def _ratings(rows: list[dict[str, str]]) -> list[float]:
    return [float(row["rating"]) for row in rows if row.get("rating", "").replace(".", "", 1).isdigit()]


def _counts(rows: list[dict[str, str]], column: str) -> dict[str, int]:
    values = Counter(row[column] for row in rows if row.get(column))
    return dict(sorted(values.items(), key=lambda pair: (-pair[1], pair[0])))
