"""When the next request of a credential may be sent: pure functions of its state and a clock.

Two kinds of limits hold a request back. Those of the catalog are leaky buckets: a request takes its place
in the row of requests and in the row of tokens at once, and is told when that place comes; so a large one
waits for its turn like every other, and small ones cannot pass it for ever. Those of the provider are
windows, known from its headers until they reset: of what remains every request takes its share, and one
that finds too little takes a place in the window after the reset.

Times are whole microseconds since 1970 in UTC, as in the ledger.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from blocks.ledger import CredentialState
from blocks.models import ProviderHeaders
from tasks.limits.provider_limits import KINDS, SECOND, KnownLimits, Need, Window, read_window
from workflows.core.models.skill import ProviderLimits
from workflows.core.usage import Usage

MINUTE = 60 * SECOND
COOL_DOWN = "a cool-down of the credential"
OUTAGE = "outage"
"""In `limits` while the provider is out of order: [since, until when nothing is sent, pauses so far]."""
PROBE = 5 * SECOND
"""How long the first request after a park, or after the pause of an outage, goes alone, to see whether the
provider is really back. One that is answered earlier ends it for all."""

_OLD = 15 * MINUTE
_AT_ONCE = 12  # a twelfth of a minute's limit may be sent at once
_SCARCE = 5  # a fifth of a limit or less is left
_LOOSE = 10  # of what remains a process may use a tenth without asking again


@dataclass(frozen=True, slots=True)
class Place:
    """When a request may be sent, and what it waits for; "" when for nothing.

    A request that waits for tokens moves up by what those before it give back, though not before `firm`.
    A cool-down until `cooldown` is counted in already, or is there for others alone.
    """

    at: int
    reason: str = ""
    firm: int = 0
    given_back: int = 0
    cooldown: int = 0

    def moved_up(self, state: CredentialState) -> Place:
        """The place by a later state."""
        if self.firm >= self.at:
            return self
        given_back = int(state.limits.get("given_back", 0))
        gain = max(0, given_back - self.given_back)
        return replace(self, at=max(self.firm, self.at - gain), given_back=given_back)


def admit(
    state: CredentialState, now: int, need: Need, limits: ProviderLimits
) -> tuple[CredentialState, Place]:
    """The place of a request, and the state in which it is taken. Not for a parked credential."""
    at, reason = now, ""
    if state.cooldown_until is not None and state.cooldown_until > now:
        at, reason = state.cooldown_until, COOL_DOWN
    elif state.park_reason or _outage(state, now):
        state = replace(state, parked_until=None, park_reason="", cooldown_until=now + PROBE)
    known = KnownLimits(state.limits)
    known.forget(now)
    firm, tokens = _place_in_buckets(known, at, need, limits)
    if firm > at:
        at, reason = firm, "the limit of requests per minute"
    if tokens > at:
        at, reason = tokens, "the limit of tokens per minute"
    in_window, kind = _place_in_windows(known, at, need)
    if in_window > at:
        firm = at = in_window
        reason = f"the provider's limit of {kind}"
    _enter_buckets(known, at, need, limits)
    known.note_sent(need, at)
    given_back = int(known.document.get("given_back", 0))
    place = Place(at, reason, firm, given_back, state.cooldown_until or 0)
    return replace(state, limits=known.document), place


def note(state: CredentialState, now: int, sent: int, need: Need) -> CredentialState:
    """The state after a request that was sent at the time `sent` without asking for a place."""
    known = KnownLimits(state.limits)
    for kind, window in known.windows(need.model).items():
        if window.seen <= sent < window.reset and window.opens <= sent:
            left = max(0, window.remaining - need.share(kind, window.limit))
            known.put(need.model, kind, replace(window, remaining=left))
    known.note_sent(need, sent)
    known.forget(now)
    return replace(state, limits=known.document)


def settle(state: CredentialState, need: Need, used: int, limits: ProviderLimits) -> CredentialState:
    """The state once it is known how many tokens a request really used."""
    if limits.tokens_per_minute is None or "tokens" not in state.limits:
        return state
    pace, _ = _tokens_pace(limits.tokens_per_minute)
    back = round((need.tokens - used) * pace)
    free_at = max(0, int(state.limits["tokens"]) - back)
    given_back = int(state.limits.get("given_back", 0)) + back
    return replace(state, limits={**state.limits, "tokens": free_at, "given_back": given_back})


def learn(state: CredentialState, now: int, model: str, headers: ProviderHeaders) -> CredentialState:
    """The state after a response with these headers. Old news and what cannot be read is passed over."""
    seen = min(now, round(float(headers.get("at", 0)) * SECOND))
    known = KnownLimits(state.limits)
    for kind in KINDS:
        said = read_window(headers, kind, seen)
        before = known.windows(model).get(kind)
        if said is not None and said.reset > now and (before is None or before.seen < seen):
            known.put(model, kind, _merge_window(known, model, kind, before, said, now))
    known.forget(now)
    return replace(state, limits=known.document)


def is_scarce(headers: ProviderHeaders) -> bool:
    """Whether the news are that little is left, so that the next request must heed them."""
    windows = [read_window(headers, kind, 0) for kind in KINDS] if headers else []
    return any(w.remaining * _SCARCE <= w.limit for w in windows if w is not None)


def fail(state: CredentialState, now: int, pause: Callable[[int], int], asked: int = 0) -> CredentialState:
    """Nothing is sent for a while, as a request found the provider out of order.

    `pause` gives microseconds by how many such whiles there were, `asked` is what the provider wants.
    Requests that were under way when one began lengthen it by no more than that.
    """
    since, until, count = _outage(state, now) or (now, 0, 0)
    if now >= until:
        count += 1
        until = now + pause(count)
    until = max(until, now + asked)
    # In place of a probe's cool-down: what that was to find out is known.
    return replace(state, limits={**state.limits, OUTAGE: [since, until, count]}, cooldown_until=until)


def _outage(state: CredentialState, now: int) -> tuple[int, int, int] | None:
    """The outage that is going on; an old one of which nobody heard the end is none."""
    since, until, count = state.limits.get(OUTAGE, (0, 0, 0))
    return (since, until, count) if count and now < until + _OLD else None


def recover(state: CredentialState, sent: int) -> CredentialState:
    """The state after an answer to a request of the time `sent`: an outage that began before is over."""
    outage = state.limits.get(OUTAGE)
    if outage is None or sent < outage[0]:
        return state
    limits = {name: value for name, value in state.limits.items() if name != OUTAGE}
    return replace(state, limits=limits, cooldown_until=None)


def park(state: CredentialState, now: int, until: int, reason: str) -> CredentialState:
    """Nothing is sent before `until`; a park that lasts longer stays as it is."""
    if state.is_parked(now) and (state.parked_until is None or state.parked_until >= until):
        return state
    return replace(state, parked_until=until, park_reason=reason)


@dataclass(slots=True)
class Leeway:
    """What a process may use of each window before it asks again. A mutable count."""

    limits: dict[str, int]
    left: dict[str, int]

    @classmethod
    def of(cls, state: CredentialState, now: int, model: str, limits: ProviderLimits) -> Leeway | None:
        """None when every request must ask."""
        configured = limits.requests_per_minute or limits.tokens_per_minute
        if configured or state.park_reason or _outage(state, now) or (state.cooldown_until or 0) > now:
            return None
        windows = {k: w for k, w in KnownLimits(state.limits).windows(model).items() if w.reset > now}
        if any(window.opens > now for window in windows.values()):
            return None
        return cls(
            {kind: window.limit for kind, window in windows.items()},
            {kind: window.remaining // _LOOSE for kind, window in windows.items()},
        )

    def take(self, need: Need) -> bool:
        """Count a request in, when there is room for it."""
        shares = {kind: need.share(kind, limit) for kind, limit in self.limits.items()}
        if any(share > self.left[kind] for kind, share in shares.items()):
            return False
        for kind, share in shares.items():
            self.left[kind] -= share
        return True


def used_tokens(usage: Usage) -> int:
    """What counts against a limit of tokens: everything but what the cache answered."""
    return usage.total_tokens - usage.cache_read_input_tokens


# --- buckets ---


def _requests_pace(per_minute: int) -> tuple[float, float]:
    """Microseconds of one request, and how much of them may be owed: in no minute more than `per_minute`."""
    at_once = max(1, per_minute // _AT_ONCE)
    pace = MINUTE / (per_minute - at_once + 1)
    return pace, at_once * pace


def _tokens_pace(per_minute: int) -> tuple[float, float]:
    """The same of one token; one request that is larger than what is free may exceed a minute's limit."""
    at_once = per_minute / _AT_ONCE
    pace = MINUTE / (per_minute - at_once)
    return pace, at_once * pace


def _costs(need: Need, limits: ProviderLimits) -> list[tuple[str, float, float]]:
    """Per configured bucket its name, what the request takes of it, and what may be owed (microseconds)."""
    costs = []
    if limits.requests_per_minute is not None:
        pace, most = _requests_pace(limits.requests_per_minute)
        costs.append(("requests", pace, most))
    if limits.tokens_per_minute is not None:
        pace, most = _tokens_pace(limits.tokens_per_minute)
        costs.append(("tokens", need.tokens * pace, most))
    return costs


def _place_in_buckets(known: KnownLimits, at: int, need: Need, limits: ProviderLimits) -> tuple[int, int]:
    """When the row of requests has a place, and when the row of tokens has."""
    free = {"requests": at, "tokens": at}
    for name, cost, most in _costs(need, limits):
        free[name] = max(at, round(known.free_at(name) - max(0.0, most - cost)))
    return free["requests"], free["tokens"]


def _enter_buckets(known: KnownLimits, at: int, need: Need, limits: ProviderLimits) -> None:
    for name, cost, _ in _costs(need, limits):
        known.document[name] = round(max(at, known.free_at(name)) + cost)


# --- windows ---


def _place_in_windows(known: KnownLimits, at: int, need: Need) -> tuple[int, str]:
    """The first time at which every window has room, with the shares taken there, and which came last."""
    windows, last = known.windows(need.model), ""
    for kind, window in windows.items():
        opening = _opening(window, at, need.share(kind, window.limit))
        if opening > at:
            at, last = opening, kind
    for kind, window in windows.items():
        known.put(need.model, kind, _take_share(window, at, need.share(kind, window.limit)))
    return at, last


def _opening(window: Window, at: int, share: int) -> int:
    """When a request that comes at `at` finds its share."""
    if at >= window.reset:
        return at
    if share <= window.remaining or window.remaining >= window.limit:
        return max(at, window.opens)
    return window.reset


def _take_share(window: Window, at: int, share: int) -> Window:
    """The window after a request at `at`: the same, or the next when the request waits beyond the reset."""
    if at >= window.reset:
        window = Window(window.limit, window.limit, window.reset, max(at, window.reset + MINUTE), window.seen)
    return replace(window, remaining=max(0, window.remaining - share))


def _merge_window(
    known: KnownLimits, model: str, kind: str, before: Window | None, said: Window, now: int
) -> Window:
    """What is known of a window after news of it: what was sent since is not in the provider's figure yet."""
    if before is not None and before.opens > now:
        # Requests wait for that one already: they keep their places, later ones heed a later reset.
        if said.remaining == 0 and said.reset > before.opens:
            return replace(before, opens=said.reset, reset=said.reset + MINUTE, seen=said.seen)
        return replace(before, seen=said.seen)
    since = sum(need.share(kind, said.limit) for need in known.sent_after(model, said.seen))
    return replace(said, remaining=max(0, said.remaining - since))
