"""Adding an agent to a registry somebody else wrote."""

from __future__ import annotations

import pytest
import yaml

from deployments.catalogs.scaffold import with_registered


@pytest.mark.parametrize(
    "text",
    [
        "agents: []\n",
        "# ours\nagents:   # none yet\n",
        "agents: null\n",
        "agents:\n  - id: one\n    status: active  # c\n\n  # 二\n  - id: two\n    domains:\n    - x\n",
        "agents:\n- id: one\n  domains:\n  - x\n",
        "agents:\n    - {id: one}",
        "agents:\r\n  - id: one\r\n",
    ],
)
def test_an_entry_is_added_and_the_rest_kept(text: str) -> None:
    made = with_registered(text, "ns/new-one")
    assert made is not None
    before = [a["id"] for a in yaml.safe_load(text)["agents"] or ()]
    assert [a["id"] for a in yaml.safe_load(made)["agents"]] == [*before, "ns/new-one"]
    for line in text.splitlines():
        if not line.startswith("agents:"):
            assert line in made


@pytest.mark.parametrize("text", ["agents: [{id: one}]\n", "agents: {\n", "other: 1\n", ""])
def test_what_cannot_be_extended_safely_is_left_alone(text: str) -> None:
    assert with_registered(text, "new-one") is None
