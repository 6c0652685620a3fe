"""`phaseline event`: what happened outside, for the steps that await it."""

from __future__ import annotations

import argparse
import os
import uuid
from typing import Any

from blocks.ledger.waits.waits import Delivery
from deployments.runs.continuation import going_on
from deployments.runs.lookup import TENANT, open_ledger, settings_of
from deployments.runs.sweep import sweep
from deployments.terminal.display import Out
from deployments.terminal.json_arguments import read_object
from flows.answers import scrub_secrets


def execute(args: argparse.Namespace, out: Out) -> int:
    """Keeps the event and says which wait it answers; the same --key and --id twice are one event."""
    payload = read_object(args.data, "--data") if args.data is not None else {}
    payload = scrub_secrets(payload, os.environ)
    event_id = args.id or uuid.uuid4().hex
    document: dict[str, Any] = {"event_id": event_id, "type": args.type, "key": args.key}
    with open_ledger(settings_of(args), decides=True) as ledger:
        told = ledger.waits.deliver(TENANT, args.type, args.key, event_id, payload)
        row = told.wait
        # Only then is it known which run this is about.
        sweep(ledger, out, args.home, args.places, but=row.run_id if row else "")
        document |= {"result": _result(told), "duplicate": told.duplicate, "differs": told.differs}
        if told.differs:
            out.note(f"the event {event_id} came before and said something else; that stays", "yellow")
        if row is None:
            out.document({**document, "wait_id": None, "run_id": None})
            out.line(f"kept as {event_id}{_before(told)}; nothing waits for it yet")
            return 0
        after = going_on(ledger, row.run_id, args.home, args.places, out)
    answers = {"wait_id": row.wait_id, "run_id": row.run_id, "step": row.step_path}
    out.document({**document, **answers, **after.to_document()})
    if told.duplicate:
        out.line(f"{event_id} came before, and answered {row.wait_id} ({row.run_id}) then: nothing is new")
    else:
        out.line(f"it answers {row.wait_id} ({row.run_id}, step {row.step_path})", "green")
    after.print(out)
    return 0


def _before(told: Delivery) -> str:
    return " since it came before" if told.duplicate else ""


def _result(told: Delivery) -> str:
    """What became of the event now: "answered" a wait, "kept" for one, or "duplicate": nothing."""
    return "duplicate" if told.duplicate else "answered" if told.wait else "kept"
