"""A large result of a skill step: kept by the gate, and without a storage still of a call that was made."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from blocks.ledger import Ledger, RunStart
from blocks.patience import Patience, Vigil
from blocks.storage.artifacts import ArtifactStore
from tasks.context import RunContext
from tasks.doers import planned_call, skill
from tasks.doers.work import Work
from tasks.durable import Durable
from tasks.failures import StepFailed
from tests.support.catalogs import compiled, make_catalog
from workflows.core.errors import PhaselineError

STEP = "steps:\n  - {id: use, skill: shared/tool, handler: count, args: {text: note}}\n"


@pytest.mark.parametrize("away", [False, True])
def test_a_large_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, away: bool) -> None:
    text = f"workflow: w\ninputs: {{note: {{type: string}}}}\n{STEP}"
    root = make_catalog(tmp_path / "catalog", w=text)
    (root / "skills" / "shared" / "tool" / "config.yaml").write_text(
        "handlers:\n  - {name: count, effect: once}\n"
    )
    (step,) = compiled(root).steps
    folder, made = tmp_path / "storage", []

    async def handled(*_: Any) -> Any:  # the process of a handler is not what this is about
        made.append(1)
        if away:
            folder.exists() and folder.rename(tmp_path / "away")
            folder.write_text("no folder")
        return "y" * 100_000

    monkeypatch.setattr(planned_call, "call_handler", handled)

    async def work() -> None:
        with (
            Ledger.open(tmp_path / "ledger.db") as ledger,
            ArtifactStore.open(str(folder), environ={}, vigil=Vigil(Patience(0.2))) as store,
        ):
            lease = await ledger.begin_run(RunStart(run_id="r", workflow="w"))
            context = RunContext(
                run_id="r",
                catalog_root=root,
                store=store,
                environ={},
                offline=True,
                durable=Durable(ledger, lease),
            )
            use = Work(step, "use", {}, {}, context)
            if away:
                with pytest.raises(PhaselineError):
                    await skill._perform_call(use, {})
            else:
                assert await skill._perform_call(use, {}) == "y" * 100_000
            (effect,) = await ledger.effects.of_run("default", "r")
            assert effect.state == "done" and len(json.dumps(effect.outcome)) < 64 * 1024
            if away:
                with pytest.raises(StepFailed, match="could not be stored") as fault:
                    await skill._perform_call(use, {})
                assert "--from use --repeat-effects" in fault.value.cure
            else:
                assert await skill._perform_call(use, {}) == "y" * 100_000
            assert made == [1]

    asyncio.run(work())
