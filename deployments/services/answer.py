"""Deciding what a run asks, and telling runs what happened outside."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from blocks.ledger import Ledger
from blocks.ledger.waits.waits import Decision, Delivery, WaitRow
from deployments.runs.caller import Caller
from deployments.runs.continuation import GoingOn, let_go_on
from deployments.runs.host import Host, Notice
from deployments.runs.lookup import learn_secrets_of, open_ledger
from deployments.runs.sweep import sweep
from flows.answers import scrub_secrets
from workflows.core.compile.inputs import read_json
from workflows.core.errors import UsageError

_WORDS = {"yes": True, "no": False, "true": True, "false": False}


@dataclass(frozen=True)
class AnswerRequest:
    """What somebody says to a question."""

    caller: Caller
    wait_id: str
    decision: Decision = "approve"
    data: Mapping[str, Any] | None = None
    """The form's fields; None when it was not filled in."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Further fields, as text which the form says how to read."""
    note: str = ""
    instead_of: str | None = None
    """For whom the caller speaks. Only a ledger of one machine takes that."""


@dataclass(frozen=True)
class AnswerEnd:
    """The question as it stands after an answer, and what follows."""

    wait: WaitRow
    voter: str
    after: GoingOn

    @property
    def document(self) -> dict[str, Any]:
        """What `answer --json` prints."""
        return {
            "wait_id": self.wait.wait_id,
            "run_id": self.wait.run_id,
            "step": self.wait.step_path,
            "state": self.wait.state,
            "voter": self.voter,
            "answer": self.wait.answer,
            "decided_by": self.wait.decided_by,
            **self.after.to_document(),
        }


@dataclass(frozen=True)
class EventRequest:
    """What happened outside. The same key and id twice are one event."""

    caller: Caller
    type: str
    key: str = ""
    event_id: str = ""
    """Empty: a new one is made up."""
    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EventEnd:
    """What became of an event, and what follows where it answered a wait."""

    request: EventRequest
    event_id: str
    delivery: Delivery
    after: GoingOn | None

    @property
    def document(self) -> dict[str, Any]:
        """What `event --json` prints."""
        told, wait = self.delivery, self.delivery.wait
        result = "duplicate" if told.duplicate else "answered" if wait else "kept"
        document: dict[str, Any] = {
            "event_id": self.event_id,
            "type": self.request.type,
            "key": self.request.key,
        }
        document |= {"result": result, "duplicate": told.duplicate, "differs": told.differs}
        if wait is None or self.after is None:
            return {**document, "wait_id": None, "run_id": None}
        answers = {"wait_id": wait.wait_id, "run_id": wait.run_id, "step": wait.step_path}
        return {**document, **answers, **self.after.to_document()}


def answer_wait(request: AnswerRequest, host: Host) -> AnswerEnd:
    """Records the answer; a run that its worker continues is woken. Raises UsageError, LedgerError."""
    caller = request.caller
    voter, account, note = _identify(request)
    with open_ledger(caller, decides=True) as ledger:
        known = ledger.waits.get_blocking(caller.tenant, request.wait_id)
        if known is not None:
            learn_secrets_of(ledger.reader.get_run(caller.tenant, known.run_id))
        # Not the run this is about: it would be at work in the background when it is to go on here.
        sweep(ledger, caller, host.notify, but=known.run_id if known else "")
        row = _vote(request, ledger, voter, account, note)
        return AnswerEnd(row, voter, let_go_on(ledger, row.run_id, caller, host))


def deliver_event(request: EventRequest, host: Host) -> EventEnd:
    """Keeps the event, and lets what it answers go on. Raises UsageError, LedgerError."""
    caller = request.caller
    payload = scrub_secrets(dict(request.payload), caller.environ)
    event_id = request.event_id or uuid.uuid4().hex
    with open_ledger(caller, decides=True) as ledger:
        told = ledger.waits.deliver(caller.tenant, request.type, request.key, event_id, payload)
        wait = told.wait
        # Only then is it known which run this is about.
        sweep(ledger, caller, host.notify, but=wait.run_id if wait else "")
        if told.differs:
            text = f"the event {event_id} came before and said something else; that stays"
            host.notify(Notice("event", text))
        after = let_go_on(ledger, wait.run_id, caller, host) if wait is not None else None
    return EventEnd(request, event_id, told, after)


def read_field(text: str, schema: Any) -> Any:
    """A field's text as its schema wants it; what does not fit stays a text, for the form to refuse."""
    schema = schema if isinstance(schema, Mapping) else {}
    kinds = schema.get("type")
    if "string" in (kinds if isinstance(kinds, list) else [kinds]):
        return text
    if kinds == "boolean":
        return _WORDS.get(text.strip().lower(), text)
    if text in (schema.get("enum") or ()):
        return text
    with contextlib.suppress(ValueError, RecursionError):
        return read_json(text)
    return text


def _identify(request: AnswerRequest) -> tuple[str, str, str]:
    """Who answers, by which account (none where another one spoke for them), and the note that is kept."""
    caller = request.caller
    if request.instead_of is None or request.instead_of == caller.asker:
        return caller.asker, caller.account, request.note
    if caller.settings().shared:
        raise UsageError(
            "--as is for a ledger on this machine; this one is shared",
            f"answer as yourself ({caller.asker})",
        )
    return request.instead_of, "", f"{request.note} (by {caller.asker})".strip()


def _vote(request: AnswerRequest, ledger: Ledger, voter: str, account: str, note: str) -> WaitRow:
    tenant, environ = request.caller.tenant, request.caller.environ
    known = ledger.waits.get_blocking(tenant, request.wait_id)
    data = _fill_in(request, known.form if known is not None else {})
    data, note = scrub_secrets(data, environ), scrub_secrets(note, environ)
    return ledger.waits.vote(
        tenant,
        request.wait_id,
        voter,
        request.decision,
        data,
        note=note,
        local_admin=voter != request.caller.asker,
        account=account,
    )


def _fill_in(request: AnswerRequest, form: Mapping[str, Any]) -> dict[str, Any] | None:
    """The answer's fields; None when none is given."""
    known = form.get("properties") or {}
    fields = {name: read_field(text, known.get(name)) for name, text in request.fields.items()}
    return {**(request.data or {}), **fields} if fields or request.data is not None else None
