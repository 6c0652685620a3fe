"""What is known of a provider's limits: what a request needs, what a window has left, how that is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from blocks.models import ProviderHeaders, Request

SECOND = 1_000_000
KINDS = ("requests", "tokens", "input-tokens", "output-tokens")
"""What the provider counts, as its headers call it."""

_CHARACTERS_PER_TOKEN = 3.6
_REMEMBERED = 120 * SECOND
_SLOT = SECOND // 10
_MOST_SLOTS = 300
_SHARE = 4  # of a window of tokens one request is counted with at most a quarter


@dataclass(frozen=True, slots=True)
class Need:
    """What one request is expected to use: tokens of input, and of output at most."""

    model: str
    input: int
    output: int

    @classmethod
    def of(cls, request: Request) -> Need:
        """An estimate from the characters of the request and its max_tokens."""
        body = {name: value for name, value in request.items() if name in ("system", "tools", "messages")}
        characters = len(json.dumps(body, ensure_ascii=False, default=str))
        estimated = int(characters / _CHARACTERS_PER_TOKEN) + 1
        return cls(str(request.get("model", "")), estimated, int(request.get("max_tokens") or 0))

    @property
    def tokens(self) -> int:
        """Input and output together."""
        return self.input + self.output

    def share(self, kind: str, limit: int) -> int:
        """What it takes of a window of that kind.

        The provider counts output as it is written and no input that its cache answers, so that a request
        with a generous max_tokens must not block a whole window.
        """
        if kind == "requests":
            return 1
        wanted = {"input-tokens": self.input, "output-tokens": self.output}.get(kind, self.tokens)
        return min(wanted, max(1, limit // _SHARE))


@dataclass(frozen=True, slots=True)
class Window:
    """What remains of a limit of the provider from `opens` to `reset`, by news of the time `seen`."""

    limit: int
    remaining: int
    opens: int
    reset: int
    seen: int


def read_window(headers: ProviderHeaders, kind: str, seen: int) -> Window | None:
    """The window of that kind by headers that came at `seen`; None when they do not tell."""
    try:
        limit, remaining = int(headers[f"{kind}-limit"]), int(headers[f"{kind}-remaining"])
        reset = datetime.fromisoformat(headers[f"{kind}-reset"])
        until = round(reset.timestamp() * SECOND)
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    if limit <= 0 or remaining < 0 or reset.tzinfo is None:
        return None
    return Window(limit, min(remaining, limit), seen, until, seen)


class KnownLimits:
    """The state's document while it is worked on.

    `requests` and `tokens`: when those buckets are free; `given_back`: microseconds of tokens; `models`: by
    model its `windows` (by kind the values of a Window) and what was `sent`: [slot, requests, input, output],
    where a slot is a tenth of a second.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = dict(document)
        self._models: dict[str, Any] = dict(self.document.get("models", {}))

    def free_at(self, bucket: str) -> int:
        """When everything in a bucket has run out."""
        return int(self.document.get(bucket, 0))

    def windows(self, model: str) -> dict[str, Window]:
        stored = self._models.get(model, {}).get("windows", {})
        return {kind: Window(*values) for kind, values in stored.items()}

    def put(self, model: str, kind: str, window: Window) -> None:
        entry = self._models.get(model, {})
        values = [window.limit, window.remaining, window.opens, window.reset, window.seen]
        self._change(model, {**entry, "windows": {**entry.get("windows", {}), kind: values}})

    def note_sent(self, need: Need, at: int) -> None:
        entry = self._models.get(need.model, {})
        slots, slot = list(entry.get("sent", [])), at // _SLOT
        if slots and slots[-1][0] == slot:
            _, count, given, taken = slots.pop()
            slots.append([slot, count + 1, given + need.input, taken + need.output])
        else:
            slots.append([slot, 1, need.input, need.output])
        self._change(need.model, {**entry, "sent": slots[-_MOST_SLOTS:]})

    def sent_after(self, model: str, moment: int) -> list[Need]:
        """What was sent since, each slot's requests with their mean."""
        slots = self._models.get(model, {}).get("sent", [])
        return [
            Need(model, given // count, taken // count)
            for slot, count, given, taken in slots
            if slot * _SLOT > moment
            for _ in range(count)
        ]

    def forget(self, now: int) -> None:
        """Drop what is over, so that the document stays small."""
        for model, entry in list(self._models.items()):
            windows = {k: v for k, v in entry.get("windows", {}).items() if v[3] > now}
            sent = [slot for slot in entry.get("sent", []) if slot[0] * _SLOT > now - _REMEMBERED]
            if windows or sent:
                self._change(model, {"windows": windows, "sent": sent})
            else:
                self._models = {name: e for name, e in self._models.items() if name != model}
                self.document["models"] = self._models

    def _change(self, model: str, entry: dict[str, Any]) -> None:
        self._models = {**self._models, model: entry}
        self.document["models"] = self._models
