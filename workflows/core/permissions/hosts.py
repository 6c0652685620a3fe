"""Which hosts a list of patterns allows."""

from __future__ import annotations

from collections.abc import Sequence

from workflows.core.tools.rules import ENDPOINT


def match_endpoint(scheme: str, host: str, port: int, endpoints: Sequence[str]) -> str | None:
    """The first pattern that allows a host: `example.com`, `*.example.com` (below it, at any depth), `*`.

    A pattern without a scheme or port allows any.
    """
    for pattern in endpoints:
        found = ENDPOINT.fullmatch(pattern)
        if found is None or found["scheme"] not in (None, scheme):
            continue
        if found["port"] is not None and int(found["port"]) != port:
            continue
        wanted = found["host"].strip("[]").lower()
        if wanted in ("*", host.lower()) or (wanted.startswith("*.") and host.lower().endswith(wanted[1:])):
            return pattern
    return None
