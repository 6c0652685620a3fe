"""All cases of a workflow, two at a time, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deployments.prover.cases import Case, Choice, Ended, choose
from deployments.prover.child import Place, Subject, await_exit, fork_child, make_ledger, remove_folder
from deployments.prover.compare import Verdict, differences, judge, together
from deployments.prover.recording import Boundary, boundaries_of
from workflows.core.errors import PhaselineError

TRIES = 3
"""How often a case is tried whose boundary was not reached, or that differs where another branch acted at the
kill: what differs then counts all the same, and how often it did tells what to look for."""

_PATIENCE = 600.0
"""Seconds that one process of the undisturbed run may take."""
_LEAST_PATIENCE = 60.0
_SLOWER = 20.0
"""How many times slower than the whole undisturbed run one process of a case may be."""

OnVerdict = Callable[[Verdict], None]


@dataclass(frozen=True)
class Wanted:
    """Which boundaries, and what is kept."""

    only: str | None = None
    limit: int | None = None
    every: bool = False
    keep: bool = False
    """Whether the folders of cases that differ stay."""


@dataclass(frozen=True)
class Proof:
    """What was found."""

    verdicts: tuple[Verdict, ...]
    choice: Choice
    varying: tuple[str, ...]
    """Topics that differ between two undisturbed runs, and were not compared."""
    base: Ended
    seconds: float
    folders: Mapping[Boundary, Path] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether something was visited and nothing differs. What was not reached is told, no more."""
        return self.visited and not any(v.differences for v in self.verdicts)

    @property
    def visited(self) -> bool:
        """Whether any boundary was reached by the run that was to be killed there: else nothing is proved."""
        return any(v.reached for v in self.verdicts)


@dataclass
class _Running:
    boundary: Boundary | None
    place: Place
    pid: int
    began: float


@dataclass
class Sweep:
    """Runs all cases of a subject below `root`. At most `width` at once.

    No process of it outlives `prove`.
    """

    subject: Subject
    root: Path
    wanted: Wanted
    on_chosen: Callable[[Choice], None]
    on_verdict: OnVerdict
    width: int = 2
    _count: int = 0
    _running: list[_Running] = field(default_factory=list)
    _patience: float = _PATIENCE
    _outcomes: Mapping[str, str] = field(default_factory=dict)
    _folders: dict[Boundary, Path] = field(default_factory=dict)

    def prove(self) -> Proof:
        """Everything. Raises PhaselineError when the undisturbed run does not come to an end."""
        began = time.monotonic()
        self._make_ledger()
        try:
            base, again = self._run_undisturbed()
            varying = frozenset(d.topic for d in differences(base, again))
            wanted = self.wanted
            choice = choose(
                boundaries_of(base.records), only=wanted.only, limit=wanted.limit, every=wanted.every
            )
            self.on_chosen(choice)
            verdicts = self._visit_boundaries(base, choice, varying)
        finally:
            self._end_all()
        ordered = tuple(verdicts[b] for b in choice.visited)
        seconds = time.monotonic() - began
        return Proof(ordered, choice, tuple(sorted(varying)), base, seconds, self._folders)

    @property
    def _ledger(self) -> Path:
        return self.root / "empty" / "ledger.db"

    def _make_ledger(self) -> None:
        pid = fork_child(lambda: make_ledger(self._ledger), self.root / "log", self.root / "fault")
        if await_exit(pid, _LEAST_PATIENCE) != 0:
            raise PhaselineError(f"no ledger could be made in {self.root}", "see whether its disk is full")

    def _run_undisturbed(self) -> tuple[Ended, Ended]:
        """Two runs that nobody kills: what they do not have in common varies by itself."""
        for _ in range(2):
            self._begin(None)
        ends = []
        for running, end in self._ends():
            ends.append((running.place.folder, end))
            self._patience = max(_LEAST_PATIENCE, _SLOWER * (time.monotonic() - running.began))
            remove_folder(running.place.folder)
        (_, base), (_, again) = sorted(ends, key=lambda end: end[0])
        for end in (base, again):
            if end.trouble or end.status != "completed":
                why = end.trouble or f"it ends as {end.status}: {end.error}"
                raise PhaselineError(
                    f"the workflow does not complete when nobody disturbs it: {why}",
                    "try it with `phaseline run --offline`; answers that people would give: --answers FILE",
                )
        self._outcomes = {e["label"]: e["outcome"] for e in base.facts["effects"] if e["outcome"]}
        return base, again

    def _visit_boundaries(
        self, base: Ended, choice: Choice, varying: frozenset[str]
    ) -> dict[Boundary, Verdict]:
        waiting = list(reversed(choice.visited))
        tries: dict[Boundary, list[Verdict]] = {b: [] for b in choice.visited}
        verdicts: dict[Boundary, Verdict] = {}
        while waiting or self._running:
            while waiting and len(self._running) < self.width:
                self._begin(waiting.pop())
            running, end = next(self._ends())
            assert running.boundary is not None
            seconds = time.monotonic() - running.began
            verdict = judge(base, end, running.boundary, seconds, varying)
            tries[running.boundary].append(verdict)
            self._tidy(running, verdict)
            if len(tries[running.boundary]) < TRIES and _worth_another(verdict, end):
                waiting.append(running.boundary)
                continue
            verdicts[running.boundary] = together(tries[running.boundary])
            self.on_verdict(verdicts[running.boundary])
        return verdicts

    def _tidy(self, running: _Running, verdict: Verdict) -> None:
        if verdict.differences and self.wanted.keep and verdict.boundary not in self._folders:
            self._folders[verdict.boundary] = running.place.folder
        else:
            remove_folder(running.place.folder)

    def _begin(self, boundary: Boundary | None) -> None:
        place = Place(self.root / f"case-{self._count:05d}")  # all of one length, so texts with it are too
        self._count += 1
        place.prepare(self._ledger)
        case = Case(self.subject, place, boundary, self._outcomes, self._patience)

        def work() -> int:
            os.setsid()  # what it forks can be ended with it
            (place.folder / "case.json").write_text(json.dumps(case.run().to_json()), "utf-8")
            return 0

        pid = fork_child(work, place.log, place.fault)
        self._running.append(_Running(boundary, place, pid, time.monotonic()))

    def _ends(self) -> Iterator[tuple[_Running, Ended]]:
        """Each running case as it ends."""
        while self._running:
            for running in tuple(self._running):
                done, status = os.waitpid(running.pid, os.WNOHANG)
                if done:
                    self._running.remove(running)
                    yield running, _read_end(running, os.waitstatus_to_exitcode(status))
            time.sleep(0.01)

    def _end_all(self) -> None:
        for running in self._running:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(running.pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.kill(running.pid, signal.SIGKILL)  # before it had a group of its own
            os.waitpid(running.pid, 0)
        self._running.clear()


def _worth_another(verdict: Verdict, end: Ended) -> bool:
    """Whether chance had a part in it: another branch was elsewhere than in the undisturbed run."""
    unsure = any(r.name == "effect.in_flight" for r in end.records)
    return not verdict.reached or (unsure and bool(verdict.differences))


def _read_end(running: _Running, code: int) -> Ended:
    try:
        value: dict[str, Any] = json.loads((running.place.folder / "case.json").read_text("utf-8"))
    except (OSError, ValueError):
        return Ended(running.boundary, (), {}, trouble=f"the case's own process ended with {code}")
    return Ended.from_json(running.boundary, value)
