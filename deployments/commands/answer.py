"""`phaseline answer`: decide a wait, as oneself or, on a local ledger, for somebody else."""

from __future__ import annotations

import argparse
import os
import pwd
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from blocks.ledger import Ledger
from blocks.ledger.waits.tally import agreeing_votes, counting_votes
from blocks.ledger.waits.votes import SAID
from blocks.ledger.waits.waits import Decision, WaitRow
from blocks.settings import Settings
from deployments.runs.continuation import going_on
from deployments.runs.lookup import TENANT, learn_secrets_of, open_ledger, settings_of
from deployments.runs.sweep import sweep
from deployments.terminal.display import Out
from deployments.terminal.json_arguments import parse_field, read_object
from flows.answers import scrub_secrets
from workflows.core.errors import UsageError


def execute(args: argparse.Namespace, out: Out) -> int:
    """Records the answer and says how the run goes on, or lets it go on. Raises UsageError."""
    settings = settings_of(args)
    voter, account, note = _identity(args, settings)
    with open_ledger(settings, decides=True) as ledger:
        known = ledger.waits.get(TENANT, args.wait_id)
        if known is not None:
            learn_secrets_of(ledger.reader.get_run(TENANT, known.run_id))
        # Not the run this is about: it would be at work in the background when it is to go on here.
        sweep(ledger, out, args.home, args.places, but=known.run_id if known else "")
        row = _vote(args, ledger, voter, account, note)
        after = going_on(ledger, row.run_id, args.home, args.places, out)
    still = f"{_approvals(row)} of {row.quorum} so far" if row.state == "open" else f"it is {row.state}"
    out.line(f"{row.wait_id}: {SAID[_decision(args)]} by {voter}; {still}", "green")
    if args.resume and not after.woken and not after.taken_back:
        return _resume_run(row.run_id, args, out, failed=after.failed)
    out.document({**_document(row, voter), **after.to_document()})
    after.print(out)
    return 0


def _resume_run(run_id: str, args: argparse.Namespace, out: Out, *, failed: bool) -> int:
    from deployments.commands import resume
    from deployments.terminal.arguments import read

    # As it began, and with the provider's quota as it is: who answers has not seen either. Only a run that
    # failed cannot go on but by being tried again.
    woken = () if failed else ("--woken",)
    return resume.execute(read([*args.places, "resume", run_id, "--use", "stored", *woken]), out)


def _vote(args: argparse.Namespace, ledger: Ledger, voter: str, account: str, note: str) -> WaitRow:
    known = ledger.waits.get(TENANT, args.wait_id)
    data = _data(args.data, args.fields, known.form if known is not None else {})
    data, note = scrub_secrets(data, os.environ), scrub_secrets(note, os.environ)
    vote = ledger.waits.vote
    who = {"account": account} if account else {"local_admin": True}
    return vote(TENANT, args.wait_id, voter, _decision(args), data, note=note, **who)


def _decision(args: argparse.Namespace) -> Decision:
    return "reject" if args.reject else "approve"


def _identity(args: argparse.Namespace, settings: Settings) -> tuple[str, str, str]:
    """Who answers, by which account (none where another one spoke for them), and the note that is kept."""
    user, shared = _user(), "://" in settings.database and not settings.database.startswith("sqlite")
    if args.name is None or args.name == user:
        # Where machines share the ledger, a number means somebody on one of them only.
        number = str(os.getuid())
        return user, f"{number}@{socket.gethostname()}" if shared else number, args.note
    if shared:
        raise UsageError(
            "--as is for a ledger on this machine; this one is shared",
            f"answer as yourself ({user})",
        )
    return args.name, "", f"{args.note} (by {user})".strip()


def _user() -> str:
    """The operating system's user, by name or, where the number has none (in containers), by number.

    What a variable says (LOGNAME, USER) would let anybody answer as somebody else.
    """
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _data(given: str | None, fields: Sequence[str], form: Mapping[str, Any]) -> dict[str, Any] | None:
    """The answer's fields; None when none is given."""
    data = read_object(given, "--data") if given is not None else None
    known = form.get("properties") or {}
    for pair in fields:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"'{pair}' is no field", "write -f name=value")
        data = {**(data or {}), name: parse_field(text, known.get(name))}
    return data


def _approvals(row: WaitRow) -> int:
    return len(agreeing_votes(counting_votes(row)))


def _document(row: WaitRow, voter: str) -> dict[str, Any]:
    return {
        "wait_id": row.wait_id,
        "run_id": row.run_id,
        "step": row.step_path,
        "state": row.state,
        "voter": voter,
        "answer": row.answer,
        "decided_by": row.decided_by,
    }
