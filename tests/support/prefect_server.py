"""A real local Prefect server for tests, and the small tools to look at servers and their processes."""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from deployments.server import kept_server as local_server
from deployments.server.kept_server import ServerInfo

ROOT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def local_prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerInfo]:
    """A server in a fresh home, with this process' PREFECT_* variables pointing at it; ended on leaving.

    Works whether or not Prefect was imported before: its settings are read again if it was.
    """
    home = tmp_path_factory.mktemp("phaseline-home")
    try:
        info, _ = local_server.ensure(home, wait=180, keep=True)
        with environment(local_server.prefect_environment(info, home, without_prefect(os.environ))):
            yield info
    finally:
        local_server.down(home)


def without_prefect(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` without the variables that steer Prefect or the local server."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(("PREFECT_", "PHASELINE_")) and name != "DO_NOT_TRACK"
    }


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """This process' environment with exactly `variables` as its PREFECT_* part."""
    before = dict(os.environ)
    _set_environment({**without_prefect(before), **variables})
    try:
        yield
    finally:
        _set_environment(before)


def _set_environment(variables: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)
    if "prefect" in sys.modules:
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()


def http_status(url: str, auth: str | None = None) -> int:
    """The status of a GET, with basic authentication when `auth` is given."""
    headers = {"Authorization": "Basic " + base64.b64encode(auth.encode()).decode()} if auth else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def run_python(program: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """A Python process of this repository with `variables` added to a clean environment."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env={**without_prefect(os.environ), "PYTHONPATH": str(ROOT), **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str], seconds: float = 180) -> str:
    """What a process printed; fails with its error output when it ended badly."""
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
    assert process.returncode == 0, f"{output}\n{errors}"
    return output


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Return as soon as `condition()` holds; fail when it does not within a generous limit."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come about"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether a process runs (one that has ended but was not collected does not)."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"
