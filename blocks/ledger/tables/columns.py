"""The border between Python values and what the ledger's columns hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from blocks.ledger.tables.errors import LedgerError
from blocks.secrecy import secrets
from workflows.core.text.cut_text import cut

STEP_LIMIT = 64 * 1024
RUN_LIMIT = 1024 * 1024


def to_text(value: Any, what: str, limit: int = STEP_LIMIT) -> str:
    """A JSON value as text, without known secrets. LedgerError when it is not JSON, or longer than `limit`
    bytes.

    What is written here was masked before it was used; this only makes sure that nothing was forgotten.
    Numbers stay: they are ours, such as counts of tokens.
    """
    try:
        known, text = secrets.current_secrets(), _dump(value)
        if known.text(text) != text:
            text = _dump(known.value(value, ours=True))
    except (TypeError, ValueError, RecursionError) as error:
        raise LedgerError(f"{what} cannot be kept as JSON: {error}", "keep only JSON values in it") from error
    return _limit_size(text, what, limit)


def labels_text(labels: Mapping[str, Any]) -> str:
    """A run's labels as text, without known secrets. Paths stay whole: masked, they would lead nowhere.

    A path is a text that begins with "/", but for the text that somebody had routed.
    """
    known = secrets.current_secrets()
    return _limit_size(
        _dump({n: _mask_label(v, known) for n, v in labels.items()}), "the run's labels", RUN_LIMIT
    )


def _mask_label(label: Any, known: secrets.Secrets) -> Any:
    if isinstance(label, str):
        return label if label.startswith("/") else known.text(label)
    if isinstance(label, Mapping):
        return {
            n: known.value(v, ours=True) if n == "text" else _mask_label(v, known) for n, v in label.items()
        }
    if isinstance(label, list):
        before = ["", *label]
        return [
            known.value(word, ours=True) if said == "--text" else _mask_label(word, known)
            for said, word in zip(before, label, strict=False)
        ]
    return known.value(label, ours=True)


def _limit_size(text: str, what: str, limit: int) -> str:
    size = len(text.encode())
    if size > limit:
        raise LedgerError(
            f"{what} has {size} bytes; the ledger takes {limit}",
            "store the body as an artifact and keep its ref",
        )
    return text


def to_text_or_none(value: Any, what: str, limit: int = STEP_LIMIT) -> str | None:
    """The same, where None stays None."""
    return None if value is None else to_text(value, what, limit)


def _dump(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON may hold and no database does
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text


def from_text(text: str | None) -> Any:
    """The JSON value of a column; None for an empty one."""
    return None if text is None else json.loads(text)


def plain(text: str) -> str:
    """Text for people that every database takes, without known secrets: NUL and lone surrogates are
    replaced."""
    return secrets.current_secrets().text(address(text))


def address(text: str) -> str:
    """The same for where something lies: masked, it would lead nowhere."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def checked_path(step_path: str) -> str:
    """A step path itself; LedgerError when it could not be a key of the table."""
    if len(step_path) > 1000 or not step_path.isprintable():
        raise LedgerError(
            f"not a step path: {cut(step_path, 100)!r}", "give the step a shorter, printable id"
        )
    return step_path
