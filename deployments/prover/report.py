"""What was proved, for people at a terminal, for a pull request, and for programs."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from typing import Any

from blocks.boundaries import BOUNDARIES
from deployments.prover.compare import Verdict
from deployments.prover.recording import Boundary
from deployments.prover.sweep import Proof
from deployments.startup.provenance import version
from deployments.terminal.display import Out

_UNTRIED = (
    "A power cut: what the disk had not taken yet is another matter (docs/durability.md).",
    "A kill inside of one write, and inside of a handler: handlers at work are let finish before the kill.",
    "A real model and real people: the offline model answered, questions were agreed to and forms filled.",
    "Deployed runs, PostgreSQL and S3: the runs were local, with SQLite and a folder.",
)
"""What no case of a proof tries."""

UNREACHED_CURE = (
    "the run takes another way each time: take out what varies (a clock, a random number), or name other "
    "boundaries with --only"
)
"""What helps where the run that was to be killed came to its end without reaching a single boundary."""

_NAMED = 30
"""How many boundaries that were not visited are named for one reason."""


def document(proof: Proof, workflow: str) -> dict[str, Any]:
    """The command's JSON document."""
    nothing = {"message": summary(proof), "cure": UNREACHED_CURE}
    return {
        "workflow": workflow,
        "ok": proof.ok,
        "error": None if proof.visited else nothing,
        "cases": len(proof.verdicts),
        "seconds": round(proof.seconds, 1),
        "boundaries": [_verdict(v, proof) for v in proof.verdicts],
        "not_visited": [{**_place(b), "reason": why} for b, why in not_visited(proof)],
        "not_compared": list(proof.varying),
        "versions": versions(),
    }


def print_proof(proof: Proof, out: Out) -> None:
    """The table by boundary, and what is to be known of single cases."""
    rows = []
    for name in (n for n in BOUNDARIES if any(v.boundary.name == n for v in proof.verdicts)):
        of_name = [v for v in proof.verdicts if v.boundary.name == name]
        wrong = [d.text for v in of_name for d in v.differences]
        reached = sum(v.reached for v in of_name)
        result = "; ".join(dict.fromkeys(wrong)) or ("ok" if reached else "not reached")
        rows.append((name, reached, sum(v.ok for v in of_name), result))
    out.table(("boundary", "visited", "ok", "result"), rows)
    for verdict in (v for v in proof.verdicts if v.differences):
        out.line(f"{verdict.boundary.shown}:", "red")
        for text in verdict_texts(verdict):
            out.line(f"  {text}")
        if verdict.boundary in proof.folders:
            out.line(f"  kept: {proof.folders[verdict.boundary]}")
    for line in _remarks(proof):
        out.line(line, "yellow")
    out.line(summary(proof), "green" if proof.ok else "red")
    if not proof.visited:
        out.line(f"  cure: {UNREACHED_CURE}")


def markdown(proof: Proof, workflow: str, words: str) -> str:
    """The report as people attach it to a pull request. `words` is the command that made it."""
    lines = [
        f"# Crash proof of `{workflow}`",
        "",
        summary(proof),
        "",
        f"Made with `{words}`. At each boundary the process was ended with SIGKILL, the run continued in new "
        "processes to its end, and compared with the run undisturbed: status, outputs, effects, answers, "
        "questions.",
        "",
        *(f"- {name}: {number}" for name, number in versions().items()),
        "",
        "| # | boundary | where | what is durable there | result |",
        "|---|---|---|---|---|",
        *(_row(n, v) for n, v in enumerate(proof.verdicts, 1)),
        "",
        "## Not visited, not compared",
        "",
        *_list_unvisited(proof),
        *(f"- {_cell(topic)}: differs between two undisturbed runs" for topic in proof.varying),
        *(f"- {line}" for line in _UNTRIED),
    ]
    return "\n".join(lines) + "\n"


def summary(proof: Proof) -> str:
    """One sentence."""
    if not proof.visited:
        return f"none of the {len(proof.verdicts)} boundaries was reached again: nothing is proved"
    visited = [v for v in proof.verdicts if v.reached]
    wrong = sum(bool(v.differences) for v in visited)
    what = f"{len(visited)} boundaries visited in {proof.seconds:.0f} s"
    return f"{what}: nothing differs" if not wrong else f"{what}: {wrong} differ"


def case_line(verdict: Verdict, done: int, total: int) -> str:
    """One line while the cases run."""
    texts = "; ".join(verdict_texts(verdict))
    more = f": {texts}" if texts else ""
    return f"{done:>3}/{total} {verdict.result:<7} {verdict.boundary.shown}{more} ({verdict.seconds:.1f} s)"


def verdict_texts(verdict: Verdict) -> list[str]:
    """What is to be known of a case: what differs, then what is as promised or explains it."""
    return [*(d.text for d in verdict.differences), *verdict.notes]


def not_visited(proof: Proof) -> list[tuple[Boundary, str]]:
    """Boundaries that say nothing, with the reason."""
    missed = [(v.boundary, "the killed run took another way") for v in proof.verdicts if not v.reached]
    return [*missed, *proof.choice.left]


def versions() -> dict[str, str]:
    """What the proof holds for."""
    from importlib.metadata import version as installed

    return {
        "phaseline": version(),
        "prefect": installed("prefect"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
    }


def _list_unvisited(proof: Proof) -> Iterable[str]:
    """What was not visited by reason; every single one where they are few."""
    left = not_visited(proof)
    for why in dict.fromkeys(why for _, why in left):
        places = [b.shown for b, w in left if w == why]
        shown = ", ".join(places[:_NAMED]) + (
            f", and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
        )
        yield f"- {why}: {len(places)} ({_cell(shown)})"


def _remarks(proof: Proof) -> Iterable[str]:
    left = not_visited(proof)
    for why in dict.fromkeys(why for _, why in left):
        yield f"not visited: {sum(w == why for _, w in left)} {why}"
    for topic in proof.varying:
        yield f"not compared: {topic}, it differs between two undisturbed runs"


def _row(number: int, verdict: Verdict) -> str:
    boundary = verdict.boundary
    where = f"{boundary.path or 'the run'}" + (f", time {boundary.nth}" if boundary.nth > 1 else "")
    texts = verdict_texts(verdict)
    result = f"{verdict.result}: {'; '.join(texts)}" if texts else verdict.result
    marked = f"**{_cell(result)}**" if verdict.differences else _cell(result)
    return f"| {number} | `{boundary.name}` | {_cell(where)} | {BOUNDARIES[boundary.name]} | {marked} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _verdict(verdict: Verdict, proof: Proof) -> dict[str, Any]:
    kept = proof.folders.get(verdict.boundary)
    return {
        **_place(verdict.boundary),
        "result": verdict.result,
        "differences": [d.text for d in verdict.differences],
        "notes": list(verdict.notes),
        "seconds": round(verdict.seconds, 2),
        **({"folder": str(kept)} if kept else {}),
    }


def _place(boundary: Boundary) -> dict[str, Any]:
    return {"name": boundary.name, "path": boundary.path, "nth": boundary.nth}
