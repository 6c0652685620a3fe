"""Draws a plan: `phaseline graph`, and the pictures of reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from workflows.core.errors import UsageError, did_you_mean
from workflows.core.graph.picture import picture_of
from workflows.core.plans.plan import Plan

Format = Literal["mermaid", "dot", "svg"]


def draw(plan: Plan, format: Format = "mermaid", states: Mapping[str, str] | None = None) -> str:
    """The plan as text of that format.

    `states` maps step ids (`outer/inner` inside a sub-workflow) to completed, failed, skipped, waiting,
    running, cancelled or not_started, and colours the steps. Raises UsageError for another format.
    """
    picture = picture_of(plan, states)
    if format == "svg":
        from workflows.core.graph.svg import svg

        return svg(picture)
    from workflows.core.graph.text import dot, mermaid

    if format == "mermaid":
        return mermaid(picture)
    if format == "dot":
        return dot(picture)
    raise UsageError(f"there is no format '{format}'", did_you_mean(str(format), get_args(Format)))
