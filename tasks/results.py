"""What a step gives: refs and figures, small enough to travel and to be persisted as JSON."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from workflows.core.refs import Ref

Status = Literal["completed", "failed", "skipped", "waiting", "not_started", "cancelled"]


MOST_NAMED = 100
"""Failed parts that a result names."""


class StepUsage(BaseModel):
    """Tokens and dollars of a step. `usd` is None when a model has no price: unpriced is not free."""

    model_config = ConfigDict(frozen=True)

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    usd: float | None = 0.0

    def __add__(self, other: StepUsage) -> StepUsage:
        return StepUsage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cache_read_input_tokens=self.cache_read_input_tokens + other.cache_read_input_tokens,
            cache_creation_input_tokens=self.cache_creation_input_tokens + other.cache_creation_input_tokens,
            usd=None if self.usd is None or other.usd is None else self.usd + other.usd,
        )


class StepResult(BaseModel):
    """The outcome of one step, or of one part of it (panel member, item, iteration)."""

    model_config = ConfigDict(frozen=True)

    schema_version: Literal[1] = 1
    step: str
    path: str = Field(description="Step id, then item, iteration or member.")
    status: Status = "completed"
    key: str = Field(default="", description="Content key.")
    output: Ref | None = Field(default=None, description="Null when skipped or failed and continued.")
    parts: tuple[Ref, ...] = Field(default=(), description="Members' answers, kept beside the merged output.")
    agent: str = ""
    model: str = ""
    usage: StepUsage = StepUsage()
    turns: int = 0
    attempts: int = 1
    offline: bool = False
    seconds: float = 0.0
    error: str = ""
    cure: str = ""
    failed_parts: tuple[str, ...] = Field(
        default=(), description="Paths of items that failed and were continued; the first hundred."
    )
    part_errors: dict[str, str] = Field(default_factory=dict, description="Why, by path of the failed part.")
    failed_tool_calls: int = Field(default=0, description="Calls that gave the agent an error; it went on.")
    nested: dict[str, Any] | None = Field(default=None, description="Outputs of a workflow step, by name.")

    @property
    def refs(self) -> tuple[Ref, ...]:
        """Every body this result stands on."""
        own = (self.output,) if self.output else ()
        inner = tuple(Ref.model_validate(r) for r in (self.nested or {}).values() if r)
        return (*own, *self.parts, *inner)
