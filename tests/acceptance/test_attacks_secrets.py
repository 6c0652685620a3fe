"""Secrets of over twenty kinds, told by everything that can tell one, and searched in all that is kept.

They stand in the environment, as they do where people work; and an input, an agent's files, a tool's
description, result and error, a handler, a hook, the model and a person tell them all. Afterwards no byte of
home and storage (ledger, Prefect's database, logs, bodies), of the terminal and of the requests to the model
holds one.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import User
from tests.support.messages_api import MessagesApi, answers_in
from tests.support.planted import KINDS, Kind, everything, found_in, leaks
from tests.support.telling import Scene, talk

USES = """\
workflow: uses
inputs: {note: {type: string}, more: {type: file}, ticket: {type: secret}}
steps:
  - {id: used, skill: shared/tool, handler: use, args: {token: "{{ ticket }}", got: GOT}}
  - id: failed
    skill: shared/tool
    handler: use
    args: {token: "{{ ticket }}", got: GOT, fail: true}
    on_failure: continue
"""
USE = '''"""Uses."""

from pathlib import Path


def use(token: str, got: str, fail: bool = False) -> str:
    """Use a token.

    Args:
        token: The token.
        got: Where it is written down.
        fail: Whether it is refused.
    """
    with Path(got).open("a") as file:
        file.write(token + "\\n")
    if fail:
        raise ValueError(f"{token} was refused")
    return f"used {token}"
'''


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One home with its Prefect server, which knows all secrets, for all tests of the module."""
    path = tmp_path_factory.mktemp("secrets") / "home"
    yield path
    User(path, path).phaseline("down")


@pytest.fixture
def scene(home: Path, tmp_path: Path) -> Iterator[Scene]:
    with MessagesApi() as api:
        yield Scene(home, tmp_path, api)


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    """Of every kind, in a file as in the database of a run that is at work."""
    (tmp_path / "told.txt").write_text(everything(), "utf-8")
    assert leaks(tmp_path) == {str(tmp_path / "told.txt"): {kind.variable for kind in KINDS}}


def test_a_run_that_succeeds(scene: Scene) -> None:
    """Waits, answers and events included; servers and provider still got what is theirs."""
    scene.api.answer_with(lambda body: talk(body, str(scene.told)))
    answer = scene.run("tells")
    assert answer.code == 3, answer
    assert len(scene.api.asked) == 2 and all(r["status"] == 200 for r in scene.api.asked)
    got = json.loads(scene.got.read_text("utf-8"))
    assert got == {"words": ["--licence=plant19QxZ81kd9"], "login": "plant18QxZ81kd9"}
    scene.look()
    for words in (["check"], ["runs"], ["graph", "tells"], ["agents", "--json"], ["skills"]):
        scene.phaseline(*words)
    note = "\n".join(kind.value for kind in KINDS)
    said = scene.phaseline("answer", scene.wait_id("ask"), "-f", f"why={everything()}", "--note", note)
    assert said.code == 0, said
    assert scene.phaseline("event", "done", "--data", json.dumps({"all": everything()})).code == 0
    document = scene.phaseline("resume", scene.run_id, "--json").completed
    assert {step["status"] for step in document["steps"]} == {"completed"}
    scene.phaseline("show", scene.run_id, "--events")
    scene.assert_nothing_told()


def test_a_run_that_fails_at_every_stage(scene: Scene) -> None:
    """A handler, the provider, a contract, servers, a hook, and items that fail, each with all of them."""

    def reply(body: dict[str, Any]) -> dict[str, Any]:
        asked = json.dumps(body["messages"], ensure_ascii=False)
        if "Stage: refused" in asked:
            return {"fault": "bad_request", "message": everything()}
        if "Stage: contract" in asked:
            return {"json": {"a": everything()}}
        return {"text": everything()}

    scene.api.answer_with(reply)
    answer = scene.run("fails", "--json")
    assert answer.code == 1, answer
    steps = {step["id"]: step for step in answer.document["steps"]}
    assert {step["status"] for step in steps.values()} == {"failed"}, answer.out
    assert all(step["error"] or step["failed_parts"] for step in steps.values())
    scene.look()
    assert scene.phaseline("resume", scene.run_id).code == 1
    scene.assert_nothing_told()


def test_a_run_that_is_killed_and_goes_on_with_other_secrets(scene: Scene) -> None:
    """One was changed meanwhile, one is not there any more: what was said stays as it was said."""
    held = threading.Event()
    gone, changed = "GH_PAT", "STRIPE_KEY"
    stays = [kind for kind in KINDS if kind.variable not in (gone, changed)]
    # What a catalog's own file holds may change with them; inputs and what tools said may not.
    scene.write_texts(stays)

    def reply(body: dict[str, Any]) -> dict[str, Any]:
        if answers_in(body) and not held.is_set():
            held.set()
            return {"latency": 3600}
        return talk(body, str(scene.told), stays)  # nobody can know any more what the others were

    scene.api.answer_with(reply)
    story = scene.folder / "story.md"
    story.write_text(everything(), "utf-8")
    words = ("run", "tells", "--run-id", scene.run_id, "-i", f"story=@{story}", "-i", f"note={everything()}")
    with scene.user.start(*words) as process:
        deadline = time.monotonic() + 120
        while not held.is_set():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    scene.assert_nothing_told()
    known = dict(scene.user.variables)
    del known[gone]
    scene.user = User(scene.user.home, scene.user.folder, {**known, changed: "sk_live_plant99QxZ81kd9"})
    scene.told.write_text(everything(stays) + "\nsk_live_plant99QxZ81kd9", "utf-8")
    answer = scene.phaseline("resume", scene.run_id, "--json")
    assert answer.code == 3, answer
    assert scene.api.count == 3, "only the request under way was asked again"
    first, held_up, again = (json.dumps(r["body"], sort_keys=True) for r in scene.api.asked)
    assert held_up == again and first != again, "what was said before is said again as it was"
    scene.outputs.append(scene.user.log.read_text("utf-8"))
    scene.assert_nothing_told()
    assert b"plant99" not in b"".join(p.read_bytes() for p in scene.user.home.rglob("*") if p.is_file())


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PHASELINE_DATABASE_URL", "postgresql://me:plant51QxZ81@127.0.0.1:9/ledger"),
        ("PHASELINE_DATABASE_URL", "mysql://me:plant51QxZ81@127.0.0.1:9/ledger"),
        ("PREFECT_API_URL", "http://me:plant51QxZ81@127.0.0.1:9/api"),
        ("ANTHROPIC_BASE_URL", "http://me:plant51QxZ81@127.0.0.1:9"),
        ("PHASELINE_STORAGE", "s3://me:plant51QxZ81@bucket/prefix"),
        ("PHASELINE_STORAGE", "ftp://me:plant51QxZ81@bucket/prefix"),
    ],
)
def test_addresses_that_cannot_be_reached(scene: Scene, variable: str, value: str) -> None:
    """What is told of an address that does not work does not tell its password."""
    config = scene.catalog / "small.yaml"
    config.write_text("workflow: small\nsteps: [{id: a, agent: bob, prompt: Say something.}]\n")
    scene.user = scene.user.with_variables(PHASELINE_PATIENCE="4s", **{variable: value})
    run = ("run", "small", "--run-id", scene.run_id)
    for words in (run, (*run, "--json"), ("runs",)):
        assert "Traceback" not in scene.phaseline(*words).err
    assert "plant51" not in "".join(scene.outputs)
    kept = (path.read_bytes() for path in scene.user.home.rglob("*") if path.is_file())
    assert not any(b"plant51" in body for body in kept)
    scene.assert_nothing_told()


def test_an_input_that_is_a_secret(scene: Scene) -> None:
    """It is named, not given: its value reaches the handler it is declared for, and is kept nowhere."""
    tool = scene.catalog / "skills" / "shared" / "tool"
    (tool / "handlers" / "use.py").write_text(USE)
    with (tool / "config.yaml").open("a") as config:
        config.write("  - {name: use, effect: once}\n")
    (scene.catalog / "uses.yaml").write_text(USES.replace("GOT", str(scene.got)))
    kind = Kind("TICKET", "plant28QxZ81kd9")
    story = scene.folder / "more.md"
    story.write_text(f"# More\n\nI know {kind.value}\n")
    run = ("run", "uses", "--run-id", scene.run_id, "--offline", "--json")
    for wrong in ("plant28QxZ81kd9", "env:NOBODY"):
        refused = scene.phaseline(*run, "-i", f"ticket={wrong}")
        assert refused.code == 2 and any(told in refused.out for told in ("env:NAME", "NOBODY"))
    scene.user = scene.user.with_variables(TICKET=kind.value)
    told = ("-i", f"note=I know {kind.value}", "-i", f"more=@{story}")  # before it is said what that is
    document = scene.phaseline(*run, *told, "-i", "ticket=env:TICKET").completed
    used = scene.got.read_text().split("\n")
    assert sorted(used) == ["", kind.value, kind.value]
    assert [s["error"]["message"] for s in document["steps"] if s["error"]] != []
    shown = scene.phaseline("show", scene.run_id, "--events", "--json").document
    assert "[secret TICKET]" in json.dumps(shown)
    assert found_in("".join(scene.outputs).encode(), [kind]) == set()
    assert leaks(scene.user.home, kinds=[kind]) == {}


def test_a_secret_among_the_words_of_a_server_is_a_warning(scene: Scene) -> None:
    warnings = scene.phaseline("check", "--json").document["warnings"]
    (told,) = [w for w in warnings if "CRM_LICENCE" in w["message"]]
    assert told["file"] == "agents/ann/tools-config.json" and told["path"].startswith("mcpServers.crm.args")
    assert "`ps`" in told["message"] and "`env`" in told["cure"]


def test_no_new_run_is_named_after_a_secret(scene: Scene) -> None:
    """Folders and rows are called by its id, which is not masked."""
    words = ("run", "fails", "--run-id", "x-ghp_plant04QxZ81kd9", "-i", "note=plain", "--json")
    refused = scene.phaseline(*words)
    assert refused.code == 2 and "tells a secret" in refused.out and "[secret GH_PAT]" in refused.out
    scene.assert_nothing_told()
