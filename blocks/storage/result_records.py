"""Prefect's stored results, checked before Prefect sees them.

A stored result names by itself how it is to be read: its serializer, modules that this imports, functions
that it calls, another block to read from. So whoever may write to the storage could run code in every process
that reads a result. Therefore only what has the exact form of what is written here is read, a text or
none, and Prefect is handed that in our own spelling: only the text and its time of expiry are taken over.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

LARGEST = 16 * 2**20
"""Bytes of a record. A result is refs and figures; a larger one is not ours."""

SERIALIZER = {
    "type": "json",
    "jsonlib": "json",
    "object_encoder": "prefect.serializers.prefect_json_object_encoder",
    "object_decoder": "prefect.serializers.prefect_json_object_decoder",
    "dumps_kwargs": {},
    "loads_kwargs": {},
}
"""What results are written with. Its decoder makes objects of any class; a text none: `_checked_text`."""

_RECORD = {"metadata", "result"}
_METADATA = {"storage_key", "expiration", "serializer", "prefect_version", "storage_block_id"}


class ForeignResult(ValueError):
    """What is stored under a result's key is not what is written there."""


def checked_record(body: bytes, key: str, block_id: str | None) -> bytes:
    """A stored record of the result `key` in our own spelling, as read through the block `block_id`.

    Raises ForeignResult for anything that is not a text, or nothing, in the form it is written in.
    """
    if len(body) > LARGEST:
        raise ForeignResult(f"it has {len(body)} bytes; {LARGEST} is the most")
    record = _checked_object(_parse_json(body), _RECORD, "the record")
    metadata = _checked_object(record["metadata"], _METADATA, "its metadata")
    if metadata["serializer"] != SERIALIZER:
        raise ForeignResult("it names another serializer")
    if metadata["storage_key"] != key:
        raise ForeignResult("it was stored under another key")
    made = {
        "storage_key": key,
        "expiration": _checked_moment(metadata["expiration"]),
        "serializer": SERIALIZER,
        "prefect_version": _checked_version(metadata["prefect_version"]),
        "storage_block_id": block_id,
    }
    return json.dumps({"metadata": made, "result": json.dumps(_checked_text(record["result"]))}).encode()


def is_empty(checked: bytes) -> bool:
    """Whether a checked record holds nothing."""
    return json.loads(json.loads(checked)["result"]) is None


def _parse_json(body: bytes | str) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ForeignResult("it is not JSON") from None


def _checked_object(value: Any, names: set[str], what: str) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != names:
        raise ForeignResult(f"{what} has another form")
    return value


def _checked_text(result: Any) -> str | None:
    value = _parse_json(result) if isinstance(result, str) else result
    if not isinstance(result, str) or not (value is None or isinstance(value, str)):
        raise ForeignResult("its result is no text")
    return value


def _checked_moment(written: Any) -> str | None:
    if written is None:
        return None
    try:
        moment = datetime.fromisoformat(written)
    except (TypeError, ValueError):
        raise ForeignResult("its time of expiry is none") from None
    if moment.tzinfo is None:
        raise ForeignResult("its time of expiry has no time zone")
    return moment.isoformat()


def _checked_version(version: Any) -> str:
    if not isinstance(version, str) or len(version) > 100:
        raise ForeignResult("its version is none")
    return version
