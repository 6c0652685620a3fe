"""`--latest online`: the provider's list decides what `latest` means, not the table of the catalog."""

from __future__ import annotations

import pytest

from deployments.runs.host import Notice
from deployments.runs.latest_models import newest_of, resolve_online
from tests.support.messages_api import MessagesApi
from workflows.core.catalog.contents import DEFAULT_ROOT, Catalog
from workflows.core.compile.compiler import compile_workflow
from workflows.core.errors import UsageError


def test_the_newest_active_model_of_each_line_is_taken() -> None:
    catalog = Catalog.load(DEFAULT_ROOT)
    families = {
        n: f.model_copy(update={"latest": "claude-opus-4-5"}) for n, f in catalog.models.families.items()
    }
    catalog.models = catalog.models.model_copy(update={"families": families})
    said: list[Notice] = []
    with MessagesApi() as api:
        environ = {"ANTHROPIC_API_KEY": "a-key", "ANTHROPIC_BASE_URL": api.base_url}
        resolve_online(catalog, environ, said.append)
    plan = compile_workflow(catalog.find_workflow("end-to-end-delivery"), catalog)
    assert plan.step("step-2").agents[0].model.id == "claude-opus-5-5"
    text = "claude-opus: latest is claude-opus-5-5 (models.yaml says claude-opus-4-5)"
    assert Notice("latest", text) in said


def test_without_a_key_the_cure_is_told() -> None:
    with pytest.raises(UsageError, match="needs a key") as caught:
        resolve_online(Catalog.load(DEFAULT_ROOT), {}, print)
    assert "ANTHROPIC_API_KEY" in str(caught.value)


def test_a_line_that_is_not_listed_keeps_its_table_entry() -> None:
    assert newest_of("opus", [{"line": "haiku", "id": "x", "created_at": "2026"}]) is None
