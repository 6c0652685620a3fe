"""The tools of an agent's MCP servers: what the model is offered, and what becomes of one call."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from blocks.schemas.checking import schema_fault
from tasks.effects.calls import NotPerformed
from tasks.effects.gate import EffectGate
from tasks.effects.tools import ActingTool
from tasks.effects.waits import by_timeout
from tasks.secrets import scrub_text, scrub_value
from tasks.tools import Effect, ToolError, ToolResult
from workflows.core.errors import UsageError, did_you_mean
from workflows.core.permissions.grants import Grants
from workflows.core.permissions.ruling import Allowed
from workflows.core.plans.plan import AgentPlan, ServerPlan, ToolRulePlan
from workflows.core.refs import digest
from workflows.core.text.cut_text import cut
from workflows.core.tools.names import rule_names, served_name

if TYPE_CHECKING:
    import mcp.types as types

    from blocks.ledger import WaitRow
    from tasks.servers.client import McpServers
    from tasks.servers.session import Asked, Session

KEY_ARGUMENT = "idempotency_key"
"""A property of a tool's schema that is filled with the call's key, and not shown to the model."""
DESCRIPTION = 4000
ROUNDS = 10
"""How often a server may ask within one call."""
IMAGE_BYTES = 32 * 1024

_LOG = logging.getLogger(__name__)
_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")


async def mcp_tools(
    agent: AgentPlan, servers: McpServers, gate: EffectGate, *, continued: bool = False
) -> list[ActingTool]:
    """The tools of all servers of an agent, in the order of their names, as tools-config.json lets them be.

    Opens the servers, and waits where nothing answers at an address. Raises ServerUnavailable, and UsageError
    where tools-config.json names a tool that is not there, unless a conversation goes on that was told of
    another release of the server.
    """
    from tasks.servers.session import ServerUnreached  # the SDK is large

    grants = Grants.of(agent)
    out: list[ActingTool] = []
    known: set[str] = set()
    for plan in sorted(agent.servers, key=lambda plan: plan.name):
        session = await gate.reach(partial(servers.session, plan), ServerUnreached)
        if not continued:
            _check_names(agent, plan, session)
        for tool in session.tools:
            known.update(rule_names(plan.name, tool.name))
            rule = grants.rule(tool.name, server=plan.name)
            if isinstance(grants.may_call(tool.name, server=plan.name), Allowed):
                out.append(_acting(plan, tool, rule, servers, gate, continued))
    if not continued:
        _check_rules(agent, known)
    return out


def _check_rules(agent: AgentPlan, known: set[str]) -> None:
    """A rule that is about no tool at all: what it says, an approval too, would never happen.

    One with a `__` behind what is no server may be of a handler that this step does not use.
    """
    ours, servers = Grants.of(agent).own_names, {plan.name for plan in agent.servers}
    for rule in agent.tool_rules:
        start, parted, _ = rule.name.partition("__")
        elsewhere = parted and not any(rule.name.startswith(f"{name}__") for name in servers)
        if rule.name not in known and rule.name not in ours and not (start and elsewhere):
            raise UsageError(
                f"{agent.folder}/tools-config.json has a rule for '{rule.name}', which no MCP server offers",
                did_you_mean(rule.name, known),
            )


def _check_names(agent: AgentPlan, plan: ServerPlan, session: Session) -> None:
    known = [tool.name for tool in session.tools]
    rules = [r.name.partition(".")[2] for r in agent.tool_rules if r.name.startswith(f"{plan.name}.")]
    for name in (*plan.server.tools, *rules):
        if name not in known:
            raise UsageError(
                f"{agent.folder}/tools-config.json names '{name}', which the MCP server '{plan.name}' lacks",
                did_you_mean(name, known) or "remove it: the server offers no tools",
            )


def _acting(
    plan: ServerPlan,
    tool: types.Tool,
    rule: ToolRulePlan | None,
    servers: McpServers,
    gate: EffectGate,
    continued: bool,
) -> ActingTool:
    known = servers.secrets_of(plan)
    schema, takes_key = _shown_schema(scrub_value(tool.input_schema, known))
    if not continued:
        _check_key_fields(plan, tool, rule, schema)

    async def send(arguments: dict[str, Any], key: str) -> ToolResult:
        given = {**arguments, KEY_ARGUMENT: key} if takes_key else arguments
        return await _Call(plan, tool.name, given, key, servers, gate).run()

    # A server may tell of the credentials it was started with.
    about = scrub_text(tool.description or tool.title or tool.name, known).strip()
    return ActingTool(
        name=served_name(plan.name, tool.name),
        description=cut(about, DESCRIPTION),
        input_schema=schema,
        kind="mcp",
        send=send,
        effect=annotated_effect(tool, trusted=plan.server.trust_annotations),
        path=f"{plan.name}.{tool.name}",
    ).apply_rule(rule)


def annotated_effect(tool: types.Tool, *, trusted: bool) -> Effect:
    """What the server says that its tool does; `once` where it says nothing or is not believed."""
    said = tool.annotations if trusted else None
    if said is not None and said.read_only_hint:
        return "none"
    return "idempotent" if said is not None and said.idempotent_hint else "once"


def _check_key_fields(
    plan: ServerPlan, tool: types.Tool, rule: ToolRulePlan | None, schema: Mapping[str, Any]
) -> None:
    known = schema.get("properties") or {}
    for name in rule.effect_key if rule is not None and known else ():
        if name not in known:
            raise UsageError(
                f"tools-config.json: effect_key of '{plan.name}.{tool.name}' names '{name}', which the tool "
                "does not take",
                did_you_mean(name, known),
            )


def _shown_schema(given: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """A server's schema for the model, and whether the tool takes an idempotency key.

    A schema that cannot be used (no schema of an object, or one that points elsewhere, which nobody should be
    made to fetch) becomes any object: the server checks its arguments itself.
    """
    schema = {**given, "type": given.get("type", "object")}
    if (fault := schema_fault(schema)) is not None:
        _LOG.info("the schema of a server's tool is left out: %s", fault)
        return {"type": "object"}, False
    properties = dict(schema.get("properties") or {})
    takes_key = KEY_ARGUMENT in properties
    if takes_key:
        del properties[KEY_ARGUMENT]
        schema["properties"] = properties
        schema["required"] = [name for name in schema.get("required") or () if name != KEY_ARGUMENT]
    if schema["type"] != "object":
        return {"type": "object"}, takes_key
    return schema, takes_key


class _Call:
    """One call of a tool, over the questions its server asks before it goes on."""

    def __init__(
        self,
        plan: ServerPlan,
        tool: str,
        arguments: dict[str, Any],
        key: str,
        servers: McpServers,
        gate: EffectGate,
    ) -> None:
        self._plan, self._tool, self._arguments, self._key = plan, tool, arguments, key
        self._servers, self._gate = servers, gate
        self._seen: dict[str, int] = {}

    async def run(self) -> ToolResult:
        """The tool's result. Raises Waiting while a question is open; see McpServers.call."""
        from tasks.servers.session import Asked

        responses, state = self._resume_from(await self._gate.find_decision(self._key))
        for _ in range(ROUNDS):
            try:
                result = await self._servers.call(
                    self._plan, self._tool, self._arguments, self._key, responses=responses, state=state
                )
            except NotPerformed:
                if state is None:
                    raise
                # The server has forgotten where it stopped (a new key, or too long ago): from the beginning,
                # where its questions meet the answers that were given.
                responses, state = None, None
                self._seen.clear()
                continue
            if not isinstance(result, Asked):
                given = to_tool_result(result)
                clean = scrub_value(given.content, self._servers.secrets_of(self._plan))
                return ToolResult(clean, given.is_error)
            responses, state = await self._answers(result), result.state
        raise ToolError(f"the MCP server '{self._plan.name}' asked {ROUNDS} times without an end.")

    def _resume_from(self, row: WaitRow | None) -> tuple[dict[str, Any] | None, str | None]:
        if row is None:
            return None, None
        self._seen[row.detail["question"]] = int(row.detail["again"]) + 1
        return _fill_requests(row.detail["requests"], row), row.detail["state"]

    async def _answers(self, asked: Asked) -> dict[str, Any] | None:
        """What people answered. Raises Waiting, and NotPerformed for questions no person can answer."""
        if not asked.requests:
            await asyncio.sleep(0.25)  # the server needs more time, and says so this way
            return None
        ask, form = _form(self._plan.name, self._tool, asked.requests)
        question = digest([ask, form])
        again = self._seen.get(question, 0)
        self._seen[question] = again + 1
        detail = {
            "server": self._plan.name,
            "tool": self._tool,
            "question": question,
            "requests": asked.requests,
            "state": asked.state,
        }
        return _fill_requests(
            asked.requests, await self._gate.ask(self._key, ask=ask, form=form, detail=detail, again=again)
        )


def _form(server: str, tool: str, requests: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """One question and one form for all that a server asks at once."""
    wrong = [r.get("method") for r in requests.values() if r.get("method") != "elicitation/create"]
    if wrong:
        raise NotPerformed(f"the MCP server '{server}' asks for {wrong[0]}, which people cannot answer.")
    params = {key: request["params"] for key, request in requests.items()}
    asks = [f"{p['message']}" + (f" Visit {p['url']}" if p.get("url") else "") for p in params.values()]
    schemas = {
        key: p.get("requestedSchema") or {"type": "object", "properties": {}} for key, p in params.items()
    }
    form = next(iter(schemas.values()))
    if len(schemas) > 1:
        form = {"type": "object", "properties": schemas, "required": list(schemas)}
    return f"{server} ({tool}) asks: " + " / ".join(asks), form


def _fill_requests(requests: Mapping[str, Any], row: WaitRow) -> dict[str, Any]:
    """A decided question as the server wants it: the data, or that nobody gave any."""
    if row.state != "answered":
        action = "cancel" if by_timeout(row) else "decline"  # nobody chose, or somebody said no
        return {key: {"action": action} for key in requests}
    data = (row.answer or {}).get("data") or {}
    out: dict[str, Any] = {}
    for key, request in requests.items():
        if request["params"].get("url"):
            out[key] = {"action": "accept"}
        else:
            out[key] = {"action": "accept", "content": data[key] if len(requests) > 1 else data}
    return out


def to_tool_result(result: types.CallToolResult) -> ToolResult:
    """A server's result for the model: its texts, small images, and structured content as JSON."""
    texts: list[str] = []
    images: list[dict[str, Any]] = []
    for block in result.content:
        shown = _block(block)
        (texts if isinstance(shown, str) else images).append(shown)  # type: ignore[arg-type]
    text = "\n".join(texts)
    if all(block.type == "text" for block in result.content):  # else it repeats pictures and the like as data
        text = _with_structured(text, result.structured_content)
    if not images:
        return ToolResult(text, bool(result.is_error))
    blocks = [{"type": "text", "text": text}] if text else []
    return ToolResult([*blocks, *images], bool(result.is_error))


def _with_structured(text: str, structured: Any) -> str:
    """Servers mostly give the same twice; then once is enough."""
    if structured is None:
        return text
    as_json = json.dumps(structured, ensure_ascii=False)
    if not text:
        return as_json
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        said = text
    return text if said in (structured, structured.get("result")) else f"{text}\n{as_json}"


def _block(block: Any) -> str | dict[str, Any]:
    if block.type == "text":
        return str(block.text)
    if block.type == "image" and block.mime_type in _IMAGES and len(block.data) <= IMAGE_BYTES:
        source = {"type": "base64", "media_type": block.mime_type, "data": block.data}
        return {"type": "image", "source": source}
    if block.type in ("image", "audio"):
        return f"[{block.type} of type {block.mime_type}, {len(block.data) * 3 // 4} bytes, left out]"
    if block.type == "resource_link":
        return f"[{block.name}: {block.uri}]"
    held = getattr(block, "resource", None)
    if held is not None and getattr(held, "text", None) is not None:
        return f"[{held.uri}]\n{held.text}"
    return f"[{block.type}, left out]"
