"""What is asked, in words: enough to decide by, and the command that answers it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deployments.runs.next_commands import answering
from deployments.terminal.display import Out, Style, printable

_ABOUT_CALLS = ("action", "unknown")
"""Kinds of waits whose `detail` names a call: tool and arguments; of one in doubt also why, and how often
it was sent."""
_MOST_ARGUMENTS = 30
_LENGTH = 400
_WHOLE = "the whole of it: phaseline inbox --json"

Pair = tuple[str, str]


def wait_lines(wait: Mapping[str, Any], places: Sequence[str]) -> list[Pair]:
    """What is asked by which step, of whom, until when, and the command that answers it.

    `wait` is as `inbox --json` gives it. A text of several lines is one entry.
    """
    quorum = int(wait.get("quorum") or 1)
    votes = [vote for vote in wait.get("votes") or () if isinstance(vote, Mapping)]
    counting = [vote for vote in votes if vote.get("counts", True)]
    needed = f" ({len(counting)} of {quorum} answers so far)" if quorum > 1 else ""
    lines = [("waits for", f"{wait.get('ask')}{needed}"), ("  step", str(wait.get("step") or ""))]
    lines += _call_lines(wait)
    if wait.get("assignees"):
        lines.append(("  of", ", ".join(str(person) for person in wait["assignees"])))
    if wait.get("deadline"):
        lines.append(("  until", f"{wait['deadline']}, then {wait.get('on_timeout') or 'fail'}"))
    lines += _vote_lines(votes)
    return [*lines, ("  answer", answering(places, wait))]


def print_lines(lines: Sequence[Pair], out: Out, style: Style = "") -> None:
    """Prints them below each other; further lines of a text stand below its first."""
    below = "\n" + " " * 14
    for name, text in lines:
        out.line(f"  {name:<10}  {below.join(text.splitlines())}", style)


def vote_text(vote: Mapping[str, Any]) -> str:
    """Who said what: `ann approved {"amount": 5}: less the fee`."""
    from blocks.ledger.waits.votes import SAID  # here: it is only needed where there was a ledger

    data, note = vote.get("data"), vote.get("note")
    said = f"{vote.get('voter')} {SAID.get(str(vote.get('decision')), '')}".rstrip()
    said += (f" {_show_value(data)}" if data else "") + (f": {note}" if note else "")
    return said if vote.get("counts", True) else f"{said} (does not count: no longer asked)"


def _vote_lines(votes: Sequence[Mapping[str, Any]]) -> Iterator[Pair]:
    if not votes:
        return
    lines = [printable(vote_text(vote)) for vote in votes]
    counting = [vote for vote in votes if vote.get("counts", True)]
    if any(vote.get("decision") == "approve" and vote.get("data") for vote in counting):
        lines.append("others approve the same, also by an answer without fields, or reject")
    yield "  so far", "\n".join(lines)


def _call_lines(wait: Mapping[str, Any]) -> Iterator[Pair]:
    """The call that is decided about: nobody can say yes to what they do not see."""
    detail = wait.get("detail")
    if wait.get("kind") not in _ABOUT_CALLS or not isinstance(detail, Mapping):
        return
    yield "  tool", _shown_name(str(detail.get("tool") or ""))
    if arguments := _argument_lines(detail.get("arguments")):
        yield "  with", "\n".join(arguments)
    if (sent := detail.get("sent")) is not None:
        yield "  sent", f"{sent} time{'' if sent == 1 else 's'}"
    if why := detail.get("why"):
        yield "  why", printable(" ".join(str(why).split()))


def _argument_lines(arguments: Any) -> list[str]:
    if not isinstance(arguments, Mapping):
        return [] if arguments is None else [_show_value(arguments)]
    lines = [f"{_shown_name(str(name))}: {_show_value(value)}" for name, value in arguments.items()]
    if len(lines) <= _MOST_ARGUMENTS:
        return lines
    return [*lines[:_MOST_ARGUMENTS], f"and {len(lines) - _MOST_ARGUMENTS} more; {_WHOLE}"]


def _show_value(value: Any) -> str:
    """A value on one line. Cut, it says so: what is not seen may be what matters."""
    # As JSON a text cannot begin a line of its own, which could look like one of ours.
    text = printable(json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= _LENGTH else f"{text[:_LENGTH]}... ({len(text):,} characters; {_WHOLE})"


def _shown_name(name: str) -> str:
    return printable(json.dumps(name, ensure_ascii=False)[1:-1])
