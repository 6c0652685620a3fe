"""Secrets of many kinds, each a value that stands nowhere else, and the search for them in all that is kept.

The search knows nothing of how values are masked: it looks for the value itself, for what JSON, addresses,
base64 at any offset and hexadecimal make of it, in files as they are, unpacked, and in tables row by row.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote, quote_plus


@dataclass(frozen=True)
class Kind:
    """A kind of secret: the variable that holds it, what that is set to, and what of it must not be found."""

    variable: str
    value: str
    secrets: tuple[str, ...] = ()

    @property
    def hidden(self) -> tuple[str, ...]:
        """What must not be found."""
        return self.secrets or (self.value,)


_PEM = "\n".join(
    ["-----BEGIN PRIVATE KEY-----", "MIIEvQplant16aaQxZ81kd93", "Zm9vplant16bbQxZ81kd94", "-----END-----"]
)

KINDS = (
    Kind("ANTHROPIC_API_KEY", "sk-ant-plant01-QxZ81kd9"),
    Kind("TEAM_API_KEY", "sk-ant-plant02-QxZ81kd9"),
    Kind("DB_PASS", "plant03QxZ81kd9"),
    Kind("GH_PAT", "ghp_plant04QxZ81kd9"),
    Kind("STRIPE_KEY", "sk_live_plant05QxZ81kd9"),
    Kind("PASSWORD", "plant06-QxZ81kd9"),
    Kind("DATABASE_URL", "postgresql://app:plant07%2FQxZ81@db.test/app", ("plant07/QxZ81",)),
    Kind("SLACK_WEBHOOK_URL", "https://hooks.test/services/T0/B0/plant08QxZ81kd9", ("plant08QxZ81kd9",)),
    Kind("OUTBOUND", "http://me:plant09QxZ81@proxy.test:3128", ("plant09QxZ81",)),
    Kind("SENTRY_DSN", "https://plant10QxZ81kd9@sentry.test/1", ("plant10QxZ81kd9",)),
    Kind("AWS_SECRET_ACCESS_KEY", "plant11/QxZ8+1kd9/abc"),
    Kind("AWS_SESSION_TOKEN", "FwoG-plant12-QxZ81kd9=="),
    Kind("GITHUB_TOKEN", "ghs_plant13QxZ81kd9"),
    Kind("APP_SECRET", "plant14 with blanks QxZ81"),
    Kind(
        "SERVICE_CREDENTIALS",
        json.dumps({"type": "service", "private_key": "plant15QxZ81kd9"}),
        ("plant15QxZ81kd9",),
    ),
    Kind("SIGNING_PRIVATE_KEY", _PEM, ("MIIEvQplant16aaQxZ81kd93", "Zm9vplant16bbQxZ81kd94")),
    Kind("SMTP_PASSWORD", "plant17\"q'u\\o<t>&e$"),
    Kind("CRM_LOGIN", "plant18QxZ81kd9"),
    Kind("CRM_LICENCE", "plant19QxZ81kd9"),
    Kind("CRM_TENANT", "plant20QxZ81kd9"),
    Kind("SESSION_COOKIE", "plant21QxZ81kd9"),
    Kind("PGPASSWORD", "plant22QxZ81kd9"),
    Kind("LEGACY_DB", "Server=db.test;User=me;Password=plant23QxZ81;", ("plant23QxZ81",)),
    Kind("SHARED_LINK", "https://files.test/a.csv?sig=plant24QxZ81kd9&page=2", ("plant24QxZ81kd9",)),
    Kind("DB_PWD", "p25QxZ"),
    Kind("VAULT_PASS", "plant26-pässwörd-密码"),
    Kind("DOOR_PIN", "90817263"),
)


def variables() -> dict[str, str]:
    """The environment that holds them."""
    return {kind.variable: kind.value for kind in KINDS}


def everything(kinds: Iterable[Kind] = KINDS) -> str:
    """A text that tells all of them, as what leaks would: as they are, and as programs write them."""
    lines = [f"{kind.variable} is {kind.value} !" for kind in kinds]
    hidden = [secret for kind in kinds for secret in kind.hidden]
    lines += [f"alone {secret} ;" for secret in hidden]
    lines += [f"as json {json.dumps(secret)} and {json.dumps(json.dumps(secret))}" for secret in hidden]
    lines += [f"in an address ?a={quote(secret, safe='')}&b={quote_plus(secret)}" for secret in hidden]
    long = [secret for secret in hidden if len(secret) >= 8]
    lines += [f"Basic {base64.b64encode(f'user:{secret}'.encode()).decode()}" for secret in long]
    return "\n".join(lines)


def found_in(body: bytes, kinds: Iterable[Kind] = KINDS) -> set[str]:
    """The variables whose secrets stand in some bytes."""
    return {k.variable for k in kinds for secret in k.hidden if any(form in body for form in _forms(secret))}


@lru_cache(maxsize=1024)
def _forms(secret: str) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(_spelt(secret)))


def _spelt(secret: str) -> Iterator[bytes]:
    body = secret.encode()
    yield body
    if part := re.search(r"plant\d\d", secret):
        yield part[0].encode()  # of one that was cut before it was masked
    for written in (json.dumps(secret), json.dumps(secret, ensure_ascii=False)):
        yield written[1:-1].encode()
        yield json.dumps(written[1:-1])[1:-1].encode()
    yield quote(secret, safe="").encode()
    yield quote_plus(secret).encode()
    if len(body) < 8:
        return
    yield body.hex().encode()
    for offset in range(3):
        padded = base64.b64encode(bytes(offset) + body)
        own = padded[-(-offset * 8 // 6) : (offset + len(body)) * 8 // 6]
        yield own
        yield own.replace(b"+", b"-").replace(b"/", b"_")


def leaks(*folders: Path, kinds: Iterable[Kind] = KINDS, since: float = 0.0) -> dict[str, set[str]]:
    """The variables whose secrets stand in a file below the folders, by file, table and column, and in the
    file's name. `since`: of files that were changed after it, by their own time."""
    kinds, out = tuple(kinds), {}
    for folder in folders:
        for path in sorted(p for p in folder.rglob("*") if p.is_file() and _changed(p) >= since):
            for place, body in (("the name", str(path).encode()), *_bodies(path)):
                if told := found_in(body, kinds):
                    out[place] = told
    return out


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # of a server that is at work
        return 0.0


def _bodies(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        body = path.read_bytes()
    except FileNotFoundError:  # of a server that is at work
        return
    yield str(path), body
    if body.startswith(b"\x1f\x8b"):
        yield f"{path} (unpacked)", gzip.decompress(body)
    elif body[:1] == b"\x78":
        with suppress(zlib.error):
            yield f"{path} (unpacked)", zlib.decompress(body)
    if body.startswith(b"SQLite format 3\x00"):
        # A value that goes over two pages stands nowhere in the file as a whole.
        yield from _cells(path)


def _cells(path: Path) -> Iterator[tuple[str, bytes]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        database.text_factory = bytes
        tables = [
            name.decode() for (name,) in database.execute("select name from sqlite_master where type='table'")
        ]
        for table in tables:
            rows = database.execute(f'select * from "{table}"')
            columns = [column[0] for column in rows.description]
            for row in rows:
                for column, value in zip(columns, row, strict=True):
                    if isinstance(value, bytes):
                        yield f"{path} {table}.{column}", value
