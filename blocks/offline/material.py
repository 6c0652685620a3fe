"""What the offline model works from: the request, taken apart."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

NOTE_MARK = "offline model"
"""Every note of the offline model holds these words; passages with them are not quoted again."""

_DOCUMENT = re.compile(r'<document\s+name="([^"]*)"\s+type="([^"]*)"[^>]*>\n?(.*?)\n?</document>', re.S)
_CONTEXT = re.compile(r"<context>\n?(.*?)\n?</context>", re.S)
_CONTRACT = re.compile(r"<output_contract\b([^>]*)>(.*?)</output_contract>", re.S)
_SCHEMA = re.compile(r"<output_schema>(.*?)</output_schema>", re.S)
_ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')
_SENTENCE = re.compile(r"[^。！？!?\n]+?(?:[。！？!?]+|\.(?=\s|$)|(?=\n)|$)")
_WORD = re.compile(r"[a-z][a-z0-9]+|[一-鿿]+")
_STOP_WORDS = (
    "the and for with that this from are was were not but has have its our you they all can will one per any "
    "into than then them use used using such also more most must should when what which who how"
)
_STOP = frozenset(_STOP_WORDS.split())
_LOUD = re.compile(
    r"必须|应该|应当|需要|不得|风险|关键|结论|目标|must|should|risk|critical|goal|require", re.I
)
_READ_LIMIT = 200_000


@dataclass(frozen=True)
class Document:
    """One document of the request."""

    name: str
    media_type: str
    body: str

    @cached_property
    def headings(self) -> list[str]:
        """Markdown headings in order, without their marks."""
        found = re.findall(r"^#{1,6}[ \t]+(.+?)[ \t#]*$", self.prose, re.M)
        return [plain(heading) for heading in found]

    @cached_property
    def passages(self) -> list[str]:
        """Bullets and sentences in order, as plain text, each once."""
        found: dict[str, None] = {}
        for line in self.prose.splitlines():
            if not line.strip() or re.match(r"\s*(#|\||```|~~~|<)", line) or NOTE_MARK in line:
                continue
            for sentence in _SENTENCE.findall(plain(line)):
                text = sentence.strip(" 　;；,，")
                if 6 <= len(text) <= 400:
                    found.setdefault(text)
        return list(found)

    @cached_property
    def passage_terms(self) -> list[tuple[str, ...]]:
        """The terms of each passage."""
        return [tuple(terms(passage)) for passage in self.passages]

    def key_points(self, count: int) -> list[str]:
        """The passages that say most about the document, in its own order."""
        best = sorted(range(len(self.passages)), key=lambda n: (-self._weights[n], n))
        return [self.passages[n] for n in sorted(best[:count])]

    @cached_property
    def _weights(self) -> list[float]:
        """How much each passage says: common terms, strong words, numbers."""
        frequency = Counter(term for own in self.passage_terms for term in own)
        return [
            sum(frequency[term] for term in own) / (len(own) + 4)
            + 2 * len(_LOUD.findall(passage))
            + min(3, len(re.findall(r"\d+", passage)))
            for passage, own in zip(self.passages, self.passage_terms, strict=True)
        ]

    @cached_property
    def prose(self) -> str:
        """The text without code blocks; empty for tables and JSON."""
        if self.media_type in ("text/csv", "text/tab-separated-values") or "json" in self.media_type:
            return ""
        return re.sub(r"^(```|~~~).*?^\1[ \t]*$", "", self.body[:_READ_LIMIT], flags=re.S | re.M)


@dataclass(frozen=True)
class Material:
    """A request in its parts.

    `results` are the texts of the tool results, by tool, in order; `speaker` is the first heading of the
    system prompt: who answers.
    """

    instruction: str
    documents: tuple[Document, ...]
    output_name: str = ""
    output_type: str = ""
    schema: dict[str, Any] | None = None
    called: bool = False
    results: tuple[tuple[str, str, bool], ...] = field(default=())
    speaker: str = ""

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

    def relevant(self, topic: str, count: int) -> list[tuple[Document, str]]:
        """The passages of all documents that share most with a topic."""
        wanted = set(terms(topic))
        scored = [
            (len(wanted.intersection(own)) / (6 + len(own)) ** 0.5, n, m, document, document.passages[m])
            for n, document in enumerate(self.documents)
            for m, own in enumerate(document.passage_terms)
        ]
        best = sorted((item for item in scored if item[0] > 0), key=lambda item: (-item[0], item[1], item[2]))
        return [(document, passage) for *_, document, passage in best[:count]]


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
    documents = tuple(Document(*match) for match in _DOCUMENT.findall(text))
    text = _DOCUMENT.sub("", text)
    # What a hook adds to the message is material like a document, not a task.
    documents += tuple(Document("context", _media_type(body), body) for body in _CONTEXT.findall(text))
    text = _CONTEXT.sub("", text)
    contract = _CONTRACT.search(text)
    about = dict(_ATTRIBUTE.findall(contract[1])) if contract else {}
    return Material(
        instruction=_CONTRACT.sub("", text).strip(),
        documents=documents,
        output_name=about.get("name", ""),
        output_type=about.get("type", ""),
        schema=_schema(request, contract[2] if contract else ""),
        called=bool(names),
        results=tuple(results),
        speaker=_speaker(request),
    )


def _schema(request: dict[str, Any], contract: str) -> dict[str, Any] | None:
    """The schema as it was written, where the contract holds it; the provider's dialect says less."""
    match = _SCHEMA.search(contract)
    if match:
        written: dict[str, Any] = json.loads(match[1])
        return written
    format_ = (request.get("output_config") or {}).get("format")
    return format_["schema"] if format_ else None


def _speaker(request: dict[str, Any]) -> str:
    text = "\n".join(block.get("text", "") for block in _blocks(request.get("system") or ""))
    heading = re.search(r"^#{1,6}[ \t]+(.+?)[ \t#]*$", text, re.M)
    return plain(heading[1])[:120] if heading else ""


def _media_type(body: str) -> str:
    try:
        json.loads(body)
    except ValueError:
        return "text/markdown"
    return "application/json"


def _blocks(content: Any) -> Iterable[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _result_text(content: Any) -> str:
    if isinstance(content, str) or content is None:
        return content or ""
    return "\n".join(block.get("text") or f"[{block['type']}]" for block in content)


def plain(text: str) -> str:
    """A line without its Markdown marks."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"^\s*(?:[-*+>]\s+|\d+[.)、]\s*|#{1,6}\s+)+(?:\[[ xX]\]\s*)?", "", text)
    return re.sub(r"\*\*|__|`", "", text).strip()


def terms(text: str) -> list[str]:
    """What a text is about: its longer words, and for Chinese every pair of characters."""
    found: list[str] = []
    for run in _WORD.findall(text.lower()):
        if run.isascii():
            found += [run] if len(run) > 2 and run not in _STOP else []
        else:
            found += [run[n : n + 2] for n in range(len(run) - 1)]
    return found
