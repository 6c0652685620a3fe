"""Who does the units of which kind of step; what is several units is in `flows.steps.parts`."""

from __future__ import annotations

from tasks.doers.agent import run_agent
from tasks.doers.people import run_approval, run_await_event
from tasks.doers.skill import run_skill
from tasks.doers.work import Do

DOERS: dict[str, Do] = {
    "agent": run_agent,
    "skill": run_skill,
    "approval": run_approval,
    "await_event": run_await_event,
}
"""By what plans call them."""
