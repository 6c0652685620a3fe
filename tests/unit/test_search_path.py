"""The working folder on the search path by mistake: nothing of it is imported in place of a library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = "import sys\nfrom deployments.cli import main\nsys.exit(main())\n"


@pytest.mark.parametrize("path", [f":{ROOT}", f"{ROOT}:"])
def test_an_empty_part_of_pythonpath_means_nothing(tmp_path: Path, path: str) -> None:
    """From `PYTHONPATH=$PYTHONPATH:/more`, in a folder that somebody unpacked."""
    folder, program = tmp_path / "unpacked", tmp_path / "phaseline"
    program.write_text(PROGRAM)
    folder.mkdir()
    for name in ("argparse", "yaml", "pydantic"):
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    ended = subprocess.run(
        [sys.executable, str(program), "--version"],
        cwd=folder,
        env={"PYTHONPATH": path, "PHASELINE_HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert not (tmp_path / "ran").exists()
