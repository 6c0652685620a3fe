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
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from blocks.secrecy.forms import Replacer, forms_of
from workflows.core.text.own_words import OWN_WORDS
from workflows.core.tools.secret_names import HARMLESS, tells_secret

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
        *(word.lower() for word in OWN_WORDS),
        *("password", "passwd", "changeme", "username", "database", "account", "article", "section"),
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

_ORDINARY = re.compile(r"(?=.{6,24}$)(?:[A-Z]?[a-z]+|[A-Z]+)(?:[_-](?:[A-Z]?[a-z]+|[A-Z]+))*[0-9]{0,4}")
"""A value that may as well be the name of something: words, and a few digits at most."""

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
        self._telling: Replacer | None = None

    def __getitem__(self, value: str) -> str:
        return self._names[value]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def text(self, text: str) -> str:
        """The text without the secrets."""
        return self._replacer.text(text) if self._names else text

    def apart_from(self, names: Iterable[str]) -> Secrets:
        """Those of them that stand in none of the names."""
        text = "\n".join(names)
        met = {secret for secret in self._names if any(form in text for form in forms_of(secret))}
        return Secrets({s: name for s, name in self._names.items() if s not in met}) if met else self

    def value(self, value: Any, *, ours: bool = False) -> Any:
        """A JSON value without the secrets, in texts, keys and numbers. What holds none is given back itself.

        In a document of `ours` numbers stay, such as counts of tokens, and so do our own words and refs; a
        key is a name there, in which an ordinary word is no secret.
        """
        if not self._names:
            return value
        if isinstance(value, (Mapping, list, tuple)) and not self._is_in(value):
            return value
        return self._mask_value(value, ours)

    def _is_in(self, value: Any) -> bool:
        try:
            text = json.dumps(value, ensure_ascii=False)  # to look at it whole is many times faster
        except (TypeError, ValueError, RecursionError):
            return True
        return self.text(text) != text

    def _mask_value(self, value: Any, ours: bool) -> Any:
        if isinstance(value, str):
            return value if ours and value in OWN_WORDS else self.text(value)
        if isinstance(value, Mapping):
            kept = _kept_of_ref(ours) if _is_ref(value) else ()
            return {
                self._key(key, ours): item if key in kept else self._mask_value(item, ours)
                for key, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self._mask_value(item, ours) for item in value]
        if not ours and isinstance(value, (int, float)) and not isinstance(value, bool):
            shown = self.text(str(value))
            return value if shown == str(value) else shown
        return value

    def _key(self, key: Any, ours: bool) -> Any:
        if not ours or not isinstance(key, str):
            return self._mask_value(key, ours)
        if key in OWN_WORDS:
            return key
        if self._telling is None:
            self._telling = Replacer({s: n for s, n in self._names.items() if not _ORDINARY.fullmatch(s)})
        return self._telling.text(key)

    def values_of(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Values by name, each without the secrets; what is no JSON, such as a ref, stays as it is."""
        return {name: self.value(value) for name, value in given.items()}

    def body(self, body: bytes, media_type: str = "") -> bytes:
        """A body without the secrets. JSON stays JSON; one without a secret stays as it is, byte for byte."""
        if not self._names:
            return body
        masked = self._replacer.body(body)
        if "json" not in media_type or (masked == body and _ESCAPED not in body and b"\0" not in body):
            return masked
        dropped: list[Any] = []
        try:
            value = json.loads(body, object_pairs_hook=partial(_last_of_each, dropped))
        except (ValueError, RecursionError):
            return masked
        scrubbed = self.value(value)
        if scrubbed == value and self.value(dropped) == dropped:
            return body
        return (json.dumps(scrubbed, ensure_ascii=False, indent=2) + "\n").encode("utf-8", "replace")


def _last_of_each(dropped: list[Any], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object as JSON is read; what a later value of the same key hides is put into `dropped`."""
    whole = dict(pairs)
    if len(whole) < len(pairs):
        dropped += [inner for key, inner in pairs if inner is not whole[key]]
    return whole


def _kept_of_ref(ours: bool) -> tuple[str, ...]:
    return ("uri", "sha256", "media_type", "kind", "tenant", "run_id", "step") if ours else ("uri", "sha256")


def _is_ref(value: Mapping[str, Any]) -> bool:
    """Whether it points at a body of ours. Its address is no text: changed, it would point nowhere."""
    uri, sha256 = value.get("uri"), value.get("sha256")
    known = isinstance(uri, str) and isinstance(sha256, str) and re.fullmatch("[0-9a-f]{64}", sha256)
    return bool(known) and str(uri).endswith(f"/{sha256}")


NONE = Secrets({})


def learn(names: Iterable[str]) -> None:
    """From here on the values of these variables are secrets of this process."""
    _named.update(names)


def count_learned() -> int:
    """How many names were learned so far."""
    return len(_named)


def learn_from(source: Source) -> None:
    """The same for the names that `source` gives; it is asked when a secret is first looked for."""
    _sources.append(source)


_last: tuple[tuple[Any, ...], Secrets] = ((), NONE)


def current_secrets() -> Secrets:
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
        yield from _secrets_within(address)


def _secrets_within(address: str) -> Iterator[str]:
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
