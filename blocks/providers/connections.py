"""Which model connection the environment asks for; the implementations are imported when they are chosen."""

from __future__ import annotations

import re
from collections.abc import Mapping

from blocks.models import ModelConnection
from workflows.core.catalog.connectors import DEFAULT_KEY
from workflows.core.errors import UsageError

_KEY = re.compile(r"[A-Za-z0-9._~+/=-]{8,}")
"""What the value of a variable that a connector names looks like: a bearer token (RFC 6750)."""


def connect(environ: Mapping[str, str], offline: bool, *, key_variable: str = DEFAULT_KEY) -> ModelConnection:
    """The connection that the environment asks for.

    `PHASELINE_MODEL=offline` means the same as `offline`. `key_variable` names the variable with the key
    (an agent's `connector: $ENV.NAME`). Raises UsageError when there is no usable key.
    """
    if offline or environ.get("PHASELINE_MODEL") == "offline":
        from blocks.offline import OfflineModel

        return OfflineModel()
    key = key_of(environ, key_variable)
    if not key:
        raise UsageError(
            f"no model key: {key_variable} is not set",
            f"set {key_variable}, or add --offline to let the offline model answer",
        )
    from blocks.providers.anthropic_api import AnthropicConnection

    return AnthropicConnection(key, environ.get("ANTHROPIC_BASE_URL") or None)


def key_of(environ: Mapping[str, str], variable: str) -> str:
    """The model key that a variable holds; empty when it is not set.

    Raises UsageError for a value that is no key: the catalog names the variable, so that a wrong name would
    send something else to the provider.
    """
    key = environ.get(variable, "").strip()
    if key and variable != DEFAULT_KEY and not _KEY.fullmatch(key):
        raise UsageError(
            f"what {variable} holds is no model key",
            "set it to a key (letters, digits and ._~+/=- without blanks), "
            f"or name another variable in the agent's `connector:`; unset, {DEFAULT_KEY} is used",
        )
    return key
