"""The home is its owner's alone, whoever else uses the machine and whatever the umask is."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deployments.startup.provenance import PACKAGES, RUN_BY_PATH
from deployments.startup.working_folder import EMPTY
from deployments.terminal.arguments import HOMELESS, LATER, build
from tests.support.catalogs import make_catalog
from tests.support.command import ROOT, Answer, clean_environment, phaseline, refused
from tests.support.other_user import NOBODY, need_other_user, phaseline_as

ASK = 'workflow: asks\nsteps:\n  - {id: ask, approval: {ask: "Go on?", quorum: 2}}\n'
OF_THE_HOME = sorted({*build()[1]} - {*LATER} - HOMELESS)
"""Commands that use the home."""

NEEDS = {
    "answer": ("w-0",),
    "cancel": ("r",),
    "event": ("paid",),
    "plan": ("asks", "--run-id", "r"),
    "prove": ("asks",),
    "resume": ("r",),
    "run": ("asks", "--offline"),
    "show": ("r",),
}
"""What a command has to be given."""


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user may look into, as pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="phaseline-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def command(
    *words: str, home: Path, umask: int, environment: dict[str, str] | None = None, at: Path | None = None
) -> Answer:
    """A command under a umask, which makes the home itself; what else it needs is at `at`, or beside it."""
    at = at or home.parent
    own = clean_environment(at / "around", environment)
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "deployments.cli", *words],
        env={**own, "PHASELINE_HOME": str(home)},
        cwd=at,
        umask=umask,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return Answer(ended.returncode, ended.stdout, ended.stderr)


def open_to_others(folder: Path) -> list[str]:
    """What in a folder is not its owner's alone; links have no mode of their own."""
    found = [folder, *folder.rglob("*")]
    modes = {path: path.lstat().st_mode for path in found if not path.is_symlink()}
    return [f"{path} {stat.filemode(mode)}" for path, mode in modes.items() if mode & 0o077]


# ---------------------------------------------------------------- modes


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277], ids=oct)
def test_whichever_command_makes_it_the_home_is_closed(tmp_path: Path, umask: int) -> None:
    home, catalog = tmp_path / "deep" / "home", make_catalog(tmp_path / "catalog", asks=ASK)
    quick = 'workflow: quick\nsteps:\n  - {id: say, agent: ann, prompt: "Say it", expected_output: said}\n'
    (catalog / "quick.yaml").write_text(quick)
    home.parent.mkdir()
    try:
        up = command("up", home=home, umask=umask)
        assert up.code == 0, up
        assert open_to_others(home) == []
        for name, code in (("quick", 0), ("asks", 3)):
            words = ("--catalog", str(catalog), "run", name, "--offline", "--run-id", name)
            answer = command(*words, home=home, umask=umask)
            assert answer.code == code, answer
            assert open_to_others(home) == []
    finally:
        command("down", home=home, umask=umask)
    assert open_to_others(home) == []
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    made = {p.name for p in home.iterdir()}
    assert made >= {"ledger.db", "ledger.db.lock", "storage", "server", EMPTY}


@pytest.mark.parametrize("words", [("runs",), ("run", "asks", "--offline"), ("env",)], ids=lambda w: w[0])
def test_the_first_command_makes_it_for_its_owner_only(tmp_path: Path, words: tuple[str, ...]) -> None:
    home, catalog = tmp_path / "a" / "b", make_catalog(tmp_path / "catalog", asks=ASK)
    variables = {"PHASELINE_CATALOG": str(catalog), "PHASELINE_SERVER": "command"}
    command(*words, home=home, umask=0, environment=variables, at=tmp_path)
    command("down", home=home, umask=0, at=tmp_path)
    assert home.is_dir()
    assert open_to_others(home.parent) == []


def test_a_home_that_others_could_read_is_closed_with_a_note(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o755)
    first, second = (command("runs", home=home, umask=0o022) for _ in range(2))
    assert first.code == second.code == 0
    assert "is closed now" in first.err and "is closed now" not in second.err
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_a_folder_of_other_things_is_not_closed(tmp_path: Path) -> None:
    """`PHASELINE_HOME=.` in a project, or `/` as root: that is refused, and stays as it is."""
    project = tmp_path / "project"
    project.mkdir()
    project.chmod(0o755)
    (project / "README.md").touch()
    refused(command("runs", home=project, umask=0o022), "holds other things", "of its own")
    assert stat.S_IMODE(project.stat().st_mode) == 0o755
    (project / "ledger.db").touch()  # it has been a home all along
    assert command("runs", home=project, umask=0o022).code == 0
    assert stat.S_IMODE(project.stat().st_mode) == 0o700


def test_a_storage_is_open_to_whom_its_folder_is(tmp_path: Path) -> None:
    """One that phaseline makes is closed; one that people opened on purpose stays open to the same."""
    catalog = make_catalog(tmp_path / "catalog")
    quick = 'workflow: quick\nsteps:\n  - {id: say, agent: ann, prompt: "Say it", expected_output: said}\n'
    (catalog / "quick.yaml").write_text(quick)
    shared, own = tmp_path / "shared", tmp_path / "own"
    shared.mkdir()
    shared.chmod(0o750)
    for storage in (shared, own):
        words = ("--catalog", str(catalog), "run", "quick", "--offline", "--storage", str(storage))
        answer = command(*words, home=tmp_path / "home", umask=0, environment={"PHASELINE_SERVER": "command"})
        assert answer.code == 0, answer
    assert open_to_others(own) == []
    modes = {p.stat().st_mode & 0o077 for p in shared.rglob("*")}
    assert modes == {0o050, 0o040}, "folders and files are open to the group, as the folder is"


# ---------------------------------------------------------------- homes that are not trusted


@pytest.mark.parametrize("name", OF_THE_HOME)
@pytest.mark.parametrize("mode", [0o777, 0o730], ids=oct)
def test_a_home_that_others_may_write_is_refused(tmp_path: Path, name: str, mode: int) -> None:
    home, catalog = tmp_path / "home", make_catalog(tmp_path / "catalog", asks=ASK)
    home.mkdir()
    home.chmod(mode)
    answer = command("--catalog", str(catalog), name, *NEEDS.get(name, ()), home=home, umask=0o022)
    refused(answer, "may be written by other users", f"chmod 700 {home}")
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("name", OF_THE_HOME)
def test_a_home_behind_somebody_elses_link_is_refused(shared: Path, name: str) -> None:
    """As one planted in /tmp for a home that will be made there."""
    need_other_user()
    target, tmp = shared / "target", shared / "tmp"
    target.mkdir(mode=0o700)
    tmp.mkdir()
    tmp.chmod(0o1777)
    (tmp / "link").symlink_to(target)
    os.lchown(tmp / "link", NOBODY, NOBODY)
    catalog = make_catalog(shared / "catalog", asks=ASK)
    for home in (tmp / "link", tmp / "link" / "below"):
        words = ("--catalog", str(catalog), name, *NEEDS.get(name, ()))
        refused(phaseline(*words, home=home, cwd=tmp), "is reached through the link", f"user {NOBODY}")
    assert {p.name for p in target.iterdir()} <= {"user", "below"}  # made by the test's own helper
    assert not list(target.rglob("ledger.db")) and not list(target.rglob("server"))


def test_a_link_of_ones_own_is_fine(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "again").symlink_to(tmp_path / "link")
    assert command("runs", home=tmp_path / "again", umask=0o022).code == 0
    assert (tmp_path / "real" / "ledger.db").is_file()
    (tmp_path / "round").symlink_to("round")
    refused(command("runs", home=tmp_path / "round", umask=0o022), "round")


@pytest.mark.parametrize("name", OF_THE_HOME)
def test_a_second_user_on_a_foreign_home_is_told_what_to_do(shared: Path, name: str) -> None:
    need_other_user()
    home, catalog = shared / "home", make_catalog(shared / "catalog", asks=ASK)
    assert command("runs", home=home, umask=0o022).code == 0
    before = sorted(p.name for p in home.iterdir())
    words = ("--catalog", str(catalog), name, *NEEDS.get(name, ()))
    refused(phaseline_as(NOBODY, *words, home=home), f"belongs to root (user 0), and this is user {NOBODY}")
    hidden = shared / "closed"
    hidden.mkdir(mode=0o700)
    refused(phaseline_as(NOBODY, *words, home=hidden / "home"), "cannot be looked at")
    assert sorted(p.name for p in home.iterdir()) == before


def test_the_administrator_is_a_second_user_too(shared: Path) -> None:
    need_other_user()
    home = shared / "home"
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY, NOBODY)
    refused(command("runs", home=home, umask=0o022), f"belongs to user {NOBODY}")
    assert list(home.iterdir()) == []


def test_places_that_another_user_may_not_read_end_no_command_with_a_traceback(shared: Path) -> None:
    need_other_user()
    closed = shared / "closed"
    closed.mkdir(mode=0o700)
    make_catalog(closed / "catalog", asks=ASK)
    inner = make_catalog(shared / "catalog", asks=ASK)
    (inner / "orchestrator").mkdir(mode=0o700)
    home = shared / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    for words in (
        *(("--catalog", str(closed / "catalog"), name) for name in ("check", "agents")),
        ("--catalog", str(closed), "check"),
        *(("--catalog", str(inner), *words) for words in (("check",), ("run", "asks", "--offline"))),
        ("check", str(closed / "x.yaml")),
        ("run", "weekly-metrics", "--offline", "--inputs", str(closed / "x.yaml")),
    ):
        answer = phaseline_as(NOBODY, *words, home=home)
        assert answer.code == 2 and "Traceback" not in answer.err, (words, answer)
    for variables in ({"PHASELINE_DATABASE_URL": str(closed / "l.db")}, {"HOME": str(closed)}):
        answer = phaseline_as(NOBODY, "runs", home=home, environment=variables)
        assert "Traceback" not in answer.err, (variables, answer)


# ---------------------------------------------------------------- who answers


def test_a_number_without_a_name_is_one_voter_whatever_its_variables_say(
    shared: Path, exports: dict[str, str]
) -> None:
    need_other_user()
    home, catalog = shared / "home", make_catalog(shared / "catalog", asks=ASK)
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY, NOBODY)
    server = {name: exports[name] for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING")}

    def said(*words: str, name: str = "") -> Answer:
        variables = {**server, **({"LOGNAME": name, "USER": name} if name else {})}
        return phaseline_as(NOBODY, "--catalog", str(catalog), *words, home=home, environment=variables)

    started = said("run", "asks", "--offline", "--run-id", "asks")
    assert started.code == 3, started
    (wait,) = json.loads(said("inbox", "--json").out)["waits"]
    first = json.loads(said("answer", wait["wait_id"], "--json", name="ann").out)
    assert (first["voter"], first["state"]) == (str(NOBODY), "open")
    for name in ("bob", "", "root"):
        refused(said("answer", wait["wait_id"], name=name), f"{NOBODY} has answered the wait")
    (still,) = json.loads(said("inbox", "--json").out)["waits"]
    assert [vote["voter"] for vote in still["votes"]] == [str(NOBODY)]


# ---------------------------------------------------------------- whose packages


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation as pip makes it, in a folder of its own."""
    import base64
    import hashlib

    place = tmp_path_factory.mktemp("site")
    for name in ("workflows", "blocks", "tasks", "flows", "deployments"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    lines = []
    for file in sorted(p for p in place.rglob("*") if p.is_file()):
        body = file.read_bytes()
        digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).decode().rstrip("=")
        lines.append(f"{file.relative_to(place)},sha256={digest},{len(body)}")
    told = place / "phaseline-9.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: phaseline\nVersion: 9\n")
    (told / "RECORD").write_text("\n".join([*lines, f"{told.name}/RECORD,,"]))
    return place


def test_an_installation_as_it_was_recorded_works(installed: Path, tmp_path: Path) -> None:
    answer = phaseline("check", home=tmp_path, environment={"PYTHONPATH": str(installed)})
    assert answer.code == 0, answer


CHANGES: dict[str, Callable[[str], str]] = {
    "another size": lambda text: '"""Of others."""\n',
    "the same size": lambda text: " " * len(text.encode()),
}
IMPORTED = ("tasks/__init__.py", "workflows/core/catalog/contents.py", "deployments/commands/check.py")
LATER_OR_NEVER = ("flows/run.py", "blocks/ledger/runs/runs.py")


@pytest.mark.parametrize(
    ("file", "change"),
    [
        *((file, change) for file in (*IMPORTED, *RUN_BY_PATH[:-1]) for change in CHANGES),
        ("blocks/ledger/migrations/env.py", "the same size"),
        *((file, "another size") for file in LATER_OR_NEVER),
    ],
)
def test_a_package_installed_over_ours_is_found(
    installed: Path, tmp_path: Path, file: str, change: str
) -> None:
    """Its paths are ours; only what the installer recorded tells the difference."""
    before = (installed / file).read_text("utf-8")
    try:
        (installed / file).write_text(CHANGES[change](before))
        taken_for_anothers(installed / file, installed, tmp_path)
    finally:
        (installed / file).write_text(before)


def test_a_folder_that_stands_before_a_module_of_ours_is_found(installed: Path, tmp_path: Path) -> None:
    """Python takes `contents/__init__.py` where there is a `contents.py` as well."""
    folder = installed / "workflows" / "core" / "catalog" / "contents"
    folder.mkdir()
    try:
        (folder / "__init__.py").touch()
        taken_for_anothers(folder / "__init__.py", installed, tmp_path)
    finally:
        shutil.rmtree(folder)


def taken_for_anothers(file: Path, installed: Path, home: Path) -> None:
    """`check` refuses to run it, in both modes."""
    environment = {"PYTHONPATH": str(installed)}
    answer = phaseline("check", home=home, environment=environment)
    refused(answer, f"{file} is not the file that phaseline installed")
    document = phaseline("check", "--json", home=home, environment=environment).document
    assert document["status"] == "invalid" and "another package" in document["error"]["message"]


def test_what_no_import_finds_is_on_the_list() -> None:
    """Programs that are started by their path, beside what starts them."""
    sources = [f for name in PACKAGES for f in (ROOT / name).rglob("*.py") if "skills" not in f.parts]
    named = {
        (file.parents[int(above or 0)] / name).relative_to(ROOT).as_posix()
        for file in sources
        for above, name in re.findall(
            r'Path\(__file__\)\.(?:parents\[(1)\] / |with_name\()"(\w+\.py)"', file.read_text("utf-8")
        )
    }
    assert named == {path for path in RUN_BY_PATH if path.endswith(".py")}
    assert all((ROOT / path).exists() for path in RUN_BY_PATH)
