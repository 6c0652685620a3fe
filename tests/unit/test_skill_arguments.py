"""Secrets as arguments: known as what they are, looked up where a handler is called, whoever calls it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from blocks.secrecy import secrets
from blocks.storage.artifacts import ArtifactStore
from flows.completed_rows import completed_rows
from flows.steps.inputs import inputs_from_json, known_value
from tasks.context import RunContext
from tasks.doers.skill_arguments import WrongArguments, fill_arguments, with_secrets
from tests.support.catalogs import compiled, make_catalog

ARGS = {"least": "{{ ticket }}", "column": "of {{ ticket }}"}
STEP = "steps:\n  - {id: use, skill: shared/tool, handler: count, args: {text: note}}\n"


def test_a_recorded_secret_is_known_by_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_named", set())
    text = f"workflow: w\ninputs: {{ticket: {{type: secret}}, note: {{type: string}}}}\n{STEP}"
    plan = compiled(make_catalog(tmp_path / "catalog", w=text))
    recorded = {"ticket": {"value": "[secret CRM_LOGIN]"}, "note": {"value": "[secret CRM_LOGIN]"}}
    specs = {i.name: i for i in plan.inputs}
    values = {n: known_value(n, v, specs[n]) for n, v in inputs_from_json(recorded).items()}
    assert (values["ticket"].variable, values["note"].variable) == ("CRM_LOGIN", "")
    assert "a-crm-ticket" in secrets.known_secrets({"CRM_LOGIN": "a-crm-ticket"})
    handler = plan.steps[0].handler
    assert handler is not None

    async def work() -> None:
        with ArtifactStore.open(str(tmp_path / "storage"), environ={}) as store:
            context = RunContext(
                run_id="r",
                catalog_root=tmp_path / "catalog",
                store=store,
                environ={"CRM_LOGIN": "a-crm-ticket"},
                offline=True,
            )
            told = await fill_arguments(handler, ARGS, values, {}, context)
            assert told == {"least": "[secret CRM_LOGIN]", "column": "of [secret CRM_LOGIN]"}
            given = with_secrets(ARGS, told, values, context)
            assert given == {"least": "a-crm-ticket", "column": "of [secret CRM_LOGIN]"}
            context.environ = {}
            with pytest.raises(WrongArguments, match="CRM_LOGIN is not set") as fault:
                with_secrets(ARGS, told, values, context)
            assert fault.value.before_sending
            assert await completed_rows(plan, {}, values, "", context) == []

    asyncio.run(work())
