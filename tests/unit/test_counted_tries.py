"""What decides how long a fault is waited out is time: a part that counts again by itself multiplies with the
others. Whatever counts is listed here, and why it may."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("workflows", "blocks", "tasks", "flows", "deployments")
NAME = re.compile(
    r"(^|_)(TRIES|TRIED|TRY|ATTEMPTS?|RETRIES|AGAIN|MALFORMED|SET_ASIDE|ROUNDS|STARTS|WAKES|REVIVALS|REPAIRS?"
    r"|CONTINUATIONS|TIMES)$"
)
SETTING = re.compile(r"max_(\w+_)?(retries|attempts)", re.IGNORECASE)

NO_FAULT = {
    "workflows/core/graph/layout.py": {"for range(_SWEEPS)", "for range(_SWEEPS + 2)"},
    "workflows/core/graph/svg.py": {"for (True, False)"},
    "workflows/core/compile/salvage.py": {"for range(_ROUNDS)", "_ROUNDS"},
    "blocks/offline/values.py": {"for range(_DEPTH)"},
    "blocks/secrecy/forms.py": {"for range(_NESTED)", "for range(3)"},
    "deployments/prover/cases.py": {"for range(STARTS)", "STARTS"},
    "deployments/prover/sweep.py": {"for range(2)", "TRIES"},
}
"""Loops over what is drawn, searched, unfolded or proved: nothing in them waits for a part that is away."""

ALLOWED = {
    ("blocks/providers/anthropic_api.py", "max_retries"): "none: the SDK asks once",
    ("blocks/storage/s3_root.py", "total_max_attempts"): "one: botocore asks once",
    (
        "blocks/ledger/runs/interrupted.py",
        "MOST_REVIVALS",
    ): "a run that kills its process each time is left alone",
    ("blocks/storage/results.py", "_TRIES"): "a block that several save at once is no fault",
    ("blocks/storage/results.py", "for reversed(range(_TRIES))"): "the same",
    ("tasks/web/addresses.py", "_TRIED"): "addresses of one name, each tried once",
    ("tasks/web/http_request.py", "for range(REDIRECTS + 1)"): "redirects, each to another place",
    (
        "tasks/conversation/journal.py",
        "SET_ASIDE",
    ): "answers that the provider refuses afterwards: each is paid for",
    (
        "tasks/servers/client.py",
        "for (True, False)",
    ): "a session that had ended unseen is opened anew",
    ("tasks/servers/session.py", "for range(PAGES)"): "pages of one list of tools",
    ("tasks/servers/tools.py", "ROUNDS"): "questions of a server within one call",
    ("tasks/servers/tools.py", "for range(ROUNDS)"): "the same",
    ("tasks/limits/requests.py", "MALFORMED"): "answers that are none: each may have been paid for",
    ("tasks/conversation/turns.py", "_MAX_CONTINUATIONS"): "parts of one long answer: each is paid for",
    ("flows/run.py", "MOST_WAKES"): "a run that gets nothing done is not woken for ever",
    ("deployments/commands/prove.py", "PREFECT_CLIENT_MAX_RETRIES"): "of starts that are killed by the dozen",
    (
        "deployments/runs/continuation.py",
        "PREFECT_CLIENT_MAX_RETRIES",
    ): "six seconds, by a command that answers a question",
    (
        "deployments/runs/local_run.py",
        "PREFECT_CLIENT_MAX_RETRIES",
    ): "where patience is shorter than Prefect's own minute",
    (
        "deployments/server/unavailable.py",
        "for range(_TRIES)",
    ): "half a second in which Prefect's senders end",
    ("deployments/server/supervisor.py", "for (port, 0)"): "the port that was asked for, else any",
    ("deployments/server/supervisor.py", "for range(20)"): "four seconds in which a port is given back",
}


def test_every_count_of_tries_is_known_and_has_its_reason() -> None:
    found = {
        (file.relative_to(ROOT).as_posix(), count)
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
        for count in counts(file.read_text("utf-8"))
    }
    unknown = found - {(file, count) for file, known in NO_FAULT.items() for count in known}
    assert unknown == set(ALLOWED), "let blocks/patience.py wait, or say here why this counts"


def test_what_counts_is_found() -> None:
    assert set(counts("TRIES = 3\nfor again in (True, False): pass\nfor _ in range(20): pass")) == {
        "TRIES",
        "for (True, False)",
        "for range(20)",
    }
    assert set(counts("class A:\n    _MOST_ATTEMPTS: int = 4\nclient(max_retries=2)")) == {
        "_MOST_ATTEMPTS",
        "max_retries",
    }
    assert set(counts("environ['PREFECT_CLIENT_MAX_RETRIES'] = '2'")) == {"PREFECT_CLIENT_MAX_RETRIES"}
    assert not set(counts("for n in range(len(x)): pass\nfor a in (b, c): pass\nTRIES = MOST = how_many()"))


def counts(source: str) -> Iterator[str]:
    """What looks like a count of tries: loops a fixed number of times, constants and settings named so."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.For | ast.AsyncFor) and is_fixed(node.iter):
            yield f"for {ast.unparse(node.iter)}"
        elif isinstance(node, ast.Assign | ast.AnnAssign) and is_number(node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (t.id for t in targets if isinstance(t, ast.Name) and NAME.search(t.id))
        elif isinstance(node, ast.keyword) and node.arg and SETTING.search(node.arg):
            yield node.arg
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and SETTING.fullmatch(node.value.removeprefix("PREFECT_CLIENT_").removeprefix("total_"))
        ):
            yield node.value


def is_fixed(over: ast.expr) -> bool:
    """Whether a loop over this goes round a number of times that the source says."""
    if isinstance(over, ast.Tuple | ast.List):
        return any(is_number(one) for one in over.elts)
    if not isinstance(over, ast.Call) or not isinstance(over.func, ast.Name):
        return False
    if over.func.id == "reversed":
        return is_fixed(over.args[0])
    parts = [part for arg in over.args for part in ast.walk(arg)]
    known = all(part.id.isupper() for part in parts if isinstance(part, ast.Name))
    return over.func.id == "range" and known and not any(isinstance(part, ast.Call) for part in parts)


def is_number(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and isinstance(value.value, int)
