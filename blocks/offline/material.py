"""What the offline model works from: the request, taken apart."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from blocks.offline.document import Document
from blocks.offline.words import plain
from workflows.core.prompts import HOUSE_RULES

_DOCUMENT = re.compile(r'<document\s+name="([^"\n]*)"\s+type="([^"\n]*)"[^<>]*>')
_CONTEXT = re.compile(r"<context>")
_CONTRACT = re.compile(r"<output_contract\b([^<>]*)>")
_SCHEMA = re.compile(r"<output_schema>")
_SKILL = re.compile(r"^## Skills\n.*?(?=^#|\Z)", re.S | re.M)
_ATTRIBUTE = re.compile(r'(?<!\w)(\w++)="([^"]*)"')


@dataclass(frozen=True)
class Material:
    """A request in its parts.

    `results` are the texts of the tool results, by tool, in order; `speaker` is the first heading of the
    system prompt: who answers; `persona` what that prompt says of the agent itself.
    """

    instruction: str
    documents: tuple[Document, ...]
    output_name: str = ""
    output_type: str = ""
    schema: dict[str, Any] | None = None
    called: bool = False
    results: tuple[tuple[str, str, bool], ...] = field(default=())
    speaker: str = ""
    persona: str = ""

    def document(self, name: str) -> Document | None:
        """The document of that name."""
        return next((document for document in self.documents if document.name == name), None)

    @property
    def title(self) -> str:
        """The instruction's first line."""
        lines = (plain(line) for line in self.instruction.splitlines())
        return next((line for line in lines if line), "")[:120]

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
    text = "\n\n".join(said)
    found, text = _taken(_DOCUMENT, "</document>", text)
    documents = tuple(Document(tag[1], tag[2], inner) for tag, inner in found)
    # What a hook adds to the message is material like a document, not a task.
    found, text = _taken(_CONTEXT, "</context>", text)
    documents += tuple(Document("context", _media_type(inner), inner) for _, inner in found)
    contracts, text = _taken(_CONTRACT, "</output_contract>", text)
    about = dict(_ATTRIBUTE.findall(contracts[0][0][1])) if contracts else {}
    system = "\n".join(block.get("text", "") for block in _blocks(request.get("system") or ""))
    return Material(
        instruction=text.strip(),
        documents=documents,
        output_name=about.get("name", ""),
        output_type=about.get("type", ""),
        schema=_schema(request, contracts[0][1] if contracts else ""),
        called=bool(names),
        results=tuple(results),
        speaker=_speaker(system),
        # The rules of the house and the skills are the same for all: they say nothing of the agent.
        persona=_SKILL.sub("", system.replace(HOUSE_RULES, "")).strip(),
    )


def _taken(opening: re.Pattern[str], closing: str, text: str) -> tuple[list[tuple[re.Match[str], str]], str]:
    """What stands between the tags, with its opening one, and the text without all that."""
    found, kept, at = [], [], 0
    while (tag := opening.search(text, at)) and (end := text.find(closing, tag.end())) >= 0:
        inner = text[tag.end() : end].removeprefix("\n").removesuffix("\n")
        found.append((tag, inner))
        kept.append(text[at : tag.start()])
        at = end + len(closing)
    return found, "".join([*kept, text[at:]])


def _schema(request: dict[str, Any], contract: str) -> dict[str, Any] | None:
    """The schema as it was written, where the contract holds it; the provider's dialect says less."""
    found, _ = _taken(_SCHEMA, "</output_schema>", contract)
    if found:
        written: dict[str, Any] = json.loads(found[0][1])
        return written
    format_ = (request.get("output_config") or {}).get("format")
    return format_["schema"] if format_ else None


def _speaker(system: str) -> str:
    heading = re.search(r"^#{1,6}[ \t]++(\S.*)$", system, re.M)
    return plain(heading[1].rstrip(" \t#"))[:120] if heading else ""


def _media_type(body: str) -> str:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return "text/markdown"
    return "application/json"


def _blocks(content: Any) -> Iterable[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _result_text(content: Any) -> str:
    if isinstance(content, str) or content is None:
        return content or ""
    return "\n".join(block.get("text") or f"[{block['type']}]" for block in content)
