"""How a question about permission is answered."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Allowed:
    """It may be used. `by` is what allows it, such as a pattern of hosts."""

    by: str


@dataclass(frozen=True, slots=True)
class Denied:
    """It may not be used. `reason` is half a sentence; `cure` says what would allow it."""

    reason: str
    cure: str


Ruling = Allowed | Denied
