"""The journal of one conversation: what a step has paid for is stored before it is acted on.

A process that dies, and an attempt that fails, are continued at the first thing that is not there. What is
there is verified against what is asked for, never searched: a request that came out differently is reported,
not silently asked anew. Only where something was lost, or set aside since the provider refuses what it makes
of the conversation, what follows is asked anew as far as it no longer fits. Nothing is written over: what
comes later stands beside it, as `input:answer~1`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from blocks.boundaries import reach_boundary
from blocks.ledger import Lease, Ledger, TurnRecord
from blocks.models import Answer
from blocks.process.cut_off import SETTLE_SECONDS, take_in_hand, uncut
from blocks.storage.errors import ArtifactCorrupt, ArtifactMissing
from tasks.context import INLINE_BYTES, RunContext
from tasks.conversation.echo import drop_broken_seals
from tasks.effects.earlier_work import EarlierWork, describe_work, done_by
from tasks.effects.record import collect_intended
from tasks.secrets import scrub_value
from tasks.tools import ToolResult
from workflows.core.errors import PhaselineError
from workflows.core.refs import Ref, canonical_json, digest, digest_bytes
from workflows.core.usage import Usage

SET_ASIDE = 2
"""Answers of one conversation that may be set aside since what they make of it is refused."""
_DEFINITIONS_BYTES = 4 * 1024
"""Longer definitions of tools are stored once, however many conversations begin with them."""
_LOST = "An earlier answer of yours was lost."
_REFUSED = "An earlier answer of yours could not be used."

_ACTED = "input:acted-"
"""Begins the notes of which calls a turn made outside."""

RecordedTurns = dict[tuple[int, str], TurnRecord]


class Drifted(PhaselineError):
    """A step that is continued asks something else than what was recorded."""

    final = True


@dataclass
class StepJournal:
    """Keeps the turns of one conversation of a unit: `path`, its content `key`, and its number from 1.

    `earlier` is what was done outside before, and is told to the agent with the reason `why`.
    """

    ledger: Ledger
    lease: Lease
    context: RunContext
    path: str
    key: str
    conversation: int
    known: RecordedTurns = field(default_factory=dict)
    earlier: EarlierWork = field(default_factory=EarlierWork)
    why: str = ""
    answered: bool = field(default=False, init=False)
    """Whether anything was answered here: otherwise its end is the one it came to before."""
    _used: dict[int, str] = field(default_factory=dict, init=False)
    """Which part an answer came from, by turn."""
    _parted: int | None = field(default=None, init=False)
    """The first turn from which the recorded ones need not fit any more."""
    _bodies: dict[tuple[int, str], dict[str, Any]] = field(default_factory=dict, init=False)
    _pending: list[TurnRecord] = field(default_factory=list, init=False)
    """Written with the next record: it is of use only with that."""

    def __post_init__(self) -> None:
        later = [turn for turn, part in self.known if "~" in part]
        self._parted = min(later, default=None)

    @property
    def begun(self) -> bool:
        """Whether anything of the conversation was answered."""
        return any(_is_answer(part) for _, part in self.known)

    def describe_earlier_work(self) -> str:
        """What the agent is told at the beginning of what was done before; "" when nothing was."""
        return describe_work(self.why, self.earlier.calls)

    async def definitions(
        self, current: list[dict[str, Any]], *, foreign: bool = False
    ) -> list[dict[str, Any]]:
        """What tools said of themselves when the conversation began: `current`, if it begins now.

        `foreign`: some come from elsewhere, so that they may be others later even if there is none now.
        """
        kept = self.known.get((0, "input:tools"))
        if kept is not None:
            body = await self._read_body(kept)
            if body is not None:
                return list(body["tools"])
            self._mark_parting(1)
        elif (current or foreign) and not self.begun:
            self._pending = [self._record(0, "input:tools", "", await self._share_body({"tools": current}))]
        return current

    async def before(self, index: int) -> str:
        """What the agent is told before turn `index` of what was done by a part that is lost or set aside."""
        await self._look_for_loss(index)
        told = []
        for _, record in self._series(index, "input:again"):
            self.earlier.add(record.body["done"])
            told.append(describe_work(record.body["why"], record.body["done"]))
        return "\n\n".join(text for text in told if text)

    async def turn(self, index: int, request_digest: str, produce: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer of turn `index`. Raises Drifted when another request was answered there."""
        found = await self._find_kept(index, "answer", request_digest, "its request")
        if found is not None:
            self._used[index], body = found
            self._tell_replay(index, "answer")
            return Answer.from_json(body)
        # An answer that was received is paid: whatever cuts the step off, it is kept first.
        bound = self.context.patience.seconds + SETTLE_SECONDS
        return await uncut(self._produce_answer(index, request_digest, produce), bound)

    async def _produce_answer(
        self, index: int, request_digest: str, produce: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        """A new answer, once it is kept."""
        answer = await produce()
        take_in_hand()
        self.answered = True
        reach_boundary("turn.answered", self.path, f"{self.conversation}:{index}")
        # What is kept must be what is said from here on, or the next request would not be the same again.
        clean = drop_broken_seals(
            Answer.from_json(scrub_value(answer.to_json(), self.context.secrets)), answer
        )
        self._used[index] = await self._keep(
            index,
            "answer",
            request_digest,
            clean.to_json(),
            usage=clean.usage.to_json(),
            model=clean.model,
        )
        return clean

    async def tool(
        self,
        index: int,
        ordinal: int,
        name: str,
        arguments: dict[str, Any],
        produce: Callable[[], Awaitable[ToolResult]],
    ) -> ToolResult:
        """The result of a tool call of that turn. Parallel calls are kept one by one."""
        asked, part = digest({"tool": name, "arguments": arguments}), f"tool:{ordinal}"
        found = await self._find_kept(index, part, asked, "its tool call")
        if found is not None:
            self._tell_replay(index, part)
            return ToolResult(**found[1])
        with collect_intended() as keys:
            result = await produce()
        reach_boundary("tool.answered", self.path, f"{self.conversation}:{index}")
        acted = [self._record(index, f"{_ACTED}{key[:32]}", "", {"key": key}) for key in dict.fromkeys(keys)]
        kept = self._keep(index, part, asked, result.to_json(), also=acted)
        await uncut(kept, SETTLE_SECONDS, at_once=True)
        return result

    async def input(self, index: int, name: str, produce: Callable[[], Awaitable[Any]]) -> Any:
        """A value that may differ each time it is asked for: the first one stays."""
        part = f"input:{name}"
        found = await self._find_kept(index, part, "", "its input")
        if found is not None:
            return found[1]["value"]
        value = await produce()
        await self._keep(index, part, "", {"value": value})
        return value

    async def notice(self, index: int, produce: Callable[[], Awaitable[str]]) -> str:
        """A text that was said before turn `index`; most turns have none, and then nothing is kept."""
        if (index, "input:notice") not in self.known:
            text = "" if (index, "answer") in self.known else await produce()
            if not text:
                return ""
            await self._keep(index, "input:notice", "", {"value": text})
            return text
        return str(await self.input(index, "notice", produce))

    def read_note(self, index: int, part: str) -> dict[str, Any] | None:
        """What was noted there; None for nothing."""
        record = self.known.get((index, part))
        return None if record is None else record.body

    async def note(self, index: int, part: str, body: dict[str, Any]) -> None:
        """Keeps something that cannot be made again: in the ledger itself, where nothing of it is lost."""
        await self._write(self._record(index, part, "", body), part)

    async def note_unanswered(self, index: int, usage: Usage, model: str) -> None:
        """What requests without an answer have cost."""
        mine = f"input:lost-{self.lease.epoch}-"
        count = 1 + sum(turn == index and part.startswith(mine) for turn, part in self.known)
        await self._keep(index, f"{mine}{count}", "", {}, usage=usage.to_json(), model=model)

    async def set_aside(self, index: int) -> bool:
        """Leaves the answer of turn `index`, so that it is asked anew; False when there were too many."""
        again = [record for (_, part), record in self.known.items() if part.startswith("input:again~")]
        before = [record.turn for record in again if record.body["why"] == _REFUSED]
        if len(before) >= SET_ASIDE or index in before or index not in self._used:
            return False
        await self._leave_answers(index, _REFUSED, [self._used[index]])
        self.context.on_event("turn.set_aside", {"step": self.path, "turn": index})
        return True

    async def _look_for_loss(self, index: int) -> None:
        """Notes what was done since an answer that is there no more, before it is asked anew."""
        left = self._unused_answers(index)
        answers = [record for name, record in self._series(index, "answer") if name not in left]
        if not answers:
            return
        for record in reversed(answers):
            if await self._read_body(record) is not None:
                return
        self._mark_parting(index)
        await self._leave_answers(index, _LOST, [record.part for record in answers])

    async def _leave_answers(self, index: int, why: str, answers: list[str]) -> None:
        """Leaves answers of a turn, and writes down what was done outside since the first of them."""
        self._mark_parting(index)
        # By turns and not by time: a clock may be set back. What a turn before did is remembered.
        noted = (record for (_, part), record in self.known.items() if part.startswith(_ACTED))
        before = {record.body["key"] for record in noted if record.turn < index}
        before |= {call["key"] for call in self.earlier.calls}
        done = [call for call in await done_by(self.context, self.path) if call["key"] not in before]
        if done or why == _REFUSED:
            number = len(self._series(index, "input:again")) + 1
            body = {"why": why, "left": answers, "done": done}
            await self.note(index, _numbered_part("input:again", number), body)

    async def _find_kept(
        self, index: int, part: str, asked: str, what: str
    ) -> tuple[str, dict[str, Any]] | None:
        """The part and body that were kept for this very thing, the latest first. Raises Drifted."""
        left = self._unused_answers(index) if part == "answer" else []
        series = [(name, record) for name, record in self._series(index, part) if name not in left]
        for name, record in reversed(series):
            if record.request_digest != asked:
                continue
            body = await self._read_body(record)
            if body is not None:
                self._bodies.pop((index, name), None)
                return name, body
            self._mark_parting(index)
        if series and (self._parted is None or index < self._parted):
            raise Drifted(
                f"{what} in turn {index} is not the one that was recorded: something it depends on changed "
                "although its definition did not (the version of phaseline, for example)",
                f"do the step anew: phaseline resume {self.lease.run_id} --from {self.path.split('/')[0]}",
            )
        return None

    def _unused_answers(self, index: int) -> list[str]:
        """Answers of that turn that are not used any more."""
        return [part for _, record in self._series(index, "input:again") for part in record.body["left"]]

    def _series(self, index: int, part: str) -> list[tuple[str, TurnRecord]]:
        """What stands at one place, in the order it was written."""
        out, name, number = [], part, 0
        if (index, name) in self.known:
            out.append((name, self.known[index, name]))
        while (record := self.known.get((index, name := _numbered_part(part, number + 1)))) is not None:
            out.append((name, record))
            number += 1
        return out

    def _mark_parting(self, index: int) -> None:
        self._parted = index if self._parted is None else min(self._parted, index)

    async def _keep(
        self,
        index: int,
        part: str,
        asked: str,
        body: dict[str, Any],
        *,
        usage: dict[str, int] | None = None,
        model: str = "",
        also: Sequence[TurnRecord] = (),
    ) -> str:
        """Writes it down, and other records with it; gives the part it is kept as."""
        number = len(self._series(index, part)) if (index, part) in self.known else 0
        name = _numbered_part(part, number) if number else part
        record = self._record(index, name, asked, await self._store_if_large(body, part), usage, model)
        await self._write(record, part, also)
        return name

    async def _write(self, record: TurnRecord, part: str, also: Sequence[TurnRecord] = ()) -> None:
        records = [*self._pending, *also, record]
        await self.ledger.journal.keep_many(self.lease, records)
        self.known |= {(written.turn, written.part): written for written in records}
        self._pending = []
        kind = {"answer": "turn"}.get(part, part.split(":")[0])
        reach_boundary(f"{kind}.kept", self.path, f"{self.conversation}:{record.turn}")

    def _record(
        self,
        index: int,
        part: str,
        asked: str,
        body: dict[str, Any],
        usage: dict[str, int] | None = None,
        model: str = "",
    ) -> TurnRecord:
        return TurnRecord(
            step_path=self.path,
            content_key=self.key,
            attempt=self.conversation,
            turn=index,
            part=part,
            request_digest=asked,
            body=body,
            usage=dict(usage or {}),
            model=model,
        )

    async def _store_if_large(self, body: dict[str, Any], part: str) -> dict[str, Any]:
        """The body itself, or a ref to where it is stored."""
        text = canonical_json(body).encode("utf-8", "surrogatepass")
        return body if len(text) <= INLINE_BYTES else await self._store_body(text, part)

    async def _share_body(self, body: dict[str, Any]) -> dict[str, Any]:
        """The same of what many conversations of a run have in common."""
        text = canonical_json(body).encode("utf-8", "surrogatepass")
        if len(text) <= _DEFINITIONS_BYTES:
            return body
        known, name = self.context.shared_bodies, digest_bytes(text)
        if name not in known:
            known[name] = await self._store_body(text, "tools")
        return known[name]

    async def _store_body(self, text: bytes, part: str) -> dict[str, Any]:
        ref = await self.context.keep(
            text,
            media_type="application/json",
            kind="turn",
            summary=f"{part} of {self.path}",
            step=self.path,
        )
        return {"ref": ref.model_dump(mode="json")}

    async def _read_body(self, kept: TurnRecord) -> dict[str, Any] | None:
        """What was kept; None where it is gone, or is not what was kept. Raises StorageError."""
        if set(kept.body) != {"ref"}:
            return kept.body
        place = kept.turn, kept.part
        if place not in self._bodies:
            try:
                text = await self.context.store.get(Ref.model_validate(kept.body["ref"]))
            except (ArtifactMissing, ArtifactCorrupt) as fault:
                self._tell_replay(kept.turn, kept.part, lost=fault.message)
                return None
            self._bodies[place] = json.loads(text)
        return self._bodies[place]

    def _tell_replay(self, index: int, part: str, *, lost: str = "") -> None:
        told = {"step": self.path, "turn": index, "part": part}
        if lost:
            self.context.on_event("turn.lost", {**told, "reason": lost})
        else:
            self.context.on_event("turn.replayed", told)


def _numbered_part(part: str, number: int) -> str:
    """What the same part is called when it is written for the second time, the third time, and so on."""
    return f"{part if part.startswith('input:') else f'input:{part}'}~{number}"


def _is_answer(part: str) -> bool:
    return part == "answer" or part.startswith("input:answer~")
