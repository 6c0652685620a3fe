"""A call of somebody's webhook, signed as Standard Webhooks describes (standardwebhooks.com, v1).

`webhook-id` is the effect's idempotency key: a receiver that keeps to the standard processes an id once, so
that sending again is safe.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from typing import Any
from urllib.parse import urlsplit

from tasks.effects.calls import NotPerformed
from tasks.effects.gate import EffectGate
from tasks.tools import ToolResult
from tasks.web.answers import body_of, exchange, judge
from workflows.core.errors import UsageError

SECONDS = 30.0
"""Within which a receiver has to answer."""
ANSWER_BYTES = 16 * 1024
"""Of an answer that are kept."""
PREFIX = "whsec_"


async def deliver(
    gate: EffectGate, url: str, payload: Any, *, ordinal: int = 0, secret: str | None = None
) -> ToolResult:
    """The webhook called once for this step, payload and ordinal, through the effect gate.

    Raises what `EffectGate.perform` raises, and UsageError for a secret that is none.
    """
    signing = None if secret is None else signing_key(secret)

    async def send(key: str) -> ToolResult:
        return await _call(url, payload, key, signing, SECONDS)

    return await gate.perform(
        kind="webhook",
        tool=f"webhook {urlsplit(url).netloc.rpartition('@')[2]}",
        arguments={"url": url, "payload": payload},
        effect="idempotent",
        ordinal=ordinal,
        send=send,
    )


async def call_webhook(
    url: str, payload: Any, *, key: str, secret: str | None = None, seconds: float = SECONDS
) -> ToolResult:
    """POST a JSON payload, once. Gives status and answer of a receiver that took it.

    `key` identifies the message; `secret` signs it (`whsec_` and base64, or any text). Raises NotPerformed
    when it was definitely not taken, Unsure when it may have been, UsageError for a secret that is none.
    """
    return await _call(url, payload, key, None if secret is None else signing_key(secret), seconds)


async def _call(url: str, payload: Any, key: str, signing: bytes | None, seconds: float) -> ToolResult:
    import httpx2

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NotPerformed("The webhook's address is no http:// or https:// address.")
    if parts.username is not None or parts.password is not None:
        raise NotPerformed("The webhook's address may not hold a user name or password.")
    body = json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    headers = {"content-type": "application/json", **signed_headers(key, int(time.time()), body, signing)}
    async with exchange(parts.hostname, seconds), httpx2.AsyncClient(timeout=seconds) as client:
        request = client.build_request("POST", url, content=body, headers=headers)
        response = await client.send(request, stream=True)
        try:
            status, reason = response.status_code, response.reason_phrase
            if status >= 400:
                told = f"The webhook at {parts.hostname} answered HTTP {status} {reason}".strip()
                judge(status, f"{told}.", "POST")
            if status >= 300:
                raise NotPerformed(f"The webhook at {parts.hostname} redirects; give its final address.")
            answer = await _answer(response)
        finally:
            await response.aclose()
    return ToolResult(f"HTTP {status} {reason}".strip() + (f"\n{answer}" if answer else ""))


async def _answer(response: Any) -> str:
    import httpx2

    try:
        body, _ = await body_of(response, ANSWER_BYTES)
    except httpx2.HTTPError:
        return ""  # it was taken; what else it said is not needed
    return body.decode("utf-8", "replace").strip()


def signing_key(secret: str) -> bytes:
    """The bytes that sign: of `whsec_` and base64, or of any other text. UsageError for broken base64."""
    if not secret.startswith(PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise UsageError(
            f"the webhook's secret begins with {PREFIX} and goes on with something that is not base64",
            "copy the secret again from the receiver's settings",
        ) from None


def signed_headers(key: str, timestamp: int, body: bytes, signing: bytes | None) -> dict[str, str]:
    """The three headers of the standard; without a key the signature is left out. `timestamp` in seconds."""
    headers = {"webhook-id": key, "webhook-timestamp": str(timestamp)}
    if signing is not None:
        content = f"{key}.{timestamp}.".encode() + body
        signature = base64.b64encode(hmac.new(signing, content, hashlib.sha256).digest()).decode()
        headers["webhook-signature"] = f"v1,{signature}"
    return headers
