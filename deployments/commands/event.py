"""`phaseline event`: what happened outside, for the steps that await it."""

from __future__ import annotations

import argparse

from deployments.services.answer import EventRequest, deliver_event
from deployments.terminal.display import Out
from deployments.terminal.front import TerminalHost, caller_of, print_going_on
from deployments.terminal.json_arguments import read_object


def execute(args: argparse.Namespace, out: Out) -> int:
    """Keeps the event and says which wait it answers; the same --key and --id twice are one event."""
    request = EventRequest(
        caller=caller_of(args),
        type=args.type,
        key=args.key,
        event_id=args.id or "",
        payload=read_object(args.data, "--data") if args.data is not None else {},
    )
    end = deliver_event(request, TerminalHost(out))
    out.document(end.document)
    told, wait = end.delivery, end.delivery.wait
    if wait is None or end.after is None:
        since = " since it came before" if told.duplicate else ""
        out.line(f"kept as {end.event_id}{since}; nothing waits for it yet")
        return 0
    if told.duplicate:
        answered = f"answered {wait.wait_id} ({wait.run_id}) then"
        out.line(f"{end.event_id} came before, and {answered}: nothing is new")
    else:
        out.line(f"it answers {wait.wait_id} ({wait.run_id}, step {wait.step_path})", "green")
    print_going_on(end.after, out)
    return 0
