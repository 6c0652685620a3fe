"""One agent or skill step by itself: compiled from a small catalog, run without a flow."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blocks.storage.artifacts import ArtifactStore
from tasks.context import RunContext
from tasks.doers.registry import DOERS
from tasks.doers.work import Work
from tasks.results import StepResult
from tasks.values import Value
from tests.support.catalogs import compiled, make_catalog


@dataclass
class Done:
    """What a step left."""

    result: StepResult
    body: str
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def media_type(self) -> str:
        """Of the output."""
        assert self.result.output is not None
        return self.result.output.media_type


class Desk:
    """A catalog with the workflow `w`, a store, and the environment a run would see."""

    def __init__(self, folder: Path, workflow: str, environ: Mapping[str, str] | None = None) -> None:
        self.catalog = make_catalog(folder / "catalog", w=f"workflow: w\n{workflow}")
        self.store = ArtifactStore.open(str(folder / "storage"), environ={})
        self.environ = dict(environ or {})
        self.events: list[tuple[str, dict[str, Any]]] = []

    def write(self, path: str, text: str) -> Path:
        """Write or replace a file of the catalog."""
        file = self.catalog / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def hook(self, event: str, body: str, *, file: str = "hooks.py") -> Path:
        """Give the agent `ann` a hook: the function `event` of a file of its folder."""
        config = self.catalog / "agents" / "ann" / "config.yaml"
        config.write_text(config.read_text() + f"  hooks: {{{event}: '{file}:{event}'}}\n")
        return self.write(f"agents/ann/{file}", body)

    def run(self, given: Mapping[str, str] | None = None, *, before: Any = None) -> Done:
        """Compile, then do the workflow's only step. `before` is called between the two."""
        step = compiled(self.catalog).steps[0]
        if before is not None:
            before()
        values = {name: Value(name, plain=text) for name, text in (given or {}).items()}

        async def work() -> Done:
            context = RunContext(
                run_id="r",
                catalog_root=self.catalog,
                store=self.store,
                environ=self.environ,
                offline="ANTHROPIC_API_KEY" not in self.environ,
                on_event=lambda name, data: self.events.append((name, data)),
            )
            try:
                result = await DOERS[step.kind](Work(step, step.id, values, {}, context))
                assert result.output is not None
                return Done(result, (await self.store.get(result.output)).decode(), self.events)
            finally:
                await context.close()
                self.store.close()

        return asyncio.run(work())
