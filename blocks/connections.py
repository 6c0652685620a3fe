"""Which model connection the environment asks for; the implementations are imported when they are chosen."""

from __future__ import annotations

from collections.abc import Mapping

from blocks.models import ModelConnection
from workflows.core.errors import UsageError


def connect(
    environ: Mapping[str, str], offline: bool, *, key_variable: str = "ANTHROPIC_API_KEY"
) -> ModelConnection:
    """The connection that the environment asks for.

    `PHASELINE_MODEL=offline` means the same as `offline`. `key_variable` names the variable with the key
    (an agent's `connector: $ENV.NAME`). Raises UsageError when there is no usable key.
    """
    if offline or environ.get("PHASELINE_MODEL") == "offline":
        from blocks.offline import OfflineModel

        return OfflineModel()
    key = environ.get(key_variable, "").strip()
    if not key:
        raise UsageError(
            f"no model key: {key_variable} is not set",
            f"set {key_variable}, or add --offline to let the offline model answer",
        )
    from blocks.anthropic_api import AnthropicConnection

    return AnthropicConnection(key, environ.get("ANTHROPIC_BASE_URL") or None)
