"""How written files are read: spelled numbers, booleans, units, agents, manifests, skills, tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.catalogs import compiled, make_catalog
from workflows.core.catalog.contents import Catalog
from workflows.core.check.catalog import check_catalog
from workflows.core.models.agent import AGENT_TYPES, THINKING, Agent
from workflows.core.read.documents import parse_source
from workflows.core.read.source import Unreadable
from workflows.core.units import parse_duration, parse_rate, parse_share, parse_size, shown_duration


def data(text: str) -> Any:
    return parse_source(text.encode(), "f").data


def test_numbers_remember_their_spelling() -> None:
    read = data("a: 1.10\nb: 007\nc: 0x1F\nd: 1e3\ne: '5'\nf: 5")
    assert [read[k].spelling for k in "abcdf"] == ["1.10", "007", "0x1F", "1e3", "5"]
    assert (read["a"], read["b"], read["c"], read["d"], read["e"]) == (1.1, 7, 31, 1000.0, "5")
    agent = Agent.model_validate({"id": "a", "model": data("{version: 1.10, name: claude-opus}")})
    assert agent.model.version == "1.10"


@pytest.mark.parametrize(
    "word", ["yes", "no", "on", "off", "y", "n", "12:30", "2024-01-01", "1_000", "=", "0b1"]
)
def test_only_yaml_1_2_types_are_implied(word: str) -> None:
    assert data(f"a: {word}") == {"a": word}


@pytest.mark.parametrize(
    ("word", "value"),
    [("true", True), ("False", False), ("~", None), ("null", None), ("", None), ("0o17", 15)],
)
def test_yaml_1_2_types(word: str, value: Any) -> None:
    assert data(f"a: {word}") == {"a": value}


def test_positions_of_values_and_keys() -> None:
    source = parse_source(b"a:\n  - b: 1\n    c: x\n", "f")
    assert source.position(("a", 0, "c")) == (3, 8)
    assert source.position(("a", 0, "c"), of_key=True) == (3, 5)
    assert source.position(("a", 0, "nothing", 4)) == (2, 5)


def test_merge_keys_fill_in_and_do_not_win() -> None:
    assert data("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}")["y"] == {"a": 1, "b": 3}


def test_every_duplicate_is_told_at_once() -> None:
    with pytest.raises(Unreadable) as caught:
        data("a: 1\na: 2\nb: {c: 1, c: 2}\n")
    assert [m.line for m in caught.value.mistakes] == [2, 3]


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (1800, 1800),
        ("2h25m", 8700),
        ("5000ms", 5),
        ("90", 90),
        ("1d", 86400),
        ("1.5h", 5400),
        ("1h 30m", 5400),
    ],
)
def test_durations(written: Any, seconds: float) -> None:
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    "written", ["", "h", "5 apples", "-5", 0, None, True, "1h-2m", float("nan"), "11y", 1e12, []]
)
def test_no_durations(written: Any) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(written)


def test_sizes_rates_and_shares() -> None:
    assert [parse_size(v) for v in ("2Gi", "512Mi", "4G", 7, "1.5Ki")] == [2**31, 2**29, 4 * 10**9, 7, 1536]
    assert [parse_rate(v) for v in ("100req/min", "100/minute", "5/s", 30, "10 per hour")] == [
        (100, 60),
        (100, 60),
        (5, 1),
        (30, 60),
        (10, 3600),
    ]
    assert [parse_share(v) for v in ("70%", "99.9%", 0.5, "1")] == pytest.approx([0.7, 0.999, 0.5, 1.0])
    for read, wrong in (
        (parse_size, "2Gig"),
        (parse_size, 0),
        (parse_rate, "5/fortnight"),
        (parse_share, 70),
    ):
        with pytest.raises(ValueError, match="write"):
            read(wrong)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(8700, "2h25m"), (90, "1m30s"), (0.3, "0.3s"), (60, "1m"), (86400, "1d"), (0, "0s")],
)
def test_shown_durations(seconds: float, shown: str) -> None:
    assert shown_duration(seconds) == shown


def test_a_standard_skill_folder_loads(tmp_path: Path) -> None:
    root = make_catalog(tmp_path)
    folder = root / "skills" / "plain"
    folder.mkdir()
    (folder / "SKILL.md").write_text("---\nname: plain\ndescription: Plain know-how.\n---\nDo it.\n")
    (folder / "references").mkdir()
    (folder / "references" / "more.md").write_text("More.")
    catalog = Catalog.load(root)
    skill = catalog.skills["plain"]
    assert (skill.description, skill.visibility, skill.handlers) == ("Plain know-how.", "public", ())
    assert [f.path for f in skill.files] == ["SKILL.md", "references/more.md"]
    assert not check_catalog(catalog).errors and not check_catalog(catalog).warnings


def test_all_six_standard_keys_load_and_others_warn(tmp_path: Path) -> None:
    root = make_catalog(tmp_path)
    file = root / "skills" / "shared" / "tool" / "SKILL.md"
    head = "name: tool\ndescription: Counts.\nlicense: MIT\ncompatibility: any\nmetadata: {version: 1.10}\n"
    file.write_text(f"---\n{head}allowed-tools: a b\ncolour: red\n---\nbody\n")
    catalog = Catalog.load(root)
    assert catalog.skills["shared/tool"].version == "1.10"
    (warning,) = catalog.findings.warnings
    assert (warning.file, warning.line, warning.value) == ("skills/shared/tool/SKILL.md", 8, "red")
    assert "'colour' is no standard key" in warning.message
    assert not catalog.findings.errors


def test_mcp_servers_load_with_variables_unread(tmp_path: Path) -> None:
    root = make_catalog(tmp_path)
    servers = {
        "files": {"command": "${BIN:-npx}", "args": ["-y", "${PACKAGE}"], "env": {"TOKEN": "${TOKEN}"}},
        "web": {"type": "http", "url": "https://${HOST}/mcp", "headers": {"Authorization": "Bearer ${KEY}"}},
    }
    (root / "agents/ann/tools-config.json").write_text(json.dumps({"mcpServers": servers}))
    catalog = Catalog.load(root)
    tools = catalog.agents["ann"].tools
    assert tools.mcpServers["files"].args == ("-y", "${PACKAGE}")
    assert tools.mcpServers["web"].headers == {"Authorization": "Bearer ${KEY}"}
    assert not tools.mcpServers["web"].trust_annotations
    assert not check_catalog(catalog).errors


def manifest(root: Path, text: str) -> Catalog:
    folder = root / "agents" / "team" / "goals"
    folder.mkdir(parents=True)
    (folder / "package.yao").write_text(text)
    (folder / "prompts.yml").write_text(
        "- role: system\n  content: |\n    Set goals.\n- {role: user, content: x}\n"
    )
    return Catalog.load(root)


def test_a_manifest_is_an_agent(tmp_path: Path) -> None:
    written = {
        "name": "Goals",
        "type": "robot-goals",
        "connector": "$ENV.FAST",
        "automated": False,
        "mentionable": True,
        "options": {"max_tokens": 4096},
    }
    agent = manifest(tmp_path, json.dumps(written, indent=1)).agents["team/goals"]
    assert (agent.config.name, agent.config.type, agent.config.connector) == (
        "Goals",
        "robot-goals",
        "$ENV.FAST",
    )
    assert (agent.config.automated, agent.config.mentionable, agent.config.model.max_tokens) == (
        False,
        True,
        4096,
    )
    assert agent.persona == "Set goals."


@pytest.mark.parametrize("kind", AGENT_TYPES)
def test_every_type_of_manifest(kind: str, tmp_path: Path) -> None:
    catalog = manifest(tmp_path, json.dumps({"name": "A", "type": kind}))
    assert catalog.agents["team/goals"].config.type == kind and not check_catalog(catalog).errors


def test_hooks_are_read_with_their_digest(tmp_path: Path) -> None:
    root = make_catalog(tmp_path)
    config = root / "agents/ann/config.yaml"
    config.write_text(config.read_text() + "  hooks: {create: hooks.py:before, next: hooks.py:after}\n")
    (root / "agents/ann/hooks.py").write_text(
        "def before(m):\n    return m\n\n\ndef after(r):\n    return r\n"
    )
    hooks = Catalog.load(root).agents["ann"].hooks
    assert [(h.event, h.file, h.function) for h in hooks] == [
        ("create", "hooks.py", "before"),
        ("next", "hooks.py", "after"),
    ]
    assert hooks[0].sha256 == hooks[1].sha256


def test_old_settings_are_taken_with_a_warning(tmp_path: Path) -> None:
    root = make_catalog(tmp_path)
    config = root / "agents/ann/config.yaml"
    config.write_text(config.read_text().replace("thinking: moderate", "temperature: 0.7"))
    memory = '  memory: {storage: {connection_string: "postgresql://me:hunter2@db/x"}}\n'
    config.write_text(config.read_text() + memory)
    warnings = Catalog.load(root).findings.warnings
    assert [w.message for w in warnings] == [
        "current models take no temperature; it is not sent",
        "a password stands in the file",
    ]
    assert warnings[1].value == "postgresql://***@db/x"
    assert "hunter2" not in " ".join(map(str, warnings))


def test_permissions_as_one_key_maps() -> None:
    listed = data("[{file_access: true, paths: [/workspace/x]}, {network_access: true}]")
    agent = Agent.model_validate({"id": "a", "permissions": listed})
    assert (agent.permissions.file_access, agent.permissions.network_access) == (True, True)
    assert agent.permissions.paths == ("/workspace/x",) and not agent.permissions.gpu_access


@pytest.mark.parametrize("word", THINKING)
def test_thinking_becomes_an_effort(word: str, tmp_path: Path) -> None:
    root = make_catalog(tmp_path, w="workflow: w\nsteps: [{id: a, agent: ann}]\n")
    config = root / "agents/ann/config.yaml"
    config.write_text(config.read_text().replace("moderate", f'"{word}"'))
    assert compiled(root).steps[0].agents[0].model.effort == THINKING[word]


@pytest.mark.parametrize(
    ("text", "block"),
    [
        ("a: |\n  x\n  y\n", (2, 2)),
        ("a: |2-\n\n    x\n", (2, 2)),
        ("a: &b |+ # note\n   x\n\n\n", (2, 3)),
        ("# note\r\na: |\r\n x\r\n", (3, 1)),
        ("a: >\n  x\n", None),
        ('a: "x\n  y"\n', None),
        ("a: |\n", None),
        ("a: |\n\n", None),
        ("a: |\n  x\u2028  y\n", None),
    ],
)
def test_where_a_literal_block_begins(text: str, block: tuple[int, int] | None) -> None:
    source = parse_source(text.encode(), "f")
    assert source.blocks.get(("a",)) == block
    place = source.mistake(("a",), "wrong", "mend it", within=(1, 2))
    assert (place.line, place.column) == ((block[0], block[1] + 2) if block else source.position(("a",)))


def test_every_alias_of_a_block_points_into_it() -> None:
    source = parse_source(b"a: &x |\n  one\nb: *x\n", "f")
    assert source.blocks == {("a",): (2, 2), ("b",): (2, 2)}
