"""`phaseline answer`: decide a wait, as oneself or, on a local ledger, for somebody else."""

from __future__ import annotations

import argparse

from blocks.ledger.waits.tally import agreeing_votes, counting_votes
from blocks.ledger.waits.votes import SAID
from deployments.commands.resume import resume
from deployments.services.answer import AnswerRequest, answer_wait
from deployments.services.resume import ResumeRequest
from deployments.terminal.display import Out
from deployments.terminal.front import TerminalHost, caller_of, print_going_on
from deployments.terminal.json_arguments import read_fields, read_object


def execute(args: argparse.Namespace, out: Out) -> int:
    """Records the answer and says how the run goes on, or lets it go on. Raises UsageError."""
    request = AnswerRequest(
        caller=caller_of(args),
        wait_id=args.wait_id,
        decision="reject" if args.reject else "approve",
        data=read_object(args.data, "--data") if args.data is not None else None,
        fields=read_fields(args.fields),
        note=args.note,
        instead_of=args.name,
    )
    end = answer_wait(request, TerminalHost(out))
    wait, after = end.wait, end.after
    approvals = len(agreeing_votes(counting_votes(wait)))
    still = f"{approvals} of {wait.quorum} so far" if wait.state == "open" else f"it is {wait.state}"
    out.line(f"{wait.wait_id}: {SAID[request.decision]} by {end.voter}; {still}", "green")
    if args.resume and not after.woken and not after.taken_back:
        # As it began, and with the provider's quota as it is: who answers has not seen either. Only a run
        # that failed cannot go on but by being tried again.
        again = ResumeRequest(request.caller, wait.run_id, use="stored", woken=not after.failed)
        return resume(again, out)
    out.document(end.document)
    print_going_on(after, out)
    return 0
