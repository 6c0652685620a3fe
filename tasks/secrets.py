"""Known secret values, kept out of what a step stores, tells and sends to a model.

A handler runs as our own user, so it can find our keys (in `/proc`, in files) and return one, on purpose or
in an error message; a server can echo one in its answer. Which values are known, and in which spellings they
are found, is said in blocks.secrecy.secrets.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from blocks.secrecy.secrets import LEAST, Secrets, known_secrets
from workflows.core.errors import PhaselineError

__all__ = [
    "LEAST",
    "Secrets",
    "known_secrets",
    "scrub_body",
    "scrub_error",
    "scrub_text",
    "scrub_value",
    "without_secret",
    "without_secrets",
]


def scrub_text(text: str, secrets: Mapping[str, str]) -> str:
    """The text without the secrets, in any spelling."""
    return _as_secrets(secrets).text(text)


def scrub_value(value: Any, secrets: Mapping[str, str]) -> Any:
    """A JSON value without the secrets, in texts, keys and numbers."""
    return _as_secrets(secrets).value(value)


def scrub_body(body: bytes, media_type: str, secrets: Mapping[str, str]) -> bytes:
    """A body without the secrets. JSON stays JSON; a body without a secret stays as it is, byte for byte."""
    return _as_secrets(secrets).body(body, media_type)


def _as_secrets(secrets: Mapping[str, str]) -> Secrets:
    return secrets if isinstance(secrets, Secrets) else Secrets(secrets)


@contextlib.contextmanager
def without_secrets(secrets: Mapping[str, str]) -> Iterator[None]:
    """Errors for people leave this block with no secret in their message or cure."""
    try:
        yield
    except PhaselineError as error:
        scrub_error(error, secrets)
        raise


def scrub_error(error: BaseException, secrets: Mapping[str, str]) -> None:
    """Takes the secrets out of every text an error carries."""
    known = _as_secrets(secrets)
    for name, value in vars(error).items():
        if isinstance(value, (str, list, tuple)):
            clean = known.value(value)
            setattr(error, name, tuple(clean) if isinstance(value, tuple) else clean)
    error.args = tuple(known.text(a) if isinstance(a, str) else a for a in error.args)


def without_secret(error: Exception, secrets: Mapping[str, str]) -> Exception:
    """An error of any kind, or, where it would tell a secret, what it says without it.

    It tells with what it carries, which is pickled with it, and with the errors it came from or holds.
    """
    told = " ".join(f"{each!s} {each!r} {vars(each)!r}" for each in _chain(error))
    known = _as_secrets(secrets)
    if known.text(told) == told:
        return error
    return RuntimeError(known.text(f"{type(error).__name__}: {error}"))


def _chain(error: BaseException) -> list[BaseException]:
    """The error, what it came from, and what a group of them holds; each once."""
    found: dict[int, BaseException] = {}
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in found:
            found[id(each)] = each
            waiting += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]
    return list(found.values())
