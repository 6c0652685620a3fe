"""Who asks the host what time it is: nobody who decides by time. The ledger's clock is asked for that."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAY_ASK = {
    "blocks/current_time.py": "it is where the ledger's clock asks, which judges the answer",
    "blocks/patience.py": "shows people since when something is waited for",
    "blocks/process/file_locks.py": "shows people for how long a process has held a lock",
    "deployments/runs/wake_attempts.py": "compares with the times of files, which the host writes",
    "deployments/runs/background_wakes.py": "the same",
    "deployments/startup/working_folder.py": "names a folder",
    "deployments/services/start.py": "names a run",
    "flows/wakes.py": "Prefect goes by the host's clock: what is given to it is how long the ledger waits",
    "tasks/web/webhook.py": "signs a request with the time",
}
ASKING = ("time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "date.today")


def asking(root: Path) -> Iterator[str]:
    for package in ("workflows/core", "blocks", "tasks", "flows", "deployments"):
        for file in sorted((root / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
                    continue
                if f"{node.value.id}.{node.attr}" in ASKING:
                    yield str(file.relative_to(root))


def test_only_these_ask_the_host() -> None:
    assert set(asking(ROOT)) == set(MAY_ASK)
