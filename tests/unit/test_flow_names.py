"""Names that become names of Prefect flows and of their parameters: what `check` must refuse."""

from __future__ import annotations

import keyword

import pytest
from pydantic import BaseModel

from workflows.core.compile.inputs import RESERVED
from workflows.core.models.registry import RoutingRule
from workflows.core.models.workflow import Workflow


@pytest.mark.parametrize("name", ["a/b", "R&D", "100%", "<x>", "a>b", ".x", " x", "x ", "a\x85b", "a\u2028b"])
def test_names_prefect_refuses(name: str) -> None:
    steps = [{"id": "a", "agent": "b"}]
    for model, value in (
        (Workflow, {"workflow": name, "steps": steps}),
        (RoutingRule, {"name": name, "pattern": "x"}),
    ):
        with pytest.raises(ValueError, match="a name may not"):
            model.model_validate(value)


@pytest.mark.parametrize("name", ["周报 2", "a.b-c_d", "What's next?", "(x) [y] {z}", "1.10", "x" * 120])
def test_names_that_stay(name: str) -> None:
    made = Workflow.model_validate({"workflow": name, "steps": [{"id": "a", "agent": "b"}]})
    assert made.workflow == name


def test_what_no_input_may_be_called() -> None:
    assert set(keyword.kwlist) | {"run_id", "offline", "self", "return_state", "wait_for"} <= set(RESERVED)
    assert {"schema", "model_config", "copy", "json", "dict", "validate"} <= set(RESERVED)
    assert all(hasattr(BaseModel, n) for n, why in RESERVED.items() if "model" in why)
    assert not {"topic", "request", "name", "id", "type", "file", "data", "text", "steps"} & set(RESERVED)
