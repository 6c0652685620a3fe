"""One agent doing one step: the message, the tools, the conversation, the artifact."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.context import RunContext
from tasks.documents import message_blocks, read_input_tool
from tasks.handlers import run_handler
from tasks.outputs_stored import store_output
from tasks.results import StepResult
from tasks.toolbox import HANDLER_TIMEOUT, SkillChanged, skill_tools
from tasks.tools import ToolSet
from tasks.turns import Conversation, converse
from tasks.values import Value, render
from workflows.core.plan import AgentPlan, HookPlan, OutputPlan, StepPlan
from workflows.core.refs import digest_bytes


async def run_agent(
    step: StepPlan,
    agent: AgentPlan,
    values: Mapping[str, Value],
    extra: Mapping[str, Any],
    context: RunContext,
    path: str,
    *,
    output: OutputPlan | None = None,
    kind: str = "",
) -> StepResult:
    """The agent's answer to the step's prompt, stored. Raises what `converse` raises, and storage faults.

    `extra` holds item, index, previous, iteration and steps; `output` replaces the step's contract (for the
    answers of a panel).
    """
    instruction = await render(step.prompt, values, context.store, extra)
    attached = [values[n] for n in step.inputs if n in values]
    return await answer(step, agent, instruction, attached, values, context, path, output=output, kind=kind)


async def answer(
    step: StepPlan,
    agent: AgentPlan,
    instruction: str,
    attached: Sequence[Value],
    values: Mapping[str, Value],
    context: RunContext,
    path: str,
    *,
    output: OutputPlan | None = None,
    kind: str = "",
) -> StepResult:
    """An agent's answer to a rendered instruction over documents, stored under the output's contract."""
    contract = output or step.output
    started = time.monotonic()
    blocks, cut = await message_blocks(attached, instruction, context.store)
    # Handlers may open what the step reads, whether or not it is attached to the message.
    readable = {v.name: v for v in [*attached, *(values[n] for n in step.reads if n in values)]}
    tools = skill_tools(agent.skills, readable, context, path)
    if cut:
        tools.append(read_input_tool(attached, cut, context.store))
    messages = await _created(agent, [{"role": "user", "content": blocks}], context)
    conversation = await converse(
        context.connection(agent),
        model=agent.model,
        system=agent.system,
        messages=messages,
        output=contract,
        tools=ToolSet(tuple(tools)),
        max_turns=agent.max_turns,
        on_event=lambda name, data: context.on_event(name, {"step": path, "agent": agent.id, **data}),
        on_spent=lambda usage, model: context.pay(path, usage, model),
    )
    data = await _nexted(agent, conversation, context)
    ref = await store_output(conversation.text, data, contract, context, path, kind=kind)
    return StepResult(
        step=step.id,
        path=path,
        output=ref,
        agent=agent.id,
        model=conversation.model,
        usage=context.priced(conversation.usage, conversation.model),
        turns=conversation.turns,
        offline=conversation.offline,
        seconds=time.monotonic() - started,
    )


async def _created(
    agent: AgentPlan, messages: list[dict[str, Any]], context: RunContext
) -> list[dict[str, Any]]:
    """The messages with what the Create hook adds to them."""
    hook = next((h for h in agent.hooks if h.event == "create"), None)
    if hook is None:
        return messages
    text = "\n\n".join(b["text"] for b in messages[-1]["content"])
    added = await _call_hook(agent, hook, {"message": text}, context)
    if not added:
        return messages
    extra = added if isinstance(added, str) else json.dumps(added, ensure_ascii=False)
    block = {"type": "text", "text": f"<context>\n{extra}\n</context>"}
    return [{**messages[-1], "content": [block, *messages[-1]["content"]]}]


async def _nexted(agent: AgentPlan, conversation: Conversation, context: RunContext) -> Any:
    """The reply's data; what the Next hook returns wins over it."""
    hook = next((h for h in agent.hooks if h.event == "next"), None)
    if hook is None:
        return conversation.data
    made = await _call_hook(agent, hook, {"reply": conversation.text}, context)
    return conversation.data if made is None else made


async def _call_hook(agent: AgentPlan, hook: HookPlan, arguments: dict[str, Any], context: RunContext) -> Any:
    file = context.catalog_root / agent.folder / hook.file
    if not file.is_file() or digest_bytes(file.read_bytes()) != hook.sha256:
        raise SkillChanged(
            f"{agent.folder}/{hook.file} changed while the run was going on",
            "start the run again, so that it is planned with the changed file",
        )
    return await run_handler(
        file=file, function=hook.function, arguments=arguments, documents={}, timeout=HANDLER_TIMEOUT
    )
