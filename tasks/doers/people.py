"""Steps and tools that ask people or wait for an outside system."""

from __future__ import annotations

import json
from typing import Any

from blocks.boundaries import reach_boundary
from blocks.ledger import WaitRow, WaitStart
from blocks.ledger.waits.documents import shown_time
from blocks.ledger.waits.forms import UnfitForm, checked_form
from blocks.ledger.waits.tally import counting_votes
from tasks.context import RunContext
from tasks.doers.work import Work
from tasks.durable import Durable
from tasks.effects.deciders import address_question, deadline_in, length_of
from tasks.effects.waits import by_timeout, undecided_fault
from tasks.failures import StepFailed
from tasks.outputs.stored import store_output
from tasks.results import StepResult
from tasks.secrets import scrub_text, scrub_value
from tasks.tools import Tool, ToolError, ToolResult, among_equal
from tasks.waiting import Waiting
from workflows.core.plans.plan import DecidersPlan, StepPlan
from workflows.core.refs import digest
from workflows.core.tools.built_in.ask_person import ASK_PERSON


class Unanswered(StepFailed):
    """Nobody answered in time, or the question was withdrawn."""

    final = True


async def run_approval(work: Work) -> StepResult:
    """The people's decision as the step's output. Raises Waiting while there is none, Unanswered."""
    step, context, path = work.step, work.context, work.path
    plan = step.approval
    assert plan is not None
    evidence = [v.ref.model_dump(mode="json") for n in step.inputs if (v := work.values.get(n)) and v.ref]
    start = WaitStart(
        run_id=context.run_id,
        step_path=path,
        wait_key=_attempt_key(context, path),
        kind="approval",
        ask=scrub_text(await work.render(plan.ask), context.secrets),
        form=plan.form or {"type": "object", "properties": {}},
        evidence=evidence,
    )
    return await _store_decision(
        step, await _open_wait(context, address_question(start, plan)), context, path
    )


async def run_await_event(work: Work) -> StepResult:
    """The event's payload as the step's output. Raises Waiting before it came, Unanswered, StepFailed."""
    step, context, path = work.step, work.context, work.path
    plan = step.await_event
    assert plan is not None
    key = (await work.render(plan.key)).strip() if plan.key else ""
    if plan.key and not key:  # without a key any event of the type would do
        raise StepFailed("the key of the event it awaits is empty", "see what `await_event.key` reads")
    start = WaitStart(
        run_id=context.run_id,
        step_path=path,
        wait_key=_attempt_key(context, path),
        kind="event",
        ask=f"the event {plan.type}" + (f" with the key {key}" if key else ""),
        deadline=deadline_in(plan.deadline),
        on_timeout=plan.on_timeout,
        detail=length_of(plan.deadline),
        event_type=plan.type,
        event_key=key,
    )
    return await _store_decision(step, await _open_wait(context, start), context, path)


def ask_person_tool(context: RunContext, path: str, people: DecidersPlan | None = None) -> Tool:
    """The tool with which an agent asks a person; its answer may take days and holds no process.

    `people` says whom; None: anybody.
    """

    async def run(arguments: dict[str, Any]) -> ToolResult:
        # What the model wrote may hold what it was given: no known secret stays in a question.
        form = _check_form(scrub_value(arguments.get("form") or {}, context.secrets))
        start = WaitStart(
            run_id=context.run_id,
            step_path=path,
            wait_key=f"{path}/ask/{digest(arguments)[:16]}/{among_equal()}/{_generation(context, path)}",
            kind="ask_person",
            ask=scrub_text(arguments["question"], context.secrets),
            form=form,
        )
        row = await _open_wait(context, address_question(start, people))
        if row.state == "open":
            raise Waiting((row.wait_id,), row.ask)
        return ToolResult(_describe_answer(row))

    return Tool(ASK_PERSON.name, ASK_PERSON.description, ASK_PERSON.schema_with(), run, "none")


def _check_form(form: dict[str, Any]) -> dict[str, Any]:
    """A model's form; ToolError, with the cure, for one that no wait can have."""
    try:
        return checked_form(form) if form else {}
    except UnfitForm as unfit:
        raise ToolError(f"{unfit.message}; {unfit.cure}. Nobody was asked.") from None


def _describe_answer(row: WaitRow) -> str:
    """A decided question, for the agent. Raises Undecided."""
    if row.state == "answered":
        answer = (row.answer or {}).get("data")
        return json.dumps(answer, ensure_ascii=False) if answer else "Answered: yes."
    if row.state != "rejected":
        raise undecided_fault(row)
    if by_timeout(row):
        return "There was no answer in time; go on without it or say what is missing."
    notes = "; ".join(str(v.get("note")) for v in counting_votes(row) if v.get("note"))
    return "The person declined to answer." + (f" They said: {notes}" if notes else "")


async def _open_wait(context: RunContext, start: WaitStart) -> WaitRow:
    durable = _durable(context)
    clean = scrub_value(start.ask, context.secrets)
    row = await durable.ledger.waits.open(durable.lease, start)
    if row.state == "open":
        told = {"step": start.step_path, "wait_id": row.wait_id, "kind": start.kind, "ask": clean}
        reach_boundary("wait.opened", start.step_path, row.wait_id)
        context.on_event("wait.opened", told)
    return row


async def _store_decision(step: StepPlan, row: WaitRow, context: RunContext, path: str) -> StepResult:
    if row.state == "open":
        raise Waiting((row.wait_id,), row.ask)
    if row.state in ("expired", "cancelled"):
        why = "nobody answered in time" if row.state == "expired" else "the question was withdrawn"
        raise Unanswered(f"{why}: {row.ask}", f"ask again: phaseline resume {context.run_id}")
    shape = step.output.model_copy(update={"type": "json"})
    data = scrub_value(_decision_data(row), context.secrets)
    ref = await store_output("", data, shape, context, path)
    who = ", ".join(str(vote["voter"]) for vote in counting_votes(row))
    return StepResult(step=step.id, path=path, output=ref, agent=who, offline=context.offline)


def _decision_data(row: WaitRow) -> dict[str, Any]:
    """The step's output: who decided what, or what came from outside."""
    answer = row.answer or {}
    by_timeout = bool(answer.get("by_timeout", False))
    if row.kind == "event":
        return {
            "payload": answer.get("data"),
            "event_id": answer.get("event_id", ""),
            "by_timeout": by_timeout,
        }
    votes = [{**vote, "at": shown_time(vote.get("at"))} for vote in counting_votes(row)]
    return {
        "approved": row.state == "answered",
        "data": answer.get("data") or {},
        "votes": votes,
        "by_timeout": by_timeout,
    }


def _attempt_key(context: RunContext, path: str) -> str:
    """A step that failed or was dropped asks anew; one that is continued finds its question."""
    attempt = context.attempts.get(path, 1)
    return f"{path}/{context.keys[path][:16]}/{attempt}/{_generation(context, path)}"


def _generation(context: RunContext, path: str) -> int:
    return context.generations.get(path, 0)


def _durable(context: RunContext) -> Durable:
    if context.durable is None:
        raise RuntimeError("only a recorded run can wait")
    return context.durable
