"""The home's modes and links, and the working folder that commands leave, as far as one process shows it."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.home import check_home, make_file, make_folder, make_home
from blocks.paths import come_back, expand_home, full_path, here, leave_for, user_folder
from deployments.startup.working_folder import EMPTY, guard_imports, leave
from tests.support.given import read_inputs
from workflows.core.errors import UsageError
from workflows.core.plans.plan import InputPlan, Plan


@pytest.fixture
def stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder somebody stands in; whoever left it comes back."""
    folder = tmp_path / "stands"
    folder.mkdir()
    monkeypatch.chdir(folder)
    try:
        yield folder
    finally:
        come_back()


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777], ids=oct)
def test_what_is_made_is_its_owners_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    with umask(mask):
        home = make_home(tmp_path / "deep" / "home")
        make_folder(home / "a" / "b")
        make_file(home / "a" / "file")
        make_file(home / "a" / "file", 0o640)  # it is there, and stays as it is
        make_file(home / "a" / "open", 0o640)
    assert {mode(p) for p in (home.parent, home, home / "a", home / "a" / "b")} == {0o700}
    assert (mode(home / "a" / "file"), mode(home / "a" / "open")) == (0o600, 0o640)


def test_links_are_followed_as_the_system_follows_them(tmp_path: Path) -> None:
    (tmp_path / "one" / "two").mkdir(parents=True)
    (tmp_path / "link").symlink_to("one/two")
    assert make_home(tmp_path / "link" / ".." / "home") == tmp_path / "link" / ".." / "home"
    assert (tmp_path / "one" / "home").is_dir(), "`..` of what a link leads to"
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("dangling", "dangling/below", "one/two/../../dangling"):
        with pytest.raises(UsageError):
            make_home(tmp_path / name)
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(UsageError, match="is reached through the link"):
        check_home(tmp_path / "a")


@pytest.mark.parametrize("ours", ["server", "storage", "empty", "wake.log"])
def test_a_project_that_has_a_name_of_ours_is_not_closed(tmp_path: Path, ours: str) -> None:
    project = tmp_path / "project"
    (project / ours).mkdir(parents=True)
    (project / "main.py").touch()
    project.chmod(0o755)
    with pytest.raises(UsageError, match="holds other things"):
        make_home(project)
    assert mode(project) == 0o755


@pytest.mark.parametrize(
    "held",
    [
        (),
        ("server", "storage", "empty", "empty-until-20260101", "wake.json", "wake.lock", "wake.log"),
        ("ledger.db", "ledger.db-wal", "notes.txt"),
    ],
)
def test_an_open_home_is_closed(tmp_path: Path, held: tuple[str, ...]) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for name in held:
        (home / name).touch()
    home.chmod(0o755)
    assert check_home(home) and mode(home) == 0o700


def test_a_file_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is no folder"):
        check_home(tmp_path / "file")
    with pytest.raises(UsageError, match="cannot be looked at"):
        make_home(tmp_path / "file" / "home")
    assert not check_home(tmp_path / "none")


def test_paths_stay_where_people_stand(stands: Path, tmp_path: Path) -> None:
    (stands / "x.md").touch()
    assert expand_home("x.md", "it") == Path("x.md"), "shown as it was written, while that is enough"
    assert full_path("x.md", "it") == stands / "x.md"
    leave_for(make_home(tmp_path / "home"))
    leave_for(tmp_path)  # once is enough
    assert (Path.cwd(), user_folder()) == (tmp_path / "home", stands)
    assert expand_home("x.md", "it") == full_path("x.md", "it") == here(Path("x.md")) == stands / "x.md"
    assert expand_home("/x", "it") == Path("/x") and expand_home("~", "it").is_absolute()
    come_back()
    assert Path.cwd() == stands


@pytest.mark.parametrize("name", ["prefect", "prefect.settings", "dotenv", "pydantic_settings.sources"])
def test_a_reader_of_settings_is_looked_for_from_an_empty_folder(
    stands: Path, tmp_path: Path, name: str
) -> None:
    before = list(sys.meta_path)
    with guard_imports(tmp_path / "home"):
        (door,) = [finder for finder in sys.meta_path if finder not in before]
        assert door.find_spec("yaml") is None and Path.cwd() == stands
        assert door.find_spec(name) is None
        assert Path.cwd() == tmp_path / "home" / EMPTY
    assert sys.meta_path == before
    assert mode(tmp_path / "home" / EMPTY) == 0o500


def test_what_is_in_the_empty_folder_is_put_aside(stands: Path, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    (home / EMPTY).mkdir()
    (home / EMPTY / ".env").write_text("A=1")
    leave(home)
    assert list(Path.cwd().iterdir()) == []
    (aside,) = home.glob(f"{EMPTY}-until-*")
    assert (aside / ".env").read_text() == "A=1"
    come_back()
    (home / EMPTY).rmdir()
    (home / EMPTY).symlink_to(stands)
    leave(home)
    assert Path.cwd() != stands and not (home / EMPTY).is_symlink()


_PLAIN = ("PGPASSFILE", "PGSERVICEFILE", "PGSSLCERT", "PGSSLKEY", "CURL_CA_BUNDLE", "SSLKEYLOGFILE")


def test_files_in_the_address_of_a_database_are_written_in_full(
    stands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = "postgresql://u:p@h/d?sslmode=verify-full&sslrootcert={}&sslkey=/etc/key&sslcert=system"
    monkeypatch.setenv("PHASELINE_DATABASE_URL", address.format("./ca.pem"))
    monkeypatch.setenv("PGSSLROOTCERT", "ca.pem")
    with guard_imports(tmp_path / "home"):
        assert os.environ["PHASELINE_DATABASE_URL"] == address.format(f"{stands}/./ca.pem")
        assert os.environ["PGSSLROOTCERT"] == f"{stands}/ca.pem"


def test_the_name_of_a_file_is_told_from_a_text_wherever_people_stand(stands: Path, tmp_path: Path) -> None:
    (stands / "notes").write_text("x")
    plan = Plan(workflow="w", inputs=(InputPlan(name="d", type="file"),))
    leave_for(make_home(tmp_path / "home"))
    with pytest.raises(UsageError, match="looks like the name of one"):
        read_inputs(plan, ["d=notes"], None)


def test_variables_with_a_path_are_written_in_full(
    stands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "PHASELINE_STORAGE": "bodies",
        "PHASELINE_DATABASE_URL": "sqlite:///x.db",
        "PHASELINE_CATALOG": "~/c",
        "AWS_CONFIG_FILE": "/etc/aws",
        "PREFECT_HOME": "p",
        "PGSSLROOTCERT": "system",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:///./p.db",
        **dict.fromkeys(_PLAIN, "./x.pem"),
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with guard_imports(tmp_path / "home"):
        seen = {name: os.environ[name] for name in given}
    full = {"PHASELINE_STORAGE": str(stands / "bodies"), "PREFECT_HOME": str(stands / "p")}
    full["PHASELINE_DATABASE_URL"] = f"sqlite:///{stands}/x.db"
    full["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = f"sqlite+aiosqlite:///{stands}/p.db"
    full |= dict.fromkeys(_PLAIN, f"{stands}/x.pem")
    assert seen == {**given, **full}


@pytest.mark.parametrize(
    "written",
    [
        *(
            "sqlite:////srv/x.db",
            "sqlite:///~/x.db",
            "sqlite://",
            "sqlite:///:memory:",
            "postgresql://u:p@h/d",
        ),
        *("", "s3://bucket/x", "s3:/bucket", "ftp:/x"),
    ],
)
def test_addresses_stay_as_they_are(
    stands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    for name in ("PHASELINE_DATABASE_URL", "PHASELINE_STORAGE"):
        monkeypatch.setenv(name, written)
    with guard_imports(tmp_path / "home"):
        assert os.environ["PHASELINE_DATABASE_URL"] == os.environ["PHASELINE_STORAGE"] == written
