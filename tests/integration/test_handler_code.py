"""The copy a handler runs from: what is pinned, as it was pinned, and nothing else."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tasks.context import RunContext
from tasks.handlers.faults import HandlerError, HandlerTimeout
from tasks.handlers.pinned_code import MOST_DATA, Code, CodeChanged, TooMuchData, copy_data, copy_pinned
from tasks.handlers.process import run_handler
from tasks.handlers.toolbox import SkillChanged, call_handler
from tests.support.catalogs import compiled, make_catalog
from tests.support.code import code_of, plant_bytecode
from workflows.core.plans.plan import StepPlan
from workflows.core.refs import digest_bytes

EVIL = "def work() -> str:\n    return 'somebody else'"
LONG = 60.0


def pinned(folder: Path, *names: str) -> list[tuple[str, str]]:
    return [(name, digest_bytes((folder / name).read_bytes())) for name in names]


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir())


def run(file: Path) -> Any:
    return asyncio.run(
        run_handler(code=code_of(file), function="work", arguments={}, documents={}, timeout=LONG)
    )


# ---------------------------------------------------------------- what is copied


def test_only_what_is_pinned_is_copied_for_its_owner_alone(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "deep").mkdir(parents=True)
    target.mkdir(mode=0o700)
    for name in ("a.py", "b.py", "deep/c.csv"):
        (source / name).write_text(name)
    copy_pinned(source, pinned(source, "a.py", "deep/c.csv"), target)
    assert files(target) == ["a.py", "deep/c.csv"]
    assert {stat.S_IMODE((target / name).stat().st_mode) for name in files(target)} == {0o400}


@pytest.mark.parametrize("fault", ["changed", "gone", "a pipe", "a folder", "a link to another", "grown"])
def test_what_is_not_the_pinned_file_is_refused(tmp_path: Path, fault: str) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    file = source / "a.py"
    file.write_text("mine")
    wanted = pinned(source, "a.py")
    (source / "other.py").write_text("else")
    if fault != "grown":
        file.unlink()
    if fault == "changed":
        file.write_text("else")
    elif fault == "a pipe":
        os.mkfifo(file)  # who opens it for reading would wait for ever
    elif fault == "a folder":
        file.mkdir()
    elif fault == "a link to another":
        file.symlink_to("other.py")
    elif fault == "grown":
        with file.open("a") as more:
            more.write("\n")
    with pytest.raises(CodeChanged, match=r"a\.py"):
        copy_pinned(source, wanted, target)


@pytest.mark.parametrize("path", ["../a.py", "/etc/passwd", "", "x/../../a.py"])
def test_no_path_leads_out_of_the_copy(tmp_path: Path, path: str) -> None:
    (tmp_path / "a.py").write_text("mine")
    for name in ("source/x", "target"):
        (tmp_path / name).mkdir(parents=True)
    known = digest_bytes(b"mine")
    with pytest.raises(CodeChanged):
        copy_pinned(tmp_path / "source", [(path, known)], tmp_path / "target")
    assert files(tmp_path) == ["a.py"]


def test_data_beside_a_hook_is_no_code(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    target.mkdir()
    for name in (
        "data.csv",
        "deep/a.txt",
        "b.py",
        "b.pyc",
        "c.abi3.so",
        ".env",
        "__pycache__/b.txt",
        ".git/x",
    ):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    (source / "linked.txt").symlink_to("/etc/passwd")
    os.mkfifo(source / "pipe")
    copy_data(source, target)
    assert files(target) == ["data.csv", "deep/a.txt"]


def test_a_file_that_became_huge_is_refused_before_it_is_read(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "a.py").write_text("mine")
    wanted = pinned(source, "a.py")
    os.truncate(source / "a.py", 2**30)
    with pytest.raises(CodeChanged, match=r"a\.py"):
        copy_pinned(source, wanted, target)
    assert [f.stat().st_size for f in target.iterdir()] in ([], [0])


def test_there_is_a_limit_to_all_data_beside_a_hook(tmp_path: Path) -> None:
    source, fits, target = tmp_path / "source", tmp_path / "fits", tmp_path / "target"
    for folder in (source, fits, target):
        folder.mkdir()
    for name in ("a", "b"):
        (source / name).touch()
        os.truncate(source / name, MOST_DATA // 2)
    copy_data(source, fits)
    assert sum(f.stat().st_size for f in fits.iterdir()) == MOST_DATA
    with (source / "b").open("ab") as more:
        more.write(b"x")
    with pytest.raises(TooMuchData, match="more than 64 MiB"):
        copy_data(source, target)
    assert sum(f.stat().st_size for f in target.iterdir()) <= MOST_DATA


def test_the_timeout_holds_for_the_copy_too(tmp_path: Path) -> None:
    """A copy without end: it stops, and nothing of it is left."""
    source, scratch = tmp_path / "source", tmp_path / "scratch"
    source.mkdir()
    scratch.mkdir()
    (source / "data").write_text("x")
    copies = []

    def copy(target: Path) -> Path:
        while True:
            copies.append(target / str(len(copies)))
            copy_data(source, copies[-1])

    code = Code("the-skill", copy)
    with pytest.raises(HandlerTimeout, match="took longer than"):
        asyncio.run(
            run_handler(
                code=code, function="work", arguments={}, documents={}, timeout=0.5, scratch_root=scratch
            )
        )
    made = len(copies)
    assert made and list(scratch.iterdir()) == []
    time.sleep(0.2)
    assert len(copies) == made


# ---------------------------------------------------------------- what runs


@pytest.mark.parametrize("forged", [False, True], ids=["unchecked", "forged"])
def test_bytecode_beside_it_is_not_what_runs(tmp_path: Path, forged: bool) -> None:
    """Neither for the handler, nor for a module or a package it imports."""
    near, package = tmp_path / "_near.py", tmp_path / "_package" / "__init__.py"
    package.parent.mkdir()
    near.write_text(f"VALUE = 1\n{'#' * 99}\n")
    package.write_text(f"VALUE = 2\n{'#' * 99}\n")
    file = tmp_path / "work.py"
    file.write_text(f"from _near import VALUE\n\ndef work() -> int:\n    return VALUE\n{'#' * 99}\n")
    plant_bytecode(file, EVIL, forged=forged)
    plant_bytecode(near, "VALUE = 'somebody else'", forged=forged)
    proof = "import sys; sys.path.insert(0, sys.argv[1]); import work; print(work.work())"
    bare = subprocess.run(
        [sys.executable, "-c", proof, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert bare.stdout.strip() == "somebody else", "Python itself takes it"
    assert run(file) == 1


def test_nothing_unpinned_can_be_imported(tmp_path: Path) -> None:
    """A module that appears beside a handler, also one of the standard library's name."""
    file = tmp_path / "work.py"
    file.write_text("def work():\n    import statistics\n    return statistics.mean([1, 3])\n")
    code = code_of(file)
    for name in ("statistics.py", "sitecustomize.py", "usercustomize.py", "x.pth"):
        (tmp_path / name).write_text("import os; os._exit(9)\n")
    call = run_handler(code=code, function="work", arguments={}, documents={}, timeout=LONG)
    assert asyncio.run(call) == 2


def test_what_people_read_names_the_authors_file(tmp_path: Path) -> None:
    file = tmp_path / "work.py"
    file.write_text("def work():\n    print('see', __file__)\n    raise ValueError(f'in {__file__}')\n")
    with pytest.raises(HandlerError) as caught:
        run(file)
    assert "in the-skill/work.py" in caught.value.message and "work.py:3 in work" in caught.value.message
    assert caught.value.printed == "see the-skill/work.py\n"
    assert "phaseline-handler-" not in caught.value.message + caught.value.printed


# ---------------------------------------------------------------- a skill's call


@pytest.fixture
def skill(tmp_path: Path) -> Path:
    """The folder of a skill whose handler reads a file of the skill."""
    folder = make_catalog(
        tmp_path / "catalog", w="workflow: w\nsteps:\n  - {id: s, skill: shared/tool, handler: read}\n"
    )
    folder = folder / "skills" / "shared" / "tool"
    (folder / "assets").mkdir()
    (folder / "assets" / "words.txt").write_text("kept")
    (folder / "handlers" / "read.py").write_text(
        '"""Reads."""\n\nfrom pathlib import Path\n\n\ndef read() -> str:\n    """Read."""\n'
        '    return (Path(__file__).parents[1] / "assets" / "words.txt").read_text()\n'
    )
    (folder / "config.yaml").write_text("handlers:\n  - {name: read, effect: none}\n")
    return folder


def called(step: StepPlan, catalog: Path) -> Any:
    context: Any = RunContext(
        run_id="r",
        catalog_root=catalog,
        store=None,
        environ={},
        offline=True,  # type: ignore[arg-type]
    )
    assert step.skill is not None and step.handler is not None
    return asyncio.run(call_handler(step.skill, step.handler, {}, {}, context))


def test_a_handler_finds_the_files_its_skill_tracks(skill: Path) -> None:
    catalog = skill.parents[2]
    step = compiled(catalog).step("s")
    assert called(step, catalog) == "kept"
    (skill / "SKILL.md").write_text((skill / "SKILL.md").read_text() + "\nReworded.\n")
    assert called(step, catalog) == "kept", "what no handler runs may be reworded"
    (skill / "assets" / "words.txt").write_text("changed")
    with pytest.raises(SkillChanged, match=r"skills/shared/tool/assets/words\.txt changed while"):
        called(step, catalog)
