"""The commands that continue a run and answer its questions, in words that can be copied to a shell."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from blocks.run_request import RunRequest, request_of
from workflows.core.cures import anew_step

if TYPE_CHECKING:
    from blocks.ledger import RunRow


def words_of(request: RunRequest) -> list[str]:
    """The words of the `run` command that asks for it."""
    words = ["phaseline", *request.places, "run"]
    words += ["--text", request.text] if request.text is not None else [request.workflow]
    if request.storage:
        words += ["--storage", request.storage]
    if request.latest != "table":
        words += ["--latest", request.latest]
    return [*words, "--offline"] if request.offline else words


def continuing(request: RunRequest, run_id: str) -> str:
    """The command line that starts a run, or continues it, quoted for a shell."""
    return shlex.join([*words_of(request), "--run-id", run_id])


def resuming(places: Sequence[str], run_id: str, step: str = "") -> str:
    """The command line that continues a run that began, with a step done anew where one is named."""
    return shlex.join(["phaseline", *places, "resume", run_id, *(["--from", step] if step else [])])


def step_anew(errors: Iterable[Any]) -> str:
    """The step that these errors of a failed run say to do anew, as it fails again at once else; or ""."""
    cures = (str(error.get("cure") or "") for error in errors if isinstance(error, Mapping))
    return next(filter(None, map(anew_step, cures)), "")


def undoing(places: Sequence[str], run_id: str) -> str:
    """The command line that takes back what a run did, and goes on with that."""
    return shlex.join(["phaseline", *places, "cancel", run_id, "--undo"])


def giving_again(row: RunRow) -> str:
    """The command line that gives a run its inputs again: they were not written down."""
    request = request_of(row.labels) or RunRequest(row.workflow)
    return " ".join([continuing(request, row.run_id), *(f"-i {name}=..." for name in row.ungiven)])


def places_for(row: RunRow, places: Sequence[str]) -> Sequence[str]:
    """The options that say where a run's things are: those it was started with, else the ones given here."""
    request = request_of(row.labels)
    return request.places if request is not None and request.places else places


def going_on_by(row: RunRow, places: Sequence[str], errors: Iterable[Any] = ()) -> str:
    """The command line with which a run goes on: with undoing it, once that began; or with the inputs that
    it lacks. `errors`: of its steps."""
    own = places_for(row, places)
    if row.taken_back:
        return undoing(own, row.run_id)
    if row.ungiven:
        return giving_again(row)
    return resuming(own, row.run_id, step_anew((row.error, *errors)) if row.state == "failed" else "")


def answering(places: Sequence[str], wait: Mapping[str, Any]) -> str:
    """The command line that answers a wait (as `inbox --json` gives it), with the fields it must have."""
    if event := wait.get("event"):
        key = ["--key", str(event["key"])] if event.get("key") else []
        return shlex.join(["phaseline", *places, "event", str(event["type"]), *key])
    words = ["phaseline", *places, "answer", str(wait["wait_id"])]
    form = wait.get("form") or {}
    fields = form.get("properties") or {}
    for name in form.get("required") or ():
        words += ["-f", f"{name}={_placeholder(fields.get(name))}"]
    return shlex.join(words)


def _placeholder(schema: Any) -> str:
    """What stands for a value that people fill in."""
    schema = schema if isinstance(schema, Mapping) else {}
    if isinstance(schema.get("enum"), list):
        return "|".join(str(value) for value in schema["enum"][:5])
    kind = schema.get("type")
    return "true|false" if kind == "boolean" else str(kind).upper() if isinstance(kind, str) else "VALUE"
