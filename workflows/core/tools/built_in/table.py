"""The table of built-in tools, in the order in which agents are shown them.

A new tool is a file beside this one with its entry here, and its executor with an entry in
`tasks.doers.built_in_tools`. One that is granted by name needs nothing else.
"""

from __future__ import annotations

from workflows.core.tools.built_in.ask_person import ASK_PERSON
from workflows.core.tools.built_in.http_request import HTTP_REQUEST
from workflows.core.tools.built_in.read_input import READ_INPUT
from workflows.core.tools.built_in.read_skill import READ_SKILL
from workflows.core.tools.built_in.tool import BuiltInTool

BUILT_IN: dict[str, BuiltInTool] = {
    tool.name: tool for tool in (READ_SKILL, HTTP_REQUEST, ASK_PERSON, READ_INPUT)
}
"""By name."""
