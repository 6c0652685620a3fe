"""Known secret values, kept out of what a run stores, tells and sends to a model.

A handler runs as our own user, so it can find our keys (in `/proc`, in files) and return one, on purpose or
in an error message; a server can echo one in its answer. Known values are therefore replaced by
`[secret NAME]` in handler results, tool results, stored bodies, events and error messages. Only values as
they stand, in UTF-8 text or in JSON with its escapes, are found: an encoded, split or reversed one is not.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urlsplit

from workflows.core.errors import PhaselineError

LEAST = 8
"""Characters of the shortest value that is taken for a secret; shorter ones stand in ordinary text too."""

_NAME = re.compile(
    r".*_API_KEY|.*_TOKEN|.*_SECRET.*|.*_PASSWORD|AWS_SECRET_ACCESS_KEY|AWS_SESSION_TOKEN|PREFECT_API_AUTH_STRING",
    re.I,
)

Secrets = Mapping[str, str]
"""Names by value, longest value first."""


def known_secrets(environ: Mapping[str, str], also: Iterable[str] = ()) -> Secrets:
    """The secret values of an environment; `also` names variables that hold one whatever they are called."""
    named = {name for name in environ if _NAME.fullmatch(name)} | set(also)
    found = {
        value: name for name in sorted(named, reverse=True) for value in _values(name, environ.get(name, ""))
    }
    for value in _passwords(environ.get("PHASELINE_DATABASE_URL", "")):
        found.setdefault(value, "PHASELINE_DATABASE_URL")
    kept = (value for value in found if len(value) >= LEAST)
    return {value: found[value] for value in sorted(kept, key=lambda value: (-len(value), value))}


def _values(name: str, value: str) -> Iterator[str]:
    yield value.strip()
    if name == "PREFECT_API_AUTH_STRING":  # user:password
        yield value.strip().partition(":")[2]


def _passwords(url: str) -> Iterator[str]:
    try:
        password = urlsplit(url).password or ""
    except ValueError:  # no address; whoever connects says so
        return
    yield from (password, unquote(password))


def scrub_text(text: str, secrets: Secrets) -> str:
    """The text without the secrets. Escaped as in JSON they are found as well."""
    for value, name in secrets.items():
        for form in _forms(value):
            if form in text:
                text = text.replace(form, f"[secret {name}]")
    return text


@lru_cache(maxsize=256)
def _forms(value: str) -> tuple[str, ...]:
    escaped = (json.dumps(value, ensure_ascii=ascii_only)[1:-1] for ascii_only in (False, True))
    return tuple(dict.fromkeys((value, *escaped)))


def scrub_value(value: Any, secrets: Secrets) -> Any:
    """A JSON value without the secrets, in texts, keys and numbers."""
    if not secrets:
        return value
    if isinstance(value, str):
        return scrub_text(value, secrets)
    if isinstance(value, Mapping):
        return {scrub_value(key, secrets): scrub_value(item, secrets) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [scrub_value(item, secrets) for item in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        shown = scrub_text(str(value), secrets)
        return value if shown == str(value) else shown
    return value


def scrub_body(body: bytes, media_type: str, secrets: Secrets) -> bytes:
    """A body without the secrets. JSON stays JSON; a body without a secret stays as it is, byte for byte."""
    if not secrets:
        return body
    if "json" in media_type:
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            return _scrub_bytes(body, secrets)
        scrubbed = scrub_value(value, secrets)
        if scrubbed == value:
            return body
        return (json.dumps(scrubbed, ensure_ascii=False, indent=2) + "\n").encode("utf-8", "replace")
    return _scrub_bytes(body, secrets)


def _scrub_bytes(body: bytes, secrets: Secrets) -> bytes:
    for value, name in secrets.items():
        for form in _forms(value):
            body = body.replace(form.encode("utf-8", "surrogatepass"), f"[secret {name}]".encode())
    return body


@contextlib.contextmanager
def without_secrets(secrets: Secrets) -> Iterator[None]:
    """Errors for people leave this block with no secret in their message or cure."""
    try:
        yield
    except PhaselineError as error:
        scrub_error(error, secrets)
        raise


def scrub_error(error: PhaselineError, secrets: Secrets) -> None:
    """Takes the secrets out of every text an error carries."""
    for name, value in vars(error).items():
        if isinstance(value, (str, list, tuple)):
            clean = scrub_value(value, secrets)
            setattr(error, name, tuple(clean) if isinstance(value, tuple) else clean)
    error.args = tuple(scrub_text(a, secrets) if isinstance(a, str) else a for a in error.args)
