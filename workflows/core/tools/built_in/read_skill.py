"""`read_skill`: an agent reads the text of a skill when it needs it."""

from __future__ import annotations

from workflows.core.tools.built_in.tool import BuiltInTool, say_nothing

READ_SKILL = BuiltInTool(
    name="read_skill",
    description="Read a skill's know-how, or a file it refers to.",
    input_schema={
        "type": "object",
        "properties": {
            "skill": {"type": "string", "enum": [], "description": "The skill's id."},
            "file": {"type": "string", "description": "A file of the skill; default SKILL.md."},
        },
        "required": ["skill"],
        "additionalProperties": False,
    },
    effect="none",
    granted_by="skills",
    key_facts=say_nothing,
)
