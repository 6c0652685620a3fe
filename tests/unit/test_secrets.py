"""Known secret values: which they are, and that none stays in a text, a JSON value or a body."""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
from urllib.parse import quote, quote_plus

import pytest

from blocks.secrecy.secrets import is_secret, url_without_password
from tasks.secrets import known_secrets, scrub_body, scrub_error, scrub_text, scrub_value, without_secret
from workflows.core.errors import PhaselineError
from workflows.core.text.cut_text import cut, cut_before

ENVIRON = {
    "ANTHROPIC_API_KEY": "sk-ant-1234567890",
    "GITHUB_TOKEN": "ghp_abcdefgh",
    "MY_SECRET_PIN": "12345678",
    "AWS_SECRET_ACCESS_KEY": "a/b+c/d+e/f",
    "PREFECT_API_AUTH_STRING": "admin:correct-horse",
    "PHASELINE_DATABASE_URL": "postgresql+asyncpg://me:p%40ss-word@host/db",
    "SHORT_TOKEN": "12345",
    "EMPTY_TOKEN": "",
    "HOME": "/home/somebody",
}


def test_secrets_are_known_by_the_names_of_their_variables() -> None:
    named = known_secrets({**ENVIRON, "TEAM_CONNECTION": "team-credential"}, ["TEAM_CONNECTION", "ABSENT"])
    assert set(named) == {
        "sk-ant-1234567890",
        "ghp_abcdefgh",
        "12345678",
        "a/b+c/d+e/f",
        "admin:correct-horse",
        "correct-horse",
        "p%40ss-word",
        "p@ss-word",
        "team-credential",
    }
    assert named["p@ss-word"] == "PHASELINE_DATABASE_URL"
    assert [len(v) for v in named] == sorted((len(v) for v in named), reverse=True)


def test_a_longer_secret_is_replaced_before_one_inside_it() -> None:
    secrets = known_secrets({"A_TOKEN": "12345678", "B_TOKEN": "12345678-and-more"})
    assert scrub_text("12345678-and-more, 12345678", secrets) == "[secret B_TOKEN], [secret A_TOKEN]"


@pytest.mark.parametrize("ascii_only", [True, False])
def test_json_stays_json(ascii_only: bool) -> None:
    secrets = known_secrets({"A_TOKEN": 'quo"te\\é-x', "PIN_SECRET": "12345678"})
    value = {"k": 'a quo"te\\é-x b', "n": 12345678, 'quo"te\\é-x': [True, None, 1.5]}
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert json.loads(scrub_body(body, "application/json", secrets)) == {
        "k": "a [secret A_TOKEN] b",
        "n": "[secret PIN_SECRET]",
        "[secret A_TOKEN]": [True, None, 1.5],
    }
    assert (
        json.loads(scrub_text(body.decode(), known_secrets({"A_TOKEN": 'quo"te\\é-x'})))["k"]
        == "a [secret A_TOKEN] b"
    )


def test_bodies_without_a_secret_keep_every_byte() -> None:
    secrets = known_secrets(ENVIRON)
    for body, media_type in (
        (b'{"a":  1}', "application/json"),
        (b"\xff\x00x", "image/png"),
        (b"{", "application/json"),
    ):
        assert scrub_body(body, media_type, secrets) == body
    assert (
        scrub_body("née ghp_abcdefgh".encode(), "text/plain", secrets) == "née [secret GITHUB_TOKEN]".encode()
    )
    assert scrub_body(b"{ghp_abcdefgh", "application/json", secrets) == b"{[secret GITHUB_TOKEN]"


def test_without_secrets_values_are_left_as_they_are() -> None:
    value = {"a": (1, 2)}
    assert scrub_value(value, {}) is value


def test_errors_lose_the_secrets_they_carry() -> None:
    error = PhaselineError("said ghp_abcdefgh", "forget ghp_abcdefgh")
    error.problems = ("ghp_abcdefgh",)  # type: ignore[attr-defined]
    scrub_error(error, known_secrets(ENVIRON))
    assert "ghp_" not in f"{error} {error.args} {vars(error)}"
    assert isinstance(error.problems, tuple)  # type: ignore[attr-defined]


TELLING = """
    DB_PASS GH_PAT STRIPE_KEY PASSWORD PGPASSWORD DB_PWD TOKEN GITHUB_TOKEN APP_SECRET CLIENT_SECRET_2
    AZURE_CREDENTIALS SESSION_COOKIE SIGNING_PRIVATE_KEY ANTHROPIC_AUTH_TOKEN ANTHROPIC_API_KEY
    AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN PREFECT_API_AUTH_STRING PREFECT_API_KEY NPM_AUTH
    SECRET_KEY_BASE github_token dbPassword JWT VAULT_PASSPHRASE PAT PASS
"""


@pytest.mark.parametrize("name", TELLING.split())
def test_telling_names(name: str) -> None:
    assert "Zk81-qx92" in known_secrets({name: "Zk81-qx92"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PWD", "/home/me/work-9"),
        ("HOME", "/home/me-9000"),
        ("PATH", "/usr/local/bin"),
        ("SORT_KEY", "created_at"),
        ("SSH_AUTH_SOCK", "/tmp/agent.123"),
        ("GIT_ASKPASS", "/usr/bin/askpass"),
        ("TOKEN_FILE", "/run/secrets/token"),
        ("TOKEN_LIMIT", "128000000"),
        ("MONKEY", "banana-split"),
        ("KEYBOARD", "us-intl-1"),
        ("DB_PASS", "true"),
        ("DB_PASS", "Postgres"),
        ("DB_PORT_PASS", "54321"),
        ("YEAR_PIN", "2026"),
        ("SSH_KEY", "/etc/hosts"),
        ("DATABASE_URL", "postgresql://me@host/db"),
    ],
)
def test_what_is_no_secret(name: str, value: str) -> None:
    assert dict(known_secrets({name: value})) == {}


@pytest.mark.parametrize(
    ("name", "value", "hidden"),
    [
        ("DATABASE_URL", "postgresql://me:p%40ss-word@host/db", {"p%40ss-word", "p@ss-word"}),
        ("HTTPS_PROXY", "http://me:pr0xy-pw@proxy:3128", {"pr0xy-pw"}),
        ("ANYTHING", "see redis://:r3dis-pw@host/0 for it", {"r3dis-pw"}),
        ("REPOSITORY", "https://ghp_0123456789abcd@github.com/a/b", {"ghp_0123456789abcd"}),
        ("LINK", "https://files/a?sig=abc123def&page=2", {"abc123def"}),
        ("SLACK_WEBHOOK_URL", "https://hooks/services/T0/B0/abcdefghijklm", {"abcdefghijklm"}),
        ("LEGACY", "Server=x;User=me;Password=l3gacy-pw;", {"l3gacy-pw"}),
        ("GCP_CREDENTIALS", '{"private_key": "line-one-0123456789", "type": "x"}', {"line-one-0123456789"}),
        ("TLS_PRIVATE_KEY", "-----BEGIN-----\nMIIEvQIBADANBgkq\n-----END-----", {"MIIEvQIBADANBgkq"}),
        ("PREFECT_API_AUTH_STRING", "admin:correct-horse", {"correct-horse", "admin:correct-horse"}),
        ("OTEL_HEADERS", "x-api-key=0123456789abc,b=c", {"0123456789abc"}),
    ],
)
def test_secrets_within_values(name: str, value: str, hidden: set[str]) -> None:
    assert hidden <= set(known_secrets({name: value}))


def test_every_spelling_is_found() -> None:
    value = "p\"a\\s's wörd&<1>/é"
    secrets = known_secrets({"A_TOKEN": value})
    body = value.encode()
    spelt = [
        value,
        json.dumps(value),
        json.dumps(value, ensure_ascii=False),
        json.dumps(json.dumps({"a": value})),
        quote(value, safe=""),
        re.sub("%..", lambda found: found[0].lower(), quote(value, safe="")),
        quote_plus(value),
        html.escape(value),
        repr(value),
        shlex.join([value]),
        body.hex(),
        *(base64.b64encode(b"x" * n + body + b"yz").decode() for n in range(4)),
        *(base64.urlsafe_b64encode(b"x" * n + body).decode() for n in range(4)),
    ]
    for text in spelt:
        assert "[secret A_TOKEN]" in scrub_text(f"a {text} b", secrets), text
        assert b"[secret A_TOKEN]" in scrub_body(f"a {text} b".encode(), "text/plain", secrets), text


def test_what_was_masked_is_not_masked_again() -> None:
    """Not even by a value that stands in the mark itself."""
    secrets = known_secrets({"GITHUB_TOKEN": "ghp_abcdefgh", "MY_PASS": "GITHUB", "OTHER_PASS": "SECRET-7"})
    once = scrub_text("ghp_abcdefgh GITHUB SECRET-7", secrets)
    assert once == "[secret GITHUB_TOKEN] [secret MY_PASS] [secret OTHER_PASS]"
    assert scrub_text(once, secrets) == once


def test_digests_and_refs_are_not_broken_by_a_short_secret() -> None:
    secrets = known_secrets({"A_PASS": "abc123", "B_PASS": "blobs-9"})
    sha256 = "0abc123" + "0" * 57
    ref = {"uri": f"file:///home/blobs-9/{sha256}", "sha256": sha256, "summary": "of blobs-9, abc123."}
    clean = {**ref, "summary": "of [secret B_PASS], [secret A_PASS]."}
    assert scrub_value({"ref": ref}, secrets) == {"ref": clean}
    assert scrub_text(sha256, secrets) == sha256
    fake = {"uri": "file:///blobs-9", "sha256": "blobs-9"}
    assert "blobs-9" not in str(scrub_value(fake, secrets))


@pytest.mark.parametrize(
    ("value", "told_apart"),
    [("12345", False), ("1234567", False), ("localhost", False), ("s3cret", True), ("12345678", True)],
)
def test_values_that_cannot_be_told_from_text(value: str, told_apart: bool) -> None:
    assert is_secret(value) is told_apart


def test_errors_of_any_kind_are_told_without_a_secret() -> None:
    secrets = known_secrets(ENVIRON)
    fine = ValueError("nothing")
    assert without_secret(fine, secrets) is fine
    told = without_secret(OSError(2, "no such file", "/tmp/ghp_abcdefgh"), secrets)
    assert "ghp_" not in f"{told} {told!r}" and "FileNotFoundError" in str(told)
    caused, noted, kept = ValueError("because"), ValueError("with a note"), ValueError("with more")
    caused.__cause__ = ExceptionGroup("some", [KeyError("ghp_abcdefgh")])
    noted.add_note("see ghp_abcdefgh")
    kept.response = {"key": "ghp_abcdefgh"}  # type: ignore[attr-defined]
    for error in (caused, noted, kept):
        clean = without_secret(error, secrets)
        assert clean is not error and str(clean) == f"ValueError: {error}"
        assert clean.__cause__ is None and vars(clean) == {}


def test_an_address_for_people() -> None:
    shown = url_without_password("http://me:hunter2pw@host/p?token=abcdef1&page=2")
    assert shown == "http://me:[secret address]@host/p?token=[secret address]&page=2"


def test_a_name_of_our_own_folders_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHASELINE_CATALOG", "/srv/rvproject/catalog")
    assert dict(known_secrets({"DB_PASSWORD": "rvproject", "DB_PASS": "other-secret"})) == {
        "other-secret": "DB_PASS"
    }


SECRET = "plant-of-23-characters!"
QUOTED = 'plant\\of"23/characters'
CUT = ("...", "\N{HORIZONTAL ELLIPSIS}", " ... (900 more)", "'...", "\n[cut: 900 bytes in all]")


@pytest.mark.parametrize("mark", CUT)
@pytest.mark.parametrize(
    ("secret", "form"),
    [
        (SECRET, SECRET),
        (QUOTED, json.dumps(QUOTED)[1:-1]),
        (QUOTED, quote(QUOTED, safe="")),
        (SECRET, SECRET.encode().hex()),
    ],
)
def test_what_a_cut_left_of_a_secret_is_found_beside_its_mark(secret: str, form: str, mark: str) -> None:
    """However much of it was left; of less than a third nobody can guess the rest."""
    secrets = known_secrets({"A_TOKEN": secret})
    for length in range(len(form) // 3 + 1, len(form)):
        assert scrub_text(f"see {form[:length]}{mark}", secrets) == f"see [secret A_TOKEN]{mark}"
        if "cut" not in mark:
            masked = scrub_text(f"{mark[::-1]}{form[-length:]} was it", secrets)
            assert masked == f"{mark[::-1]}[secret A_TOKEN] was it"


def test_no_other_text_beside_such_a_mark_is_changed() -> None:
    hook = "https://hooks.test/services/T0/B0/abcdefghijklm"
    secrets = known_secrets({"A_TOKEN": SECRET, "HOOK_URL": hook})
    for text in ("a plant... and more", "plant-of-23 is it", "https://... or http://...", "pla...nt-of"):
        assert scrub_text(text, secrets) == text


@pytest.mark.parametrize("at", range(len(SECRET) + 1))
def test_a_cut_anywhere_leaves_no_third_of_a_secret(at: int) -> None:
    secrets = known_secrets({"A_TOKEN": SECRET})
    cuts = cut(f"{'x' * 20}{SECRET}{'y' * 40}", 23 + at), cut_before(f"{'x' * 40}{SECRET}{'y' * 20}", 23 + at)
    for masked in (scrub_text(text, secrets) for text in cuts):
        assert not any(SECRET[i : i + 8] in masked for i in range(len(SECRET) - 7)), masked


def test_every_cut_of_a_long_text_is_looked_at() -> None:
    secrets = known_secrets({"A_TOKEN": SECRET})
    masked = scrub_text("plant-of-2 ... " * 2_000 + "...characters!", secrets)
    assert masked == "[secret A_TOKEN] ... " * 2_000 + "...[secret A_TOKEN]"
