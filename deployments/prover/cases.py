"""One case: a run from its start, through the kill at its boundary, to its end."""

from __future__ import annotations

import fnmatch
import json
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from blocks.boundaries import BOUNDARIES
from deployments.prover.child import (
    AWAY,
    FAULT,
    Place,
    Subject,
    answer_once,
    await_exit,
    fork_child,
    look,
    run_once,
)
from deployments.prover.recording import Boundary, Record, read_records

STARTS = 20
"""How often a run is started or answered at most before it counts as one that does not end."""

AWAY_AT_MOST = 3
"""How often it is started again because Prefect's server could not be used."""

KEPT_EACH = 3
"""Of equal boundaries within one step the first ones are visited, and the last."""

WAITING = "waiting"


@dataclass(frozen=True)
class Ended:
    """What a case came to. `facts` is empty when the run did not come to an end; `trouble` says why."""

    boundary: Boundary | None
    records: tuple[Record, ...]
    facts: Mapping[str, Any]
    status: str = ""
    steps: Mapping[str, str] = field(default_factory=dict)
    """Statuses of the steps by id, as the last start told them."""
    error: str = ""
    trouble: str = ""
    killed: bool = False

    def to_json(self) -> dict[str, Any]:
        """For the process that compares."""
        return {
            "records": [[r.process, r.name, r.path, r.subject] for r in self.records],
            "facts": dict(self.facts),
            "status": self.status,
            "steps": dict(self.steps),
            "error": self.error,
            "trouble": self.trouble,
            "killed": self.killed,
        }

    @classmethod
    def from_json(cls, boundary: Boundary | None, value: Mapping[str, Any]) -> Ended:
        """The inverse of `to_json`."""
        records = tuple(Record(*r) for r in value["records"])
        return cls(boundary, **{**value, "records": records})


@dataclass
class Case:
    """Takes one run to its end. Runs in a process of its own, which forks all others of the case.

    `outcomes` are those of the undisturbed run's effects by their label; `patience` is how many seconds one
    process may take.
    """

    subject: Subject
    place: Place
    boundary: Boundary | None = None
    outcomes: Mapping[str, str] = field(default_factory=dict)
    patience: float = 300.0
    _processes: int = 0
    _away: int = 0
    _killed: bool = False

    def run(self) -> Ended:
        """The run, started as often as it takes, and answered as often as it asks."""
        trouble = ""
        for _ in range(STARTS):
            trouble = self._start()
            if trouble or self._outcome().get("status") not in (None, WAITING):
                break
            if self._outcome().get("status") == WAITING and (trouble := self._answer()):
                break
        else:
            trouble = f"it did not end within {STARTS} starts"
        return self._describe_end(trouble)

    def _start(self) -> str:
        self.place.outcome.unlink(missing_ok=True)
        return self._process(lambda n, kill: run_once(self.subject, self.place, n, kill), "the run")

    def _answer(self) -> str:
        return self._process(
            lambda n, kill: answer_once(self.subject, self.place, n, kill, self.outcomes), "answering"
        )

    def _process(self, work: Callable[[int, Boundary | None], int], what: str) -> str:
        """Why the case cannot go on after a process; "" when it can."""
        number, kill = self._processes, None if self._killed else self.boundary
        self._processes += 1
        pid = fork_child(lambda: work(number, kill), self.place.log, self.place.fault)
        code = await_exit(pid, self.patience)
        if code == -signal.SIGKILL and kill is not None and not self._killed:
            self._killed = True
            return ""
        if code == 0:
            return ""
        if code == AWAY and self._away < AWAY_AT_MOST:
            # The server all cases share was too busy: people would start the run again, and so does the case.
            self._away += 1
            return ""
        if code is None:
            return f"{what} took longer than {self.patience:.0f} s"
        return self._fault() if code in (FAULT, AWAY) else f"{what} ended with {code}"

    def _fault(self) -> str:
        try:
            told = json.loads(self.place.fault.read_text("utf-8"))
        except (OSError, ValueError):
            return "a process ended with a fault"
        return str(told["message"])

    def _outcome(self) -> dict[str, Any]:
        """How the latest start ended; empty when it was killed."""
        try:
            found: dict[str, Any] = json.loads(self.place.outcome.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        return found

    def _describe_end(self, trouble: str) -> Ended:
        outcome = self._outcome()
        return Ended(
            self.boundary,
            tuple(read_records(self.place.records)),
            {} if trouble else look(self.subject, self.place),
            status=str(outcome.get("status", "")),
            steps={s["id"]: s["status"] for s in outcome.get("steps", ())},
            error=str((outcome.get("error") or {}).get("message", "")),
            trouble=trouble,
            killed=self._killed,
        )


# ---------------------------------------------------------------- which boundaries


@dataclass(frozen=True)
class Choice:
    """The boundaries that are visited, and those that are not, with the reason."""

    visited: tuple[Boundary, ...]
    left: tuple[tuple[Boundary, str], ...] = ()


def choose(
    reached: Sequence[Boundary], *, only: str | None = None, limit: int | None = None, every: bool = False
) -> Choice:
    """What of the undisturbed run's boundaries is visited.

    `only` is a pattern for names, or for `name@path`; `limit` takes that many, evenly spread; without
    `every` the middle ones of many equal boundaries within one step are left out.
    """
    known = [b for b in reached if b.name in BOUNDARIES]
    named = [b for b in known if only is None or _matches(b, only)]
    kept = named if every else _thin_out(named)
    spread = kept if limit is None or len(kept) <= limit else _spread(kept, limit)
    why = dict.fromkeys(known, "not asked for (--only)")
    why.update(dict.fromkeys(named, "one of many equal ones (--all visits it)"))
    why.update(dict.fromkeys(kept, "beyond --limit"))
    chosen = set(spread)
    return Choice(tuple(spread), tuple((b, why[b]) for b in known if b not in chosen))


def _matches(boundary: Boundary, pattern: str) -> bool:
    texts = (boundary.name, f"{boundary.name}@{boundary.path}", f"{boundary.name}@{_step(boundary)}")
    return any(fnmatch.fnmatchcase(text, pattern) for text in texts)


def _step(boundary: Boundary) -> str:
    return boundary.path.split("/")[0]


def _thin_out(reached: Sequence[Boundary]) -> list[Boundary]:
    groups: dict[tuple[str, str], list[Boundary]] = {}
    for boundary in reached:
        groups.setdefault((boundary.name, _step(boundary)), []).append(boundary)
    kept = {b for group in groups.values() for b in (*group[:KEPT_EACH], group[-1])}
    return [b for b in reached if b in kept]


def _spread(reached: Sequence[Boundary], limit: int) -> list[Boundary]:
    if limit == 1:
        return list(reached[:1])
    return [reached[n * (len(reached) - 1) // (limit - 1)] for n in range(limit)]
