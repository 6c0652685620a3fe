"""How the call of a handler can end without a result."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

from blocks.secrecy import secrets
from workflows.core.errors import PhaselineError


class HandlerFault(PhaselineError):
    """A handler gave no result. `printed` is the beginning of what it printed."""

    before_sending = False
    """Whether it certainly did nothing."""

    def __init__(self, message: str, cure: str, printed: str = "") -> None:
        super().__init__(message, cure)
        self.printed = printed


class HandlerError(HandlerFault):
    """The handler raised. `frames` are the lines of its skill's own files that led there.

    It did nothing where it could not even be called, or where its exception says so by the attribute
    `nothing_done`.
    """

    def __init__(self, function: str, error: Mapping[str, Any], printed: str = "") -> None:
        known = secrets.current_secrets()
        self.type = known.text(str(error.get("type", "Exception")))[:100]
        self.detail = known.text(str(error.get("message", "")))[:2_000]
        self.before_sending = error.get("nothing_done") is True
        found = error.get("frames")
        self.frames = tuple(known.text(str(f))[:300] for f in found[:8]) if isinstance(found, list) else ()
        at = f" ({self.frames[-1]})" if self.frames else ""
        cure = "give more memory in the skill's config.yaml" if self.type == "MemoryError" else ""
        super().__init__(
            f"{function} raised {self.type}: {self.detail}{at}",
            cure or "call it with other arguments, or mend the handler",
            printed,
        )


class HandlerTimeout(HandlerFault):
    """The handler took longer than it may; its process group was killed."""


class HandlerCrashed(HandlerFault):
    """The process ended without an answer. `status` is its exit status, minus the signal that killed it."""

    def __init__(self, function: str, status: int, printed: str = "") -> None:
        self.status = status
        super().__init__(
            f"{function} ended without a result: {_describe_end(status)}",
            "a handler returns its result and never ends its process",
            printed,
        )


class HandlerOutput(HandlerFault):
    """The result is not JSON or too large, or the handler printed without end."""


def _describe_end(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
