"""A catalog in which everything tells every secret, and somebody with all of them in the environment."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tests.support.leaking_server
from tests.support.catalogs import make_catalog
from tests.support.command import Answer, User
from tests.support.messages_api import MessagesApi, answers_in
from tests.support.planted import KINDS, Kind, everything, found_in, leaks, variables

TELLS_BY_HAND = '''"""Tells."""

import os
import signal
import sys
import time
from pathlib import Path


def NAME(where: str) -> dict[str, str]:
    """Tell what a file holds.

    Args:
        where: The file.
    """
    said = Path(where).read_text("utf-8")
    print(said, file=sys.stderr, flush=True)
    kill = Path(where).with_suffix(".kill-NAME")
    if kill.exists():
        os.kill(int(kill.read_text()), signal.SIGKILL)
        time.sleep(60)
    END
'''
"""A handler; a file beside what it reads names the process that it kills, for those that end in its call."""
GIVES = 'return {"said": said, said: "as a key"}'
FAILS_WITH_IT = "raise ValueError(said)"
HANDLERS = {
    "echo": (GIVES, "none"),
    "explode": (FAILS_WITH_IT, "none"),
    "act": (GIVES, "idempotent"),
    "unact": (GIVES, "idempotent"),
    "unactless": (FAILS_WITH_IT, "idempotent"),
}
HOOKS = '''"""Tells."""

from pathlib import Path


def create(message: str) -> str:
    return Path({where!r}).read_text("utf-8")


def next(reply: str) -> str:
    return reply + Path({where!r}).read_text("utf-8")


def broken(reply: str) -> str:
    raise ValueError(Path({where!r}).read_text("utf-8"))
'''
TELLS = """\
workflow: tells
description: {one}
inputs:
  story: {{type: file}}
  note: {{type: string, default: {one}}}
  list: {{type: json, required: false}}
steps:
  - {{id: read, skill: shared/tool, handler: echo, args: {{where: {where}}}}}
  - id: talk
    agent: ann
    inputs: [story, note, read]
    prompt: |
      Talk about {{{{ note }}}} and {{{{ read }}}}.
{prompt}
  - id: ask
    depends_on: talk
    approval: {{ask: "May it? {{{{ talk }}}}", form: {{properties: {{why: {{type: string}}}}}}}}
  - {{id: heard, depends_on: talk, await_event: {{type: done}}}}
"""
FAILS = """\
workflow: fails
inputs: {{note: {{type: string}}}}
steps:
  - id: handler
    skill: shared/tool
    handler: explode
    args: {{where: {where}}}
    on_failure: continue
  - {{id: model, agent: bob, prompt: "Stage: refused. {{{{ note }}}}", on_failure: continue}}
  - id: contract
    agent: bob
    prompt: "Stage: contract."
    on_failure: continue
    output: {{type: json, schema: {{type: object, properties: {{a: {{type: integer}}}}, required: [a]}}}}
  - {{id: server, agent: dead, prompt: "Stage: server.", on_failure: continue}}
  - {{id: far, agent: far, prompt: "Stage: far.", on_failure: continue}}
  - {{id: hook, agent: hooked, prompt: "Stage: hook.", on_failure: continue}}
  - id: each
    for_each: [1, 2]
    skill: shared/tool
    handler: explode
    args: {{where: {where}}}
"""


class Scene:
    """Somebody with all secrets in the environment, and a catalog in which everything tells them."""

    def __init__(self, home: Path, folder: Path, api: MessagesApi) -> None:
        self.api, self.folder = api, folder
        self.told = folder / "told.txt"
        self.told.write_text(everything(), "utf-8")
        self.got = folder / "got.json"
        self.outputs: list[str] = []
        self.reply: Callable[[dict[str, Any]], dict[str, Any]] = lambda body: talk(body, str(self.told))
        self.run_id = folder.name.strip("_")
        work = folder / "work"
        work.mkdir()
        self.catalog = self._catalog()
        self.write_texts()
        places = {"ANTHROPIC_BASE_URL": api.base_url, "PHASELINE_CATALOG": str(self.catalog)}
        self.user = User(home, work, {**variables(), **places})

    def write_texts(self, kinds: Sequence[Kind] = KINDS) -> None:
        """What a definition is made of (workflows, a persona, what tools are called), telling these kinds."""
        one = json.dumps(" ".join(kind.value.replace("\n", " ") for kind in kinds), ensure_ascii=False)
        prompt = "\n".join(f"      {line}" for line in everything(kinds).splitlines())
        texts = {"tells": TELLS.format(one=one, where=self.told, prompt=prompt)}
        texts["fails"] = FAILS.format(where=self.told)
        for name, text in texts.items():
            (self.catalog / f"{name}.yaml").write_text(text, "utf-8")
        for file in (self.catalog / "agents" / "ann" / "SOUL.md", self.told.with_suffix(".about")):
            file.write_text(everything(kinds), "utf-8")

    def _catalog(self) -> Path:
        where = str(self.told)
        catalog = make_catalog(self.folder / "catalog")
        tool = catalog / "skills" / "shared" / "tool"
        lines = ["handlers:", "  - {name: count, effect: none}"]
        for name, (end, effect) in HANDLERS.items():
            code = TELLS_BY_HAND.replace("NAME", name).replace("END", end)
            (tool / "handlers" / f"{name}.py").write_text(code)
            lines.append(f"  - {{name: {name}, effect: {effect}}}")
        (tool / "config.yaml").write_text("\n".join([*lines, ""]))
        ann = catalog / "agents" / "ann"
        (ann / "hooks.py").write_text(HOOKS.format(where=where))
        config = (ann / "config.yaml").read_text()
        (ann / "config.yaml").write_text(
            config
            + "  connector: $ENV.TEAM_API_KEY\n  hooks: {create: 'hooks.py:create', next: 'hooks.py:next'}\n"
        )
        entry = self._entry("--licence=${CRM_LICENCE}")
        rules = {"crm.whoami": {"effect": "idempotent"}, "crm.fail": {"effect": "idempotent"}}
        (ann / "tools-config.json").write_text(json.dumps({"mcpServers": {"crm": entry}, "tools": rules}))
        far = {"url": "http://127.0.0.1:9/${CRM_TENANT}", "headers": {"X-Tenant": "${CRM_TENANT}"}}
        servers = {"dead": {"crm": self._entry("--die")}, "far": {"crm": far}, "hooked": {}}
        for name, server in servers.items():
            agent = catalog / "agents" / name
            agent.mkdir()
            (agent / "SOUL.md").write_text("You talk.\n")
            hooks = "  hooks: {next: 'hooks.py:broken'}\n" if name == "hooked" else ""
            (agent / "config.yaml").write_text(config.replace("ann", name) + hooks)
            (agent / "hooks.py").write_text(HOOKS.format(where=where))
            (agent / "tools-config.json").write_text(json.dumps({"mcpServers": server}))
        return catalog

    def _entry(self, *words: str) -> dict[str, Any]:
        server = tests.support.leaking_server.__file__
        root = str(Path(__file__).parents[2])
        return {
            "command": sys.executable,
            "args": [server, str(self.told), str(self.got), *words],
            "env": {"LOGIN": "${CRM_LOGIN}", "PYTHONPATH": root},
        }

    def phaseline(self, *words: str) -> Answer:
        """A command whose output is searched afterwards."""
        answer = self.user.phaseline(*words)
        self.outputs += [answer.out, answer.err]
        return answer

    def run(self, workflow: str, *words: str) -> Answer:
        """`phaseline run` with everything told on the command line and in a file."""
        return self.phaseline("run", workflow, "--run-id", self.run_id, *self.given(workflow), *words)

    def given(self, workflow: str) -> list[str]:
        """The inputs of a workflow, as words."""
        story = self.folder / "story.md"
        story.write_text(f"# Story\n\n{self.told.read_text('utf-8')}", "utf-8")
        given = ["-i", f"note={everything()}"]
        if workflow != "fails":
            given += ["-i", f"story=@{story}", "-i", f"list={json.dumps([everything()])}"]
        return given

    def wait_id(self, step: str) -> str:
        """The open wait of a step."""
        waits = self.phaseline("inbox", "--run", self.run_id, "--json").document["waits"]
        return str(next(w["wait_id"] for w in waits if w["step"] == step))

    def look(self) -> None:
        """Commands that show something of the run, for people and for programs."""
        for words in (["show", self.run_id, "--events", "--cost"], ["inbox"], ["plan", "tells"]):
            self.phaseline(*words)
            self.phaseline(*words, "--json")

    def assert_nothing_told(self, *folders: Path, since: float = 0.0) -> None:
        """No byte that is kept (also in `folders`), shown or sent holds a secret.

        `since`: only files that were changed later, in seconds of their own clock.
        """
        told = {f"output {n}": found_in(text.encode()) for n, text in enumerate(self.outputs)}
        asked = [json.dumps(r["body"], ensure_ascii=False).encode() for r in self.api.asked]
        told |= {f"request {n}": found_in(body) for n, body in enumerate(asked)}
        told |= leaks(self.user.home, *folders, since=since)
        found = {place: sorted(names) for place, names in told.items() if names}
        assert not found, json.dumps(found, indent=1, ensure_ascii=False)


def talk(body: dict[str, Any], told: str, last: Sequence[Kind] = KINDS) -> dict[str, Any]:
    """A model that calls everything that tells, and then tells all itself."""
    if answers_in(body) == 0:
        where = body["messages"][0]["content"]
        assert where
        calls = [{"name": "crm__whoami", "input": {"about": "me"}}, {"name": "crm__fail", "input": {}}]
        calls += [{"name": f"tool__{name}", "input": {"where": told}} for name in ("echo", "explode")]
        return {"text": f"I say {everything()}", "tools": calls}
    return {"text": f"# Report\n\n{everything(last)}"}
