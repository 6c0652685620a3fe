"""The refund example of the default catalog: asked, answered by a person, booked once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.command import User


def asked(user: User, run_id: str, *words: str) -> str:
    """Starts the example offline; gives the id of what it asks."""
    answer = user.phaseline("run", "refund-with-approval", "--offline", "--json", "--run-id", run_id, *words)
    assert answer.code == 3, answer
    assert answer.document["status"] == "waiting"
    (wait,) = user.phaseline("inbox", "--run", run_id, "--json").document["waits"]
    assert wait["step"] == "decide" and set(wait["form"]["properties"]) == {"amount", "comment"}
    return str(wait["wait_id"])


def going_on(user: User, run_id: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Resumes the run; gives the steps' statuses and the values of the outputs."""
    document = user.phaseline("resume", run_id, "--json").completed
    places = document["places"].items()
    values = {name: json.loads(Path(place).read_text("utf-8")) for name, place in places}
    return {step["id"]: step["status"] for step in document["steps"]}, values


def test_an_approved_refund_is_booked_with_what_the_person_said(user: User, tmp_path: Path) -> None:
    books = tmp_path / "books"
    wait = asked(user, "refund-yes", "-i", "number=RF-77", "-i", f"register_folder={books}")
    refused = user.phaseline("answer", wait, "--data", '{"amount": 0}')
    assert refused.code == 2 and "amount" in refused.err
    assert user.phaseline("answer", wait, "--data", '{"amount": 900, "comment": "抱歉"}').code == 0
    statuses, values = going_on(user, "refund-yes")
    assert statuses.pop("decline") == "skipped" and set(statuses.values()) == {"completed"}
    decision = values["decision"]
    assert decision["approved"] is True and decision["by_timeout"] is False
    assert decision["data"] == {"amount": 900, "comment": "抱歉"}
    (vote,) = decision["votes"]
    assert set(vote) >= {"voter", "decision", "note", "at"}
    (file,) = books.iterdir()
    kept = json.loads(file.read_text("utf-8"))
    assert (file.name, kept["amount"], kept["decided_by"]) == ("RF-77.json", 900, [vote["voter"]])
    assert values["entry"]["file"] == str(file) and "抱歉" in values["approval_message"]["body"]


def test_a_rejected_refund_books_nothing(user: User, tmp_path: Path) -> None:
    books, note = tmp_path / "books", "缺发票"
    wait = asked(user, "refund-no", "-i", f"register_folder={books}")
    assert user.phaseline("answer", wait, "--reject", "--note", note).code == 0
    statuses, values = going_on(user, "refund-no")
    assert {name for name, status in statuses.items() if status == "skipped"} == {"record", "confirm"}
    assert values["decision"]["approved"] is False and values["decision"]["data"] == {}
    assert note in values["decline_message"]["body"]
    assert not books.exists()
