"""Commands as another user of this machine, where the tests may become one."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import pytest

from tests.support.command import ROOT, Answer

NOBODY = 45_678
"""A number without a name."""


@lru_cache
def _interpreter(uid: int) -> tuple[str, str] | None:
    """A Python which that user may start, and the PYTHONPATH with which it knows what this one knows."""
    beside = os.pathsep.join([*site.getsitepackages(), sysconfig.get_path("purelib")])
    system = f"/usr/bin/python3.{sys.version_info.minor}"
    for program, path in ((sys.executable, str(ROOT)), (system, f"{ROOT}{os.pathsep}{beside}")):
        try:
            done = subprocess.run(
                [program, "-c", "import deployments.cli, sqlalchemy, pydantic"],
                **_as(uid),
                cwd="/",
                env={"PYTHONPATH": path},
                capture_output=True,
                check=False,
            )
        except OSError:
            continue
        if done.returncode == 0:
            return program, path
    return None


def need_other_user(uid: int = NOBODY) -> None:
    """Skips the test where it cannot be played."""
    if os.geteuid() != 0:
        pytest.skip("only the administrator may become another user")
    if _interpreter(uid) is None:
        pytest.skip("no Python here may be started by another user")


def phaseline_as(
    uid: int, *words: str, home: Path, environment: Mapping[str, str] | None = None, umask: int = 0o022
) -> Answer:
    """Run `phaseline WORDS` as that user, from the root folder."""
    found = _interpreter(uid)
    assert found is not None
    program, path = found
    own = {"PYTHONPATH": path, "PHASELINE_HOME": str(home), "HOME": "/nonexistent", "PHASELINE_WAKE": "off"}
    own |= {"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(
        [program, "-P", "-m", "deployments.cli", *words],
        **_as(uid),
        umask=umask,
        cwd="/",
        env={**own, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    return Answer(ended.returncode, ended.stdout, ended.stderr)


def _as(uid: int) -> dict[str, object]:
    return {"user": uid, "group": uid, "extra_groups": []} if uid != os.geteuid() else {}
