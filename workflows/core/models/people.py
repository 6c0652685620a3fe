"""Steps that wait: for people to decide, for an outside system to say something."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from workflows.core.models.written import Duration, Positive, Text, Written, as_list
from workflows.core.text.cut_text import cut

PERSON = r"^[A-Za-z0-9_\u4e00-\u9fff][A-Za-z0-9_.@+:/\u4e00-\u9fff-]*$"
"""How a person is named: what `answer --as` takes, the operating system's user, or a token's name."""


def _person(value: str) -> str:
    if len(value) > 120 or not re.match(PERSON, value):
        raise ValueError(
            f"'{cut(value, 60)}' names no person; write a user's name such as alice or alice@example.com"
        )
    return value


Person = Annotated[Text, AfterValidator(_person)]
People = Annotated[
    tuple[Person, ...], BeforeValidator(as_list, json_schema_input_type=str | int | list[str] | None)
]


def _no_consent(value: Any) -> Any:
    if value == "approve":
        raise ValueError("silence never approves a call; write reject, fail or escalate")
    return value


class _Asked(Written):
    """Whom a question asks, and until when."""

    assignees: People = Field((), description="Who may answer; default: anybody.")
    quorum: Positive = Field(1, description="How many must agree.")
    deadline: Duration | None = Field(None, description="How long the question stays open.")
    escalate_to: People = Field((), description="Who is asked next, for as long again.")


class Approval(_Asked):
    """A question to people that holds no process."""

    ask: str = Field(description="The question, a template.")
    form: dict[str, Any] = Field(default_factory=dict, description="JSON Schema of the answer.")
    on_timeout: Literal["approve", "reject", "fail", "escalate"] = Field(
        "fail", description="After the deadline."
    )


class Deciders(_Asked):
    """Who answers what calling a tool can ask: whether it may be called, whether it was, what it wants to
    know."""

    on_timeout: Annotated[Literal["reject", "fail", "escalate"], BeforeValidator(_no_consent)] = Field(
        "fail",
        description="After the deadline. reject: it counts as a no, and the agent goes on; fail: the step "
        "fails; escalate: `escalate_to` is asked, then the step fails.",
    )


class AwaitEvent(Written):
    """Wait for an outside system."""

    type: Text = Field(description="Event type.")
    key: str = Field("", description="Correlation key, a template.")
    deadline: Duration | None = Field(None, description="How long to wait.")
    on_timeout: Literal["fail", "continue"] = Field("fail", description="After the deadline.")
