"""What continuing a run would reuse, from records made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from blocks.ledger import StepRecord
from flows.preview import Known, dependants, preview
from tasks.results import StepResult
from tests.support.plans import plan, step
from workflows.core.plans.plan import Plan, RepeatPlan, StepPlan, content_key
from workflows.core.refs import Ref, digest

INPUT = digest("text")


def sha(word: str) -> str:
    """A digest."""
    return digest(word)


def chain() -> Plan:
    """a -> b -> c, and d beside them; a and d read the input `text`."""
    return plan(
        "w",
        step("a", reads=("text",), definition="a1"),
        step("b", reads=("a",), depends_on=("a",), definition="b1"),
        step("c", reads=("b",), depends_on=("b",), definition="c1"),
        step("d", reads=("text",), definition="d1"),
    )


def result_of(path: str, output: str) -> dict[str, Any]:
    """A stored result."""
    ref = Ref(uri="file:///x", sha256=output, size=1, media_type="text/plain", kind=path)
    return StepResult(step=path.split("/")[0], path=path, output=ref).model_dump(mode="json")


def done(path: str, key: str, **more: Any) -> StepRecord:
    """A completed record whose output is the digest of its path."""
    record = StepRecord(
        step_path=path,
        state="completed",
        content_key=key,
        result=result_of(path, sha(path)),
        started=1,
        ended=2,
    )
    return replace(record, **more)


def finished(made: Plan) -> dict[str, StepRecord]:
    """Every step of `chain` completed."""
    values = {"text": INPUT, **{s.output.name: sha(s.id) for s in made.steps}}
    return {
        s.id: done(s.id, content_key(s, {n: values[n] for n in s.reads if n in values})) for s in made.steps
    }


def known(made: Plan, **more: Any) -> Known:
    """A run of which everything is finished, unless said otherwise."""
    facts: dict[str, Any] = {"plan": made, "steps": finished(made), "inputs": {"text": INPUT}, **more}
    return Known(**facts)


def told(made: Plan, facts: Known, redo: tuple[str, ...] = ()) -> dict[str, tuple[str, str]]:
    """Action and reason by step."""
    return {s.step: (s.action, s.reason) for s in preview(made, facts, redo)}


def changed(made: Plan, step_id: str, **values: Any) -> Plan:
    """The plan with one step changed."""
    steps = tuple(s.model_copy(update=values) if s.id == step_id else s for s in made.steps)
    return made.model_copy(update={"steps": steps})


def test_what_is_finished_is_reused() -> None:
    assert {a for a, _ in told(chain(), known(chain())).values()} == {"reuse"}


def test_a_changed_definition_and_what_follows_it() -> None:
    found = told(changed(chain(), "b", definition="b2"), known(chain()))
    assert found["a"][0] == found["d"][0] == "reuse"
    assert found["b"] == ("rerun", "its definition changed")
    assert found["c"] == ("rerun", "follows b, which runs again")


def test_an_order_without_data_makes_nothing_run_again() -> None:
    made = changed(chain(), "d", depends_on=("b",))
    assert told(changed(made, "b", definition="b2"), known(made))["d"] == ("reuse", "")


def test_inputs_that_changed_are_named() -> None:
    facts = known(chain())
    later = done("a", facts.steps["a"].content_key, started=5, ended=6, result=result_of("a", sha("other")))
    found = told(chain(), replace(facts, steps={**facts.steps, "a": later}))
    assert found["b"] == ("rerun", "its inputs changed: a")
    more = changed(chain(), "d", reads=("text", "more"))
    assert told(more, known(chain(), inputs={"text": INPUT, "more": sha("m")}))["d"] == (
        "rerun",
        "its inputs changed: more",
    )


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("failed", ("rerun", "it failed: no")),
        ("running", ("rerun", "it was cut off")),
        ("cancelled", ("rerun", "it was cancelled")),
        ("dropped", ("rerun", "its result was taken back")),
        ("not_started", ("new", "it has not run yet")),
        ("skipped", ("reuse", "it was skipped")),
    ],
)
def test_what_is_not_finished(state: Any, expected: tuple[str, str]) -> None:
    facts = known(chain())
    key = facts.steps["d"].content_key if state in ("running", "cancelled") else ""
    record = StepRecord(step_path="d", state=state, content_key=key, error={"message": "no"})
    assert told(chain(), replace(facts, steps={**facts.steps, "d": record}))["d"] == expected


def test_an_agent_goes_on_at_its_next_unpaid_turn() -> None:
    facts = known(chain())
    cut = replace(facts.steps["d"], state="running", result=None)
    facts = replace(facts, steps={**facts.steps, "d": cut}, turns={"d": 14})
    assert told(chain(), facts)["d"] == ("goes on", "at its next unpaid turn, 15")
    # Paid for another definition: those turns are not of this one.
    assert told(changed(chain(), "d", definition="d2"), facts)["d"] == ("rerun", "its definition changed")


def test_parts_that_are_finished() -> None:
    facts = known(chain())
    cut = replace(facts.steps["d"], state="running", result=None)
    steps = {**facts.steps, "d": cut, "d/1": done("d/1", "x"), "d/2": replace(cut, step_path="d/2")}
    assert told(chain(), replace(facts, steps=steps))["d"] == ("goes on", "1 of its parts is finished")


def test_an_unreadable_body() -> None:
    found = told(chain(), known(chain(), unreadable={"b": "it is not there"}))
    assert found["b"] == ("rerun", "its body is unreadable: it is not there")
    assert found["c"] == ("rerun", "follows b, which runs again")


def test_new_and_orphaned_steps() -> None:
    before = chain()
    kept = before.model_copy(update={"steps": (*before.steps[:3], step("e", reads=("text",)))})
    found = told(kept, known(before))
    assert found["e"] == ("new", "the workflow did not have it before")
    assert found["d"] == ("orphaned", "the workflow does not have it any more")


def test_from_a_step_on() -> None:
    assert dependants(chain(), "b") == ("b", "c")
    found = told(chain(), known(chain()), dependants(chain(), "b"))
    assert found == {
        "a": ("reuse", ""),
        "b": ("rerun", "it is to be done again"),
        "c": ("rerun", "follows b, which runs again"),
        "d": ("reuse", ""),
    }


def test_last_steps_belong_to_the_end_of_the_run() -> None:
    end = step("end", definition="e1")
    made = chain().model_copy(update={"finally_": (end,)})
    facts = known(chain())
    facts = replace(facts, plan=made, steps={**facts.steps, "end": done("end", content_key(end, {}))})
    assert told(made, facts)["end"] == ("reuse", "")
    assert told(changed(made, "d", definition="d2"), facts)["end"] == ("rerun", "the run goes on before it")


def repeated() -> tuple[StepPlan, dict[str, StepRecord]]:
    """A step of two finished iterations."""
    made = step("r", repeat=RepeatPlan(until="x", max=3), definition="r1")
    first = done("r/1", content_key(made, {}, {"iteration": 1, "previous": None}))
    second = done("r/2", content_key(made, {}, {"iteration": 2, "previous": sha("r/1")}))
    return made, {"r/1": first, "r/2": second}


def test_repeated_steps() -> None:
    made, records = repeated()
    after = step("after", reads=("r",), depends_on=("r",), definition="x1")
    whole = plan("w", made, after)
    facts = Known(plan=whole, steps=records, inputs={})
    assert told(whole, facts)["r"] == ("goes on", "2 iterations are finished")
    both = {**records, "after": done("after", content_key(after, {"r": sha("r/2")}))}
    found = told(whole, replace(facts, steps=both))
    assert found["r"] == found["after"] == ("reuse", "")
    other = made.model_copy(update={"definition": "r2"})
    assert told(plan("w", other), facts)["r"] == ("rerun", "its definition changed")


def test_without_the_plan_it_began_with() -> None:
    found = told(changed(chain(), "b", definition="b2"), known(chain(), plan=None))
    assert found["b"] == ("rerun", "its definition or its inputs changed")
    assert found["a"] == ("reuse", "")
