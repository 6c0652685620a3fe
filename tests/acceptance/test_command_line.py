"""The command `phaseline` as people and programs meet it: real processes, both kinds of output."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from deployments.terminal.arguments import LATER
from tests.support.command import ROOT, Answer, clean_environment, phaseline
from tests.support.command import refused as told_the_cure

CATALOG = ROOT / "workflows"

BROKEN = """\
workflow: broken
steps:
  - id: one
    agent: agent-pm-02
    timeout: soon
  - id: two
    agent: agent-pm-002
    dependson: one
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A copy of the default catalog that a test may change."""
    target = tmp_path / "catalog"
    shutil.copytree(CATALOG, target, ignore=shutil.ignore_patterns("core", "__pycache__", "__init__.py"))
    return target


def refused(answer: Answer, *words: str) -> None:
    """A person's error, with nothing on standard output."""
    told_the_cure(answer, *words)
    assert answer.out == ""


# ---------------------------------------------------------------- the command itself


def test_version_in_both_modes(tmp_path: Path) -> None:
    plain, document = phaseline("--version", home=tmp_path), phaseline("--json", "--version", home=tmp_path)
    assert plain.out == f"phaseline {document.document['version']}\n"
    assert plain.code == document.code == 0


def test_help_names_every_command_that_works(tmp_path: Path) -> None:
    answer = phaseline("--help", home=tmp_path)
    assert answer.code == 0
    for command in (
        "run",
        "check",
        "plan",
        "graph",
        "schema",
        "agents",
        "skills",
        "route",
        "up",
        "down",
        "new",
    ):
        assert f"\n    {command} " in answer.out
    assert phaseline(home=tmp_path).out == answer.out
    assert "check" in phaseline("--json", home=tmp_path).document["commands"]
    assert "--strict" in phaseline("check", "--help", home=tmp_path).out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("chekc",), "did you mean 'check'?"),
        (("check", "--strickt"), "did you mean '--strict'?"),
        (("plan",), "WORKFLOW"),
        (("plan", "a", "b"), "takes no argument b"),
        (("run",), "--text"),
        (("run", "x", "--text", "y"), "not allowed with"),
        (("runs", "--limit", "0"), "at least 1"),
        (("graph", "end-to-end-delivery", "--format", "sgv"), "did you mean 'svg'?"),
        (("new", "agnet", "x"), "did you mean 'agent'?"),
    ],
)
def test_usage_errors(tmp_path: Path, words: tuple[str, ...], expected: str) -> None:
    refused(phaseline(*words, home=tmp_path), expected)
    answer = phaseline(*words, "--json", home=tmp_path)
    assert (answer.code, answer.err) == (2, "")
    assert answer.document["status"] == "invalid"
    assert set(answer.document["error"]) == {"message", "cure"}


def test_commands_that_come_later_say_so(tmp_path: Path) -> None:
    refused(phaseline("note", "some-run", "text", home=tmp_path), "not available yet")
    assert "note" in LATER
    refused(phaseline("robot", "run", "x", "--trigger", "clock", home=tmp_path), "not available yet")


def test_json_and_catalog_before_and_after_the_command(tmp_path: Path, own: Path) -> None:
    (own / "weekly-metrics.yaml").unlink()
    before = phaseline("--json", "--catalog", str(own), "robots", home=tmp_path)
    after = phaseline("robots", "--catalog", str(own), "--json", home=tmp_path)
    named = phaseline("robots", "--json", home=tmp_path, environment={"PHASELINE_CATALOG": str(own)})
    assert before.document == after.document == named.document == {"robots": []}
    refused(phaseline("plan", "weekly-metrics", "--catalog", str(own), home=tmp_path))
    refused(phaseline("check", "--catalog", str(tmp_path / "none"), home=tmp_path), "no catalog")


def test_nobody_reading_is_no_error(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        process = subprocess.run(
            [sys.executable, "-m", "deployments.cli", "schema", "workflow"],
            stdout=writer,
            stderr=subprocess.PIPE,
            env=clean_environment(tmp_path),
            cwd=tmp_path,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writer)
    assert (process.returncode, process.stderr) == (1, b"")


@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1"])
def test_utf8_in_every_locale(tmp_path: Path, locale: str) -> None:
    plain = {"LANG": locale, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert "产品经理" in phaseline("agents", home=tmp_path, environment=plain).out


def test_a_signal_leaves_through_the_context_managers(tmp_path: Path) -> None:
    """SIGTERM and SIGINT while a command waits: exit code 1, no traceback, what it held given back."""
    waiting = (
        "import sys, time, contextlib, types\n"
        "from deployments import cli\n"
        "def execute(args, out):\n"
        "    with contextlib.ExitStack() as held:\n"
        "        held.callback(lambda: print('released', flush=True))\n"
        "        print('waiting', flush=True)\n"
        "        time.sleep(60)\n"
        "sys.modules['deployments.commands.robots'] = types.SimpleNamespace(execute=execute)\n"
        "sys.exit(cli.main(['robots']))\n"
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        process = subprocess.Popen(
            [sys.executable, "-c", waiting],
            env=clean_environment(tmp_path),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == "waiting\n"
            process.send_signal(number)
            out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (1, "released\n")
        assert "Traceback" not in err


# ---------------------------------------------------------------- whose packages


def test_a_hostile_working_folder_shadows_nothing(tmp_path: Path) -> None:
    for name in ("workflows", "flows"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('not ours')")
    for name in ("tasks", "argparse", "yaml"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not ours')")
    # argparse and yaml too, since Python would look there first as well
    answer = phaseline("check", home=tmp_path / "home", cwd=tmp_path)
    assert answer.code == 0, answer.err


def test_an_empty_part_of_the_path_is_left_out_before_the_first_import(tmp_path: Path) -> None:
    """`PYTHONPATH=:/more`: nothing that an installed command imports is looked for in the working folder."""
    for name in ("json", "signal", "__future__", "argparse", "typing"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not ours')")
    script = "import sys; sys.argv[0] = 'bin/phaseline'; from deployments.cli import main; sys.exit(main())"
    ended = subprocess.run(
        [sys.executable, "-P", "-S", "-c", script, "--version"],
        cwd=tmp_path,
        env=clean_environment(tmp_path / "home", {"PYTHONPATH": f":{ROOT}:{sysconfig.get_path('purelib')}"}),
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("phaseline ")


def test_another_package_on_the_path_is_refused(tmp_path: Path) -> None:
    (tmp_path / "blocks.py").write_text("")
    path = {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    answer = phaseline("check", home=tmp_path / "home", environment=path)
    refused(answer, str(tmp_path / "blocks.py"), "PYTHONPATH")
    document = phaseline("check", "--json", home=tmp_path / "home", environment=path).document
    assert document["status"] == "invalid"


@pytest.mark.parametrize(
    "words", [("--version",), ("check",), ("plan", "end-to-end-delivery"), ("agents",), ("route", "训练")]
)
def test_definition_commands_import_no_engine(tmp_path: Path, words: tuple[str, ...]) -> None:
    answer = phaseline(*words, home=tmp_path, options=("-X", "importtime"))
    assert answer.code == 0
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in answer.err.splitlines()}
    assert "argparse" in imported
    heavy = {"prefect", "anthropic", "sqlalchemy", "great_expectations", "s3fs", "rich", "asyncio", "httpx"}
    assert not imported & heavy
    if words == ("--version",):
        assert not imported & {"pydantic", "yaml", "jinja2"}


# ---------------------------------------------------------------- check


def test_the_default_catalog_is_fine(tmp_path: Path) -> None:
    answer = phaseline("check", "--strict", home=tmp_path)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("ok: ")
    document = phaseline("check", "--json", home=tmp_path).document
    assert document == {"ok": True, "errors": [], "warnings": []}
    assert phaseline("check", "end-to-end-delivery", home=tmp_path).out == "ok: end-to-end-delivery\n"


def test_every_mistake_in_one_report(tmp_path: Path, own: Path) -> None:
    (own / "broken.yaml").write_text(BROKEN)
    answer = phaseline("check", "--catalog", str(own), home=tmp_path)
    assert answer.code == 2
    assert "broken.yaml:5:14: error: steps[0].timeout" in answer.out
    assert "did you mean 'depends_on'?" in answer.out
    assert "did you mean 'agent-pm-002'?" in answer.out
    assert "3 errors, 0 warnings in 1 file" in answer.out
    document = phaseline("check", "broken", "--json", "--catalog", str(own), home=tmp_path).document
    assert [e["line"] for e in document["errors"]] == [4, 5, 8]
    assert set(document["errors"][0]) == {"file", "line", "column", "path", "value", "message", "cure"}


def test_a_file_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("workflow: mine\nsteps: [{id: a, agent: agent-pm-02}]\n")
    answer = phaseline("check", "mine.yaml", home=tmp_path)
    assert answer.code == 2
    assert "mine.yaml:2:" in answer.out
    assert "did you mean 'agent-pm-002'?" in answer.out
    refused(phaseline("plan", "mine.yaml", home=tmp_path), "unknown agent")
    errors = phaseline("plan", "mine.yaml", "--json", home=tmp_path).document
    assert errors["status"] == "invalid"
    assert errors["errors"][0]["line"] == 2
    refused(phaseline("check", "none.yaml", home=tmp_path), "there is no file none.yaml")
    refused(phaseline("check", "nobody", home=tmp_path), "there is no workflow 'nobody'")


def test_a_broken_agent_is_named_as_the_cause(tmp_path: Path, own: Path) -> None:
    config = own / "agents/product-manager/config.yaml"
    config.write_text(config.read_text("utf-8").replace("max_tokens:", "max_token:"), "utf-8")
    answer = phaseline("plan", "end-to-end-delivery", "--catalog", str(own), home=tmp_path)
    refused(answer, "agents/product-manager/config.yaml:", "did you mean 'max_tokens'?")


def test_strict_turns_warnings_into_errors(tmp_path: Path, own: Path) -> None:
    (own / "agents/architect/SOUL.md").unlink()
    lenient = phaseline("check", "--catalog", str(own), home=tmp_path)
    assert (lenient.code, "warning: " in lenient.out) == (0, True)
    strict = phaseline("check", "--strict", "--json", "--catalog", str(own), home=tmp_path)
    assert (strict.code, strict.document["ok"], strict.document["errors"]) == (2, False, [])
    assert strict.document["warnings"]


def test_odd_values_and_control_characters(tmp_path: Path) -> None:
    text = 'workflow: "x\\e[2J"\nsteps: [{id: a, agent: agent-pm-002, timeout: .nan, colour: 2026-01-01}]\n'
    (tmp_path / "odd.yaml").write_text(text)
    answer = phaseline("check", "odd.yaml", "--json", home=tmp_path)
    json.loads(answer.out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert answer.code == 2
    assert "\x1b" not in phaseline("check", "odd.yaml", home=tmp_path).out


# ---------------------------------------------------------------- plan, graph, schema


def test_plan_in_both_modes(tmp_path: Path) -> None:
    document = phaseline("plan", "end-to-end-delivery", "--json", home=tmp_path).document
    assert [s["id"] for s in document["steps"]] == ["step-1", "step-2", "step-3", "step-4"]
    assert set(document["steps"][3]["depends_on"]) == {"step-1", "step-2", "step-3"}
    assert len(document["definition"]) == 64
    estimate = document["estimate"]
    assert estimate["critical_path"] == ["step-1", "step-2", "step-3", "step-4"]
    assert estimate["seconds"] == 8700
    assert 0 < estimate["answer"]["output_tokens"] < estimate["ceiling"]["output_tokens"]
    assert set(estimate["steps"]) == {"step-1", "step-2", "step-3", "step-4"}
    people = phaseline("plan", "end-to-end-delivery", home=tmp_path).out
    for word in ("需求分析", "agent-arch-003", "2h25m", "step-1 -> step-2 -> step-3 -> step-4", "$"):
        assert word in people
    assert "\x1b" not in people


@pytest.mark.parametrize(("format", "start"), [("mermaid", "%%{init"), ("dot", "digraph"), ("svg", "<svg")])
def test_graph(tmp_path: Path, format: str, start: str) -> None:
    words = ("graph", "end-to-end-delivery", "--format", format)
    text = phaseline(*words, home=tmp_path).out
    assert start in text[:200]
    assert phaseline(*words, "--json", home=tmp_path).document["text"].strip() == text.strip()


def test_graph_into_a_file_by_its_ending(tmp_path: Path) -> None:
    answer = phaseline("graph", "end-to-end-delivery", "-o", "x.svg", "--json", home=tmp_path)
    assert answer.document["format"] == "svg"
    assert "<svg" in (tmp_path / "x.svg").read_text("utf-8")
    refused(phaseline("graph", "end-to-end-delivery", "-o", "none/x.svg", home=tmp_path), "cannot write")
    refused(phaseline("graph", "end-to-end-delivery", "-o", "x.png", home=tmp_path), ".svg")
    refused(
        phaseline("graph", "end-to-end-delivery", "-o", "y.svg", "--format", "dot", home=tmp_path),
        "say --format svg",
    )
    assert not (tmp_path / "x.png").exists() and not (tmp_path / "y.svg").exists()
    answer = phaseline("graph", "end-to-end-delivery", "-o", "x.txt", "--format", "dot", home=tmp_path)
    assert answer.code == 0 and "digraph" in (tmp_path / "x.txt").read_text("utf-8")


def test_schema_lists_and_prints(tmp_path: Path) -> None:
    kinds = phaseline("schema", "--json", home=tmp_path).document["kinds"]
    assert {"workflow", "agent", "robot", "routing-rules"} <= {k["id"] for k in kinds}
    assert "agents/<name>/config.yaml" in phaseline("schema", home=tmp_path).out
    people, document = (
        phaseline("schema", "workflow", home=tmp_path),
        phaseline("schema", "workflow", "--json", home=tmp_path),
    )
    assert people.out == document.out
    jsonschema.Draft202012Validator.check_schema(document.document)
    refused(phaseline("schema", "workflwo", home=tmp_path), "did you mean 'workflow'?")


# ---------------------------------------------------------------- what the catalog holds


def test_agents(tmp_path: Path) -> None:
    listed = phaseline("agents", "--json", home=tmp_path).document["agents"]
    assert {"agent-pm-002", "agent-arch-003", "agent-ai-001"} <= {a["id"] for a in listed}
    (goals,) = phaseline("agents", "--type", "robot-goals", "--json", home=tmp_path).document["agents"]
    assert goals["type"] == "robot-goals"
    (one,) = phaseline("agents", "product-manager", "--json", home=tmp_path).document["agents"]
    assert one["model"].startswith("claude-sonnet-")
    assert "产品经理" in phaseline("agents", "agent-pm-002", home=tmp_path).out
    refused(phaseline("agents", "agent-pm-02", home=tmp_path), "did you mean 'agent-pm-002'?")
    refused(phaseline("agents", "--type", "goals", home=tmp_path))


def test_skills_and_who_may_use_them(tmp_path: Path) -> None:
    everything = phaseline("skills", "--json", home=tmp_path).document["skills"]
    assert {"product-design", "shared/communication"} <= {s["id"] for s in everything}
    ids = {
        s["id"]: s["bound"]
        for s in phaseline("skills", "--agent", "architect", "--json", home=tmp_path).document["skills"]
    }
    assert ids["system-design"] is True
    assert ids["shared/data-analysis"] is False
    assert "product-design" not in ids
    assert "architect only" in phaseline("skills", home=tmp_path).out


def test_route(tmp_path: Path, own: Path) -> None:
    document = phaseline("route", "从需求到上线的完整方案", "--json", home=tmp_path).document
    assert (document["workflow"], document["agents"]) == ("end-to-end-delivery", None)
    assert document["tried"][-1]["matched"] is True
    people = phaseline("route", "训练一个模型", "--explain", home=tmp_path).out
    assert people.splitlines()[0] == "rule ml_model_training -> agent-ai-001"
    assert "not tried" in people
    rules = own / "orchestrator/routing-rules.yaml"
    rules.write_text("routing_rules:\n  - {name: one, pattern: abc, agents: [agent-pm-002]}\n")
    refused_text = phaseline("route", "xyz", "--catalog", str(own), home=tmp_path)
    assert (refused_text.code, "cure:" in refused_text.err) == (2, True)
    nothing = phaseline("route", "xyz", "--json", "--catalog", str(own), home=tmp_path)
    assert (nothing.code, nothing.document["rule"], len(nothing.document["tried"])) == (2, None, 1)
    rules.write_text("routing_rules:\n  - {name: one, patern: abc}\n")
    refused(phaseline("route", "xyz", "--catalog", str(own), home=tmp_path), "did you mean 'pattern'?")


# ---------------------------------------------------------------- new


def make(catalog: Path, kind: str, name: str, home: Path) -> dict[str, Any]:
    answer = phaseline("new", kind, name, "--json", "--catalog", str(catalog), home=home)
    assert answer.code == 0, answer
    return dict(answer.document)


def test_what_new_makes_passes_check(tmp_path: Path, own: Path) -> None:
    registry = own / "orchestrator/agent-registry.yaml"
    before = registry.read_text("utf-8")
    made = [
        make(own, kind, name, tmp_path)
        for kind, name in (
            ("agent", "writer"),
            ("agent", "team/deep-writer"),
            ("skill", "word-count"),
            ("skill", "shared/line-count"),
            ("robot", "morning"),
            ("workflow", "my-work"),
        )
    ]
    assert all(Path(file).is_file() for one in made for file in one["files"])
    assert registry.read_text("utf-8").startswith(before.rstrip("\n"))
    assert "writer" in [a["id"] for a in yaml.safe_load(registry.read_text("utf-8"))["agents"]]
    answer = phaseline("check", "--strict", "--catalog", str(own), home=tmp_path)
    assert answer.code == 0, answer.out
    plan = phaseline("plan", "my-work", "--json", "--catalog", str(own), home=tmp_path).document
    assert plan["steps"][1]["depends_on"] == ["draft"]
    skills = phaseline("skills", "--json", "--catalog", str(own), home=tmp_path).document["skills"]
    assert [h["name"] for s in skills if s["id"] == "word-count" for h in s["handlers"]] == ["count_words"]


def test_new_refuses_to_overwrite_and_odd_names(tmp_path: Path, own: Path) -> None:
    make(own, "workflow", "mine", tmp_path)
    text = (own / "mine.yaml").read_text()
    for kind, name in (
        ("workflow", "mine"),
        ("workflow", "end-to-end-delivery"),
        ("agent", "product-manager"),
        ("agent", "agent-pm-002"),
        ("skill", "shared/communication"),
        ("agent", "../outside"),
        ("skill", "Upper"),
        ("robot", "a/b"),
    ):
        refused(phaseline("new", kind, name, "--catalog", str(own), home=tmp_path))
    assert (own / "mine.yaml").read_text() == text


def test_a_catalog_of_ones_own(tmp_path: Path) -> None:
    answer = phaseline("new", "catalog", "mine", home=tmp_path)
    assert answer.code == 0
    assert "phaseline --catalog mine run hello --offline" in answer.out
    strict = phaseline("check", "--strict", "--catalog", "mine", home=tmp_path)
    assert strict.code == 0, strict.out
    refused(phaseline("new", "catalog", "mine", home=tmp_path), "not empty")
    make(tmp_path / "mine", "agent", "writer", tmp_path)
    assert phaseline("check", "--strict", "--catalog", "mine", home=tmp_path).code == 0


def test_an_agent_in_a_catalog_without_template_and_skills(tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    refused(phaseline("new", "workflow", "w", "--catalog", "bare", home=tmp_path), "phaseline new agent")
    make(tmp_path / "bare", "agent", "writer", tmp_path)
    make(tmp_path / "bare", "workflow", "w", tmp_path)
    answer = phaseline("check", "--strict", "--catalog", "bare", home=tmp_path)
    assert answer.code == 0, answer.out


# ---------------------------------------------------------------- server


def test_up_env_down(tmp_path: Path) -> None:
    """The whole life of a local server, as the three commands show it."""
    home = tmp_path / "home"
    assert phaseline("down", "--json", home=home).document == {"stopped": False}
    try:
        up = phaseline("up", "--json", home=home)
        assert up.code == 0, up.err
        assert set(up.document) == {"api_url", "ui_url", "pid"}
        lines = phaseline("env", home=home).out.splitlines()
        assert f"export PREFECT_API_URL={up.document['api_url']}" in lines
        assert any(line.startswith("export PREFECT_API_AUTH_STRING=") for line in lines)
        again = phaseline("up", home=home).out
        assert up.document["ui_url"] in again
        elsewhere = {"PREFECT_API_URL": "http://127.0.0.1:1/api"}
        other = phaseline("env", "--json", home=home, environment=elsewhere).document
        assert other == {"environment": elsewhere}
    finally:
        down = phaseline("down", "--json", home=home)
    assert down.document == {"stopped": True}
    deadline = time.monotonic() + 30
    while Path(f"/proc/{up.document['pid']}/cmdline").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert phaseline("down", home=home).out == "no local Prefect server was running\n"
