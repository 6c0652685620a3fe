"""Every place that writes a copy masks it by itself: plans, rows, bodies, manifests, logs, output."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks import secrets
from blocks.ledger.documents import address, plain, to_text
from blocks.plan_secrets import masked_plan
from blocks.storage import ArtifactStore
from deployments.display import Out
from flows.log_secrets import mask_logs
from tests.support.catalogs import compiled, make_catalog
from workflows.core.errors import PhaselineError, UsageError
from workflows.core.inputs import coerce, variable_of
from workflows.core.plan import InputPlan
from workflows.core.secret_names import variables_of_catalog, variables_of_plan

VALUE = "Zk81-qx92-wv03"
MARK = "[secret HOUSE_PASS]"


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The variable, and nothing learned that outlives the test."""
    monkeypatch.setenv("HOUSE_PASS", VALUE)
    before = set(secrets._named)
    yield
    secrets._named.clear()
    secrets._named.update(before)


def catalog(tmp_path: Path) -> Path:
    root = make_catalog(tmp_path, w=f"workflow: w\nsteps: [{{id: a, agent: ann, prompt: 'use {VALUE}'}}]\n")
    entry = {"command": "x", "args": ["${LICENCE:-none}"], "cwd": "${HOME}"}
    entry |= {"env": {"LOGIN": f"Bearer {VALUE}", "A": "${ACCOUNT}"}}
    (root / "agents/ann/tools-config.json").write_text(json.dumps({"mcpServers": {"bank": entry}}))
    with (root / "agents/ann/config.yaml").open("a") as config:
        config.write("  connector: $ENV.TEAM_API_KEY\n")
    return root


def test_a_catalog_names_its_secrets(tmp_path: Path) -> None:
    root = catalog(tmp_path)
    names = {"LICENCE", "ACCOUNT", "TEAM_API_KEY"}
    assert variables_of_catalog(root) == variables_of_plan(compiled(root)) == names
    assert variables_of_catalog(tmp_path / "nothing") == frozenset()


def test_a_plan_without_its_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server still gets what it is to get: the entry names the variable."""
    monkeypatch.setenv("ACCOUNT", "acc-900-77")
    plan = compiled(catalog(tmp_path))
    clean = masked_plan(plan)
    assert VALUE in plan.model_dump_json() and VALUE not in clean.model_dump_json()
    (step,) = clean.steps
    assert step.prompt == f"use {MARK}"
    (server,) = step.agents[0].servers
    assert server.server.env["LOGIN"] == "Bearer ${HOUSE_PASS}"
    assert masked_plan(clean) is clean, "what is clean is left as it is"
    assert "acc-900-77" in secrets.known(), "a plan's variables are known from then on"


def test_rows_and_bodies(tmp_path: Path) -> None:
    assert plain(f"it is {VALUE}") == f"it is {MARK}"
    assert json.loads(to_text({"a": [VALUE], VALUE: 5}, "it")) == {"a": [MARK], MARK: 5}
    assert address(f"file:///{VALUE}/x") == f"file:///{VALUE}/x"

    async def store() -> bytes:
        with ArtifactStore.open(str(tmp_path), environ={}) as opened:
            body = json.dumps({"a": VALUE}).encode()
            ref = await opened.put(
                body, tenant="default", media_type="application/json", kind="x", summary=f"of {VALUE}"
            )
            assert ref.summary == f"of {MARK}"
            await opened.write_manifest("default", "r", {"inputs": {"a": VALUE}, "plan": {}})
            assert (await opened.read_manifest("default", "r") or {})["inputs"] == {"a": MARK}
            return await opened.get(ref)

    assert json.loads(asyncio.run(store())) == {"a": MARK}
    assert not any(VALUE.encode() in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


def test_output() -> None:
    stdout, stderr = io.StringIO(), io.StringIO()
    out = Out(False, stdout, stderr)
    out.line(f"a {VALUE}")
    out.note(f"b {VALUE}")
    out.table(("c",), [[f"c {VALUE}"]])
    out.error(PhaselineError(f"d {VALUE}", f"e {VALUE}"))
    out.line(f"told {VALUE}", reveal=True)
    shown = stdout.getvalue() + stderr.getvalue()
    assert shown.count(VALUE) == 1 and f"told {VALUE}" in shown and shown.count(MARK) == 5
    document = io.StringIO()
    Out(True, document, io.StringIO()).document({"a": VALUE, "n": 7})
    assert json.loads(document.getvalue()) == {"a": MARK, "n": 7}


def test_logs(caplog: pytest.LogCaptureFixture) -> None:
    """Messages, their arguments and tracebacks."""
    before = logging.getLogRecordFactory()
    try:
        mask_logs()
        mask_logs()
        try:
            raise ValueError(f"broken {VALUE}")
        except ValueError:
            logging.getLogger("test").exception("it is %s", VALUE)
        logging.getLogger("test").error("%s of %d", "fine", 3)
    finally:
        logging.setLogRecordFactory(before)
    assert VALUE not in caplog.text and f"it is {MARK}" in caplog.text
    assert f"ValueError: broken {MARK}" in caplog.text and "fine of 3" in caplog.text


def test_a_secret_input_is_named_and_never_shown() -> None:
    spec = InputPlan(name="token", type="secret")
    assert coerce(spec, " env:MY_TOKEN ") == coerce(spec, "[secret MY_TOKEN]") == "[secret MY_TOKEN]"
    assert variable_of("[secret MY_TOKEN]") == "MY_TOKEN" and variable_of("MY_TOKEN") == ""
    for wrong in ("hunter2hunter2", "env:", "env:a-b", 7, None, ["env:A"]):
        with pytest.raises(UsageError, match="it is named, not given") as caught:
            coerce(spec, wrong)
        assert "hunter2" not in str(caught.value) + caught.value.cure


def test_what_is_learned_late_counts_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSE", "number-eleven")
    assert secrets.known().text("number-eleven") == "number-eleven"
    secrets.learn_from(lambda: ["HOUSE"])
    assert secrets.known().text("number-eleven") == "[secret HOUSE]"
    monkeypatch.setenv("HOUSE", "number-twelve")
    assert secrets.known().text("number-eleven number-twelve") == "number-eleven [secret HOUSE]"
