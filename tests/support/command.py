"""The real command, started as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
STEERING = ("PHASELINE_", "PREFECT_", "ANTHROPIC_", "AWS_")
"""Variables that steer phaseline, Prefect, a model or S3."""


@dataclass(frozen=True)
class Answer:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on standard output; fails when there is anything else."""
        return json.loads(self.out)

    @property
    def completed(self) -> Any:
        """The document of a run that completed; fails with all output when it did not."""
        assert self.code == 0, f"exit code {self.code}\n{self.out}\n{self.err}"
        assert self.document["status"] == "completed", self.out
        return self.document


def refused(answer: Answer, *words: str) -> None:
    """A person's error: exit code 2, what to do about it, no traceback."""
    assert answer.code == 2, answer
    assert "cure: " in answer.err and "Traceback" not in answer.err + answer.out, answer
    for word in words:
        assert word in answer.err, answer


@dataclass(frozen=True)
class Ended:
    """A command that was run to its end, or up to its timeout (`code` is None)."""

    words: tuple[str, ...]
    home: Path
    code: int | None
    out: str
    err: str


commands: list[Ended] = []
"""Those of the test that is running: what it leaves behind when it fails (evidence.py)."""


@dataclass(frozen=True)
class User:
    """Somebody at a shell: a home, an empty working folder, and variables they exported."""

    home: Path
    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    def with_variables(self, **variables: str) -> User:
        """The same person after more exports."""
        return replace(self, variables={**self.variables, **variables})

    def phaseline(self, *words: str, timeout: float = 120) -> Answer:
        """Run `phaseline WORDS` and wait for its end."""
        return phaseline(*words, home=self.home, cwd=self.folder, environment=self.variables, timeout=timeout)

    def start(self, *words: str) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        """Run `phaseline WORDS` without waiting; killed on leaving when it still runs."""
        return self.started("-m", "deployments.cli", *words)

    @contextlib.contextmanager
    def started(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run `python WORDS` without waiting; ended on leaving when it still runs.

        What it writes goes to `self.log`, shown when the test fails.
        """
        self.home.mkdir(0o700, parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, *words],
                cwd=self.folder,
                env=clean_environment(self.home, self.variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield process
        except BaseException:
            print(self.log.read_text("utf-8", "replace"))
            raise
        finally:
            _end(process)
            commands.append(Ended(words, self.home, process.returncode, "", f"see {self.log}\n"))

    @property
    def log(self) -> Path:
        """What commands wrote that were started without waiting."""
        return self.home / "commands.log"

    def exports(self) -> dict[str, str]:
        """What `eval "$(phaseline env)"` sets."""
        answer = self.phaseline("env")
        assert answer.code == 0, answer
        lines = [shlex.split(line) for line in answer.out.splitlines()]
        assert all(words[0] == "export" and len(words) == 2 for words in lines), answer.out
        return dict(words[1].split("=", 1) for words in lines)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Asked to end, then made to; its children end with it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # what it started and left behind


def phaseline(
    *words: str,
    home: Path,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    options: tuple[str, ...] = (),
    timeout: float = 120,
) -> Answer:
    """Run `phaseline WORDS` with an own home, from `cwd` (default: that home), and wait for its end.

    options: of Python itself, such as ("-X", "importtime").
    timeout: seconds after which it is killed and the test fails.
    """
    home.mkdir(0o700, parents=True, exist_ok=True)
    try:
        ended = subprocess.run(
            [sys.executable, *options, "-m", "deployments.cli", *words],
            cwd=cwd or home,
            env=clean_environment(home, environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as fault:
        commands.append(Ended(words, home, None, _text(fault.stdout), _text(fault.stderr)))
        raise
    commands.append(Ended(words, home, ended.returncode, ended.stdout, ended.stderr))
    return Answer(ended.returncode, ended.stdout, ended.stderr)


def _text(output: bytes | str | None) -> str:
    return output.decode("utf-8", "replace") if isinstance(output, bytes) else output or ""


def clean_environment(home: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process' environment without what steers phaseline, Prefect, a model or S3.

    HOME is a folder of its own below `home`: nothing of whoever runs the tests is read. Nothing goes on in
    the background, where no test would see its end.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(STEERING)}
    user = home / "user"
    own = {"HOME": str(user), "PYTHONPATH": str(ROOT), "PHASELINE_HOME": str(home), "PHASELINE_WAKE": "off"}
    home.mkdir(0o700, parents=True, exist_ok=True)
    user.mkdir(exist_ok=True)
    return {**kept, **own, **(more or {})}
