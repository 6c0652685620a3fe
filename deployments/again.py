"""The commands that continue a run and answer its questions, in words that can be copied to a shell."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blocks.paths import full_path, here
from workflows.core.cures import anew_step

if TYPE_CHECKING:
    from blocks.ledger import RunRow

LABEL = "started_with"
"""Label of a run in the ledger: the words it was started with, without its id and its inputs."""
CATALOG = "catalog"
"""Label of a run: the folder of its catalog."""


def words_of(args: argparse.Namespace) -> list[str]:
    """The words of a `run` command that hold for continuing it too, independent of the working folder.

    Its inputs are left out: the run has them.
    """
    words = ["phaseline", *args.places, "run"]
    if args.text is not None:
        words += ["--text", args.text]
    else:
        words.append(_workflow(args.workflow))
    if args.storage:
        written = args.storage
        words += ["--storage", written if "://" in written else str(full_path(written, "--storage"))]
    if args.latest != "table":
        words += ["--latest", args.latest]
    if args.offline:
        words.append("--offline")
    return words


def _workflow(named: str) -> str:
    """A name as it is; a path made absolute."""
    path = here(Path(named))
    return str(path.absolute()) if path.suffix in (".yaml", ".yml") and path.is_file() else named


def labels_of(words: Sequence[str], catalog: Path) -> dict[str, Any]:
    """What the ledger keeps of how a run was started."""
    return {LABEL: list(words), CATALOG: str(catalog)}


def started_with(labels: Mapping[str, Any]) -> tuple[str, ...]:
    """The words a run was started with; none when another program started it, such as a worker."""
    words = labels.get(LABEL)
    return tuple(words) if isinstance(words, list) and all(isinstance(w, str) for w in words) else ()


def catalog_of(labels: Mapping[str, Any]) -> str | None:
    """The folder of the catalog a run was started with; None when that is not known."""
    named = labels.get(CATALOG)
    return named if isinstance(named, str) and named else None


def places_of(words: Sequence[str]) -> tuple[str, ...]:
    """The options among the words of a `run` command that say where things are."""
    return tuple(words[1 : words.index("run")]) if "run" in words else ()


def continuing(words: Sequence[str], run_id: str) -> str:
    """The command line that starts a run, or continues it, quoted for a shell."""
    return shlex.join([*words, "--run-id", run_id])


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
    words = started_with(row.labels) or ("phaseline", "run", row.workflow)
    return " ".join([continuing(words, row.run_id), *(f"-i {name}=..." for name in row.ungiven)])


def places_for(row: RunRow, places: Sequence[str]) -> Sequence[str]:
    """The options that say where a run's things are: those it was started with, else the ones given here."""
    return places_of(started_with(row.labels)) or places


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
