"""Refs: the small values that travel between steps in place of bodies."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""What a `run_id` may look like (matched whole)."""


class Ref(BaseModel):
    """Points at one stored body. The digest is its identity; `uri` only says where it lay when written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    uri: str = Field(description="Where the body was stored: file:// or s3:// address.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Digest of the body, lower-case hex.")
    size: int = Field(ge=0, description="Bytes.")
    media_type: str = Field(description="Such as text/markdown, application/json, text/csv.")
    kind: str = Field(
        description="What it is to people: the output's name, 'input', 'answer', 'tool-result'."
    )
    summary: str = Field(default="", max_length=400, description="One or two lines for people and prompts.")
    tenant: str = Field(default="default")
    run_id: str = Field(default="")
    step: str = Field(default="", description="Path of the producing step; empty for an input.")
    offline: bool = Field(default=False, description="Made by the offline model, not by a real one.")


def canonical_json(value: Any) -> str:
    """The one spelling of a JSON value that hashes are made of. Raises TypeError on what is not JSON."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """sha256 (hex) of a JSON value's canonical spelling."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def digest_bytes(body: bytes) -> str:
    """sha256 (hex) of a body."""
    return hashlib.sha256(body).hexdigest()
