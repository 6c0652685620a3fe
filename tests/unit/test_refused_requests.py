"""What the provider does not take of a conversation, and what only stands between us and the provider."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx2
import pytest

from blocks.models import RequestRefused, Terminal
from blocks.providers.anthropic_errors import translate

PAGE = "<html>Request Entity Too Large</html>"


def translated(status: int, body: Any) -> Any:
    request = httpx2.Request("POST", "https://api.example/v1/messages")
    response = httpx2.Response(status, request=request)
    return translate(anthropic.APIStatusError("refused", response=response, body=body), "sk-test")


def said_by_api(kind: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": "messages.1: refused"}}


@pytest.mark.parametrize(
    ("status", "kind"), [(400, "invalid_request_error"), (413, "request_too_large")], ids=str
)
def test_what_the_api_itself_refuses(status: int, kind: str) -> None:
    found = translated(status, said_by_api(kind))
    assert isinstance(found, RequestRefused) and found.too_long == (status == 413)


@pytest.mark.parametrize("status", [400, 413])
@pytest.mark.parametrize("body", [PAGE, None, {"error": "bad gateway"}], ids=["page", "empty", "other"])
def test_what_another_one_refuses_says_nothing_about_the_conversation(status: int, body: Any) -> None:
    found = translated(status, body)
    assert isinstance(found, Terminal) and not isinstance(found, RequestRefused)
