"""`read_input`: an agent reads on in an input of which the message holds only the beginning."""

from __future__ import annotations

from workflows.core.tools.built_in.tool import BuiltInTool, say_nothing

READ_INPUT = BuiltInTool(
    name="read_input",
    description="Read on in a long document.",
    input_schema={
        "type": "object",
        "properties": {
            "name": {"type": "string", "enum": [], "description": "The document's name."},
            "offset": {"type": "integer", "minimum": 0, "description": "First character, from 0."},
        },
        "required": ["name"],
        "additionalProperties": False,
    },
    effect="none",
    granted_by="inputs",
    key_facts=say_nothing,
    ruled=False,
    gated=False,
)
