"""A plan read back from storage is believed where the ledger has its digest, however else it looks."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from flows.earlier import kept_plan
from tests.support.catalogs import compiled, make_catalog
from tests.support.runs import run_row
from workflows.core.errors import UsageError
from workflows.core.plans.plan import Plan
from workflows.core.plans.stored import proved_document, proved_plan

W = "workflow: w\nsteps:\n  - {id: a, agent: ann, prompt: Go.}\n"


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return compiled(make_catalog(tmp_path / "catalog", w=W))


def stored(plan: Plan) -> dict[str, Any]:
    """A manifest as it comes back from storage."""
    document: dict[str, Any] = json.loads(json.dumps({"plan": plan.model_dump(mode="json", by_alias=True)}))
    return document


def test_the_ledgers_digest_proves_it(plan: Plan) -> None:
    assert proved_plan(stored(plan), plan.definition) == plan
    changed = stored(plan)
    changed["plan"]["steps"][0]["agents"][0]["folder"] = "../elsewhere"
    assert proved_plan(changed, plan.definition) is None
    for other in (None, {}, {"plan": 7}, {"plan": {}}, {"plan": {"steps": [float("nan")]}}):
        assert proved_plan(other, plan.definition) is None
    assert proved_plan(stored(plan), "") is None


def test_one_of_another_version_is_known_and_not_used(plan: Plan) -> None:
    """Its digest is that of what was written, not of what this version would make of it."""
    from workflows.core.refs import digest

    older = copy.deepcopy(stored(plan))
    older["plan"]["something_else"] = 1
    known = digest(older["plan"])
    assert proved_document(older, known) == older["plan"]
    assert proved_plan(older, known) is None


def test_a_run_keeps_its_definition_or_is_refused(plan: Plan, tmp_path: Path) -> None:
    row = run_row(plan_digest=plan.definition)
    now = compiled(make_catalog(tmp_path / "other", w=W.replace("Go.", "Go on.")))
    assert kept_plan(now, stored(plan), row) == plan
    assert kept_plan(plan, stored(now), row) == plan, "what the catalog says is what the ledger knows"
    assert kept_plan(plan, None, row) == plan
    for manifest, why in ((stored(now), "was changed in its storage"), (None, "is not in its storage")):
        with pytest.raises(UsageError, match=why) as caught:
            kept_plan(now, manifest, row)
        assert "--use new" in caught.value.cure
