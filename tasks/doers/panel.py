"""A panel: each member answers, one report keeps every voice and says whose it is."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tasks.context import RunContext
from tasks.doers.agent import AgentTask, answer, prepare_task
from tasks.doers.work import Work
from tasks.outputs.stored import store_output, summary_of
from tasks.results import StepResult, StepUsage
from tasks.values import Value
from workflows.core.plans.plan import AgentPlan, MergePlan, OutputPlan, StepPlan


async def run_member(work: Work, agent: AgentPlan) -> StepResult:
    """One member's answer to the panel's prompt."""
    return await answer(await prepare_task(work, agent, kind=f"{work.step.output.name}.{agent.id}"))


async def merge_panel(work: Work, answers: Sequence[StepResult]) -> StepResult:
    """One output out of the members' answers, in the order of the panel.

    Markdown and text become one document with a section per member; JSON and tables become
    `{"voices": [{"agent", "name", "answer"}], "synthesis"}`. Usage is the synthesis's own.
    """
    started = time.monotonic()
    step, context, path = work.step, work.context, work.path
    names = {a.id: a.name for a in step.agents}
    voices = [Value(f"answer_{i + 1}", ref=a.output) for i, a in enumerate(answers)]
    merge = step.merge
    synthesis = None
    if merge is not None and merge.agent is not None:
        synthesis = await _synthesize(work, merge, merge.agent, voices, answers)
    if step.output.type in ("json", "table"):
        data = [
            {"agent": a.agent, "name": names[a.agent], "answer": await v.data(context.store)}
            for a, v in zip(answers, voices, strict=True)
        ]
        whole = {"voices": data, **({"synthesis": synthesis[0]} if synthesis else {})}
        output = step.output.model_copy(update={"type": "json"})
        ref = await store_output("", whole, output, context, path)
    else:
        text = await _write_report(step, voices, answers, names, synthesis[0] if synthesis else "", context)
        ref = await store_output(text, None, step.output, context, path)
    made = synthesis[1] if synthesis else None
    return StepResult(
        step=step.id,
        path=path,
        output=ref,
        parts=tuple(a.output for a in answers if a.output),
        agent=", ".join(a.agent for a in answers),
        model=made.model if made else "",
        usage=made.usage if made else StepUsage(),
        turns=made.turns if made else 0,
        offline=any(a.offline for a in answers),
        seconds=time.monotonic() - started,
    )


async def _synthesize(
    work: Work, merge: MergePlan, agent: AgentPlan, voices: Sequence[Value], answers: Sequence[StepResult]
) -> tuple[str, StepResult]:
    prompt, names = await work.render(merge.prompt), {a.id: a.name for a in work.step.agents}
    who = "\n".join(f"- {v.name}: {names[a.agent]} ({a.agent})" for v, a in zip(voices, answers, strict=True))
    instruction = f"{prompt}\n\nThe voices:\n{who}"
    output = OutputPlan(name=work.step.output.name, type="markdown")
    alone = replace(work, values={})  # what the members read is not at hand, only what they say
    result = await answer(AgentTask(alone, agent, instruction, voices, output, "synthesis"))
    assert result.output is not None
    return (await work.context.store.get(result.output)).decode(), result


async def _write_report(
    step: StepPlan,
    voices: Sequence[Value],
    answers: Sequence[StepResult],
    names: Mapping[str, str],
    synthesis: str,
    context: RunContext,
) -> str:
    lines = [f"# {step.name}", ""]
    if synthesis:
        lines += [synthesis.strip(), "", "---", ""]
    bodies = [await _as_text(v, context) for v in voices]
    lines += ["| # | agent | model | in short |", "|---|---|---|---|"]
    for number, (result, body) in enumerate(zip(answers, bodies, strict=True), 1):
        short = summary_of(body).replace("|", "\\|")
        lines.append(f"| {number} | {names[result.agent]} (`{result.agent}`) | {result.model} | {short} |")
    for number, (result, body) in enumerate(zip(answers, bodies, strict=True), 1):
        lines += [
            "",
            f"## {number}. {names[result.agent]} (`{result.agent}`)",
            "",
            _lower_headings(body.strip()),
        ]
    return "\n".join(lines) + "\n"


async def _as_text(voice: Value, context: RunContext) -> str:
    """An answer as Markdown: one that a hook turned into data stands in a code block."""
    text = (await voice.body(context.store)).decode("utf-8", "replace")
    return f"```json\n{text.strip()}\n```\n" if voice.media_type == "application/json" else text


def _lower_headings(text: str) -> str:
    """Headings two levels down, so that a voice stays one section; code fences are left alone."""
    out, fenced = [], False
    for line in text.splitlines():
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        if not fenced and line.startswith("#"):
            level = len(line) - len(line.lstrip("#"))
            line = "#" * max(0, min(2, 6 - level)) + line
        out.append(line)
    return "\n".join(out)
