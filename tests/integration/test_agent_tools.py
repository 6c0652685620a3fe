"""What an agent can call in a step: skills read on demand, handlers in their processes, long inputs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blocks.models import AuthenticationFailed
from tasks.handlers.toolbox import SkillChanged
from tests.support.messages_api import MessagesApi
from tests.support.steps import Desk
from workflows.core.errors import PhaselineError

KEY = "sk-test-0123456789"
STEP = """inputs: {note: {type: string}}
steps:
  - id: s
    agent: ann
    inputs: [note]
    prompt: "Sum it up."
"""
SKILL_STEP = "steps:\n  - id: s\n    skill: shared/tool\n    handler: leak\n    output: {type: json}\n"
COUNT = "skills/shared/tool/handlers/count.py"
LEAK = '''import os
from pathlib import Path


def leak(raised: bool = False) -> dict:
    """Find what the parent was started with.

    Args:
        raised: Raise it instead.
    """
    found = dict(
        line.partition("=")[::2]
        for line in Path(f"/proc/{os.getppid()}/environ").read_text().split(chr(0))
    )
    found = found.get("LEAKED_TOKEN") or "tok-123-\\"quoted\\"-é"
    if raised:
        raise ValueError(found)
    return {"found": found, found: [found, 1]}
'''
BIG = '''def big() -> list:
    """Give many rows."""
    return [{"row": n, "text": "x" * 90} for n in range(1000)]
'''
TOKEN = 'tok-123-"quoted"-é'


@pytest.fixture
def api() -> Iterator[MessagesApi]:
    with MessagesApi(keys={KEY}) as running:
        yield running


@pytest.fixture
def desk(tmp_path: Path, api: MessagesApi) -> Desk:
    online = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": api.base_url, "LEAKED_TOKEN": TOKEN}
    return Desk(tmp_path, STEP, online)


def answered(api: MessagesApi) -> list[dict[str, Any]]:
    """The tool results that the last request carried."""
    last = api.asked[-1]["body"]["messages"][-1]["content"]
    return [block for block in last if block["type"] == "tool_result"]


def called(
    api: MessagesApi, desk: Desk, *calls: tuple[str, dict[str, Any]], note: str = "one two"
) -> list[Any]:
    """Let the model call these tools in one turn. Gives their results."""
    api.queue({"tools": [{"name": name, "input": given} for name, given in calls]}, {"text": "Done."})
    assert desk.run({"note": note}).body == "Done.\n"
    return answered(api)


def handler(api: MessagesApi, name: str) -> str:
    """The tool's name as it was offered to the model."""
    return next(t["name"] for t in api.asked[0]["body"]["tools"] if t["name"].endswith(name))


def test_read_skill_gives_the_body_a_file_and_says_which_there_are(api: MessagesApi, desk: Desk) -> None:
    desk.write("skills/shared/tool/references/units.md", "# Units\nWords.\n")
    body, file, unknown = called(
        api,
        desk,
        ("read_skill", {"skill": "shared/tool"}),
        ("read_skill", {"skill": "shared/tool", "file": "references/units.md"}),
        ("read_skill", {"skill": "shared/tool", "file": "../../../agents/ann/SOUL.md"}),
    )
    assert "# How\nCount." in body["content"]
    assert file["content"] == "# Units\nWords.\n"
    assert unknown["is_error"]
    assert "has no file ../../../agents/ann/SOUL.md. It has: SKILL.md" in unknown["content"]


def test_a_skill_changed_during_the_run_is_not_read(api: MessagesApi, desk: Desk) -> None:
    api.queue({"tools": [{"name": "read_skill", "input": {"skill": "shared/tool"}}]})
    with pytest.raises(SkillChanged, match=r"skills/shared/tool/SKILL\.md changed"):
        desk.run({"note": "x"}, before=lambda: desk.write("skills/shared/tool/SKILL.md", "---\nother\n"))


def test_a_handler_gets_the_document_the_model_names(api: MessagesApi, desk: Desk) -> None:
    given = {"text": "note", "least": 3}
    counted, unknown = called(
        api,
        desk,
        ("tool__count", given),
        ("tool__count", {"text": "ghost"}),
        note="one two a b",
    )
    assert json.loads(counted["content"]) == {"words": 2}
    assert unknown["is_error"]
    assert "ghost" in unknown["content"]


def test_a_large_result_becomes_an_artifact_with_its_beginning(api: MessagesApi, desk: Desk) -> None:
    desk.write("skills/shared/tool/handlers/big.py", BIG)
    (result,) = called(api, desk, ("tool__big", {}))
    text = result["content"]
    assert text.startswith('[{"row": 0, ')
    assert len(text) < 40_000
    sha256 = text.rpartition("artifact ")[2].rstrip("]")
    stored = [f for f in Path(desk.store.root.removeprefix("file://")).rglob("*") if sha256 in str(f)]
    assert any(
        len(json.loads(f.read_bytes())) == 1000 for f in stored if f.is_file() and f.stat().st_size > 65_536
    )


def test_a_changed_handler_file_is_refused(api: MessagesApi, desk: Desk) -> None:
    api.queue({"tools": [{"name": "tool__count", "input": {"text": "note"}}]})
    with pytest.raises(SkillChanged, match=r"handlers/count\.py changed"):
        desk.run({"note": "x"}, before=lambda: (desk.catalog / COUNT).write_text("def count(text): ...\n"))


def test_read_input_pages_through_a_long_document(api: MessagesApi, desk: Desk) -> None:
    long = "".join(f"{n:09d}\n" for n in range(9_000))
    first, last, beyond = called(
        api,
        desk,
        ("read_input", {"name": "note", "offset": 60_000}),
        ("read_input", {"name": "note", "offset": 89_990}),
        ("read_input", {"name": "note", "offset": 90_000}),
        note=long,
    )
    assert first["content"] == long[60_000:] + "\n[characters 60000-90000 of 90000]"
    assert last["content"] == "000008999\n\n[characters 89990-90000 of 90000]"
    assert beyond["is_error"]
    assert beyond["content"] == "The document has 90000 characters."
    document = api.asked[0]["body"]["messages"][0]["content"][0]["text"]
    assert "[cut after 60000 of 90000 characters" in document


def test_a_skill_step_names_the_skill_as_who_did_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path, SKILL_STEP)
    desk.write("skills/shared/tool/handlers/leak.py", LEAK)
    assert desk.run().result.agent == "shared/tool"


def test_a_secret_that_a_handler_finds_is_not_stored(tmp_path: Path) -> None:
    desk = Desk(tmp_path, SKILL_STEP, {"LEAKED_TOKEN": TOKEN})
    desk.write("skills/shared/tool/handlers/leak.py", LEAK)
    hidden = "[secret LEAKED_TOKEN]"
    assert json.loads(desk.run().body) == {"found": hidden, hidden: [hidden, 1]}
    desk = Desk(tmp_path / "raising", SKILL_STEP + "    args: {raised: true}\n", {"LEAKED_TOKEN": TOKEN})
    desk.write("skills/shared/tool/handlers/leak.py", LEAK)
    with pytest.raises(PhaselineError) as caught:
        desk.run()
    assert "tok-123" not in str(caught.value) + str(vars(caught.value)) + str(caught.value.args)
    assert hidden in str(caught.value)


def test_a_secret_in_a_tool_result_is_not_sent_to_the_model(api: MessagesApi, desk: Desk) -> None:
    desk.write("skills/shared/tool/handlers/leak.py", LEAK)
    good, bad = called(api, desk, ("tool__leak", {}), ("tool__leak", {"raised": True}))
    assert json.loads(good["content"])["found"] == "[secret LEAKED_TOKEN]"
    assert "raised ValueError: [secret LEAKED_TOKEN]" in bad["content"]


def test_a_secret_in_the_models_answer_and_in_a_401_is_not_kept(tmp_path: Path, api: MessagesApi) -> None:
    desk = Desk(
        tmp_path,
        STEP,
        {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": api.base_url, "X_TOKEN": "t-98765432"},
    )
    api.queue({"text": f"Take t-98765432 or {KEY}, or née."})
    assert desk.run({"note": "x"}).body == "Take [secret X_TOKEN] or [secret ANTHROPIC_API_KEY], or née.\n"
    api.queue({"fault": "unauthorized", "message": f"the token t-98765432 and the key {KEY} are wrong"})
    with pytest.raises(AuthenticationFailed) as caught:
        desk.run({"note": "x"})
    told = f"{caught.value} {vars(caught.value)} {desk.events}"
    assert "t-98765432" not in told
    assert KEY not in told


def test_a_credential_is_a_secret_whatever_its_variable_is_called(tmp_path: Path, api: MessagesApi) -> None:
    desk = Desk(
        tmp_path, STEP, {"TEAM_LOGIN": KEY, "ANTHROPIC_API_KEY": "", "ANTHROPIC_BASE_URL": api.base_url}
    )
    config = desk.catalog / "agents" / "ann" / "config.yaml"
    config.write_text(config.read_text() + "  connector: $ENV.TEAM_LOGIN\n")
    (desk.catalog / "models.yaml").write_text(
        "connections: [TEAM_LOGIN]\nfamilies: {claude-opus: {latest: claude-opus-5-5}}\n"
    )
    api.queue({"text": f"It is {KEY}."})
    assert desk.run({"note": "x"}).body == "It is [secret TEAM_LOGIN].\n"
