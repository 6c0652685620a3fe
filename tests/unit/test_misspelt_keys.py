"""Every key of every written model, misspelt, is an unknown key whose cure names the right one."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from workflows.core.models import agent, registry, robot, skill, workflow
from workflows.core.models.written import Written
from workflows.core.read.source import Source
from workflows.core.read.validation import read_model

MODELS = sorted(
    {
        value
        for module in (agent, registry, robot, skill, workflow)
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, BaseModel)
        and value is not Written
        and value.model_fields
    },
    key=lambda m: (m.__module__, m.__name__),
)


def misspelt(key: str) -> str:
    """The key with its last letter twice, or with a letter more when it is short."""
    return key + key[-1]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: f"{m.__module__.rpartition('.')[2]}.{m.__name__}")
def test_each_key_misspelt(model: type[BaseModel]) -> None:
    for name, info in model.model_fields.items():
        key = info.alias or name
        wrong = misspelt(key)
        _, mistakes = read_model(model, Source("f", {wrong: 1}, {(wrong,): (3, 7)}, {(wrong,): (3, 2)}))
        told = [m for m in mistakes if m.message == f"unknown key '{wrong}'"]
        assert len(told) == 1 and (told[0].line, told[0].column, told[0].path) == (3, 2, wrong)
        assert f"'{key}'" in told[0].cure or key in told[0].cure


@pytest.mark.parametrize("model", MODELS, ids=lambda m: f"{m.__module__.rpartition('.')[2]}.{m.__name__}")
def test_each_key_of_a_wrong_type(model: type[BaseModel]) -> None:
    """A nested list suits no key: all that take something particular say so, and nothing else happens."""
    for name, info in model.model_fields.items():
        key = info.alias or name
        for wrong in ([[[]]], {"?": {"?": []}}, "\u0000", -1, 1e300, True, None, ""):
            _, mistakes = read_model(model, Source("f", {key: wrong}, {(key,): (3, 7)}))
            for mistake in mistakes:
                assert mistake.message and mistake.cure and mistake.line in (1, 3), (key, wrong, mistake)
                assert "pydantic" not in str(mistake) and "Input" not in mistake.message, mistake
