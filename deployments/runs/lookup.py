"""Runs of the ledger, as services find and open them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from blocks.ledger import Ledger, LedgerReader, RunRow
from blocks.run_request import catalog_of
from blocks.secrecy.secrets import learn
from deployments.runs.caller import Caller
from workflows.core.compile.inputs import variable_of
from workflows.core.errors import UsageError, did_you_mean
from workflows.core.tools.secret_names import variables_of_catalog


def wakes(environ: Mapping[str, str]) -> bool:
    """Whether commands continue what is due (PHASELINE_WAKE). Raises UsageError.

    Not where the server ends with its command either (PHASELINE_SERVER=command): there, as in CI, nothing is
    to go on after the command.
    """
    unsaid = "off" if environ.get("PHASELINE_SERVER") == "command" else "on"
    written = environ.get("PHASELINE_WAKE") or unsaid
    if written not in ("on", "off"):
        raise UsageError(f"PHASELINE_WAKE is '{written}'", "write on, or off for being told only")
    return written == "on"


@contextlib.contextmanager
def open_ledger(caller: Caller, *, decides: bool = False) -> Iterator[Ledger]:
    """The ledger; an empty one where nothing ran yet. Raises LedgerError, UsageError.

    decides: what a person decides is to be written; AnsweredFromWithin where a run has started this process.
    """
    settings = caller.settings()
    wakes(caller.environ)  # what is written wrong is told always, and not only when a run is due
    settings.prepare()
    with Ledger.open(settings.database) as ledger:
        if decides:
            ledger.refuse_from_within()
        yield ledger


def learn_secrets_of(row: RunRow | None) -> None:
    """What the run's inputs name, and what its own catalog takes from the environment, is secret here too."""
    learn(variable for kept in (row.inputs if row else {}).values() if (variable := _variable_of(kept)))
    folder = catalog_of(row.labels) if row is not None else None
    if folder is not None:
        learn(variables_of_catalog(Path(folder)))


def _variable_of(kept: Any) -> str:
    return variable_of(kept.get("value")) if isinstance(kept, Mapping) else ""


def find_run(reader: LedgerReader, run_id: str, caller: Caller) -> RunRow:
    """The caller's run of that id. Raises UsageError when there is none."""
    row = reader.get_run(caller.tenant, run_id)
    if row is not None:
        learn_secrets_of(row)
        return row
    database = caller.settings().database
    known = [r.run_id for r in reader.list_runs(caller.tenant, 200)]
    hint = did_you_mean(run_id, known)
    raise UsageError(
        f"there is no run '{run_id}'" + ("" if "://" in database else f" in {database}"),
        hint if hint.startswith("did you mean") else "list them with: phaseline runs",
    )
