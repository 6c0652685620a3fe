"""Inputs as the command line reads them, typed by a plan."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from deployments.services.inputs import type_inputs
from deployments.terminal.input_arguments import open_value, read_written
from workflows.core.plans.plan import Plan


def read_inputs(
    plan: Plan, pairs: Iterable[str], inputs_file: str | None = None, *, whole: bool = False
) -> dict[str, Any]:
    """What `run` takes from `-i` and `--inputs`. Raises UsageError."""
    written = read_written(pairs, inputs_file)
    return type_inputs(plan, written, environ=os.environ, whole=whole, open_value=open_value)
