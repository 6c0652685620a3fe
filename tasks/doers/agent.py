"""One agent doing one step: the message, the tools, the conversation, the artifact.

What a Next hook returns wins over the reply and is held to the output's contract. Where the contract asks for
Markdown or text, a text it returns replaces the reply; other data is stored as JSON (`application/json`)
instead of the document. None keeps the reply as it is.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from blocks.models import Answer, ModelConnection, Request
from tasks.context import RunContext
from tasks.conversation.budget_gate import BudgetGate
from tasks.conversation.conversations import journal_of, next_journal
from tasks.conversation.documents import message_blocks
from tasks.conversation.gates import Gates
from tasks.conversation.journal import StepJournal
from tasks.conversation.turns import Ask, Conversation, Notice, converse
from tasks.doers.agent_tools import step_tools
from tasks.doers.work import Work
from tasks.failures import OutputRejected
from tasks.handlers.faults import HandlerFault
from tasks.handlers.pinned_code import Code, TooMuchData, copy_data, write_code
from tasks.handlers.process import run_handler
from tasks.handlers.toolbox import HANDLER_TIMEOUT, SkillChanged, without_known_secrets
from tasks.limits import requests
from tasks.limits.requests import Gate, OnEvent
from tasks.outputs.contract import Accepted, Contract, Rejected
from tasks.outputs.stored import store_output
from tasks.results import StepResult
from tasks.secrets import scrub_value, without_secrets
from tasks.tools import ToolSet
from tasks.values import Value
from workflows.core.catalog.agents import hook_digest, hook_sources
from workflows.core.catalog.prompts import enclose_text
from workflows.core.errors import PhaselineError
from workflows.core.plans.plan import AgentPlan, HookPlan, OutputPlan


class HookFailed(PhaselineError):
    """A hook of the agent gave no result. Trying again would pay for the conversation again."""

    final = True


async def run_agent(work: Work) -> StepResult:
    """The answer of the step's agent to its prompt, stored. Raises what `converse` raises, StorageError."""
    return await answer(await prepare_task(work, work.step.agents[0]))


@dataclass(frozen=True, slots=True)
class AgentTask:
    """What an agent is asked to do: a rendered instruction over documents, under a contract."""

    work: Work
    agent: AgentPlan
    instruction: str
    attached: Sequence[Value]
    output: OutputPlan
    kind: str = ""
    """What its artifact is called; "" for the output's name."""


async def prepare_task(work: Work, agent: AgentPlan, kind: str = "") -> AgentTask:
    """The step's own prompt and inputs as an agent's task."""
    attached = [work.values[n] for n in work.step.inputs if n in work.values]
    return AgentTask(work, agent, await work.render(work.step.prompt), attached, work.step.output, kind)


async def answer(task: AgentTask) -> StepResult:
    """An agent's answer, stored under the contract of its output.

    A conversation that came to its end before, and comes to the same one now, is followed by another one.
    """
    journal = await journal_of(task.work.context, task.work.path)
    while True:
        try:
            return await _run_conversation(task, journal)
        except PhaselineError as error:
            journal = await next_journal(journal, error) if journal is not None else None
            if journal is None:
                raise


async def _run_conversation(task: AgentTask, journal: StepJournal | None) -> StepResult:
    """What one conversation comes to."""
    started = time.monotonic()
    agent, context, path = task.agent, task.work.context, task.work.path
    messages, tools = await _begin(task, journal)
    connection = context.connection(agent)  # first: from here on its credential is a known secret
    gates, notice = await _make_gates(agent, context, path)
    with without_secrets(context.secrets):
        conversation = await converse(
            connection,
            ask=_make_ask(task.work, gates),
            notice=notice,
            model=agent.model,
            system=agent.system,
            messages=messages,
            output=task.output,
            tools=tools,
            max_turns=agent.max_turns,
            on_event=lambda name, data: _tell(context, name, {"step": path, "agent": agent.id, **data}),
            on_spent=lambda usage, model: context.pay(path, usage, model),
            journal=journal,
        )
    kept, accepted = await _apply_next_hook(agent, conversation, task.output, context)
    ref = await store_output(accepted.text, accepted.data, kept, context, path, kind=task.kind)
    return StepResult(
        step=task.work.step.id,
        path=path,
        output=ref,
        agent=agent.id,
        model=conversation.model,
        usage=context.price_usage(conversation.usage, conversation.model),
        turns=conversation.turns,
        offline=conversation.offline,
        seconds=time.monotonic() - started,
    )


async def _begin(task: AgentTask, journal: StepJournal | None) -> tuple[list[dict[str, Any]], ToolSet]:
    """What a conversation opens with, and its tools: those it was told of when it began."""
    work, agent, context = task.work, task.agent, task.work.context
    blocks, cut = await message_blocks(task.attached, task.instruction, context.store)
    # Handlers may open what the step reads, whether or not it is attached to the message.
    read = (work.values[n] for n in work.step.reads if n in work.values)
    readable = {v.name: v for v in [*task.attached, *read]}
    earlier = journal.earlier if journal is not None else None
    continued = journal is not None and journal.begun
    offered = await step_tools(
        work.step,
        agent,
        readable,
        task.attached,
        cut,
        context,
        work.path,
        earlier=earlier,
        continued=continued,
    )
    tools = ToolSet(tuple(without_known_secrets(t, context) for t in offered))
    if journal is not None:
        said = await journal.definitions(tools.definitions(), foreign=bool(agent.servers))
        tools = tools.as_told(said)
        blocks = _with_earlier(blocks, journal.describe_earlier_work())
    return await _apply_create_hook(agent, [{"role": "user", "content": blocks}], context, journal), tools


def _make_ask(work: Work, gates: Gates) -> Ask:
    """How the step's requests are made: masked, behind its gates, for as long as its patience."""
    context, path = work.context, work.path
    opening = _Opening(context)
    patience = context.patience_of(work.step.patience)

    async def ask(to: ModelConnection, request: Request, on_event: OnEvent) -> Answer:
        with context.waiting_out(path, on_event) as telling:
            outage = context.outage(to)
            return await requests.ask(
                to,
                opening.mask_secrets(request),
                patience,
                telling,
                gate=gates,
                outage=outage,
                sleep=partial(_stand, context, path),
            )

    return ask


async def _stand(context: RunContext, path: str, seconds: float) -> None:
    """Waits for the provider: that is no active time of the unit."""
    with context.standing(path):
        await asyncio.sleep(seconds)


@dataclass
class _Opening:
    """Masks what a conversation says that begins here: a secret may have become known after its inputs were
    kept. One that goes on is left as it was said, since thinking blocks are bound to every word before them.
    """

    context: RunContext
    here: bool = False

    def mask_secrets(self, request: Request) -> Request:
        """The request as it is sent. The journal's digest is of what it is made from."""
        self.here = self.here or all(message["role"] == "user" for message in request["messages"])
        clean: Request = self.context.secrets.value(request, ours=True) if self.here else request
        return clean


async def _make_gates(agent: AgentPlan, context: RunContext, path: str) -> tuple[Gates, Notice | None]:
    """What stands before each request of a conversation: budgets, then the provider's limits.

    What a budget refuses, or holds up, takes no place among the requests to the provider.
    """
    gates: list[Gate] = []
    notice: Notice | None = None
    if context.budgets is not None:
        day = "" if context.offline else await context.budgets.bound_agent(agent)
        budget = BudgetGate(context, context.budgets, path, agent, day)
        gates.append(budget)
        notice = budget.notice if budget.bounded else None
    governor = context.governor(agent)
    if governor is not None:
        gates.append(governor)
    durable = context.durable
    confirm = partial(durable.ledger.confirm, durable.lease) if durable is not None else None
    standing, on_sending = partial(context.standing, path), partial(context.departed, path)
    return Gates(gates, path, confirm, standing, on_sending), notice


def _tell(context: RunContext, name: str, data: dict[str, Any]) -> None:
    context.on_event(name, scrub_value(data, context.secrets))


def _with_earlier(blocks: list[dict[str, Any]], told: str) -> list[dict[str, Any]]:
    """The blocks with what was done before: after the documents, before the instruction."""
    return [*blocks[:-1], {"type": "text", "text": told}, *blocks[-1:]] if told else blocks


async def _apply_create_hook(
    agent: AgentPlan, messages: list[dict[str, Any]], context: RunContext, journal: StepJournal | None
) -> list[dict[str, Any]]:
    """The messages with what the Create hook adds: after the documents, before the instruction."""
    hook = next((h for h in agent.hooks if h.event == "create"), None)
    if hook is None:
        return messages
    *documents, instruction = messages[-1]["content"]
    text = "\n\n".join(b["text"] for b in messages[-1]["content"])

    async def call() -> Any:
        return await _call_hook(agent, hook, {"message": text}, context)

    added = await (call() if journal is None else journal.input(0, "create", call))
    if not added:
        return messages
    extra = added if isinstance(added, str) else json.dumps(added, ensure_ascii=False)
    block = {"type": "text", "text": enclose_text("context", extra)}
    return [{**messages[-1], "content": [*documents, block, instruction]}]


async def _apply_next_hook(
    agent: AgentPlan, conversation: Conversation, output: OutputPlan, context: RunContext
) -> tuple[OutputPlan, Accepted]:
    """The step's output and its contract: the reply, or what the Next hook makes of it."""
    reply = Accepted(conversation.text, conversation.data)
    hook = next((h for h in agent.hooks if h.event == "next"), None)
    if hook is None:
        return output, reply
    made = await _call_hook(agent, hook, {"reply": conversation.text}, context)
    if made is None:
        return output, reply
    if not isinstance(made, str) and output.type in ("markdown", "text"):
        output = output.model_copy(update={"type": "json"})
    contract = Contract(output)
    try:
        accept = contract.accept_data if contract.structured else contract.accept
        return output, await asyncio.to_thread(accept, made)
    except Rejected as rejected:
        where = f"{agent.folder}/{hook.file}:{hook.function}"
        told = "; ".join(rejected.problems[:3])
        error = OutputRejected(
            f"what the hook {where} returned breaks the contract: {told}", rejected.problems
        )
        error.cure = f"mend the hook {where}"
        error.last_answer = conversation.text
        raise error from None


async def _call_hook(agent: AgentPlan, hook: HookPlan, arguments: dict[str, Any], context: RunContext) -> Any:
    """What a hook returns, without known secrets. Raises SkillChanged, HookFailed."""
    where = f"{agent.folder}/{hook.file}"
    file = context.catalog_root / where

    def copy(target: Path) -> Path:
        sources = hook_sources(file)
        if file.name not in sources or hook_digest(file.name, sources) != hook.sha256:
            raise SkillChanged(
                f"{where}, or a Python file beside it, changed while the run was going on",
                "start the run again, so that it is planned with the changed file",
            )
        write_code(sources, target)
        try:
            copy_data(file.parent, target)
        except TooMuchData as much:
            raise HookFailed(
                f"{much} lie beside the hook {where}, and all that is there is copied for each of its calls",
                "move what the hook does not read out of the agent's folder",
            ) from None
        return target / file.name

    try:
        made = await run_handler(
            code=Code(str(PurePosixPath(where).parent), copy),
            function=hook.function,
            arguments=arguments,
            documents={},
            timeout=HANDLER_TIMEOUT,
        )
    except HandlerFault as fault:
        failed = HookFailed(
            f"the {hook.event} hook failed: {fault.message}", f"mend the hook {where}:{hook.function}"
        )
        with without_secrets(context.secrets):
            raise failed from None
    return scrub_value(made, context.secrets)
