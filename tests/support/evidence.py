"""What a test that failed leaves behind: the output of its commands, its ledgers, the logs of its homes.

Imported by the conftest of a tier; everything here is either a hook of pytest or what one calls. The homes of
a session are used by later tests, too, so that what is to be seen is copied at once.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Generator, Iterable
from pathlib import Path

import pytest

from tests.support.command import Ended, commands

_LINES = 60
"""Lines of each output, and rows of each table, that the report shows; the folder has all."""
_LOGS = ("commands.log", "wake.log", "wake.json", "server/server.log")
_SHOWN = {
    "run": "run_id, workflow, state, offline, error, outputs, lease_epoch, wake_at, flow_run_id",
    "step": "run_id, step_path, state, attempts, error, epoch",
    "wait": "run_id, wait_id, step_path, kind, state, answer, deadline",
    "effect": "run_id, step_path, tool, state, sent, error",
    "event": "run_id, seq, name, step_path, data",
}
_CELL = 160

with contextlib.suppress(ValueError):  # not of the main thread
    # The job of a shell that was put in the background ignores SIGINT, and so would what tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Another test: what was recorded is an earlier one's."""
    commands.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure's report gets what was kept, and where."""
    report = yield
    if report.failed and report.when in ("setup", "call"):
        with contextlib.suppress(OSError):
            folder = _folder(item)
            report.sections += list(keep(folder, commands, homes_of(item)))
    return report


def homes_of(item: pytest.Item) -> list[Path]:
    """The homes that the test used: those of its commands, and what lies in its own folder."""
    found = {ended.home for ended in commands}
    own = getattr(item, "funcargs", {}).get("tmp_path")
    if isinstance(own, Path) and own.is_dir():
        found |= {
            path.parent
            for depth in range(1, 5)
            for path in own.glob("/".join(["*"] * depth))
            if path.name == "ledger.db"
        }
    return sorted(found)


def keep(folder: Path, ran: Iterable[Ended], homes: Iterable[Path]) -> list[tuple[str, str]]:
    """Copies it all into the folder; gives what of it is shown, as (title, text)."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = [_told(ended) for ended in ran]
    (folder / "commands.txt").write_text("\n".join(texts), "utf-8")
    sections = [("commands of the test", "\n".join(_tail(text) for text in texts))] if texts else []
    for number, home in enumerate(homes, 1):
        own = folder / f"home-{number}"
        own.mkdir(exist_ok=True)
        (own / "where.txt").write_text(f"{home}\n", "utf-8")
        for log in (path for name in _LOGS if (path := home / name).is_file()):
            shutil.copyfile(log, own / log.name)
            sections.append((f"{log.name} of {home}", _tail(log.read_text("utf-8", "replace"))))
        if (home / "ledger.db").is_file():
            sections.append((f"ledger of {home}", _ledger(home / "ledger.db", own / "ledger.db")))
    return [*sections, ("kept", str(folder))]


def _folder(item: pytest.Item) -> Path:
    factory = getattr(item.config, "_tmp_path_factory", None)
    base = factory.getbasetemp() if factory is not None else Path(tempfile.gettempdir())
    return Path(base) / "failed" / re.sub(r"[^\w.-]+", "-", item.nodeid)[-120:]


def _told(ended: Ended) -> str:
    words = " ".join(ended.words)
    return f"$ phaseline {words}\n[exit code {ended.code}]\n{ended.out}{ended.err}"


def _tail(text: str) -> str:
    lines = text.splitlines()
    if len(lines) <= _LINES:
        return text
    return "\n".join([*lines[:2], f"[{len(lines) - _LINES} lines are left out]", *lines[2 - _LINES :]])


def _ledger(source: Path, target: Path) -> str:
    """Copies a ledger as it stands, also while it is written to; its rows as text."""
    try:
        with (
            contextlib.closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=5)) as opened,
            contextlib.closing(sqlite3.connect(target)) as copy,
        ):
            opened.backup(copy)
            return "\n".join(_rows(copy, table, columns) for table, columns in _SHOWN.items())
    except sqlite3.Error as fault:
        return f"it cannot be read: {fault}"


def _rows(ledger: sqlite3.Connection, table: str, columns: str) -> str:
    try:
        found = ledger.execute(f"SELECT {columns} FROM {table} ORDER BY rowid").fetchall()
    except sqlite3.Error as fault:
        return f"{table}: {fault}"
    lines = [" | ".join(str(cell)[:_CELL] for cell in row) for row in found]
    return _tail("\n".join([f"{table}: {columns}", *lines]))
