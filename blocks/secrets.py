"""The secret values this process knows, and how they are kept out of what it writes, tells and sends.

Secret is what the environment holds under a telling name (`DB_PASS`, `GH_PAT`, `STRIPE_KEY`, ...) or under a
name that a catalog takes a key or an MCP server's entry from, and every password or token within an address.
A server or a provider still gets them; what is kept, told or sent elsewhere holds `[secret NAME]`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from blocks.secret_forms import Replacer
from workflows.core.secret_names import HARMLESS, tells_secret

LEAST = 6
"""Characters of the shortest value that is taken for a secret: shorter ones stand in ordinary text too."""
_LEAST_DIGITS = 8
_LEAST_TOKEN = 12
"""Of what stands in an address without being called a password."""
_LEAST_LINE = 16
"""Of one line of a secret of several lines."""

_OURS = ("PHASELINE_HOME", "PHASELINE_CATALOG", "PHASELINE_STORAGE")

_COMMON = frozenset(
    {
        *("disabled", "enabled", "default", "localhost", "required", "optional", "unknown", "nothing"),
        *("anonymous", "standard", "production", "staging", "development", "testing", "public", "private"),
        *("internal", "external", "postgres", "postgresql", "anthropic", "phaseline", "prefect", "sqlite"),
        *("markdown", "admin", "administrator", "service", "offline", "online", "assistant", "message"),
        *("messages", "system", "content", "completed", "running", "waiting", "stopped", "failed"),
        *("cancelled", "skipped", "pending", "approve", "approved", "reject", "rejected", "string"),
        *("integer", "number", "boolean", "object", "workflow", "artifact", "storage", "ledger"),
        *("output", "outputs", "inputs"),
    }
)
"""Values no one may take for a secret: to mask them would break what we write ourselves."""

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>]+")
_PAIR = re.compile(r"(?:password|pwd|accountkey|sharedaccesskey)\s*=\s*['\"]?([^;'\"\s]+)", re.I)
"""Within the address of a database that is written as pairs."""
_HEADER = re.compile(r"[:=]\s*(?:Bearer\s+|Basic\s+|token\s+)?([^\s,;]{12,})", re.I)
_ESCAPED = b"\\u00"
"""What JSON may begin an ordinary letter with, though nobody needs to."""
_QUERY = re.compile(r"(.*[_-])?(sig|signature|token|key|secret|pass|password|passwd|pwd|auth|code)", re.I)

Source = Callable[[], Iterable[str]]

_named: set[str] = set()
_sources: list[Source] = []
_asking = threading.Lock()


class Secrets(Mapping[str, str]):
    """The names of secret values, by value; the longest value first."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = dict(sorted(names.items(), key=lambda entry: (-len(entry[0]), entry[0])))
        self._replacer = Replacer(self._names)

    def __getitem__(self, value: str) -> str:
        return self._names[value]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def text(self, text: str) -> str:
        """The text without the secrets."""
        return self._replacer.text(text) if self._names else text

    def value(self, value: Any, *, numbers: bool = True) -> Any:
        """A JSON value without the secrets, in texts, keys and, as long as `numbers` says so, numbers.

        What holds none is given back itself.
        """
        if not self._names:
            return value
        if isinstance(value, (Mapping, list, tuple)) and not self._is_in(value):
            return value
        return self._masked(value, numbers)

    def _is_in(self, value: Any) -> bool:
        try:
            text = json.dumps(value, ensure_ascii=False)  # to look at it whole is many times faster
        except (TypeError, ValueError, RecursionError):
            return True
        return self.text(text) != text

    def _masked(self, value: Any, numbers: bool) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            kept = ("uri", "sha256") if _is_ref(value) else ()
            return {
                self._masked(key, numbers): item if key in kept else self._masked(item, numbers)
                for key, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self._masked(item, numbers) for item in value]
        if numbers and isinstance(value, (int, float)) and not isinstance(value, bool):
            shown = self.text(str(value))
            return value if shown == str(value) else shown
        return value

    def values_of(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Values by name, each without the secrets; what is no JSON, such as a ref, stays as it is."""
        return {name: self.value(value) for name, value in given.items()}

    def body(self, body: bytes, media_type: str = "") -> bytes:
        """A body without the secrets. JSON stays JSON; one without a secret stays as it is, byte for byte."""
        if not self._names:
            return body
        if "json" in media_type and (_ESCAPED in body or self._replacer.body(body) != body):
            try:
                value = json.loads(body)
            except (ValueError, RecursionError):
                return self._replacer.body(body)
            scrubbed = self.value(value)
            if scrubbed == value:
                return body
            return (json.dumps(scrubbed, ensure_ascii=False, indent=2) + "\n").encode("utf-8", "replace")
        return body if "json" in media_type else self._replacer.body(body)


def _is_ref(value: Mapping[str, Any]) -> bool:
    """Whether it points at a body of ours. Its address is no text: changed, it would point nowhere."""
    uri, sha256 = value.get("uri"), value.get("sha256")
    known = isinstance(uri, str) and isinstance(sha256, str) and re.fullmatch("[0-9a-f]{64}", sha256)
    return bool(known) and str(uri).endswith(f"/{sha256}")


NONE = Secrets({})


def learn(names: Iterable[str]) -> None:
    """From here on the values of these variables are secrets of this process."""
    _named.update(names)


def learned() -> int:
    """How many names were learned so far."""
    return len(_named)


def learn_from(source: Source) -> None:
    """The same for the names that `source` gives; it is asked when a secret is first looked for."""
    _sources.append(source)


_last: tuple[tuple[Any, ...], Secrets] = ((), NONE)


def known() -> Secrets:
    """What this process knows now: of its environment, under telling names and those it has learned."""
    global _last
    if _sources:
        with _asking:  # whoever comes second waits: what is not learned yet would not be masked
            while _sources:
                learn(_sources[-1]())
                _sources.pop()
    # What it depends on is compared, not watched: whoever changes the environment need not think of this.
    now = (len(_named), *os.environ.items())
    if _last[0] != now:
        _last = now, known_secrets(os.environ)
    return _last[1]


def known_secrets(environ: Mapping[str, str], also: Iterable[str] = ()) -> Secrets:
    """The secret values of an environment; `also` names variables that hold one whatever they are called."""
    found: dict[str, str] = {}
    sure = {*also, *_named}
    for name in sorted(environ):
        value = environ[name]
        for secret in _of_variable(name, value, sure=name in sure):
            if is_secret(secret):
                found.setdefault(secret, name)
    return Secrets(found)


def is_secret(value: str) -> bool:
    """Whether a value can be told from ordinary text, so that it may be replaced wherever it stands."""
    if len(value) < LEAST or value.lower() in _COMMON:
        return False
    return len(value) >= _LEAST_DIGITS or not re.fullmatch(r"[\d.,:-]+", value)


def _of_variable(name: str, written: str, *, sure: bool) -> Iterator[str]:
    value = written.strip()
    if name in HARMLESS or not value:
        return
    yield from _within_addresses(value)
    yield from _PAIR.findall(value)
    if "HEADERS" in name:
        yield from _HEADER.findall(value)
    upper = name.upper()
    telling = tells_secret(name, value)
    if not (sure or telling) or _is_place(value) or _is_in_our_paths(value):
        return
    if _ADDRESS.fullmatch(value):
        if "HOOK" in upper:  # the address itself is what lets one in
            yield from _path_tokens(value)
        if not sure:
            return
    yield value
    yield from _parts(value)
    if "AUTH" in upper and ":" in value:  # user:password
        yield value.partition(":")[2]


def _is_place(value: str) -> bool:
    """Whether it says where a secret lies: to mask a path would break every address below it."""
    if not value.startswith(("/", "~/", "./", "../")):
        return False
    try:
        return Path(value).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # longer than a path can be, or nobody's home
        return False


def _is_in_our_paths(value: str) -> bool:
    """Whether our own files lie below a place of that name: masked, nothing would be found again."""
    places = [os.environ.get(name, "") for name in (*_OURS, "HOME")]
    with contextlib.suppress(OSError):  # of a folder that was removed
        places.append(str(Path.cwd()))
    return any(value in place for place in places)


def _parts(value: str) -> Iterator[str]:
    """What of a secret of several lines (a key file, a JSON document) is one by itself."""
    lines = [line.strip() for line in value.splitlines()]
    if len(lines) > 1:
        yield from (line for line in lines if len(line) >= _LEAST_LINE and not line.startswith("-----"))
    if value.startswith("{"):
        try:
            held = json.loads(value)
        except (ValueError, RecursionError):
            return
        for key, inner in held.items() if isinstance(held, dict) else ():
            if isinstance(inner, str) and tells_secret(key, inner):
                yield inner.strip()
                yield from _parts(inner)


def _within_addresses(text: str) -> Iterator[str]:
    """The passwords and tokens of all addresses in a text."""
    if "://" not in text:
        return
    for address in (text, *_ADDRESS.findall(text)):
        yield from _within(address)


def _within(address: str) -> Iterator[str]:
    try:
        parts = urlsplit(address)
        user, password = parts.username or "", parts.password or ""
    except ValueError:  # no address; whoever connects says so
        return
    if password:
        yield from (password, unquote(password))
    if user and password in ("", "x-oauth-basic") and len(user) >= _LEAST_TOKEN:
        yield from (user, unquote(user))
    for key, value in parse_qsl(parts.query):
        if _QUERY.fullmatch(key):
            yield value


def _path_tokens(address: str) -> Iterator[str]:
    """The parts of a webhook's path that let one in: a caller needs nothing else."""
    parts = urlsplit(address)
    whole = parts.path.strip("/")
    yield from (part for part in (whole, *whole.split("/")) if len(part) >= _LEAST_TOKEN)


def url_without_password(address: str) -> str:
    """An address as people may see it: user, password and the values of telling query keys are hidden."""
    return Secrets(dict.fromkeys(_within_addresses(address), "address")).text(address)
