"""`ask_person`: an agent asks a person, and gets the answer."""

from __future__ import annotations

from typing import Any

from workflows.core.plans.plan import AgentPlan
from workflows.core.tools.built_in.tool import BuiltInTool


def _say_granted(tool: BuiltInTool, agent: AgentPlan) -> dict[str, Any]:
    """That the agent has it: a better word in its description asks nobody a second time."""
    return {"ask_person": True}


ASK_PERSON = BuiltInTool(
    name="ask_person",
    description="Ask a person and get the answer. "
    "Use it only for what you cannot find out or decide yourself.",
    input_schema={
        "type": "object",
        "properties": {
            "question": {"type": "string", "minLength": 1, "description": "What to ask, complete in itself."},
            "form": {
                "type": "object",
                "description": "JSON Schema of the answer, with `properties`; leave out for a free text.",
            },
        },
        "required": ["question"],
        "additionalProperties": False,
    },
    effect="none",
    granted_by="name",
    key_facts=_say_granted,
    gated=False,
)
