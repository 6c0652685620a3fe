"""How people write time, memory, rates and shares: `2h25m`, `2Gi`, `100req/min`, `70%`.

Every parser raises ValueError with a message that shows a right spelling.
"""

from __future__ import annotations

import math
import re
from typing import Any

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES = {
    "": 1,
    "k": 10**3,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
_PERIODS = {
    "s": 1,
    "sec": 1,
    "second": 1,
    "m": 60,
    "min": 60,
    "minute": 60,
    "h": 3600,
    "hour": 3600,
    "d": 86400,
    "day": 86400,
}
_MOST_CHARS = 100
_MOST_BYTES = 2**50
_DURATION_PART = re.compile(r"(?<!\d)(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)(Ki|Mi|Gi|Ti|k|K|M|G|T)?B?")
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*+(?:(?:requests|req|tokens)\s*+)?(?:/|(?<=\s)per\s)\s*+([a-z]+?)s?")


def parse_duration(value: Any) -> float:
    """Seconds, from a positive number of seconds or a text such as `90s`, `2h25m`, `5000ms`."""
    hint = "write seconds (1800) or a text such as '30m', '2h25m', '5000ms'"
    if isinstance(value, bool) or value is None:
        raise ValueError(f"not a duration; {hint}")
    if isinstance(value, (int, float)):
        seconds = float(min(value, 1e300))
    else:
        text = _short(value, hint).replace(" ", "")
        if re.fullmatch(r"\d+(\.\d+)?", text):
            seconds = float(text)
        else:
            parts = _DURATION_PART.findall(text)
            if not parts or "".join(n + u for n, u in parts) != text:
                raise ValueError(f"not a duration; {hint}")
            seconds = sum(float(n) * _SECONDS[u] for n, u in parts)
    if not math.isfinite(seconds) or seconds <= 0:
        raise ValueError("a duration must be more than zero")
    if seconds > 10 * 366 * 86400:
        raise ValueError("a duration may be ten years at most")
    return seconds


def parse_size(value: Any) -> int:
    """Bytes, from a number or a text such as `512Mi`, `2Gi`, `4G`."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return _within(int(value))
    match = _SIZE.fullmatch(_short(value, ""))
    if not match or isinstance(value, bool) or float(match[1]) <= 0:
        raise ValueError("not a size; write bytes or a text such as '512Mi', '2Gi'")
    return _within(int(float(match[1]) * _BYTES[match[2] or ""]))


def _within(size: int) -> int:
    if size > _MOST_BYTES:
        raise ValueError("a size may be 1024 Ti at most")
    return size


def _short(value: Any, hint: str) -> str:
    """A value's text, which is no quantity when it is long."""
    text = value if isinstance(value, str) else str(value) if not _is_huge(value) else "9" * _MOST_CHARS
    if len(text) >= _MOST_CHARS:
        raise ValueError(f"longer than a quantity is; {hint}".removesuffix("; "))
    return text.strip()


def _is_huge(value: Any) -> bool:
    return isinstance(value, int) and value.bit_length() > 1_000  # Python would not print it


def parse_rate(value: Any) -> tuple[float, float]:
    """`(count, seconds)`, from `100/minute`, `100req/min`, `5/s`; a bare number is per minute."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
        return float(min(value, 1e300)), 60.0
    match = _RATE.fullmatch(_short(value, "").lower())
    if not match or float(match[1]) <= 0 or match[2] not in _PERIODS:
        raise ValueError("not a rate; write a text such as '100/minute' or '100req/min'")
    return float(match[1]), float(_PERIODS[match[2]])


def parse_share(value: Any) -> float:
    """A fraction 0..1, from `70%`, `99.9%` or a number up to 1."""
    text = _short(value, "")
    if isinstance(value, bool) or not re.fullmatch(r"\d+(\.\d+)?%?", text):
        raise ValueError("not a share; write a text such as '70%' or a number from 0 to 1")
    share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    if not 0 <= share <= 1:
        raise ValueError("a share lies between 0% and 100%; write '70%' or 0.7")
    return share


def shown_duration(seconds: float) -> str:
    """The shortest people's spelling of a number of seconds: `2h25m`, `90s` becomes `1m30s`, `0.3s`."""
    if seconds < 60:
        return f"{seconds:.1f}".rstrip("0").rstrip(".") + "s"
    whole, out = round(seconds), ""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, whole = divmod(whole, size)
        out += f"{count}{unit}" if count else ""
    return out
