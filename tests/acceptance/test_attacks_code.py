"""Code that is not the pinned one: bytecode beside a handler, a module beside it, a file that is swapped."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.code import plant_bytecode
from tests.support.command import User
from tests.support.durable import Desk, eventually


@pytest.fixture
def desk(newcomer: User) -> Desk:
    """A person with an empty home and a catalog of steps that leave marks."""
    return Desk.make(newcomer)


def handler(desk: Desk, name: str) -> Path:
    """The file of a handler in the catalog."""
    return desk.catalog / "skills" / "shared" / "tool" / "handlers" / f"{name}.py"


def evil(desk: Desk, name: str) -> str:
    """What leaves a file of its own wherever it is imported."""
    return f"open({str(desk.path('pwned'))!r}, 'w')\ndef {name}(**given): return {{'text': 'pwned'}}\n"


def test_bytecode_beside_a_handler_never_runs(desk: Desk) -> None:
    """Neither marked as not to be checked, nor with a forged time; `check` and `plan` run nothing at all."""
    mark = handler(desk, "mark")
    near = mark.with_name("_near.py")
    near.write_text("LINE = '{}\\n'\n")
    mark.write_text(
        mark.read_text()
        .replace("from pathlib import Path", "from pathlib import Path\n\nfrom _near import LINE")
        .replace('f"{text}\\n"', "LINE.format(text)")
    )
    desk.write("w", desk.step("a"))
    for forged in (False, True):
        plant_bytecode(mark, evil(desk, "mark"), forged=forged)
        plant_bytecode(near, evil(desk, "near"))
        for words in (("check",), ("plan", "w")):
            assert desk.user.phaseline("--catalog", str(desk.catalog), *words).code == 0
        run_id = f"w-{forged}"
        answer = desk.user.phaseline(*desk.words("w")[:-1], run_id)
        assert answer.code == 0, answer
    assert desk.marks == ["a", "a"] and not desk.path("pwned").exists()


def test_a_handler_that_is_swapped_while_the_run_goes_on_does_not_run(desk: Desk) -> None:
    """What was planned is not what lies there: the step fails and names the file, nothing of it is run."""
    desk.write("w", desk.step("first", until="go"), desk.step("a", "depends_on: first"))
    mark = handler(desk, "mark")
    kept = mark.read_text()
    with desk.user.start(*desk.words("w")) as process:
        eventually(lambda: desk.marks == ["first"])
        mark.write_text(evil(desk, "mark"))
        desk.path("go").touch()
        assert process.wait(120) == 1
    assert (
        "skills/shared/tool/handlers/mark.py changed while the run was going on" in desk.user.log.read_text()
    )
    assert desk.marks == ["first"] and not desk.path("pwned").exists()
    mark.write_text(kept)
    assert desk.user.phaseline("resume", "w").code == 0
    assert desk.marks == ["first", "a"]
