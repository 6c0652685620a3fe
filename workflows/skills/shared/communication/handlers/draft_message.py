"""A short message with the conclusion first."""

from typing import Any, Literal

_OPENING = {
    "team": ("各位好：", "请直接回复本消息提出异议；没有异议按此执行。"),
    "management": ("您好：", "如需细节，附件和运行记录可以逐条核对。"),
    "customer": ("您好，感谢您的反馈。", "如与您的实际情况不符，请直接回复，我们会跟进到底。"),
}
LONGEST_SUBJECT = 40


def draft_message(
    purpose: str,
    points: list[str],
    audience: Literal["team", "management", "customer"] = "team",
    ask: str = "",
    deadline: str = "",
) -> dict[str, Any]:
    """Draft a message: conclusion, reasons, what is asked of the reader and until when. Sends nothing.

    Args:
        purpose: The conclusion in one sentence; it opens the message and becomes the subject.
        points: The reasons or facts, most important first; three to five are best.
        audience: Who reads it; decides greeting and closing.
        ask: What the reader should do; empty when the message only informs.
        deadline: Until when, written out with a date.
    """
    reasons = [str(point).strip() for point in points if str(point).strip()]
    if not purpose.strip():
        raise ValueError("a message needs a purpose: write its conclusion in one sentence")
    greeting, closing = _OPENING[audience]
    lines = [greeting, "", purpose.strip(), ""]
    lines += [f"{number}. {reason}" for number, reason in enumerate(reasons, 1)]
    if ask:
        lines += ["", f"需要您：{ask}" + (f"（{deadline} 前）" if deadline else "")]
    body = "\n".join([*lines, "", closing])
    subject = ("【需确认】" if ask else "【知会】") + purpose.strip().rstrip("。.")
    return {
        "audience": audience,
        "subject": subject[:LONGEST_SUBJECT],
        "body": body,
        "characters": len(body),
        "remarks": _remarks(reasons, ask, deadline, audience, purpose),
    }


def _remarks(reasons: list[str], ask: str, deadline: str, audience: str, purpose: str) -> list[str]:
    found = []
    if len(reasons) > 5:
        found.append(f"{len(reasons)} points: more than five are rarely read; move the rest to an attachment")
    if ask and not deadline:
        found.append("an ask without a deadline is read as optional")
    if deadline and not ask:
        found.append("a deadline without an ask: say what is due")
    if audience == "customer" and any(word in purpose for word in ("模型", "提示词", "token")):
        found.append("customers do not need inside words; say what changes for them")
    return found
