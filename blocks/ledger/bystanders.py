"""Who may not decide for people: a process that a run at work has started."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from sqlalchemy import Connection, select

from blocks.ledger.process_identity import Owner
from blocks.ledger.rows import holder_of, now
from blocks.ledger.schema import run
from blocks.privacy import WITHIN_RUN
from workflows.core.errors import UsageError


class AnsweredFromWithin(UsageError):
    """Who answers was started by a run: a server, a handler, or what one of them started."""


def read_holders(connection: Connection) -> list[Owner]:
    """The processes that hold a run of this ledger now, whoever's it is."""
    query = select(run, now(connection).label("at")).where(run.c.state == "running")
    viewer = Owner.current()
    found = (holder_of(row, viewer) for row in connection.execute(query))
    return [owner for owner in found if owner is not None]


def refuse_from_within(holders: Collection[Owner]) -> None:
    """Raises AnsweredFromWithin when this process, or one it descends from, was started by a run at work.

    Found by the processes it descends from, as far back as the system tells, and by a mark in the environment
    of what a run starts. What can write the ledger itself, or leaves both behind, is not held by it.
    """
    if WITHIN_RUN in os.environ:
        raise _refusal("it carries the mark of what a run starts")
    here = Owner.current()
    held = {owner.pid: owner for owner in holders if (owner.host, owner.boot) == (here.host, here.boot)}
    for pid, started in _ancestors():
        owner = held.get(pid)
        if owner is not None and ("" in (started, owner.started) or started == owner.started):
            raise _refusal(f"it descends from process {pid}, which works on a run")
        if _is_marked(pid):
            raise _refusal(f"it descends from process {pid}, which a run has started")


def _refusal(why: str) -> AnsweredFromWithin:
    return AnsweredFromWithin(
        f"a process that a run has started does not decide for people: {why}",
        "give the command in a shell of your own",
    )


def _ancestors() -> Iterator[tuple[int, str]]:
    """Process numbers from our parent on, each with its start as the system tells it, or ""."""
    pid, seen = os.getppid(), set[int]()
    # All of them: who wants to look unrelated can put any number of processes in between. A number that comes
    # again belongs to another process by now.
    while pid > 1 and pid not in seen:
        seen.add(pid)
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # another system, or it is hidden from us
            yield pid, ""
            return
        yield pid, fields[19]
        pid = int(fields[1])


def _is_marked(pid: int) -> bool:
    """Whether a process was started with the mark. What is closed to us has none: our own processes are."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(entry.startswith(WITHIN_RUN.encode() + b"=") for entry in variables)
