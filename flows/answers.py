"""What people and outside systems say, as it may be kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.secrets import known_secrets, scrub_value


def scrub_secrets(said: Any, environ: Mapping[str, str]) -> Any:
    """A JSON value without the secrets that the environment holds: an answer goes to the ledger as it is."""
    return scrub_value(said, known_secrets(environ))
