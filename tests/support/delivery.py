"""What the end-to-end delivery asks a model, and how a scripted model answers it."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Mapping
from typing import Any

PROMPTS = {
    "step-1": "根据用户反馈表 user_feedback 和市场调研 market_research 写产品规格",
    "step-2": "根据产品规格 product_spec 写技术方案",
    "step-3": "按技术方案 tech_design_doc，用 training_data 训练模型",
    "step-4": "从你的专业角度评审这次交付",
}
"""How each step's prompt begins; no answer below repeats these words."""

EDGES = {
    ("step-1", "step-2"),
    ("step-2", "step-3"),
    ("step-1", "step-4"),
    ("step-2", "step-4"),
    ("step-3", "step-4"),
}
"""The edges the workflow declares, by depends_on or by reading what another step makes."""

NODES = 7
"""Task runs of the workflow: four steps and the three members of the panel."""

ANSWERS = {
    "step-1": "# 产品规格\n\n标记 spec-7431。先做升级预警。\n\n| 编号 | 需求 |\n|---|---|\n| R1 | 预警 |\n",
    "step-2": "# 技术方案\n\n标记 design-2958。一个分类服务。\n",
    "step-3": "# 交付说明\n\n标记 model-6106。宏平均 F1 0.81。\n",
    "step-4": "# 评审\n\n标记 review-3377。有条件通过。\n",
}
TOOLS = [
    {"name": "data-analysis__describe_table", "input": {"table": "user_feedback"}},
    {"name": "product-design__summarise_feedback", "input": {"feedback": "user_feedback"}},
    {"name": "product-design__extract_requirements", "input": {"document": "market_research"}},
]
"""What step-1 calls first, all in one answer."""


def step_of(body: Mapping[str, Any]) -> str:
    """The step that made a request."""
    texts = [block["text"] for block in body["messages"][0]["content"]]
    (step,) = {step for step, prompt in PROMPTS.items() for t in texts if t.lstrip().startswith(prompt)}
    return step


def documents_of(body: Mapping[str, Any]) -> dict[str, str]:
    """The documents of a request's first message, by name."""
    text = "\n".join(block["text"] for block in body["messages"][0]["content"])
    return dict(re.findall(r'<document name="([^"]+)"[^>]*>\n(.*?)</document>', text, re.S))


def turn_of(body: Mapping[str, Any]) -> int:
    """How many answers the request already holds."""
    return sum(message["role"] == "assistant" for message in body["messages"])


class Writer:
    """Answers every step of the delivery; usable as `MessagesApi.answer_with`.

    faults: replies that come first, by step and turn; each is used once, in order.
    held: steps whose requests are not answered until `release`.
    """

    def __init__(
        self,
        faults: Mapping[tuple[str, int], list[dict[str, Any]]] | None = None,
        held: frozenset[str] = frozenset(),
    ) -> None:
        self._faults = {place: list(replies) for place, replies in (faults or {}).items()}
        self._held = held
        self.reached = threading.Event()
        """Set when a held step has asked."""

    def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
        step, turn = step_of(body), turn_of(body)
        if step in self._held:
            self.reached.set()
            return {"latency": 3600}
        if left := self._faults.get((step, turn)):
            return left.pop(0)
        if step == "step-1" and turn == 0:
            return {"tools": TOOLS, "thinking": "先取数，再下结论。"}
        return {"text": ANSWERS[step]}

    def hold(self, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
        """Wait until a held step has asked; fails when it does not, or when the process ends before."""
        deadline = time.monotonic() + seconds
        while not self.reached.wait(0.05):
            assert process.poll() is None, f"it ended with exit code {process.returncode} before it asked"
            assert time.monotonic() < deadline, "the held step never asked"

    def release(self) -> None:
        """Answer from now on; a request that is held stays so."""
        self._held = frozenset()
