"""The person who answers while a workflow is proved: agrees, fills forms, knows what happened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blocks.boundaries import reach_boundary
from blocks.ledger import DEFAULT_TENANT, Ledger, WaitRow
from blocks.offline.material import Material
from blocks.offline.values import fill_schema
from deployments.prover.facts import CASE, label_of, varying_texts
from workflows.core.errors import PhaselineError, UsageError

VOTER = "prove"
"""Who answers what is asked of nobody in particular."""


def answer_all(
    ledger: Ledger,
    run_id: str,
    folder: Path,
    given: Mapping[str, Any],
    truth: Mapping[str, str],
    outcomes: Mapping[str, str],
) -> int:
    """Answers every open wait of the run; how many there were.

    `folder` is the case's; `given` are answers by step id that the user wrote; `truth` says of each effect
    in doubt whether it happened, by its key (what nobody saw sent did not); `outcomes` what the same one
    gave undisturbed, by its label. Raises PhaselineError for a form that fixed rules cannot fill.
    """
    every = ledger.waits.of_run_blocking(DEFAULT_TENANT, run_id)
    varying = varying_texts(folder, every)
    waits = [w for w in every if w.state == "open"]
    for wait in waits:
        data = given.get(wait.step_path, given.get(wait.step_path.split("/")[0]))
        if wait.kind == "event":
            ledger.waits.signal(
                DEFAULT_TENANT, wait.event_type, wait.event_key, f"prove-{wait.wait_id}", data or {}
            )
        elif wait.kind == "unknown":
            label = label_of(wait.step_path, wait.detail["tool"], wait.detail["arguments"], varying)
            known = outcomes.get(label, "").replace(CASE, str(folder))
            _vote(ledger, wait, answer_for(truth.get(wait.subject, "not_done"), known))
        else:
            _vote(ledger, wait, fill_form(wait) if data is None else data)
        reach_boundary("wait.answered", wait.step_path, wait.wait_id)
    return len(waits)


def answer_for(truth: str, outcome: str) -> dict[str, Any]:
    """The answer to whether a call happened.

    Of a call that another branch had just sent nobody knows; then it counts as done: the one thing that
    must not follow from an answer is a second call.
    """
    if truth == "not_done":
        return {"outcome": "not_done"}
    return {"outcome": "done", **({"result": outcome} if outcome else {})}


def fill_form(wait: WaitRow) -> dict[str, Any]:
    """Values for the form, taken from the question's own words where names match."""
    made = fill_schema(wait.form, Material(instruction=wait.ask))
    return made if isinstance(made, dict) else {}


def _vote(ledger: Ledger, wait: WaitRow, data: dict[str, Any]) -> None:
    voters = wait.assignees or tuple(f"{VOTER}-{n}" if n else VOTER for n in range(wait.quorum))
    row = wait
    for voter in voters:
        if row.state != "open":
            return
        try:
            row = ledger.waits.vote(DEFAULT_TENANT, wait.wait_id, voter, "approve", data)
        except UsageError as fault:
            raise PhaselineError(
                f"the question of '{wait.step_path}' could not be answered: {fault.message}",
                f"write the answer down: --answers FILE with `{wait.step_path.split('/')[0]}: {{...}}`",
            ) from None
