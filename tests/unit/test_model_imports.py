"""Start-up stays cheap: the heavy packages are imported when they are needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"anthropic", "prefect", "httpx2", "jsonschema", "sqlalchemy"}


def test_the_turn_loop_and_the_offline_model_import_nothing_heavy() -> None:
    program = (
        "import sys, tasks.conversation.turns, blocks.models, blocks.offline\n"
        "import blocks.providers.anthropic_api\n"
        "from blocks.providers.connections import connect\n"
        "connect({'ANTHROPIC_API_KEY': 'k'}, False)\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
