"""A folder that somebody unpacked, a catalog and a storage: none of them sets anything or runs code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from blocks.home import make_home
from deployments.startup.working_folder import EMPTY
from deployments.terminal.arguments import LATER, build
from tests.support.command import ROOT, Answer, User
from tests.support.durable import Desk
from tests.support.ledgers import mark_deployed
from tests.support.watching import Watch

SETTINGS = {
    "prefect.toml": '[logging]\nconfig_path = "{config}"\n',
    "pyproject.toml": '[tool.prefect.logging]\nconfig_path = "{config}"\n',
    ".env": "PREFECT_LOGGING_SETTINGS_PATH={config}\nPREFECT_LOGGING_CONFIG_PATH={config}\n",
}
"""The files of the working folder that Prefect reads, each naming a configuration that runs code."""

LOGGING = """\
version: 1
disable_existing_loggers: false
handlers:
  own: {{(): builtins.open, file: "{marker}", mode: w}}
loggers:
  prefect: {{level: INFO, handlers: [own]}}
"""

IMPORTERS = {"answer", "cancel", "event", "prove", "resume", "run", "wake"}
"""Commands that import Prefect; that these are all of them is a test below."""

ASK = '  - {id: ask, approval: {ask: "Go on?"}}\n'
PAID = "  - {id: paid, await_event: {type: paid}}\n"


@dataclass
class Trap:
    """A folder with settings that run code, and whether they did."""

    folder: Path
    marker: Path

    @classmethod
    def lay(cls, folder: Path, place: Path, *names: str) -> Trap:
        """Puts these files of SETTINGS into a folder; the rest is kept in `place`."""
        place.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        trap, config = cls(folder, place / "marker"), place / "logging.yml"
        config.write_text(LOGGING.format(marker=trap.marker))
        for name in names or SETTINGS:
            (folder / name).write_text(SETTINGS[name].format(config=config))
        return trap


@dataclass(frozen=True)
class Told:
    """What a command did in the trap: its answer, the code it should have, whether the folder ran code."""

    answer: Answer
    code: int
    ran: bool
    opened: set[str]
    imported: set[str]


@dataclass
class Person:
    """Somebody who stands in the trap, with a catalog of their own elsewhere."""

    desk: Desk
    trap: Trap
    watch: Watch
    told: dict[str, tuple[Answer, set[str], set[str]]] = field(default_factory=dict)
    """By command: what it answered, which files of the folder were opened, what was imported."""

    def phaseline(self, *words: str) -> Answer:
        self.watch.forget()
        answer = self.desk.user.phaseline("--catalog", str(self.desk.catalog), *words, "--json")
        self.told[words[0]] = (answer, self.watch.opened(), self.watch.imported())
        return answer

    def deployed(self, run_id: str) -> None:
        """Lets the ledger say that a worker runs it, which a command then asks to go on through Prefect."""
        mark_deployed(self.desk.user.home / "ledger.db", run_id)


def person(place: Path, *names: str) -> Person:
    trap = Trap.lay(place / "unpacked", place / "trap", *names)
    watch = Watch.make(place / "watch")
    (place / "own").mkdir()
    user = User(place / "home", trap.folder, watch.variables(trap.folder, path=str(ROOT)))
    desk = Desk.make(replace(user, folder=place / "own"))
    desk.user = user
    desk.write("quick", f"  - {json.dumps(skill('quick', place))}\n")
    desk.write("asks", ASK, f"  - {json.dumps(skill('then', place) | {'depends_on': 'ask'})}\n")
    desk.write("paid", PAID)
    return Person(desk, trap, watch)


def skill(name: str, place: Path) -> dict[str, object]:
    """A step that leaves a mark."""
    args = {"file": str(place / "marks"), "text": name}
    return {
        "id": name,
        "skill": "shared/tool",
        "handler": "mark",
        "args": args,
        "output": {"type": "json"},
    }


def every_command(who: Person) -> Iterator[tuple[str, Answer, int]]:
    """Each command once, with work to do: its name, its answer, the exit code of success."""

    def done(*words: str, code: int = 0) -> tuple[str, Answer, int]:
        return words[0], who.phaseline(*words), code

    def wait_of(run_id: str) -> str:
        (wait,) = who.desk.json("inbox", "--run", run_id)["waits"]
        return str(wait["wait_id"])

    yield done("up")
    yield done("env")
    for name in ("check", "schema", "agents", "skills", "robots", "runs"):
        yield done(name)
    yield done("plan", "quick")
    yield done("graph", "quick")
    yield done("route", "hello", code=2)  # nothing has rules here
    yield done("new", "agent", "fresh")
    yield done("run", "quick", "--offline", "--run-id", "quick")
    yield done("show", "quick")
    assert who.phaseline("run", "asks", "--offline", "--run-id", "asks").code == 3
    yield done("inbox")
    who.deployed("asks")
    yield done("answer", wait_of("asks"))
    assert who.phaseline("run", "paid", "--offline", "--run-id", "paid").code == 3
    who.deployed("paid")
    yield done("event", "paid")
    yield done("wake", code=1)  # no worker is there to go on with them
    for run_id in ("late", "later"):
        assert who.phaseline("run", "asks", "--offline", "--run-id", run_id).code == 3
    who.desk.json("answer", wait_of("late"))
    yield done("resume", "late")
    yield done("cancel", "later", code=0)
    yield done("prove", "quick", "--limit", "1")
    yield done("down")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Told]]:
    """Every command, in a folder with all three files: what it did there."""
    who = person(tmp_path_factory.mktemp("person"))
    found: dict[str, Told] = {}
    try:
        for name, answer, code in every_command(who):
            found[name] = Told(answer, code, who.trap.marker.exists(), *who.told[name][1:])
            who.trap.marker.unlink(missing_ok=True)
        yield found
    finally:
        who.desk.user.phaseline("down")


@pytest.mark.parametrize("name", SETTINGS)
def test_the_files_do_run_code_where_nothing_holds_them(tmp_path: Path, name: str) -> None:
    trap = Trap.lay(tmp_path / "unpacked", tmp_path / "trap", name)
    kept = {n: v for n, v in os.environ.items() if not n.startswith("PREFECT_")}
    ended = subprocess.run(
        [sys.executable, "-P", "-c", "import prefect.main, prefect.logging; prefect.logging.get_logger()"],
        cwd=trap.folder,
        env={**kept, "HOME": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert trap.marker.exists(), ended.stderr.decode()


@pytest.mark.parametrize("command", sorted({*build()[1]} - {*LATER}))
def test_no_command_takes_settings_from_the_folder(told: dict[str, Told], command: str) -> None:
    """None of the files is so much as opened, so none of them can do alone what it does not do here."""
    assert command in told, f"`{command}` is new: give it something to do in every_command"
    found = told[command]
    assert not found.ran, f"the folder ran code in `{command}`"
    assert found.answer.code == found.code, found.answer
    assert not found.opened, f"`{command}` opened {found.opened} of the folder"
    assert ("prefect" in found.imported) == (command in IMPORTERS), sorted(found.imported)


@pytest.mark.parametrize("where", ["catalog", "storage"])
def test_a_catalog_and_a_storage_are_no_better_places(tmp_path: Path, where: str) -> None:
    who = person(tmp_path)
    folder = who.desk.catalog if where == "catalog" else tmp_path / "storage"
    trap = Trap.lay(folder, tmp_path / "trap")
    settings = {"PHASELINE_STORAGE": str(tmp_path / "storage"), "PHASELINE_SERVER": "command"}
    who.desk.user = replace(who.desk.user, folder=folder).with_variables(
        **settings, **who.watch.variables(folder, path=str(ROOT))
    )
    answer = who.phaseline("run", "quick", "--offline", "--run-id", "quick")
    assert answer.completed
    assert not trap.marker.exists()
    assert not who.told["run"][1] & {*SETTINGS}


def test_what_people_write_is_still_theirs(tmp_path: Path) -> None:
    """Relative paths, in words and in variables, mean the folder that people stand in."""
    who = person(tmp_path)
    folder, own = who.trap.folder, tmp_path / "own"
    who.desk.user = who.desk.user.with_variables(
        PHASELINE_CATALOG="../own/catalog",
        PHASELINE_STORAGE="bodies",
        PHASELINE_DATABASE_URL="own.db",
        PHASELINE_HOME="../home",
        PHASELINE_SERVER="command",
    )
    text = "inputs: {{brief: {{type: file}}, word: {{type: string}}}}\n"
    say = '  - {id: say, agent: ann, prompt: "{{ brief }} {{ word }}", expected_output: said}\n'
    (own / "catalog" / "tells.yaml").write_text(f"workflow: tells\n{text.format()}steps:\n{say}{ASK}")
    (folder / "brief.md").write_text("# Bees\n")
    (folder / "inputs.yaml").write_text("word: honey\n")
    (folder / "beside.yaml").write_text("workflow: beside\nsteps:\n" + ASK)
    user = who.desk.user
    words = ("--offline", "--run-id", "tells", "-i", "brief=@brief.md", "--inputs", "inputs.yaml", "--json")
    answer = user.phaseline("run", "tells", *words)
    assert answer.code == 3, answer
    assert (folder / "own.db").is_file() and (folder / "bodies" / "_results").is_dir()
    assert not (tmp_path / "home" / "ledger.db").exists()
    (folder / "data.json").write_text("{}")
    (wait,) = user.phaseline("inbox", "--json").document["waits"]
    gone_on = user.phaseline("answer", wait["wait_id"], "--data", "@data.json", "--resume", "--json")
    assert gone_on.completed
    beside = user.phaseline("run", "beside.yaml", "--offline", "--run-id", "beside")
    assert beside.code == 3 and "--catalog" not in beside.err, beside
    proved = user.phaseline("prove", "beside.yaml", "--limit", "1", "--report", "proof.md", "--keep", "kept")
    assert proved.code == 0, proved
    assert "beside" in (folder / "proof.md").read_text()
    missing = user.phaseline("run", "tells", "-i", "brief=@none.md", "-i", "word=x")
    assert missing.code == 2 and "there is no file none.md" in missing.err
    assert not who.trap.marker.exists()
    assert {p.name for p in folder.iterdir()} >= {*SETTINGS}


def test_what_is_left_in_the_empty_folder_sets_nothing(tmp_path: Path) -> None:
    """A server of a run that wrote there, say: it is put aside, and nothing of it is read."""
    who = person(tmp_path)
    who.desk.user = who.desk.user.with_variables(PHASELINE_SERVER="command")
    make_home(who.desk.user.home)
    trap = Trap.lay(who.desk.user.home / EMPTY, tmp_path / "trap")
    answer = who.phaseline("run", "quick", "--offline", "--run-id", "quick")
    assert answer.completed
    assert not trap.marker.exists()
    assert list(trap.folder.iterdir()) == []
    (aside,) = who.desk.user.home.glob(f"{EMPTY}-until-*")
    assert {p.name for p in aside.iterdir()} == {*SETTINGS}


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    ended = subprocess.run(
        [
            "sh",
            "-c",
            f'cd {gone} && rmdir {gone} && exec "$0" -P -m deployments.cli --catalog x runs',
            sys.executable,
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PHASELINE_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2, ended
    assert "the working folder cannot be used" in ended.stderr and "Traceback" not in ended.stderr
