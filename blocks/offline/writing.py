"""The document the offline model writes: what its material holds, under the headings asked for.

A tool's result stands under the heading that most of its name's words are in, a row also under the one that
names its kind, a passage under the one whose words it holds. What is found for no heading is said to be left
open; what a document of the offline model left open is passed on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from blocks.offline.material import Document, Material
from blocks.offline.outline import parts_of, requested_sections
from blocks.offline.pieces import Piece, document_pieces, left_open_in, result_pieces, row_text, table_lines
from blocks.offline.words import phrase, plain, terms

_PASSAGES = 4
"""Passages under one heading, and under one heading of an input that is shown for itself."""
_KINDRED_ROWS = 5
_ROWS, _FEW_ROWS = 20, 5
_HEADINGS, _FACTS = 12, 40
_RESULT_CHARS, _TASK_CHARS = 1500, 800


@dataclass
class Topic:
    """A heading and the things listed after it; `taken` is what stands there, `rows` lines by their text."""

    name: str
    closed: bool = False
    below: list[Topic] = field(default_factory=list)
    taken: list[Piece] = field(default_factory=list)
    rows: dict[str, str] = field(default_factory=dict)

    @cached_property
    def parts(self) -> list[tuple[str, frozenset[str]]]:
        """Each thing that it names, and its terms; none where people have to decide."""
        return [(part.casefold(), terms(part)) for part in parts_of(self.name) if not self.closed]

    @property
    def said(self) -> bool:
        return bool(self.taken or self.rows)

    @property
    def empty(self) -> bool:
        return not self.said and all(topic.empty for topic in self.below)


def write_document(material: Material) -> str:
    """The answer as Markdown, or as plain text when the contract asks for that. Begins with the note."""
    chinese = material.chinese
    sections = requested_sections(material.instruction)
    topics = [Topic(one.name, one.decides, [Topic(name) for name in one.details]) for one in sections]
    every = [topic for one in topics for topic in (one, *one.below)]
    rest = _place_results(every, result_pieces(material))
    pieces = {document.name: document_pieces(document) for document in material.documents}
    for document in material.documents:
        if "json" not in document.media_type:
            _place_passages(every, pieces[document.name])
    by = f" {phrase('speaker', chinese)}: {material.speaker}" if material.speaker else ""
    lines = [f"> {phrase('note', chinese)}{by}", "", f"# {material.title or phrase('answer', chinese)}", ""]
    for topic in topics:
        lines += _section(topic, 2)
    if results := _further_results(material, rest, every):
        lines += [f"## {phrase('rest' if topics else 'tools', chinese)}", "", *results]
    if all(topic.empty for topic in topics) and material.documents:
        lines += [f"## {phrase('inputs', chinese)}", "", *_inputs(material, pieces, bool(topics))]
    text = "\n".join([*lines, *_left_open(material, topics), *_appendix(material)]).strip() + "\n"
    return _as_plain(text) if material.output_type == "text" else text


def _place_results(topics: Sequence[Topic], pieces: Sequence[Piece]) -> list[Piece]:
    """Gives each piece to the topic that names it best; the others are returned."""
    spread = Counter(term for piece in pieces for term in piece.label | piece.body)
    left: list[Piece] = []
    for piece in pieces:
        best = max(topics, key=lambda topic: _likeness(topic, piece, spread), default=None)
        placed = best is not None and _likeness(best, piece, spread) > 0
        (best.taken if best and placed else left).append(piece)
        for topic in topics if piece.kind == "table" else ():
            if topic is not best or not placed:
                _place_rows(topic, piece)
    return left


def _likeness(topic: Topic, piece: Piece, spread: Counter[str]) -> float:
    """How much of the rarer half of what a heading's part says is said of the piece; 0 for less."""
    best = 0.0
    for _, words in topic.parts:
        known = {term: 1 / spread[term] for term in words if spread[term]}
        shared = sum(known[term] for term in known if term in piece.label or term in piece.body)
        if known.keys() & piece.label and 2 * shared >= sum(known.values()):
            best = max(best, shared)
    return best


def _place_rows(topic: Topic, table: Piece) -> None:
    """Gives it the rows whose kind it names too."""
    named = [words for _, words in topic.parts if words]
    for row, kinds in zip(table.rows, table.kinds, strict=True):
        if len(topic.rows) < _KINDRED_ROWS and any(words <= kind for words in named for kind in kinds):
            text = row_text(row)
            topic.rows |= {text: f"- {text} {_origin(table)}"} if text and text not in topic.rows else {}


def _place_passages(topics: Sequence[Topic], pieces: Sequence[Piece]) -> None:
    """Gives what stands under a heading of that name, and else passages that hold it, each to one topic."""
    texts = [*enumerate(_Text(piece.place) for piece in pieces), *enumerate(_Text(p.text) for p in pieces)]
    gone: set[int] = set()
    for topic in topics:
        room = _PASSAGES
        for n, text in texts if topic.parts else ():
            if room and n not in gone and any(text.holds(part, words) for part, words in topic.parts):
                gone.add(n)
                topic.taken.append(pieces[n])
                room -= 1


class _Text:
    """A text that is looked into often."""

    def __init__(self, text: str) -> None:
        self._text = text.casefold()

    @cached_property
    def _terms(self) -> frozenset[str]:
        return terms(self._text)

    def holds(self, part: str, words: frozenset[str]) -> bool:
        """Whether it says all of what a heading's part says."""
        return bool(words) and words <= self._terms if part.isascii() else part in self._text


def _section(topic: Topic, level: int) -> list[str]:
    if topic.empty:
        return []
    said = [(f"`{piece.key}`: " if piece.key else "") + piece.text for piece in topic.taken]
    pairs = [*zip(topic.taken, said, strict=True)]
    lines = [f"- {text} {_origin(piece)}" for piece, text in pairs if piece.kind != "table"]
    lines += [line for row, line in topic.rows.items() if not any(row in text for text in said)]
    for piece in topic.taken:
        table = table_lines(piece.rows, _ROWS) if piece.kind == "table" else []
        lines += [*([""] if lines else []), _origin(piece), "", *table] if table else []
    told = [f"{'#' * level} {topic.name}", "", *lines, *([""] if lines else [])]
    return told + [line for below in topic.below for line in _section(below, level + 1)]


def _origin(piece: Piece) -> str:
    """Where something stands; later steps read their documents without these marks."""
    return f"〔{' · '.join(part for part in (piece.source, piece.place) if part)}〕"


def _further_results(material: Material, rest: Sequence[Piece], topics: Sequence[Topic]) -> list[str]:
    """What no heading asked for of the tools' results, by tool; what is not data as it is."""
    lines: list[str] = []
    placed = {piece.source for topic in topics for piece in topic.taken}
    for name, text, is_error in material.results:
        found = [piece for piece in rest if piece.source == name]
        if found and not is_error:
            lines += [f"### {name}", "", *_by_place(found, _ROWS)]
        elif is_error or name not in placed:
            shown = text if len(text) <= _RESULT_CHARS else text[:_RESULT_CHARS] + "\n..."
            failed = f" ({phrase('failed', material.chinese)})" if is_error else ""
            lines += [f"### {name}{failed}", "", "~~~text", shown.replace("~~~", "~ ~ ~"), "~~~", ""]
    return lines


def _by_place(pieces: Sequence[Piece], rows: int, *, placed: bool = True) -> list[str]:
    """Facts with their keys and passages, then the tables; `placed`: below the names of their places."""
    keys = [(".".join(part for part in (p.place, p.key) if part), p) for p in pieces if p.kind == "fact"]
    lines = [f"- `{key}`: {piece.text}" if key else f"- {piece.text}" for key, piece in keys[:_FACTS]]
    lines += [f"- {piece.text}" for piece in pieces if piece.kind == "passage"][:_PASSAGES]
    for piece in pieces:
        place = [f"{piece.place}:", ""] if piece.place and placed else []
        table = table_lines(piece.rows, rows)
        lines += [*([""] if lines else []), *place, *table] if table else []
    return [*lines, ""]


def _inputs(material: Material, pieces: dict[str, list[Piece]], asked: bool) -> list[str]:
    """The inputs for themselves; of several, where headings were asked for, the nearest to who answers."""
    nearness = {d.name: len(terms(material.speaker) & terms(d.name)) for d in material.documents}
    lines: list[str] = []
    for document in material.documents:
        if not asked or nearness[document.name] == max(nearness.values()):
            lines += [f"### {document.name}", "", *_show_document(document, pieces[document.name])]
    return lines


def _show_document(document: Document, pieces: Sequence[Piece]) -> list[str]:
    if "json" in document.media_type:
        return _by_place(pieces, _ROWS)
    lines: list[str] = []
    for place in list(dict.fromkeys(piece.place for piece in pieces))[:_HEADINGS]:
        below = [piece for piece in pieces if piece.place == place]
        lines += [*([f"#### {place}", ""] if place else []), *_by_place(below, _FEW_ROWS, placed=False)]
    return lines


def _left_open(material: Material, topics: Sequence[Topic]) -> list[str]:
    # Where a heading has something itself, nobody can tell whether that answers what is listed after it.
    asked = [([topic] if topic.empty else [] if topic.said else topic.below) for topic in topics]
    names = [topic.name for below in asked for topic in below if topic.empty]
    lines = [phrase("nothing", material.chinese, "; ".join(names))] if names else []
    for document in material.documents:
        lines += [f"- {document.name}: {left}" for left in left_open_in(document)]
    return [f"## {phrase('open', material.chinese)}", "", *lines, ""] if lines else []


def _appendix(material: Material) -> list[str]:
    """The task and the inputs: what the answer came from."""
    chinese = material.chinese
    task = material.instruction.split("\n\n")[0].strip()[:_TASK_CHARS].splitlines()
    given = [f"- {document.name} ({document.media_type})" for document in material.documents]
    lines = [f"## {phrase('appendix', chinese)}", ""]
    lines += [f"### {phrase('task', chinese)}", "", *(f"> {line}" for line in task), ""] if task else []
    return [*lines, f"### {phrase('given', chinese)}", "", *(given or [phrase("none", chinese)])]


def _as_plain(text: str) -> str:
    """Without Markdown marks, for an output of type text."""
    lines = [line.strip("| ") if line.startswith("|") else plain(line) for line in text.splitlines()]
    return "\n".join(lines).strip() + "\n"
