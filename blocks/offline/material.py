"""What the offline model works from: the request, taken apart."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from blocks.offline.words import plain

_DOCUMENT = re.compile(r'<document\s+name="([^"\n]*)"\s+type="([^"\n]*)"[^<>]*>')
_CONTEXT = re.compile(r"<context>")
_CONTRACT = re.compile(r"<output_contract\b([^<>]*)>")
_SCHEMA = re.compile(r"<output_schema>")
_ATTRIBUTE = re.compile(r'(?<!\w)(\w++)="([^"]*)"')
_SPEAKER = re.compile(r"^#{1,6}[ \t]++(\S.*)$", re.M)
_SENTENCE_END = re.compile(r"[。！？]|[.!?](?=\s|$)")
_TITLE_CHARS = 120


@dataclass(frozen=True)
class Document:
    """One document of the request."""

    name: str
    media_type: str
    body: str


@dataclass(frozen=True)
class Material:
    """A request in its parts.

    `results` are the texts of the tool results with the tool's name and whether it failed, in order;
    `speaker` is the first heading of the system prompt: who answers.
    """

    instruction: str
    documents: tuple[Document, ...] = ()
    output_name: str = ""
    output_type: str = ""
    schema: dict[str, Any] | None = None
    called: bool = False
    results: tuple[tuple[str, str, bool], ...] = ()
    speaker: str = ""

    @property
    def task(self) -> str:
        """The instruction's first sentence."""
        lines = (plain(line) for line in self.instruction.splitlines())
        first = next((line for line in lines if line), "")
        end = _SENTENCE_END.search(first)
        return (first[: end.start()] if end else first)[:_TITLE_CHARS]

    @property
    def title(self) -> str:
        """What the output is called, in words; else the task. Empty when the request says neither."""
        words = self.output_name.replace("_", " ").replace("-", " ").strip()
        return words[:1].upper() + words[1:] if words else self.task

    @property
    def chinese(self) -> bool:
        """Whether the instruction (else the documents) is mostly Chinese."""
        text = self.instruction or "".join(document.body[:2000] for document in self.documents)
        return len(re.findall(r"[一-鿿]", text)) * 3 > len(re.findall(r"[A-Za-z]", text))


def read_request(request: dict[str, Any]) -> Material:
    """Takes a request apart. The instruction is what the user says before the first answer."""
    said, names, results, called = [], {}, [], False
    for message in request["messages"]:
        for block in _blocks(message["content"]):
            if block["type"] == "text" and message["role"] == "user" and not called:
                said.append(block["text"])
            elif block["type"] == "tool_use":
                names[block["id"]] = block["name"]
            elif block["type"] == "tool_result":
                name = names.get(block["tool_use_id"], "")
                results.append((name, _result_text(block.get("content")), bool(block.get("is_error"))))
        called = called or message["role"] == "assistant"
    found, text = _take_elements(_DOCUMENT, "</document>", "\n\n".join(said))
    documents = tuple(Document(tag[1], tag[2], inner) for tag, inner in found)
    # What a hook adds to the message is material like a document, not a task.
    found, text = _take_elements(_CONTEXT, "</context>", text)
    documents += tuple(
        Document("context", "application/json" if inner[:1] in ("{", "[") else "text/markdown", inner)
        for _, inner in found
    )
    contracts, text = _take_elements(_CONTRACT, "</output_contract>", text)
    about = dict(_ATTRIBUTE.findall(contracts[0][0][1])) if contracts else {}
    system = "\n".join(block.get("text", "") for block in _blocks(request.get("system") or ""))
    speaker = _SPEAKER.search(system)
    return Material(
        instruction=text.strip(),
        documents=documents,
        output_name=about.get("name", ""),
        output_type=about.get("type", ""),
        schema=_schema(request, contracts[0][1] if contracts else ""),
        called=bool(names),
        results=tuple(results),
        speaker=plain(speaker[1].rstrip(" \t#"))[:_TITLE_CHARS] if speaker else "",
    )


def _take_elements(
    opening: re.Pattern[str], closing: str, text: str
) -> tuple[list[tuple[re.Match[str], str]], str]:
    """What stands between the tags, with its opening one, and the text without all that."""
    found, kept, at = [], [], 0
    while (tag := opening.search(text, at)) and (end := text.find(closing, tag.end())) >= 0:
        found.append((tag, text[tag.end() : end].removeprefix("\n").removesuffix("\n")))
        kept.append(text[at : tag.start()])
        at = end + len(closing)
    return found, "".join([*kept, text[at:]])


def _schema(request: dict[str, Any], contract: str) -> dict[str, Any] | None:
    """The schema as it was written, where the contract holds it; the provider's dialect says less."""
    found, _ = _take_elements(_SCHEMA, "</output_schema>", contract)
    if found:
        written: dict[str, Any] = json.loads(found[0][1])
        return written
    format_ = (request.get("output_config") or {}).get("format")
    return format_["schema"] if format_ else None


def _blocks(content: Any) -> Iterable[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _result_text(content: Any) -> str:
    if isinstance(content, str) or content is None:
        return content or ""
    return "\n".join(block.get("text") or f"[{block['type']}]" for block in content)
