"""Every place that writes a copy masks it by itself: plans, rows, bodies, manifests, logs, output."""

from __future__ import annotations

import asyncio
import importlib
import io
import json
import logging
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

import workflows.core
from blocks.ledger.runs.runs import new_run
from blocks.ledger.tables.columns import address, plain, to_text
from blocks.ledger.tables.records import RunStart
from blocks.ledger.tables.schema import metadata
from blocks.secrecy import secrets
from blocks.secrecy.plans import masked_plan
from blocks.secrecy.secrets import Secrets
from blocks.storage.artifacts import ArtifactStore
from deployments.terminal.display import Out
from deployments.terminal.input_arguments import GivenFile, read_inputs
from flows.compiled import catalog_flow
from flows.log_secrets import mask_logs
from tests.support.catalogs import compiled, make_catalog
from workflows.core.compile.inputs import coerce, variable_of
from workflows.core.errors import PhaselineError, UsageError
from workflows.core.plans.plan import InputPlan, Plan
from workflows.core.refs import Ref
from workflows.core.text.own_words import OWN_WORDS
from workflows.core.tools.secret_names import variables_of_catalog, variables_of_plan

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


def test_a_worker_knows_what_any_agent_of_its_catalog_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As every command does, also where the workflow it runs has nothing to do with that agent."""
    step = "workflow: w\nsteps: [{id: a, agent: ann, prompt: Say something.}]\n"
    root = make_catalog(tmp_path / "catalog", w=step)
    server = {"mcpServers": {"crm": {"command": "crm", "env": {"TENANT": "${CRM_TENANT}"}}}}
    (root / "agents" / "bob" / "tools-config.json").write_text(json.dumps(server))
    monkeypatch.setattr(secrets, "_named", set())
    monkeypatch.setenv("PHASELINE_CATALOG", str(root))
    monkeypatch.setenv("CRM_TENANT", "plant20QxZ81kd9")
    catalog_flow("w")
    assert secrets.current_secrets().text("of plant20QxZ81kd9") == "of [secret CRM_TENANT]"


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
    assert "acc-900-77" in secrets.current_secrets(), "a plan's variables are known from then on"


RICH = """
workflow: w
inputs:
  token: {type: secret}
  report: {type: file}
steps:
  - id: summary
    agent: ann
    prompt: 'Read {{ report }} by Friday-noon'
    output: {type: json, schema: {type: object, required: [heading], properties: {heading: {type: string}}}}
  - {id: agree, depends_on: [summary], approval: {ask: "Is it {{ summary.heading }}?", on_timeout: reject,
     deadline: 1h, form: {type: object, properties: {remark: {type: string}}}}}
  - {id: wait, depends_on: [agree], await_event: {type: delivery.done, key: k, deadline: 2h}}
"""
NAMES = [
    "summary",
    "summar",
    "report",
    "heading",
    "delivery.done",
    "remark",
    "claude",
    "agents/ann",
    "Friday",
]


def test_a_password_that_is_a_word_of_ours_breaks_no_plan(rich: Plan) -> None:
    """Whole or as a part of a word, and also where nobody thought of it as a common one."""
    before = rich.model_dump(mode="json")
    words = {word for word in (*NAMES, *OWN_WORDS) if word in rich.model_dump_json(by_alias=True)}
    assert len(words) > 50
    for password in {part for word in words for part in (word, word[:6], word[1:])}:
        masked = masked_plan(rich, Secrets({password: "DB_PASS"}))
        after = masked.model_dump(mode="json")
        assert dict(_free(before)).keys() == dict(_free(after)).keys(), "no key has changed"
        changed = {path[-1] for path, text in _free(after) if "[secret" in text}
        assert changed <= {"prompt", "system", "name", "description", "ask"}, password
        assert [s.id for s in masked.steps] == ["summary", "agree", "wait"]
    assert "by [secret DB_PASS]-noon" in masked_plan(rich, Secrets({"Friday": "DB_PASS"})).steps[0].prompt


def _free(value: Any, *path: str) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _free(inner, *path, str(key))
    else:
        yield path, str(value)


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return compiled(make_catalog(tmp_path_factory.mktemp("rich"), w=RICH))


def test_the_manifest_has_the_plan_that_runs(
    rich: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOUSE_PASS", "report")
    plan = masked_plan(rich)
    document = {"plan": plan.model_dump(mode="json", by_alias=True), "inputs": {"report": "of a report"}}

    async def keep() -> dict[str, Any]:
        with ArtifactStore.open(str(tmp_path), environ={}) as opened:
            await opened.write_manifest("default", "r", document)
            return await opened.read_manifest("default", "r") or {}

    kept = asyncio.run(keep())
    assert Plan.model_validate(kept["plan"]).definition == plan.definition
    assert kept["inputs"] == {"report": f"of a {MARK}"}


@pytest.mark.parametrize("password", ["secret", "schema", "timeout", "prompt", "password", "media_type"])
def test_our_own_words_are_no_secrets(password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgres://app:{password}@localhost/app")
    assert password not in secrets.current_secrets()
    assert json.loads(to_text({password: "x", "status": password}, "it")) == {
        password: "x",
        "status": password,
    }


def test_keys_and_words_of_our_own_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """`tokens_s` is no word of ours, and stands in some; `claude` is none, and may name an input."""
    ref = Ref(
        uri="file:///x", sha256="0" * 64, size=1, media_type="text/markdown", kind="claude"
    ).model_dump()
    ref["uri"] = "file:///x/" + "0" * 64
    row = {"tokens_spent": 5, "kind": "tokens_limit", "inputs": {"claude": ref, "my_claude": "hi claude"}}
    for password in ("tokens_s", "tokens_l", "markdo", "claude"):
        monkeypatch.setenv("HOUSE_PASS", password)
        kept = json.loads(to_text(row, "it"))
        hidden = f"hi {MARK}" if password == "claude" else "hi claude"
        assert kept == {**row, "inputs": {"claude": ref, "my_claude": hidden}}


def test_a_run_knows_its_workflow_whatever_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSE_PASS", "refund")
    row = new_run(RunStart(run_id="r-1", workflow="refund-with-approval"))
    assert row["workflow"] == "refund-with-approval"


def test_all_words_of_our_models_and_tables_are_known_as_ours() -> None:
    words = set(_words_of_models())
    for table in metadata.tables.values():
        words |= {table.name, *table.columns.keys()}
    assert {word for word in words if len(word) >= secrets.LEAST} - OWN_WORDS == set(), (
        "add them to workflows/core/own_words.py"
    )


def _words_of_models() -> Iterator[str]:
    for found in pkgutil.walk_packages(workflows.core.__path__, "workflows.core."):
        for model in vars(importlib.import_module(found.name)).values():
            if isinstance(model, type) and issubclass(model, BaseModel):
                for name, field in model.model_fields.items():
                    written = (field.alias, field.serialization_alias)
                    yield from (name.rstrip("_"), *filter(None, written), *_literals(field.annotation))


def _literals(annotation: Any) -> Iterator[str]:
    for inner in get_args(annotation):
        if get_origin(annotation) is Literal:
            yield str(inner)
        else:
            yield from _literals(inner)


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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    ("media_type", "text"),
    [
        ("application/json", f'{{"a":"{VALUE}","a":"x"}}'),
        ("application/json", f'[{{"b":{{"a":["{VALUE}"]}},"b":1}}]'),
        ("application/json", '{"a":"\\u005ak81-qx92-wv03","a":"x"}'),
        ("application/json", f'{{"{VALUE}":1,"{VALUE}":2}}'),
        ("application/json", f'{{"a":"{VALUE}", no JSON'),
        ("text/csv", f"user,pass\nann,{VALUE}\n"),
        ("text/plain", f"it is {VALUE}"),
    ],
)
def test_bodies_in_every_form(media_type: str, text: str, encoding: str) -> None:
    masked = secrets.current_secrets().body(text.encode(encoding), media_type)
    for written in (masked.decode("utf-8", "replace"), masked.decode("utf-16-le", "replace")):
        assert VALUE not in written and "\\u005a" not in written
    assert VALUE.encode("utf-16-be") not in masked
    if media_type == "application/json" and "no JSON" not in text:
        assert VALUE not in str(json.loads(masked))


def test_a_body_without_a_secret_keeps_every_byte_and_key() -> None:
    for text in ('{"a":"\\u0041", "a":"\\u0041"}', '{ "a": 1,\n "a": 2 }'):
        for encoding in ("utf-8", "utf-16"):
            body = text.encode(encoding)
            assert secrets.current_secrets().body(body, "application/json") == body


@pytest.mark.parametrize(
    ("name", "text"), [("d.json", f'{{"a":"{VALUE}","a":"x"}}'), ("d.csv", f"user,pass\nann,{VALUE}\n")]
)
def test_a_file_given_as_an_input(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    plan = Plan(workflow="w", inputs=(InputPlan(name="d", type="file"), InputPlan(name="s")))
    given = read_inputs(plan, [f"d=@{tmp_path / name}", f"s=@{tmp_path / name}"], None)
    assert isinstance(given["d"], GivenFile)
    assert VALUE not in given["d"].body.decode() + given["s"]


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
    monkeypatch.setenv("LODGING", "number-eleven")
    assert secrets.current_secrets().text("number-eleven") == "number-eleven"
    secrets.learn_from(lambda: ["LODGING"])
    assert secrets.current_secrets().text("number-eleven") == "[secret LODGING]"
    monkeypatch.setenv("LODGING", "number-twelve")
    assert secrets.current_secrets().text("number-eleven number-twelve") == "number-eleven [secret LODGING]"
