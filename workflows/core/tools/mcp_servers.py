"""MCP servers as they are opened: `${VAR}` and `${VAR:-default}` with the values of an environment."""

from __future__ import annotations

import re
from collections.abc import Mapping

from workflows.core.errors import UsageError, did_you_mean
from workflows.core.models.agent import McpServer

VARIABLE = re.compile(r"\$\{([^}]*)(\}?)")
VARIABLE_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


def expand(server: McpServer, variables: Mapping[str, str], *, name: str = "") -> McpServer:
    """The server with every `${VAR}` of command, args, env, url, headers and cwd replaced.

    `${VAR:-default}` gives the default when VAR is unset or empty, as a shell does. Values are put in as
    they are: a `${...}` inside a value is not replaced again. `name` is the server's name for errors. Raises
    UsageError naming the server, the key and the variable when a variable is not set.
    """
    who = name or server.command or server.url or "?"

    def text(key: str, written: str) -> str:
        return VARIABLE.sub(lambda found: _value(who, key, found, variables), written)

    def texts(key: str, written: Mapping[str, str]) -> dict[str, str]:
        return {inner: text(f"{key}.{inner}", value) for inner, value in written.items()}

    return server.model_copy(
        update={
            "command": None if server.command is None else text("command", server.command),
            "args": tuple(text(f"args[{index}]", value) for index, value in enumerate(server.args)),
            "env": texts("env", server.env),
            "cwd": None if server.cwd is None else text("cwd", server.cwd),
            "url": None if server.url is None else text("url", server.url),
            "headers": texts("headers", server.headers),
        }
    )


def _value(server: str, key: str, found: re.Match[str], variables: Mapping[str, str]) -> str:
    written = VARIABLE_NAME.fullmatch(found[1])
    if not found[2] or written is None:
        raise UsageError(
            f"the MCP server '{server}', {key}: '{found[0]}' names no variable",
            "write ${NAME} or ${NAME:-default}",
        )
    name, default = written[1], written[2]
    given = variables.get(name)
    if given or (given is not None and default is None):
        return given
    if default is not None:
        return default
    # The names alone are compared: no value of the environment may reach a message.
    near = did_you_mean(name, variables)
    cure = f"set {name} where it runs, or write ${{{name}:-default}}"
    raise UsageError(
        f"the MCP server '{server}', {key}: the variable {name} is not set",
        f"{near} {cure}" if near.startswith("did you mean") else cure,
    )
