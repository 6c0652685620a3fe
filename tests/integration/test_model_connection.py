"""The Anthropic connection: the real SDK against the stand-in, every fault, one key that never shows."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from blocks.models import (
    Answer,
    AuthenticationFailed,
    Malformed,
    ModelError,
    QuotaExhausted,
    Request,
    Retryable,
    Terminal,
    Truncated,
)
from blocks.patience import Patience
from blocks.providers.anthropic_api import AnthropicConnection
from tasks.limits.requests import ask
from tests.support.messages_api import MessagesApi
from workflows.core.usage import Usage

KEY = "sk-test-4711-very-secret"
REQUEST: Request = {
    "model": "claude-opus-5-5",
    "max_tokens": 1000,
    "messages": [{"role": "user", "content": "Say hello."}],
}


@pytest.fixture
def api() -> Iterator[MessagesApi]:
    with MessagesApi() as running:
        yield running


def with_connection(
    api: MessagesApi, use: Callable[[AnthropicConnection], Awaitable[Any]], **options: Any
) -> Any:
    """What `use` gives, with a connection of its own event loop."""

    async def run() -> Any:
        connection = AnthropicConnection(KEY, api.base_url, **options)
        try:
            return await use(connection)
        finally:
            await connection.close()

    return asyncio.run(run())


def sent(api: MessagesApi, request: Request = REQUEST, **options: Any) -> Answer:
    answer = with_connection(api, lambda connection: connection.send(request), **options)
    assert isinstance(answer, Answer)
    return answer


def failure(api: MessagesApi, request: Request = REQUEST, **options: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        sent(api, request, **options)
    return caught.value


def test_an_answer_is_streamed_and_kept_as_it_came(api: MessagesApi) -> None:
    usage = {"input_tokens": 12, "output_tokens": 34, "cache_read_input_tokens": 5}
    api.queue({"text": "Hello 世界 " * 300, "thinking": "let me see", "usage": usage})
    grown: list[tuple[str, str]] = []
    request = {**REQUEST, "max_tokens": 100_000}
    answer = with_connection(api, lambda c: c.send(request, on_progress=lambda *part: grown.append(part)))
    assert [block["type"] for block in answer.content] == ["thinking", "text"]
    assert answer.content[0]["thinking"] == "let me see"
    assert answer.content[0]["signature"]
    assert answer.text == "Hello 世界 " * 300
    assert answer.usage == Usage(12, 34, 5, 0)
    assert answer.request_id.startswith("req_")
    assert (answer.model, answer.offline, answer.stop_reason) == ("claude-opus-5-5", False, "end_turn")
    assert "".join(text for kind, text in grown if kind == "text") == answer.text
    assert Answer.from_json(answer.to_json()) == answer


def test_tool_calls_arrive_with_their_arguments(api: MessagesApi) -> None:
    api.queue({"tools": [{"name": "a", "input": {"x": [1, {"y": "ü"}]}}, {"name": "b"}]})
    tools = [{"name": name, "input_schema": {"type": "object"}} for name in "ab"]
    answer = sent(api, {**REQUEST, "tools": tools})
    assert answer.stop_reason == "tool_use"
    assert [(c["name"], c["input"]) for c in answer.tool_calls] == [("a", {"x": [1, {"y": "ü"}]}), ("b", {})]


@pytest.mark.parametrize(
    ("fault", "type_", "kind"),
    [
        ("rate_limit", Retryable, "rate_limit"),
        ("overloaded", Retryable, "overloaded"),
        ("server_error", Retryable, "server"),
        ("timeout", Retryable, "timeout"),
        ("disconnect", Retryable, "connection"),
        ("cut", Retryable, "cut"),
        ("end_early", Truncated, "cut"),
        ("sse_error", Retryable, "overloaded"),
        ("not_json", Malformed, "malformed"),
        ("html", Malformed, "malformed"),
        ("json_garbage", Malformed, "malformed"),
        ("no_usage", Malformed, "malformed"),
        ("unknown_block", Malformed, "malformed"),
        ("broken_event", Malformed, "malformed"),
    ],
)
def test_passing_faults_are_retryable_and_the_request_then_succeeds(
    api: MessagesApi, fault: str, type_: type[Retryable], kind: str
) -> None:
    api.queue({"fault": fault})
    error = failure(api)
    assert type(error) is type_
    assert isinstance(error, Retryable)
    assert error.kind == kind
    assert error.exit_code == 1
    api.queue({"fault": fault}, {"text": "at last"})
    patience = Patience(2.0)
    answer = with_connection(api, lambda connection: ask(connection, REQUEST, patience))
    assert answer.text == "at last"
    assert api.count == 3


@pytest.mark.parametrize(
    "reply",
    [
        {"fault": "html"},
        {"fault": "not_json"},
        {"fault": "json_garbage"},
        {"fault": "html", "status": 403},
        {"fault": "html", "status": 404},
        {"fault": "html", "status": 502},
    ],
)
def test_what_something_else_answers_is_a_matter_of_the_address(
    api: MessagesApi, reply: dict[str, Any]
) -> None:
    api.queue(reply)
    error = failure(api)
    assert "ANTHROPIC_BASE_URL" in error.cure
    assert "proxy" in error.cure


def test_a_cut_stream_says_what_it_cost(api: MessagesApi) -> None:
    api.queue({"fault": "end_early", "usage": {"input_tokens": 77}})
    assert failure(api).spent.input_tokens == 77


def test_silence_in_the_middle_is_noticed(api: MessagesApi) -> None:
    api.queue({"fault": "stall"})
    error = failure(api, idle=0.3)
    assert isinstance(error, Retryable)
    assert error.kind == "timeout"


def test_an_answer_that_never_ends_is_noticed(api: MessagesApi) -> None:
    api.queue({"text": "word " * 200, "chunk_delay": 0.2})
    error = failure(api, total=0.3)
    assert isinstance(error, Retryable)
    assert error.kind == "timeout"


def test_no_server_at_all_is_retryable() -> None:
    with MessagesApi() as gone:
        pass
    error = failure(gone)
    assert isinstance(error, Retryable)
    assert error.kind == "connection"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after": "Wed, 01 Jan 2020 00:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_every_spelling(
    api: MessagesApi, headers: dict[str, str], seconds: float | None
) -> None:
    api.queue({"fault": "rate_limit", "headers": headers})
    error = failure(api)
    assert isinstance(error, Retryable)
    assert error.retry_after == seconds


def test_an_hour_of_retry_after_is_not_slept(api: MessagesApi) -> None:
    api.queue({"fault": "rate_limit", "retry_after": 3600})
    with pytest.raises(QuotaExhausted) as caught:
        with_connection(api, lambda connection: ask(connection, REQUEST))
    assert caught.value.reset_at is not None
    assert caught.value.reset_at > datetime.now(UTC)
    assert api.count == 1


@pytest.mark.parametrize("fault", ["spend_limit", "credit", "quota_text"])
def test_a_spent_limit_is_not_retried_and_can_be_resumed(api: MessagesApi, fault: str) -> None:
    api.queue({"fault": fault})
    error = failure(api)
    assert isinstance(error, QuotaExhausted)
    assert error.exit_code == 4
    expected = datetime(2031, 2, 1, tzinfo=UTC) if fault == "quota_text" else None
    assert error.reset_at == expected


@pytest.mark.parametrize("fault", ["forbidden", "too_large", "bad_request"])
def test_refused_requests_are_final_with_the_providers_words_and_a_cure(api: MessagesApi, fault: str) -> None:
    api.queue({"fault": fault, "message": "the reason of the provider"})
    error = failure(api)
    assert isinstance(error, Terminal) and error.final
    assert "the reason of the provider" in error.message
    assert error.cure


def test_the_provider_may_overrule_what_a_status_means(api: MessagesApi) -> None:
    api.queue({"fault": "server_error", "headers": {"x-should-retry": "false"}})
    assert type(failure(api)) is Terminal
    api.queue({"fault": "rate_limit", "headers": {"x-should-retry": "false"}})
    assert type(failure(api)) is QuotaExhausted
    api.queue({"fault": "bad_request", "headers": {"x-should-retry": "true"}})
    assert isinstance(failure(api), Retryable)


def test_an_unknown_model_is_named(api: MessagesApi) -> None:
    error = failure(api, {**REQUEST, "model": "claude-opus-99"})
    assert isinstance(error, Terminal) and error.final
    assert "claude-opus-99" in error.message
    assert "models.yaml" in error.cure


def test_the_key_is_in_no_error_no_log_and_no_repr(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with MessagesApi(keys={"another"}) as strict:
        error = failure(strict)
    assert isinstance(error, AuthenticationFailed)
    assert "[key]" in error.message  # the stand-in echoes the key, as a careless proxy does
    shown = "".join(traceback.format_exception(error)) + repr(error.__dict__) + repr(error.args)
    shown += repr(AnthropicConnection(KEY, "http://127.0.0.1:1")) + caplog.text + "".join(capsys.readouterr())
    assert KEY not in shown
    assert error.__cause__ is None


def test_a_connection_serves_several_event_loops(api: MessagesApi) -> None:
    connection = AnthropicConnection(KEY, api.base_url)

    async def use() -> list[str]:
        try:
            return [
                answer.text for answer in await asyncio.gather(*(connection.send(REQUEST) for _ in range(4)))
            ]
        finally:
            await connection.close()

    for _ in range(3):
        assert len(asyncio.run(use())) == 4
    assert api.count == 12


def test_cancelling_ends_the_request(api: MessagesApi) -> None:
    api.queue({"fault": "stall", "thinking": "let me think"}, {"text": "fine"})

    async def use(connection: AnthropicConnection) -> str:
        begun = asyncio.Event()
        task = asyncio.create_task(connection.send(REQUEST, on_progress=lambda *_: begun.set()))
        await asyncio.wait_for(begun.wait(), 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return (await connection.send(REQUEST)).text

    assert with_connection(api, use) == "fine"


def test_the_sdk_itself_never_retries(api: MessagesApi) -> None:
    api.queue({"fault": "overloaded"}, {"fault": "overloaded"})
    failure(api)
    assert api.count == 1


def test_the_models_of_the_key_are_listed(api: MessagesApi) -> None:
    models = with_connection(api, lambda connection: connection.models())
    newest = max((m for m in models if m["line"] == "opus"), key=lambda model: model["created_at"])
    assert newest["id"] == "claude-opus-5-5"


def test_a_proxy_that_answers_whole_is_understood(api: MessagesApi) -> None:
    """Some gateways ignore `stream`: the message then comes as plain JSON."""
    api.answer_with(lambda body: body.pop("stream", None) and None)
    assert sent(api).text.startswith("# Say hello")
