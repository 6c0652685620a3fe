"""What each failure of the Anthropic SDK means to us. Imported only once something failed."""

from __future__ import annotations

import email.utils
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import anthropic
import httpx2

from blocks.current_time import now_utc
from blocks.models import (
    ADDRESS_CURE,
    AuthenticationFailed,
    Malformed,
    ModelError,
    QuotaExhausted,
    RequestRefused,
    Retryable,
    Terminal,
)
from blocks.providers.message_stream import limits_of
from workflows.core.text.cut_text import cut

_RETRYABLE_TYPES = {
    "overloaded_error": "overloaded",
    "api_error": "server",
    "rate_limit_error": "rate_limit",
    "timeout_error": "timeout",
}
_REFUSED_TYPES = ("invalid_request_error", "request_too_large")
_REGAIN = re.compile(r"regain access on (\d{4}-\d\d-\d\d)(?: at (\d\d:\d\d))?")
_SPENT = ("credit balance", "usage limits", "spend limit", "spending limit")
_SPENT_CODES = ("spend_limit", "billing_unavailable", "usage_limit_reached", "credit_balance")


def translate(error: Exception, secret: str, address: str | None = None) -> ModelError | None:
    """Our error for one that the SDK raised; None when it is not the provider's doing (a bug).

    `secret` never appears in the message, whatever the provider echoed. `address` is where the request went,
    where that is not the provider's own address.
    """
    found = _translate(error)
    if address and isinstance(found, Retryable) and found.kind == "connection":
        found.message += f" at {address} (ANTHROPIC_BASE_URL)"
        found.cure = ADDRESS_CURE
    if found is not None:
        found.message = found.message.replace(secret, "[key]")
        found.args = (found.message,)
    return found


def _translate(error: Exception) -> ModelError | None:
    if isinstance(error, anthropic.APIStatusError):
        return _from_status(error)
    if isinstance(error, (anthropic.APITimeoutError, httpx2.TimeoutException)):
        return Retryable("the provider was silent for too long", "timeout")
    if isinstance(error, anthropic.APIConnectionError):
        cause = error.__cause__
        return Retryable(f"no connection to the provider ({type(cause or error).__name__})", "connection")
    if isinstance(error, httpx2.TransportError):
        return Retryable(
            f"the connection was lost in the middle of the answer ({type(error).__name__})", "cut"
        )
    if isinstance(error, (json.JSONDecodeError, UnicodeDecodeError, anthropic.APIResponseValidationError)):
        return Malformed("the answer is not JSON", foreign=True)
    return None


def _from_status(error: anthropic.APIStatusError) -> ModelError:
    found = _meaning(error)
    if isinstance(error.body, str) and error.body.strip() and not isinstance(found, QuotaExhausted):
        found.cure = ADDRESS_CURE  # the API answers in JSON also when it refuses
    found.limits = limits_of(error.response.headers)
    return found


def _meaning(error: anthropic.APIStatusError) -> ModelError:
    if _is_spent(error):
        return QuotaExhausted(f"the provider's limit is spent: {_provider_words(error)}", _reset_at(error))
    kind = _retry_kind(error)
    if kind is None:
        return _terminal_error(error)
    return Retryable(f"{_label(error)}: {_provider_words(error)}", kind, _retry_after(error))


def _is_spent(error: anthropic.APIStatusError) -> bool:
    code = error.error_code or ""
    said = _provider_words(error).lower()
    return (
        error.status_code == 402
        or error.type == "billing_error"
        or any(part in code for part in _SPENT_CODES)
        or (error.status_code == 429 and _should_retry(error) is False)
        or (error.status_code in (200, 400, 403, 429) and any(words in said for words in _SPENT))
    )


def _retry_kind(error: anthropic.APIStatusError) -> str | None:
    """Which kind of `Retryable` this is, or None. An error event inside a stream carries status 200."""
    if _should_retry(error) is False:
        return None
    by_type = _RETRYABLE_TYPES.get(error.type or "")
    if by_type:
        return by_type
    status = error.status_code
    if status == 429:
        return "rate_limit"
    if status in (408, 504):
        return "timeout"
    if status == 529:
        return "overloaded"
    if status == 200:
        return "cut" if error.type is None else None
    return "server" if status == 409 or status >= 500 or _should_retry(error) else None


def _terminal_error(error: anthropic.APIStatusError) -> Terminal:
    said = _provider_words(error)
    if error.status_code == 401 or error.type == "authentication_error":
        return AuthenticationFailed(
            f"the provider refused the key: {said}", "set ANTHROPIC_API_KEY to a valid key, or add --offline"
        )
    cures = {
        400: "shorten the inputs or mend the agent's options that the message names",
        403: "use a key that may do this",
        404: "name a model that exists: see models.yaml of the catalog, and check ANTHROPIC_BASE_URL",
        413: "give the step fewer or smaller inputs",
    }
    cure = cures.get(error.status_code, "see the message; the provider says that trying again will not help")
    message = f"the provider refused the request ({_label(error)}): {said}"
    # Only what the API itself says of a request: a proxy's page says nothing about the conversation.
    if error.status_code in (400, 413) and error.type in _REFUSED_TYPES:
        too_long = error.status_code == 413 or "too long" in said.lower()
        return RequestRefused(message, cure, too_long=too_long)
    return Terminal(message, cure)


def _label(error: anthropic.APIStatusError) -> str:
    return f"{error.type or 'error'} {error.status_code}"


def _provider_words(error: anthropic.APIStatusError) -> str:
    """The provider's own words, or the first of the body."""
    text = error.api_message or (error.body if isinstance(error.body, str) else "") or error.message
    return cut(" ".join(str(text).split()), 300)


def _should_retry(error: anthropic.APIStatusError) -> bool | None:
    return {"true": True, "false": False}.get(error.response.headers.get("x-should-retry", ""))


def _retry_after(error: anthropic.APIStatusError) -> float | None:
    """Seconds to wait by the headers: `retry-after-ms`, or `retry-after` as seconds or date."""
    headers = error.response.headers
    milliseconds, text = _number(headers.get("retry-after-ms")), headers.get("retry-after")
    if milliseconds is not None:
        return milliseconds / 1000
    seconds = _number(text)
    if seconds is not None or not text:
        return seconds
    try:
        date = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (date.astimezone(UTC) - now_utc()).total_seconds())


def _number(text: Any) -> float | None:
    try:
        number = float(text)
    except (TypeError, ValueError):
        return None
    return number if 0 <= number < 1e9 else None


def _reset_at(error: anthropic.APIStatusError) -> datetime | None:
    match = _REGAIN.search(_provider_words(error))
    if match:
        return datetime.fromisoformat(f"{match[1]}T{match[2] or '00:00'}:00+00:00")
    seconds = _retry_after(error)
    return now_utc() + timedelta(seconds=seconds) if seconds else None
