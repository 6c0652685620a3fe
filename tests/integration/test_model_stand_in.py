"""The stand-in of the Messages API refuses what the real one refuses, and does as its script says."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest

from tests.support.messages_api import MessagesApi, messages_api_process

USER = {"role": "user", "content": "hi"}


@pytest.fixture
def api() -> Iterator[MessagesApi]:
    with MessagesApi() as running:
        yield running


def post(base_url: str, body: Any, path: str = "/v1/messages", **headers: str) -> tuple[int, dict[str, Any]]:
    """Status and JSON body of a bare request."""
    sent = {"authorization": "Bearer k", "anthropic-version": "2026-10-21", **headers}
    request = urllib.request.Request(base_url + path, json.dumps(body).encode(), sent)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def body(**more: Any) -> dict[str, Any]:
    return {"model": "claude-opus-5-5", "max_tokens": 10, "messages": [USER], **more}


def mark(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
TOOL = {"name": "t", "input_schema": {"type": "object"}}
CALL = {"type": "tool_use", "id": "x1", "name": "t", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "x1", "content": "ok"}


def said(*messages: Any) -> dict[str, Any]:
    return body(messages=list(messages))


def model_says(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def user_says(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def formatted(schema: dict[str, Any]) -> dict[str, Any]:
    return body(output_config={"format": {"type": "json_schema", "schema": schema}})


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (body(temperature=0.5), "temperature"),
        (body(top_k=5), "top_k"),
        (body(surprise=1), "surprise"),
        ({k: v for k, v in body().items() if k != "max_tokens"}, "max_tokens: Field required"),
        (body(max_tokens=0), "max_tokens"),
        (body(max_tokens=999_999), "maximum"),
        (body(tools=[TOOL], tool_choice={"type": "any"}), "tool_choice"),
        (body(tools=[TOOL], tool_choice={"type": "tool", "name": "t"}), "tool_choice"),
        (body(thinking={"type": "enabled", "budget_tokens": 2000}), "enabled"),
        (body(thinking={"type": "disabled"}), "disabled"),
        (body(model="claude-haiku-4-5", thinking={"type": "adaptive"}), "adaptive"),
        (body(output_config={"effort": "moderate"}), "effort"),
        (body(tools=[TOOL, TOOL]), "unique"),
        (body(tools=[{"name": "t", "input_schema": {}}]), "input_schema"),
        (
            body(system=[mark("a"), mark("b"), mark("c")], messages=[user_says(mark("d"), mark("e"))]),
            "Found 5",
        ),
        (body(system=[{"type": "text", "text": ""}]), "non-empty"),
        (formatted(SCHEMA), "additionalProperties"),
        (formatted({**SCHEMA, "additionalProperties": False, "minProperties": 1}), "minProperties"),
        (said(model_says({"type": "text", "text": "x"})), "first message"),
        (said(USER, model_says({"type": "text", "text": "{"})), "prefill"),
        (said({"role": "system", "content": "x"}), "role"),
        (said({**USER, "name": "me"}), "nothing else"),
        (said(user_says({"type": "text", "text": ""})), "non-whitespace"),
        (said(user_says({"type": "hologram"})), "hologram"),
        (said(USER, model_says(CALL), USER), "without `tool_result`"),
        (
            said(USER, model_says({"type": "text", "text": "x"}), user_says(RESULT)),
            "unexpected `tool_use_id`",
        ),
        (said(USER, model_says(CALL), user_says({"type": "text", "text": "a"}, RESULT)), "come first"),
        (said(USER, model_says(CALL), user_says({**RESULT, "content": "", "is_error": True})), "is_error"),
        (
            said(
                USER,
                model_says(
                    {"type": "thinking", "thinking": "x", "signature": "forged"},
                    {"type": "text", "text": "x"},
                ),
                USER,
            ),
            "modified",
        ),
        (said(), "at least one message"),
    ],
)
def test_what_the_api_refuses(api: MessagesApi, wrong: dict[str, Any], words: str) -> None:
    status, answer = post(api.base_url, wrong)
    assert status == 400
    assert answer["error"]["type"] == "invalid_request_error"
    assert words in answer["error"]["message"]


def test_keys_models_and_paths(api: MessagesApi) -> None:
    assert post(api.base_url, body(), authorization="")[0] == 401
    assert post(api.base_url, body(model="claude-1"))[1]["error"]["type"] == "not_found_error"
    assert post(api.base_url, body(), "/v1/nothing")[0] == 404
    assert post(api.base_url, body(), "/v1/messages/count_tokens")[1]["input_tokens"] > 0


def test_thinking_must_come_back_unchanged_in_its_own_transcript(api: MessagesApi) -> None:
    api.queue({"tools": [{"name": "t"}], "thinking": "hm"})
    _, first = post(api.base_url, body(tools=[TOOL]))
    thought, call = first["content"]
    result = {**RESULT, "tool_use_id": call["id"]}

    def status(opening: Any, *content: Any) -> int:
        echoed = [opening, model_says(*content), user_says(result)]
        return post(api.base_url, body(tools=[TOOL], messages=echoed))[0]

    assert status(USER, thought, call) == 200
    assert status(user_says(mark("hi")), thought, call) == 200
    assert status(USER, {**thought, "thinking": "other"}, call) == 400
    assert status({**USER, "content": "ho"}, thought, call) == 400
    assert status(USER, call) == 400


def test_whole_and_streamed_answers_are_the_same_for_the_sdk(api: MessagesApi) -> None:
    reply = {"text": "some text " * 40, "tools": [{"name": "t", "input": {"a": 1}}], "thinking": "so"}
    api.queue(reply, reply)

    async def both() -> tuple[Any, Any]:
        async with anthropic.AsyncAnthropic(api_key="k", base_url=api.base_url, max_retries=0) as client:
            asked: dict[str, Any] = {**body(tools=[TOOL])}
            whole = await client.messages.create(**asked)
            async with client.messages.stream(**asked) as stream:
                return whole, await stream.get_final_message()

    whole, streamed = asyncio.run(both())
    assert whole.content[1].text == streamed.content[1].text == "some text " * 40
    assert whole.content[2].input == streamed.content[2].input == {"a": 1}
    assert whole.usage.output_tokens == streamed.usage.output_tokens
    assert streamed.stop_reason == "tool_use"


def test_the_prompt_cache_is_counted(api: MessagesApi) -> None:
    asked = body(system=[mark("long " * 400)])
    usages = [post(api.base_url, asked)[1]["usage"] for _ in range(2)]
    assert usages[0]["cache_creation_input_tokens"] == usages[1]["cache_read_input_tokens"] > 400
    assert usages[1]["cache_creation_input_tokens"] == 0


def test_scripts_run_from_the_command_line(tmp_path: Path) -> None:
    script = {
        "queue": [{"fault": "overloaded"}],
        "rules": [
            {"match": "second", "replies": [{"text": "A"}, {"text": "B"}]},
            {"match": "", "turn": 1, "reply": {"text": "later"}, "times": None},
        ],
        "default": {"json": {"ok": True}, "thinking": None},
    }

    def text(base_url: str, *messages: Any) -> str:
        return str(post(base_url, said(*messages))[1]["content"][-1]["text"])

    second = {"role": "user", "content": "the second one"}
    with messages_api_process(script, folder=tmp_path) as base_url:
        assert post(base_url, body())[0] == 529
        assert [text(base_url, second) for _ in range(3)] == ["A", "B", '{"ok": true}']
        assert text(base_url, USER, model_says({"type": "text", "text": "x"}), USER) == "later"
        with urllib.request.urlopen(base_url + "/_requests", timeout=30) as answer:
            overview = json.load(answer)
    assert overview["count"] == 5
    assert overview["answered"] == 4
    assert overview["requests"][0]["fault"] == "overloaded"
    assert overview["requests"][1]["body"]["messages"] == [second]


@pytest.mark.parametrize("script", [{"queu": []}, {"rules": [{"mach": "x", "reply": {}}]}])
def test_a_misspelt_script_is_refused(script: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="unknown keys"):
        MessagesApi(script)
