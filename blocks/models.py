"""Model connections: who answers a request, in what shape, and how it fails.

Everything that crosses this border is JSON: a `Request` holds fields of the Messages API and nothing
else, an `Answer` holds the message as the provider sent it, thinking blocks included, so that it can be
echoed unchanged. Every failure is one of the errors below; no provider exception leaves this package.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from blocks.patience import PatienceOver
from workflows.core.errors import PhaselineError
from workflows.core.usage import Usage

Request = dict[str, Any]
"""Fields of `POST /v1/messages` without `stream`: model, max_tokens, messages, system, tools, ..."""

OnProgress = Callable[[str, str], None]
"""Called with the kind of block that grows (`text`, `thinking`, `tool_use`) and the text it grew by."""

ProviderHeaders = dict[str, Any]
"""The `anthropic-ratelimit-*` headers of a response without that prefix, such as `requests-remaining`, as
texts; and `at`, the seconds since 1970 at which they came."""


def credential_id(key: str, base_url: str | None) -> str:
    """What a credential is known by where its key must not stand: 16 hex characters."""
    address = (base_url or "").rstrip("/") or "https://api.anthropic.com"
    return hashlib.sha256(f"{key}\n{address}".encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Answer:
    """One message of a model. `seconds` is the wall time of the request; `model` is who really answered.

    `limits` is news of the moment: it is not kept, and does not make two answers different.
    """

    message: dict[str, Any]
    usage: Usage
    model: str
    request_id: str = ""
    offline: bool = False
    seconds: float = 0.0
    lost: Usage = field(default_factory=Usage)
    """Cost of the tries before it that were not answered."""
    limits: ProviderHeaders = field(default_factory=dict, compare=False, repr=False)

    @property
    def content(self) -> list[dict[str, Any]]:
        """The blocks of the message."""
        blocks: list[dict[str, Any]] = self.message["content"]
        return blocks

    @property
    def stop_reason(self) -> str:
        """Why the model stopped, such as end_turn or tool_use."""
        return str(self.message.get("stop_reason") or "")

    @property
    def text(self) -> str:
        """The text blocks joined; thinking is not text."""
        return "".join(block["text"] for block in self.content if block["type"] == "text")

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """The tool_use blocks in order."""
        return [block for block in self.content if block["type"] == "tool_use"]

    def to_json(self) -> dict[str, Any]:
        """What a journal keeps."""
        return {
            "message": self.message,
            "usage": self.usage.to_json(),
            "model": self.model,
            "request_id": self.request_id,
            "offline": self.offline,
            "seconds": self.seconds,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Answer:
        """The inverse of `to_json`."""
        return cls(**{**value, "usage": Usage.from_json(value["usage"])})


class ModelConnection(Protocol):
    """Answers requests. Safe to share by the tasks of one process, in any event loop."""

    @property
    def name(self) -> str:
        """What people read: `anthropic`, `offline`."""

    @property
    def offline(self) -> bool:
        """Whether the answers are made without a model."""

    async def send(self, request: Request, *, on_progress: OnProgress | None = None) -> Answer:
        """Send once, without retries. Raises `ModelError` and nothing else of the provider's."""

    async def close(self) -> None:
        """Give back what the running event loop holds."""


ADDRESS_CURE = (
    "check that ANTHROPIC_BASE_URL is the address of the Messages API, and that no proxy (HTTPS_PROXY) "
    "answers in its place"
)


class ModelError(PhaselineError):
    """A request was not answered. `spent` is what it is known to have cost all the same, `limits` what the
    provider said of its limits."""

    def __init__(self, message: str = "the model did not answer", cure: str = "") -> None:
        super().__init__(message, cure)
        self.spent = Usage()
        self.limits: ProviderHeaders = {}


AGAIN = "the step may be tried again"


class Retryable(ModelError):
    """The same request may succeed later.

    `kind` is one of rate_limit, overloaded, server, timeout, connection, cut, malformed; `retry_after`
    is the provider's wish in seconds.
    """

    def __init__(self, message: str = "", kind: str = "server", retry_after: float | None = None) -> None:
        super().__init__(message, AGAIN)
        self.kind = kind
        self.retry_after = retry_after


class Truncated(Retryable):
    """The stream ended before the message did."""

    def __init__(self, message: str = "the answer was cut off in the middle") -> None:
        super().__init__(message, "cut")


class Malformed(Retryable):
    """What came back is not a message of the Messages API.

    `foreign` means it looks as if something else had answered.
    """

    def __init__(self, message: str = "the answer is not a message", *, foreign: bool = False) -> None:
        super().__init__(message, "malformed")
        if foreign:
            self.cure = ADDRESS_CURE


class Terminal(ModelError):
    """The same request will fail again until a person changes something."""

    final = True


class ProviderAway(PatienceOver, ModelError):
    """The provider was out of order for longer than it is waited for. `kind` is that of the last fault."""

    def __init__(
        self, message: str = "", cure: str = "", waited: float = 0.0, wake_after: float = 0.0, kind: str = ""
    ) -> None:
        PatienceOver.__init__(self, message, cure, waited, wake_after)
        self.spent = Usage()
        self.limits: ProviderHeaders = {}
        self.kind = kind


class RequestRefused(Terminal):
    """The provider does not take what the request says; `too_long`: there is too much of it."""

    def __init__(self, message: str = "", cure: str = "", *, too_long: bool = False) -> None:
        super().__init__(message, cure)
        self.too_long = too_long


class AuthenticationFailed(Terminal):
    """The key was refused."""


_RUN = "RUN_ID"
"""Stands for the run in a cure until it is known which one it is."""


class QuotaExhausted(ModelError):
    """The provider's limit is spent: nothing more is started before `reset_at` (UTC; None: unknown)."""

    final = True

    exit_code = 4

    def __init__(self, message: str = "", reset_at: datetime | None = None) -> None:
        super().__init__(message)
        self.wait_until(reset_at)

    def wait_until(self, reset_at: datetime | None) -> None:
        """Say when it may be tried again."""
        when = (
            f"after {reset_at:%Y-%m-%d %H:%M} UTC"
            if reset_at
            else "once the provider's limit is raised or reset"
        )
        self.cure = f"continue the run {when}: phaseline resume {_RUN}, or phaseline wake for all due ones"
        self.reset_at = reset_at

    def of_run(self, run_id: str) -> None:
        """Say which run it stopped, for whoever copies the cure."""
        self.cure = self.cure.replace(_RUN, run_id)
