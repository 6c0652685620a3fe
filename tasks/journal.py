"""The journal of one step: what it has paid for is stored before it is acted on.

A process that dies continues at the first thing that is not there. What is there is verified against what
is asked for, never searched: a request that came out differently is reported, not silently asked anew.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from blocks.boundaries import reached
from blocks.ledger import Lease, Ledger, TurnRecord
from blocks.models import Answer
from tasks.context import INLINE_BYTES, RunContext
from tasks.secrets import scrub_value
from tasks.tools import ToolResult
from workflows.core.errors import PhaselineError
from workflows.core.refs import Ref, canonical_json, digest
from workflows.core.usage import Usage


def journal_of(context: RunContext, path: str) -> StepJournal | None:
    """The journal of the unit that works at `path`; None outside of a recorded run."""
    durable = context.durable
    if durable is None:
        return None
    return StepJournal(
        durable.ledger, durable.lease, context, path, context.keys[path], context.attempts[path]
    )


class Drifted(PhaselineError):
    """A step that is continued asks something else than what was recorded."""

    final = True


@dataclass
class StepJournal:
    """Keeps the turns of one attempt at a unit: `path`, its content `key`, and `attempt` from 1."""

    ledger: Ledger
    lease: Lease
    context: RunContext
    path: str
    key: str
    attempt: int
    _known: dict[tuple[int, str], TurnRecord] | None = None
    _lost: int = field(default=0)

    async def turn(self, index: int, request_digest: str, produce: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer of turn `index`. Raises Drifted when another request was answered there."""
        kept = await self._kept(index, "answer", request_digest)
        if kept is not None:
            self._tell(index, "answer")
            return Answer.from_json(await self._body(kept))
        answer = await produce()
        reached("turn.answered", self.path, f"{self.attempt}:{index}")
        # What is kept must be what is said from here on, or the next request would not be the same again.
        clean = Answer.from_json(scrub_value(answer.to_json(), self.context.secrets))
        await self._keep(
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
        kept = await self._kept(index, part, asked)
        if kept is not None:
            self._tell(index, part)
            return ToolResult(**await self._body(kept))
        result = await produce()
        reached("tool.answered", self.path, f"{self.attempt}:{index}")
        await self._keep(index, part, asked, result.to_json())
        return result

    async def input(self, index: int, name: str, produce: Callable[[], Awaitable[Any]]) -> Any:
        """A value that may differ each time it is asked for: the first one stays."""
        part = f"input:{name}"
        kept = await self._kept(index, part, "")
        if kept is not None:
            return (await self._body(kept))["value"]
        value = await produce()
        await self._keep(index, part, "", {"value": value})
        return value

    async def notice(self, index: int, produce: Callable[[], Awaitable[str]]) -> str:
        """A text that was said before turn `index`; most turns have none, and then nothing is kept."""
        if await self._kept(index, "input:notice", "") is None:
            assert self._known is not None
            text = "" if (index, "answer") in self._known else await produce()
            if not text:
                return ""
            await self._keep(index, "input:notice", "", {"value": text})
            return text
        return str(await self.input(index, "notice", produce))

    async def lost(self, index: int, usage: Usage, model: str) -> None:
        """What requests without an answer have cost."""
        self._lost += 1
        part = f"input:lost-{self.lease.epoch}-{self._lost}"
        await self._keep(index, part, "", {}, usage=usage.to_json(), model=model)

    async def _kept(self, index: int, part: str, asked: str) -> TurnRecord | None:
        if self._known is None:
            self._known = await self._read()
        kept = self._known.get((index, part))
        if kept is not None and kept.request_digest != asked:
            what = "its request" if part == "answer" else "its tool call"
            raise Drifted(
                f"{what} in turn {index} is not the one that was recorded: something it depends on changed "
                "although its definition did not (a tool's description, the version of phaseline)",
                f"do the step anew: phaseline resume {self.lease.run_id} --from {self.path.split('/')[0]}",
            )
        return kept

    async def _read(self) -> dict[tuple[int, str], TurnRecord]:
        if self.lease.created:
            return {}  # nobody was here before
        lease = self.lease
        rows = await self.ledger.journal.read(lease.tenant, lease.run_id, self.path, self.key)
        return {(row.turn, row.part): row for row in rows if row.attempt == self.attempt}

    async def _keep(
        self,
        index: int,
        part: str,
        asked: str,
        body: dict[str, Any],
        *,
        usage: dict[str, int] | None = None,
        model: str = "",
    ) -> None:
        record = TurnRecord(
            step_path=self.path,
            content_key=self.key,
            attempt=self.attempt,
            turn=index,
            part=part,
            request_digest=asked,
            body=await self._small(body, part),
            usage=dict(usage or {}),
            model=model,
        )
        await self.ledger.journal.keep(self.lease, record)
        kind = {"answer": "turn"}.get(part, part.split(":")[0])
        reached(f"{kind}.kept", self.path, f"{self.attempt}:{index}")

    async def _small(self, body: dict[str, Any], part: str) -> dict[str, Any]:
        """The body itself, or a ref to where it is stored."""
        text = canonical_json(body).encode("utf-8", "surrogatepass")
        if len(text) <= INLINE_BYTES:
            return body
        ref = await self.context.keep(
            text,
            media_type="application/json",
            kind="turn",
            summary=f"{part} of {self.path}",
            step=self.path,
        )
        return {"ref": ref.model_dump(mode="json")}

    async def _body(self, kept: TurnRecord) -> dict[str, Any]:
        if set(kept.body) != {"ref"}:
            return kept.body
        stored: dict[str, Any] = json.loads(
            await self.context.store.get(Ref.model_validate(kept.body["ref"]))
        )
        return stored

    def _tell(self, index: int, part: str) -> None:
        self.context.on_event("turn.replayed", {"step": self.path, "turn": index, "part": part})
