"""The HTTP tool and the webhook call against a real receiver."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blocks.ledger import Ledger
from blocks.patience import Patience
from tasks.effects.gate import NotPerformed, Unsure
from tasks.tools import ToolResult, ToolSet
from tasks.waiting import Waiting
from tasks.web.http_request import BODY_BYTES, HttpAccess, http_tool
from tasks.web.webhook import call_webhook, deliver, signed_headers, signing_key
from tests.support.gates import GateDesk
from tests.support.receiver import Answer, Receiver
from workflows.core.errors import UsageError
from workflows.core.permissions.grants import Grants
from workflows.core.permissions.hosts import match_endpoint
from workflows.core.permissions.ruling import Denied
from workflows.core.plans.plan import DecidersPlan, HttpPlan, ToolRulePlan

HERE = HttpPlan(endpoints=("127.0.0.1",))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[GateDesk]:
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        yield GateDesk(ledger, tmp_path, {})


def ask(
    desk: GateDesk,
    method: str,
    url: str,
    *,
    plan: HttpPlan = HERE,
    rules: tuple[ToolRulePlan, ...] = (),
    ordinal: int = 0,
    **more: Any,
) -> ToolResult:
    """What an agent of a run gets for one call."""
    tool = http_tool(Grants(http=plan, rules=rules))

    async def step(gate: Any, _: Any) -> ToolResult:
        arguments = {"method": method, "url": url, **more}
        return await ToolSet((tool.through(gate),)).call("http_request", arguments, ordinal)

    return desk.work(step)


def page(body: str | bytes, status: int = 200, **headers: str) -> Answer:
    given = {"content-type": "text/plain; charset=utf-8"} | {
        k.replace("_", "-"): v for k, v in headers.items()
    }
    return status, given, body.encode() if isinstance(body, str) else body


def test_reading_is_not_recorded_and_carries_no_key(desk: GateDesk, receiver: Receiver) -> None:
    receiver.otherwise = page("hello", etag='"1"', set_cookie="secret=1")
    for _ in range(2):
        result = ask(desk, "GET", f"{receiver.url}/a?b=1", headers={"Accept": "text/plain"})
    assert result.content == 'HTTP 200 OK\ncontent-type: text/plain; charset=utf-8\netag: "1"\n\nhello'
    assert [r.path for r in receiver.received] == ["/a?b=1"] * 2 and desk.effects() == []
    assert receiver.received[0].headers["accept"] == "text/plain"
    assert "idempotency-key" not in receiver.received[0].headers
    receiver.otherwise = page("gone", 404)
    missing = ask(desk, "GET", receiver.url)
    assert missing.is_error and str(missing.content).endswith("gone")


def test_what_acts_is_sent_once_with_its_key(desk: GateDesk, receiver: Receiver) -> None:
    receiver.otherwise = page('{"id": 7}', 201, content_type="application/json")
    for _ in range(2):
        result = ask(desk, "POST", f"{receiver.url}/orders", body={"amount": 5})
    assert result.content == 'HTTP 201 Created\ncontent-type: application/json\n\n{"id": 7}'
    (request,) = receiver.received
    assert request.json() == {"amount": 5} and request.headers["content-type"] == "application/json"
    assert request.key == desk.effect.idempotency_key and len(request.key) == 32
    ask(desk, "POST", f"{receiver.url}/orders", body={"amount": 5}, ordinal=1)
    assert len(set(receiver.keys)) == 2


def test_methods_that_are_not_granted_are_not_sent(desk: GateDesk, receiver: Receiver) -> None:
    reading = HttpPlan(endpoints=HERE.endpoints, methods=("GET", "HEAD"))
    refused = ask(desk, "POST", receiver.url, plan=reading, body={"amount": 5})
    assert refused.is_error and "POST" in str(refused.content)
    assert ask(desk, "GET", receiver.url, plan=reading).is_error is False
    assert [r.method for r in receiver.received] == ["GET"] and desk.effects() == []


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_idempotent_methods_are_sent_again(desk: GateDesk, receiver: Receiver, method: str) -> None:
    receiver.answers = ["close", 503]
    assert ask(desk, method, receiver.url).content == "HTTP 200 OK"
    assert len(receiver.keys) == 3 and len(set(receiver.keys)) == 1
    receiver.otherwise = 500
    failed = ask(desk, method, f"{receiver.url}/b")
    assert failed.is_error and "It may have been performed; calling it again is safe" in str(failed.content)


@pytest.mark.parametrize("end", ["close", 500, 502, 408, 409, 425, 429])
def test_an_answer_that_leaves_a_doubt(desk: GateDesk, receiver: Receiver, end: Answer) -> None:
    receiver.otherwise = end
    for _ in range(2):
        with pytest.raises(Waiting):
            ask(desk, "POST", receiver.url)
    assert len(receiver.received) == 1 and desk.wait.kind == "unknown"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
def test_an_answer_that_refuses(desk: GateDesk, receiver: Receiver, status: int) -> None:
    receiver.otherwise = page("because", status)
    result = ask(desk, "POST", receiver.url)
    assert result.is_error and str(result.content).startswith(f"HTTP {status}")
    assert "because" in str(result.content) and desk.effect.state == "refused"


@pytest.mark.parametrize("first", ["close", 500])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
def test_a_refusal_after_a_doubt_leaves_the_doubt(
    desk: GateDesk, receiver: Receiver, first: Answer, status: int
) -> None:
    receiver.answers = [first, page("because", status)]
    result = ask(desk, "PUT", receiver.url)
    assert result.is_error and result.again and len(receiver.received) == 2
    told = str(result.content)
    assert told.startswith(f"HTTP {status}") and "because" in told
    assert "This sending was refused, but an earlier sending of this call had no answer." in told
    assert (desk.effect.state, desk.effect.sent) == ("unknown", 2), "undo must not pass it over"


@pytest.mark.parametrize(("status", "state"), [(404, "done"), (410, "done"), (403, "unknown")])
def test_what_is_gone_after_a_doubtful_removal_was_removed(
    desk: GateDesk, receiver: Receiver, status: int, state: str
) -> None:
    receiver.answers = ["close"]
    receiver.otherwise = page("", status)
    result = ask(desk, "DELETE", receiver.url)
    assert desk.effect.state == state and result.is_error is (state != "done")
    assert ("It counts as done" in str(result.content)) is (state == "done")
    assert ask(desk, "DELETE", f"{receiver.url}/never").is_error
    assert desk.effects()[-1].state == "refused", "nothing was in doubt there"


def test_nobody_listens(desk: GateDesk) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        result = ask(desk, "POST", f"http://127.0.0.1:{free.getsockname()[1]}/")
    assert result.is_error and "127.0.0.1 could not be reached" in str(result.content)
    assert desk.effect.state == "refused"


def test_no_answer_in_time(receiver: Receiver) -> None:
    receiver.otherwise = "hang"
    access = HttpAccess(Grants(http=HERE), seconds=0.2)
    with pytest.raises(Unsure, match=r"127\.0\.0\.1 did not answer within 0\.2 s"):
        asyncio.run(access.send({"method": "POST", "url": receiver.url}, "k"))


def test_a_body_lost_after_the_status_is_still_an_outcome(desk: GateDesk, receiver: Receiver) -> None:
    receiver.otherwise = "cut"
    result = ask(desk, "POST", receiver.url)
    assert not result.is_error and "lost before the whole body came" in str(result.content)
    assert desk.effect.state == "done"


def test_redirects_are_followed_for_reading_within_the_allowed_hosts(
    desk: GateDesk, receiver: Receiver
) -> None:
    receiver.answers = [page("", 302, location="/b"), page("there")]
    assert str(ask(desk, "GET", f"{receiver.url}/a").content).endswith("there")
    assert [r.path for r in receiver.received] == ["/a", "/b"]
    receiver.answers = [page("", 302, location="http://localhost:1/")]
    away = ask(desk, "GET", receiver.url)
    assert away.is_error and "localhost is not an allowed host" in str(away.content)
    receiver.otherwise = page("", 302, location="/")
    assert "redirected more than 5 times" in str(ask(desk, "GET", receiver.url).content)


def test_a_redirect_takes_no_headers_and_no_body_to_another_host(desk: GateDesk, receiver: Receiver) -> None:
    with Receiver() as other:
        receiver.otherwise = page("", 307, location=f"{other.url}/x")
        ask(desk, "GET", receiver.url, headers={"Authorization": "Bearer 1"}, body={"token": "t"})
        assert receiver.received[0].headers["authorization"] == "Bearer 1"
        assert receiver.received[0].json() == {"token": "t"}
        assert "authorization" not in other.received[0].headers
        assert other.received[0].body == b""


def test_a_redirect_of_what_acts_is_an_answer(desk: GateDesk, receiver: Receiver) -> None:
    receiver.otherwise = page("", 303, location="/orders/7")
    result = ask(desk, "POST", receiver.url)
    assert "location: /orders/7" in str(result.content) and len(receiver.received) == 1


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"url": "http://example.com/"}, "example.com is not an allowed host. Allowed: 127.0.0.1"),
        ({"url": "http://u:p@127.0.0.1/"}, "may not hold a user name or password"),
        ({"url": "ftp://127.0.0.1/"}, "no http:// or https:// address"),
        ({"url": "file:///etc/passwd"}, "no http:// or https:// address"),
        ({"url": "http://[::1/"}, "no address"),
        ({"url": "http://127.0.0.1/", "headers": {"Host": "x"}}, "cannot be set: host"),
        ({"url": "http://127.0.0.1/", "headers": {"idempotency-key": "x"}}, "cannot be set: idempotency-key"),
        ({"url": "http://127.0.0.1/", "headers": {"a": "b\r\nc: d"}}, "a value of one line"),
        ({"url": "http://127.0.0.1/", "headers": {"a b": "c"}}, "a plain name"),
        ({"url": "http://127.0.0.1/", "method": "TRACE"}, "Wrong arguments"),
    ],
)
def test_what_may_not_be_asked(desk: GateDesk, given: dict[str, Any], told: str) -> None:
    result = ask(desk, **{"method": "POST", **given})
    assert result.is_error and told in str(result.content)
    assert all(row.state == "refused" for row in desk.effects())


@pytest.mark.parametrize(
    ("pattern", "address", "fits"),
    [
        ("api.example.com", ("https", "API.example.com", 443), True),
        ("api.example.com", ("http", "api.example.com", 8080), True),
        ("*.example.com", ("https", "a.b.example.com", 443), True),
        ("*.example.com", ("https", "example.com", 443), False),
        ("*.example.com", ("https", "evilexample.com", 443), False),
        ("*.example.com", ("https", "a.example.com.evil.org", 443), False),
        ("https://example.com", ("http", "example.com", 80), False),
        ("https://example.com:8443", ("https", "example.com", 443), False),
        ("https://example.com:8443", ("https", "example.com", 8443), True),
        ("[::1]", ("http", "::1", 80), True),
        ("*", ("http", "anything", 80), True),
        ("exa*mple.com", ("http", "exaxmple.com", 80), False),
    ],
)
def test_host_patterns(pattern: str, address: tuple[str, str, int], fits: bool) -> None:
    assert match_endpoint(*address, [pattern]) == (pattern if fits else None)


def test_a_star_does_not_open_this_network(desk: GateDesk, receiver: Receiver) -> None:
    for host in ("127.0.0.1", "localhost", "169.254.169.254", "[::1]"):
        url = f"http://{host}:{receiver.port}/"
        result = ask(desk, "GET", url, plan=HttpPlan(endpoints=("*",)))
        assert result.is_error and "inside this network" in str(result.content)
    assert receiver.received == []


def test_long_and_binary_answers(desk: GateDesk, receiver: Receiver) -> None:
    receiver.otherwise = page("x" * (BODY_BYTES + 10))
    assert "kept as artifact" in str(ask(desk, "GET", receiver.url).content)
    receiver.otherwise = page(b"\x00\x01", content_type="image/png")
    assert str(ask(desk, "GET", receiver.url).content).endswith("[2 bytes of image/png]")
    receiver.otherwise = page("caf\u00e9".encode("latin-1"), content_type="text/plain; charset=latin-1")
    assert str(ask(desk, "GET", receiver.url).content).endswith("caf\u00e9")
    receiver.otherwise = page("x", content_type="text/plain; charset=nonsense")
    assert str(ask(desk, "GET", receiver.url).content).endswith("x")


def test_rules_win(desk: GateDesk, receiver: Receiver) -> None:
    forbidden = (ToolRulePlan(name="http_request", allow=False),)
    assert isinstance(Grants(http=HERE, rules=forbidden).may_call("http_request"), Denied)
    receiver.answers = ["close"]
    ask(desk, "POST", receiver.url, rules=(ToolRulePlan(name="http_request", effect="idempotent"),))
    assert len(receiver.keys) == 2
    people = DecidersPlan(assignees=("ann",))
    with pytest.raises(Waiting):
        approved = ToolRulePlan(name="http_request", approval=True, people=people)
        ask(desk, "POST", f"{receiver.url}/b", rules=(approved,))
    assert (desk.wait.kind, desk.wait.assignees) == ("action", ("ann",)) and len(receiver.keys) == 2


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_declared_effect_holds_for_every_method(desk: GateDesk, receiver: Receiver, method: str) -> None:
    once = (ToolRulePlan(name="http_request", effect="once"),)
    receiver.answers = [page("", 302, location="/b")]
    for _ in range(2):
        assert "location: /b" in str(ask(desk, method, f"{receiver.url}/a", rules=once).content)
    assert [r.path for r in receiver.received] == ["/a"], "made once, and nothing it leads to"
    assert receiver.keys == [desk.effect.idempotency_key]
    receiver.otherwise = "close"
    with pytest.raises(Waiting):
        ask(desk, method, f"{receiver.url}/b", rules=once)
    tool = http_tool(Grants(http=HERE, rules=once))
    assert "GET and HEAD change nothing" not in str(tool.input_schema)
    reads = (ToolRulePlan(name="http_request", effect="none"),)
    receiver.otherwise = page("found")
    before = desk.effects()
    assert not ask(desk, method, f"{receiver.url}/search", rules=reads).is_error
    assert desk.effects() == before


# --- webhooks ---


def verified(receiver: Receiver, key: bytes) -> bool:
    """As a receiver checks the standard's signature."""
    request = receiver.received[-1]
    signed = (
        f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
    )
    wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return request.headers["webhook-signature"] == f"v1,{wanted}"


def test_the_signature_is_the_standards() -> None:
    # The example of the specification's reference implementations.
    key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = signed_headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', key)
    assert made["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_webhook_is_signed_and_sent_again_with_the_same_id(desk: GateDesk, receiver: Receiver) -> None:
    receiver.answers = ["close", 500]
    receiver.otherwise = page("thanks")
    secret = "whsec_" + base64.b64encode(b"0123456789abcdef").decode()

    async def step(gate: Any, _: Any) -> ToolResult:
        gate.patience = Patience()
        return await deliver(gate, f"{receiver.url}/hook", {"a": "你"}, secret=secret)

    assert desk.work(step) == desk.work(step) == ToolResult("HTTP 200 OK\nthanks")
    assert len(receiver.keys) == 3 and len(set(receiver.keys)) == 1
    assert verified(receiver, b"0123456789abcdef") and receiver.received[-1].json() == {"a": "\u4f60"}
    assert abs(int(receiver.received[-1].headers["webhook-timestamp"]) - time.time()) < 60
    assert (desk.effect.kind, desk.effect.effect, desk.effect.tool) == (
        "webhook",
        "idempotent",
        f"webhook 127.0.0.1:{receiver.port}",
    )


def test_a_webhook_that_refuses_after_a_doubt_may_have_been_taken(desk: GateDesk, receiver: Receiver) -> None:
    receiver.answers = ["close"]
    receiver.otherwise = 410

    async def send(gate: Any, _: Any) -> None:
        with pytest.raises(Unsure, match=r"answered HTTP 410 Gone\.\nThis sending was refused, but an"):
            await deliver(gate, f"{receiver.url}/hook", {})

    desk.work(send)
    assert (desk.effect.state, desk.effect.sent) == ("unknown", 2)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (400, NotPerformed),
        (410, NotPerformed),
        (302, NotPerformed),
        (500, Unsure),
        (429, Unsure),
        ("close", Unsure),
    ],
)
def test_what_a_webhook_says(receiver: Receiver, answer: Answer, error: type[Exception]) -> None:
    receiver.otherwise = answer
    with pytest.raises(error):
        asyncio.run(call_webhook(receiver.url, {}, key="k"))


def test_a_webhook_in_time_or_in_doubt(receiver: Receiver) -> None:
    receiver.otherwise = "hang"
    with pytest.raises(Unsure, match="did not answer"):
        asyncio.run(call_webhook(receiver.url, {}, key="k", seconds=0.2))
    receiver.otherwise = "cut"
    assert asyncio.run(call_webhook(receiver.url, {}, key="k", secret="any text")).content == "HTTP 200 OK"
    assert verified(receiver, b"any text")


def test_a_webhook_that_cannot_be_called() -> None:
    for url in ("https://user:pass@example.com/", "ftp://example.com/", "nothing"):
        with pytest.raises(NotPerformed) as refused:
            asyncio.run(call_webhook(url, {}, key="k"))
        assert "pass@" not in str(refused.value)
    with pytest.raises(UsageError, match="not base64"):
        asyncio.run(call_webhook("http://127.0.0.1/", {}, key="k", secret="whsec_!!"))
