"""The spellings in which a secret value may stand in a text, and their replacement by a mark.

A value is found as it stands, and as JSON (in JSON, some times over), URLs, HTML, Python's `repr` and a shell
write it, in hexadecimal and in base64 at any offset. One that is split, reversed, compressed or encrypted is
not.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from urllib.parse import quote, quote_plus

MARK = r"\[secret [A-Za-z0-9_.:-]+\]"
"""What stands in a secret's place, as a pattern: `[secret NAME]`."""

_HEXADECIMAL = re.compile(r"[0-9a-fA-F]{1,11}")
_NESTED = 4
"""How deep JSON may stand as a text in JSON: an answer that quotes a tool's result, in a request."""
_LONG_ENOUGH = 8
"""Characters from which on a value is looked for in hexadecimal and base64 too."""
_LEAST_HALF = 4
"""Characters of a value that was cut from which on they are hidden."""
_CUT_MARKS = ("...", "\N{HORIZONTAL ELLIPSIS}", "[cut")
_CUT = re.compile(r"['\"]?\s{0,2}(?:\.\.\.|\N{HORIZONTAL ELLIPSIS}|\[cut)")
_WIDE = ("utf-16-le", "utf-16-be")


def mark_of(name: str) -> str:
    """What stands in place of the value of the variable `name`."""
    return f"[secret {re.sub(r'[^A-Za-z0-9_.:-]', '_', name) or '_'}]"


@lru_cache(maxsize=1024)
def forms_of(value: str) -> tuple[str, ...]:
    """The spellings of a value, each once."""
    plain = list(dict.fromkeys(form for form in _forms(value) if form))
    nested = [value]
    found = [*plain, *_in_json(plain)]
    for _ in range(_NESTED):
        nested = _in_json(nested)
        found += nested
    return tuple(dict.fromkeys(found))


def _in_json(texts: Iterable[str]) -> list[str]:
    """As they stand within a JSON document, whatever it does with other letters than ASCII's."""
    written = (json.dumps(text, ensure_ascii=only)[1:-1] for text in texts for only in (False, True))
    return list(dict.fromkeys(written))


def _forms(value: str) -> Iterator[str]:
    yield value
    for encoded in (quote(value, safe=""), quote(value), quote_plus(value)):
        yield encoded
        yield re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), encoded)
    yield html.escape(value)
    yield html.escape(value, quote=False)
    yield repr(value)[1:-1]
    yield value.replace("'", "'\"'\"'")
    yield value.replace("/", "\\/")  # some write JSON so
    body = value.encode("utf-8", "surrogatepass")
    if len(value) >= _LONG_ENOUGH:
        yield body.hex()
        yield body.hex().upper()
        yield from _base64(body)


def _base64(body: bytes) -> Iterator[str]:
    """What the bytes come to wherever they begin within a longer base64 text: the characters that are theirs
    alone."""
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + body).decode()
        own = encoded[-(-offset * 8 // 6) : (offset + len(body)) * 8 // 6]
        if len(own) >= _LONG_ENOUGH:
            yield own
            yield own.replace("+", "-").replace("/", "_")


class Replacer:
    """Replaces every spelling of some values by their marks. What it gave is left as it is by it."""

    def __init__(self, names: Mapping[str, str]) -> None:
        """`names`: of the values, by value; of two spellings at one place the longer one counts."""
        marks: dict[str, str] = {}
        for value, name in sorted(names.items(), key=lambda entry: (-len(entry[0]), entry[0])):
            for form in forms_of(value):
                marks.setdefault(form, mark_of(name))
        self._marks = marks
        self._bytes: dict[str, list[bytes]] = {}
        self._pattern: re.Pattern[str] | None = None
        self._patterns: dict[str, re.Pattern[bytes]] = {}

    def text(self, text: str) -> str:
        """The text without the values, and without what a cut left of one: a third of a spelling, or more,
        that stands right beside the mark of a cut.
        """
        # Nearly every text holds none: this search is many times faster than the pattern's.
        if any(form in text for form in self._marks):
            if self._pattern is None:
                self._pattern = re.compile(_alternatives(self._marks))
            text = self._pattern.sub(lambda found: self._marks.get(found[0], found[0]), text)
        return self._without_halves(text) if any(mark in text for mark in _CUT_MARKS) else text

    def _without_halves(self, text: str) -> str:
        for form, mark in self._marks.items():
            least = max(_LEAST_HALF, -(-len(form) // 3))
            if form[:least] in text:
                text = _without_cut(text, form, least, mark)
            if form[-least:] in text:  # the same from behind
                text = _without_cut(text[::-1], form[::-1], least, mark[::-1])[::-1]
        return text

    def body(self, body: bytes) -> bytes:
        """The same for bytes, whatever they are; in UTF-16 too, where a text has bytes of zero."""
        for encoding in ("utf-8", *(_WIDE if b"\0" in body else ())):
            body = self._mark_body(body, encoding)
        return body

    def _mark_body(self, body: bytes, encoding: str) -> bytes:
        if encoding not in self._bytes:
            self._bytes[encoding] = [form.encode(encoding, "surrogatepass") for form in self._marks]
        if not any(form in body for form in self._bytes[encoding]):
            return body
        if encoding not in self._patterns:
            self._patterns[encoding] = re.compile(_alternatives_in(self._marks, encoding))

        def mark_match(found: re.Match[bytes]) -> bytes:
            form = found[0].decode(encoding, "surrogatepass")
            return self._marks.get(form, form).encode(encoding, "surrogatepass")

        return self._patterns[encoding].sub(mark_match, body)


def _without_cut(text: str, form: str, least: int, mark: str) -> str:
    """The text without beginnings of `form` that are at least so long and end at a cut."""
    out, done, at = [], 0, text.find(form[:least])
    while at >= 0:
        end = at + least
        while end - at < len(form) and text[end : end + 1] == form[end - at]:
            end += 1
        if _CUT.match(text, end):
            out += [text[done:at], mark]
            done = end
        at = text.find(form[:least], end)
    return "".join([*out, text[done:]])


def _alternatives(forms: Iterable[str]) -> str:
    """One pattern of literals, the longest first; marks come before all, so that none is marked again."""
    return "|".join([MARK, *map(_literal, sorted(forms, key=len, reverse=True))])


def _alternatives_in(forms: Iterable[str], encoding: str) -> bytes:
    if encoding == "utf-8":
        return _alternatives(forms).encode("utf-8", "surrogatepass")
    ordered = sorted(forms, key=len, reverse=True)
    return b"|".join(re.escape(form.encode(encoding, "surrogatepass")) for form in ordered)


def _literal(form: str) -> str:
    # A short one of these characters is found by chance in the digests that everything is known by.
    if _HEXADECIMAL.fullmatch(form):
        return rf"(?<![0-9a-fA-F]){form}(?![0-9a-fA-F])"
    return re.escape(form)
