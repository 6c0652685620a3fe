"""Cures that programs read as well: errors that wrap others keep the cure of the first, and no more of it."""

from __future__ import annotations

import re

_ANEW = re.compile(r"phaseline resume \S+ --from (\S+)")


def anew_command(run_id: str, step_path: str) -> str:
    """The command that does the step of a path anew, where a plain resume would fail again at once."""
    return f"phaseline resume {run_id} --from {step_path.split('/')[0]}"


def anew_step(cure: str) -> str:
    """The step that a cure says to do anew; "" when it says no such thing."""
    found = _ANEW.search(cure)
    return found[1] if found else ""
