"""MCP servers as a run uses them: one session per server, opened when it is first needed.

Import this module only where an agent has servers: the MCP SDK is large.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mcp.types as types

from blocks.secrecy.secrets import learn
from tasks.effects.calls import NotPerformed, Unreached
from tasks.secrets import Secrets, known_secrets
from tasks.servers.session import Asked, NeverLeft, ServerUnavailable, ServerUnreached, Session
from workflows.core.plans.plan import ServerPlan
from workflows.core.refs import digest
from workflows.core.tools.mcp_servers import expand
from workflows.core.tools.secret_names import variables_of_server


@dataclass
class McpServers:
    """The servers of one run in this process. `close` it at the run's end.

    `environ` gives the values of `${VAR}`; a server sees nothing of it beside what its entry names. A
    relative `cwd` starts at `root`, the catalog.
    """

    environ: Mapping[str, str]
    secrets: Mapping[str, str] = field(default_factory=dict)
    root: Path = Path()
    _open: dict[str, Session] = field(default_factory=dict, init=False)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict, init=False)

    async def session(self, plan: ServerPlan) -> Session:
        """The server's session, opened when there is none. Raises ServerUnavailable, UsageError."""
        key = digest([plan.name, plan.server.model_dump(mode="json")])
        async with self._locks.setdefault(key, asyncio.Lock()):
            known = self._open.get(key)
            if known is not None and known.alive:
                return known
            if known is not None:
                await known.close()
            server = expand(plan.server, self.environ, name=plan.name)
            self._open[key] = made = Session(plan.name, server, self.secrets_of(plan), self.root)
            try:
                await made.open()
            except BaseException:
                del self._open[key]
                raise
            return made

    def secrets_of(self, plan: ServerPlan) -> Secrets:
        """The run's secrets, and everything that the server's entry takes from the environment."""
        learn(variables_of_server(plan.server))
        return Secrets({**known_secrets(self.environ), **self.secrets})

    async def call(
        self,
        plan: ServerPlan,
        tool: str,
        arguments: dict[str, Any],
        key: str,
        *,
        responses: dict[str, Any] | None = None,
        state: str | None = None,
    ) -> types.CallToolResult | Asked:
        """One call of a tool. Raises NotPerformed, Unreached, Unsure, ToolError with what the server said.

        A call that certainly never left is made again on a new session, once.
        """
        for again in (True, False):
            try:
                session = await self.session(plan)
            except ServerUnavailable as error:
                kind = Unreached if isinstance(error, ServerUnreached) else NotPerformed
                raise kind(f"{tool} was not called: {error.message}") from None
            try:
                return await session.call(tool, arguments, key, responses, state)
            except NeverLeft as error:
                if not again:
                    raise NotPerformed(str(error)) from None
        raise AssertionError("the second try returns or raises")

    async def close(self) -> None:
        """Ends every session and the processes behind them."""
        await asyncio.gather(*(session.close() for session in self._open.values()))
        self._open.clear()
