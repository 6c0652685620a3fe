"""What all written models share: closed and frozen, and the spellings people use."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from workflows.core.units import parse_duration, parse_rate, parse_share, parse_size


class Written(BaseModel):
    """A part of a file somebody wrote: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def _text(value: Any) -> Any:
    """`version: 1.10` is the text 1.10, not the number 1.1."""
    spelling = getattr(value, "spelling", None)
    if spelling is not None:
        return spelling
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return value


def as_list(value: Any) -> Any:
    """A single name is a list of one; null is an empty list."""
    if value is None:
        return ()
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return (value,)
    return value


def plain(value: Any) -> Any:
    """Written data as JSON, without the spellings of its numbers."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    return int(value) if isinstance(value, int) else float(value)


def _integer(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("true and false are no numbers; write a number")
    return value


def _flow_name(value: str) -> str:
    """A workflow is a Prefect flow of its name, and Prefect refuses / % & < > in names."""
    wrong = re.search(r"[/%&<>\x00-\x1f\x7f-\x9f\u2028\u2029]", value)
    if wrong:
        shown = "a control character" if wrong[0] < " " or wrong[0] > ">" else f"'{wrong[0]}'"
        raise ValueError(f"a name may not hold {shown}; use letters, digits, '-', '_', '.' and spaces")
    if value.startswith(".") or value != value.strip():
        raise ValueError("a name may not begin with a dot, or begin or end with a space; remove it")
    return value


Text = Annotated[str, BeforeValidator(_text, json_schema_input_type=str | int | float)]
Names = Annotated[
    tuple[Text, ...], BeforeValidator(as_list, json_schema_input_type=str | int | list[str] | None)
]
Duration = Annotated[float, BeforeValidator(parse_duration, json_schema_input_type=int | float | str)]
Size = Annotated[int, BeforeValidator(parse_size, json_schema_input_type=int | str)]
Rate = Annotated[tuple[float, float], BeforeValidator(parse_rate, json_schema_input_type=int | float | str)]
Share = Annotated[float, BeforeValidator(parse_share, json_schema_input_type=float | str)]
Count = Annotated[int, Field(ge=0), BeforeValidator(_integer)]
Positive = Annotated[int, Field(ge=1), BeforeValidator(_integer)]

AGENT_ID = r"^[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*$"
STEP_ID = r"^[A-Za-z0-9_\u4e00-\u9fff][A-Za-z0-9_.\u4e00-\u9fff-]*$"
NAME = r"^[A-Za-z_\u4e00-\u9fff][A-Za-z0-9_\u4e00-\u9fff]*$"

WorkflowName = Annotated[
    str,
    Field(min_length=1, max_length=120),
    AfterValidator(_flow_name),
    BeforeValidator(_text, json_schema_input_type=str | int | float),
]
AgentId = Annotated[str, BeforeValidator(_text), Field(pattern=AGENT_ID, max_length=120)]
SkillId = Annotated[str, BeforeValidator(_text), Field(pattern=r"^[a-z0-9-]+(/[a-z0-9-]+)?$", max_length=120)]
StepId = Annotated[str, BeforeValidator(_text), Field(pattern=STEP_ID, max_length=80)]
Name = Annotated[str, BeforeValidator(_text), Field(pattern=NAME, max_length=80)]
