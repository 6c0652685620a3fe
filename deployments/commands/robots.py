"""`phaseline robots`: the autonomous workers of the catalog."""

from __future__ import annotations

import argparse
from typing import Any

from deployments.catalogs.opening import open_catalog
from deployments.commands.agents import note_mistakes
from deployments.terminal.display import Out
from workflows.core.catalog.contents import Catalog, RobotFile
from workflows.core.models.robot import RobotClock
from workflows.core.units import shown_duration

_PHASES = ("inspiration", "goals", "tasks", "delivery", "learning", "host", "validation")


def execute(args: argparse.Namespace, out: Out) -> int:
    """Lists the robots with the agent of each phase."""
    catalog = open_catalog(args.catalog)
    facts = [_facts(catalog, robot) for robot in catalog.robots.values()]
    out.document({"robots": facts})
    if facts:
        rows = [(f["id"], f["role"], f["clock"], f["triggers"], f["source"]) for f in facts]
        out.table(("id", "role", "clock", "triggers", "file"), rows)
    else:
        out.line(f"no robots in {catalog.root}; make one with: phaseline new robot NAME")
    note_mistakes(catalog, "robots/", out)
    return 0


def _facts(catalog: Catalog, file: RobotFile) -> dict[str, Any]:
    robot = file.robot
    own, shared = robot.resources.phases, catalog.uses
    triggers = robot.triggers
    return {
        "id": file.name,
        "description": robot.description,
        "role": robot.identity.role,
        "duties": list(robot.identity.duties),
        "source": file.source.file,
        "clock": _clock(robot.clock) if robot.clock and triggers.clock.enabled else None,
        "triggers": [name for name in ("clock", "intervene", "event") if getattr(triggers, name).enabled],
        "phases": {p: getattr(own, p) or getattr(shared, p) for p in _PHASES},
    }


def _clock(clock: RobotClock) -> str:
    if clock.mode == "times":
        when = ", ".join(clock.times) + ("" if "*" in clock.days else f" on {', '.join(clock.days)}")
    elif clock.mode == "interval":
        when = f"every {shown_duration(clock.every or 0)}"
    else:
        when = clock.cron or clock.mode
    return f"{when} {clock.tz}"
