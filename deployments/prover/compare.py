"""What differs between a run that was killed and continued, and the same run undisturbed.

Whether something was paid or done twice is read from what the processes noted (`recording`), not from what
the ledger says of itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from deployments.prover.cases import Ended
from deployments.prover.recording import KILLED, Boundary, Record

_SHOWN = 60
_WORK = ("step.running", "turn.sending", "tool.answered", "effect.sending")
"""What a unit that is finished does not do again."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it was. What has the same `topic` in two undisturbed runs varies by itself."""

    topic: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """What came of one boundary: `differences` is empty when all is well."""

    boundary: Boundary
    differences: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    reached: bool = True

    @property
    def ok(self) -> bool:
        """Whether it was visited and nothing differs."""
        return self.reached and not self.differences

    @property
    def result(self) -> str:
        """For tables and programs."""
        return "not reached" if not self.reached else "ok" if self.ok else "differs"


def judge(base: Ended, case: Ended, boundary: Boundary, seconds: float, varying: frozenset[str]) -> Verdict:
    """The verdict on a case; `varying` are topics that say nothing."""
    if not case.killed and not case.trouble:
        return Verdict(boundary, seconds=seconds, reached=False)
    found = tuple(d for d in differences(base, case) if d.topic not in varying)
    return Verdict(boundary, found, tuple(notes(case)), seconds)


def together(tries: Sequence[Verdict]) -> Verdict:
    """One verdict on the tries of a boundary, the last one last: what differed in any of them differs.

    A race shows in some tries only, and is as wrong then.
    """
    visited = [v for v in tries if v.reached]
    wrong = [v for v in visited if v.differences]
    if not wrong:
        return visited[-1] if visited else tries[-1]
    found = dict.fromkeys(d for v in wrong for d in v.differences)
    noted = dict.fromkeys(n for v in wrong for n in v.notes)
    if len(visited) > 1:
        noted[f"differed in {len(wrong)} of {len(visited)} tries"] = None
    return replace(wrong[-1], differences=tuple(found), notes=tuple(noted))


def differences(base: Ended, case: Ended) -> list[Difference]:
    """Everything in which a run is not like the undisturbed one."""
    if case.trouble:
        return [Difference("end", case.trouble)]
    found = [*_ends(base, case), *_outputs(base, case), *_waits(base, case), *_effects(base, case)]
    return [*found, *_paid_twice(base, case), *_done_again(case.records)]


def notes(case: Ended) -> Iterator[str]:
    """What is as promised and still worth knowing."""
    asked = sum(w["kind"] == "unknown" for w in case.facts.get("waits", ()))
    if asked:
        yield f"asked whether {_count(asked, 'call')} happened"
    if in_flight := len(_in_flight(case.records)):
        yield f"{_count(in_flight, 'request')} in flight"
    repeated = sum(e["sent"] > 1 and e["effect"] == "idempotent" for e in case.facts.get("effects", ()))
    if repeated:
        yield f"{_count(repeated, 'idempotent call')} made again with the same key"
    unsure = sum(r.name == "effect.in_flight" for r in case.records)
    if unsure:
        yield f"{_count(unsure, 'call')} of another branch under way at the kill, answered as done"


def _ends(base: Ended, case: Ended) -> Iterator[Difference]:
    if case.status != base.status:
        told = f": {case.error}" if case.error else ""
        yield Difference("status", f"the run ended as {case.status or 'nothing'}, not {base.status}{told}")
    for step in sorted({*base.steps, *case.steps}):
        was, now = base.steps.get(step, "missing"), case.steps.get(step, "missing")
        if was != now:
            yield Difference(f"step {step}", f"the step {step} is {now}, not {was}")


def _outputs(base: Ended, case: Ended) -> Iterator[Difference]:
    was, now = base.facts["outputs"], case.facts["outputs"]
    for name in sorted({*was, *now}):
        topic = f"output {name}"
        if name not in now or name not in was:
            yield Difference(topic, f"the output {name} is {'missing' if name not in now else 'new'}")
        elif was[name]["sha256"] != now[name]["sha256"]:
            yield Difference(topic, f"the output {name} differs: {_apart(was[name], now[name])}")


def _apart(was: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Where two outputs part, if that is within what was kept of them."""
    one, other = was["shown"], now["shown"]
    at = next(
        (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
    if one == other:
        return f"sha256 {now['sha256'][:12]}, not {was['sha256'][:12]}"
    begin = max(0, at - _SHOWN // 3)
    return f"{other[begin : begin + _SHOWN]!r}, not {one[begin : begin + _SHOWN]!r}"


def _waits(base: Ended, case: Ended) -> Iterator[Difference]:
    was, now = _count_questions(base), _count_questions(case)
    for step, kind in sorted({*was, *now}):
        if was[step, kind] != now[step, kind]:
            yield Difference(
                f"wait {step} {kind}",
                f"{step} asked {_times(now[step, kind])} ({kind}), not {_times(was[step, kind])}",
            )


def _count_questions(ended: Ended) -> Counter[tuple[str, str]]:
    """Questions by step and kind. Those about calls in doubt are there only after a crash."""
    return Counter((w["step"], w["kind"]) for w in ended.facts["waits"] if w["kind"] != "unknown")


def _effects(base: Ended, case: Ended) -> Iterator[Difference]:
    was, now = (Counter((e["step"], e["tool"]) for e in c.facts["effects"]) for c in (base, case))
    for step, tool in sorted({*was, *now}):
        if was[step, tool] != now[step, tool]:
            text = f"{step} made {_count(now[step, tool], 'call')} of {tool}, not {was[step, tool]}"
            yield Difference(f"effect {step} {tool}", text)
    asked = {w["subject"] for w in case.facts["waits"] if w["kind"] == "unknown"}
    performed = Counter(e["label"] for e in base.facts["effects"] if _count_performed(base.records, e["key"]))
    for effect in case.facts["effects"]:
        for text in _of_effect(effect, case.records, asked, performed[effect["label"]] > 0):
            yield Difference(f"effect {effect['step']} {effect['tool']}", text)


def _of_effect(
    effect: Mapping[str, Any], records: Sequence[Record], asked: set[str], expected: bool
) -> Iterator[str]:
    """What is wrong with one effect of a case."""
    key, name = effect["key"], f"{effect['tool']} in {effect['step']}"
    count = _count_performed(records, key)
    unsure = any(r.name == "effect.in_flight" and r.key == key for r in records)
    if effect["effect"] == "once" and count > 1:
        yield f"{name} was performed {_times(count)}"
    if expected and not count and not unsure:
        yield f"{name} was never performed"
    if _again_after_outcome(records, key):
        yield f"{name} was sent again after its outcome was recorded"
    if effect["effect"] == "once" and effect["sent"] > 1 and key not in asked:
        yield f"{name} was sent again, and nobody was asked whether it had happened"


def _count_performed(records: Sequence[Record], key: str) -> int:
    return sum(r.name == "effect.performed" and r.key == key for r in records)


def _again_after_outcome(records: Sequence[Record], key: str) -> bool:
    known = False
    for record in (r for r in records if r.key == key):
        if record.name == "effect.sending" and known:
            return True
        known = known or (record.name == "effect.settled" and record.subject.endswith(":done"))
    return False


def _paid_twice(base: Ended, case: Ended) -> Iterator[Difference]:
    """Answers more than undisturbed. One of a request that was in flight may be asked for again."""
    was, now = (Counter(r.path for r in c.records if r.name == "turn.answered") for c in (base, case))
    allowed = _in_flight(case.records)
    for path in sorted(now):
        more = now[path] - was[path]
        if more > (path in allowed):
            yield Difference(f"paid {path}", f"{_count(more, 'answer')} of {path} paid again")


def _in_flight(records: Sequence[Record]) -> set[str]:
    """Paths of requests that were sent by the killed process, with no answer in the journal."""
    killed = next((r.process for r in records if r.name == KILLED), -1)
    open_: set[str] = set()
    for record in (r for r in records if r.process == killed):
        if record.name == "turn.sending":
            open_.add(record.path)
        elif record.name == "turn.kept":
            open_.discard(record.path)
    return open_


def _done_again(records: Sequence[Record]) -> Iterator[Difference]:
    """Units that worked again after their row said that they are completed."""
    completed: set[str] = set()
    told: set[str] = set()
    for record in records:
        if record.name in _WORK and record.path in completed - told:
            told.add(record.path)
            yield Difference(f"again {record.path}", f"{record.path} was finished and worked again")
        if record.name == "step.completed":
            completed.add(record.path)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _times(number: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{number} times")
