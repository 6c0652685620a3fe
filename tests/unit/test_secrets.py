"""Known secret values: which they are, and that none stays in a text, a JSON value or a body."""

from __future__ import annotations

import json

import pytest

from tasks.secrets import known_secrets, scrub_body, scrub_error, scrub_text, scrub_value
from workflows.core.errors import PhaselineError

ENVIRON = {
    "ANTHROPIC_API_KEY": "sk-ant-1234567890",
    "GITHUB_TOKEN": "ghp_abcdefgh",
    "MY_SECRET_PIN": "12345678",
    "AWS_SECRET_ACCESS_KEY": "a/b+c/d+e/f",
    "PREFECT_API_AUTH_STRING": "admin:correct-horse",
    "PHASELINE_DATABASE_URL": "postgresql+asyncpg://me:p%40ss-word@host/db",
    "SHORT_TOKEN": "1234567",
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
