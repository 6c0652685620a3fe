"""Who may not decide for people: a process that a run at work has started."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from sqlalchemy import Connection, select

from blocks.ledger.tables.process_identity import Owner
from blocks.ledger.tables.rows import holder_of, now
from blocks.ledger.tables.schema import run
from blocks.process.privacy import WITHIN_RUN, is_marked
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

    Found by a mark that what a run starts cannot take off (Linux), by one in its environment, and by the
    processes it descends from, as far back as the system tells. What can write the ledger itself, or has
    another program of the user give the command, is not held by it.
    """
    if is_marked() or WITHIN_RUN in os.environ:
        raise _refusal("it carries the mark of what a run starts")
    here = Owner.current()
    held = {owner.pid: owner for owner in holders if (owner.host, owner.boot) == (here.host, here.boot)}
    for pid, started in _ancestors():
        owner = held.get(pid)
        if owner is not None and ("" in (started, owner.started) or started == owner.started):
            raise _refusal(f"it descends from process {pid}, which works on a run")


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
