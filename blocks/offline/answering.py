"""The requested sections, filled with the pieces of the material that fit them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from blocks.offline.columns import passages_as_rows, recast
from blocks.offline.figures import side_by_side
from blocks.offline.matching import Index, Opinion, Topic, share_out
from blocks.offline.outline import Section, bare
from blocks.offline.phrases import Phrases
from blocks.offline.pieces import Piece
from blocks.offline.tables import markdown_table, rows_table
from blocks.offline.words import terms

_ROOM = {"fact": 8, "table": 2, "passage": 4, "row": 3, "gap": 3}
_PART_ROOM = {"fact": 2, "passage": 2, "row": 1, "gap": 1}
_LIST_ROOM = {"table": 1, "fact": 4, "passage": 5, "row": 2, "gap": 6}
_LIST_PREFERS = {"table": 2.0, "gap": 1.5}
_SPLIT_ROOM = {"fact": 4, "table": 1, "passage": 2, "gap": 1}
_OPINION_ROOM = {"fact": 3, "passage": 3}
_WHOLE_CLAIM = 0.2
"""What fits a part of a section belongs there, not to the section as a whole."""
_ROWS = 20
_SECTION_ROWS = 12
_FEW_ROWS = 8
"""A table so small is read where it stands: no other section shows its rows."""
_REPEATED_ROWS = 5
"""Rows shown again of a table that an earlier document holds."""
_CELL = 120


@dataclass
class Answered:
    """One section with its topics: the whole one first, then one per listed part."""

    section: Section
    whole: Topic | None
    parts: list[Topic] = field(default_factory=list)

    @property
    def topics(self) -> list[Topic]:
        """All topics of the section."""
        return [*([self.whole] if self.whole else []), *self.parts]

    @property
    def taken(self) -> list[int]:
        """The pieces shown in it."""
        return [n for topic in self.topics for n in topic.taken]


def answer_sections(sections: Sequence[Section], index: Index) -> list[Answered]:
    """Shares the pieces out among the sections."""
    answered = [_topics(section) for section in sections]
    share_out(index, [topic for one in answered for topic in one.topics])
    _drop_shown_rows(answered, index)
    return answered


def _drop_shown_rows(answered: Sequence[Answered], index: Index) -> None:
    """Rows of a table that stands in the same section, or that is small and stands anywhere."""
    for one in answered:
        shown = {
            (piece.source, piece.place)
            for other in answered
            for piece in (index.pieces[n] for n in other.taken)
            if piece.kind == "table" and (other is one or len(piece.rows) <= _FEW_ROWS)
        }
        for topic in one.topics:
            topic.taken = [n for n in topic.taken if not _is_row_of(index.pieces[n], shown)]


def _is_row_of(piece: Piece, tables: set[tuple[str, str]]) -> bool:
    return piece.kind == "row" and (piece.source, piece.place) in tables


def _topics(section: Section) -> Answered:
    names = [part.strip() for part in section.name.split("、") if part.strip()]
    if len(names) > 1:
        return Answered(section, None, [Topic(name, section.about, _PART_ROOM) for name in names])
    if section.tabular:
        return Answered(section, Topic(section.name, section.about, _LIST_ROOM, _LIST_PREFERS, own=True))
    name = " ".join([section.name, *section.choices])
    opinion: Opinion = "agreement" if _is_agreement(section) else "verdict" if section.choices else ""
    most = _OPINION_ROOM if opinion else _SPLIT_ROOM if section.details else _ROOM
    room = {kind: min(count, section.limit or count) for kind, count in most.items()}
    about, claim = ("", _WHOLE_CLAIM) if section.details else (section.about, 1.0)
    whole = Topic(name, about, room, opinion=opinion, claim=claim)
    return Answered(section, whole, [Topic(bare(detail), "", _PART_ROOM) for detail in section.details])


def section_lines(one: Answered, answered: Sequence[Answered], index: Index, say: Phrases) -> list[str]:
    """What stands under a section's heading; never empty."""
    lines = side_by_side(index, say) if "#contradiction" in terms(one.section.name) else []
    if one.section.tabular and one.section.details and not lines:
        lines = _listed(one, index, say)
    if not lines:
        whole = _in_order(one.whole, index) if one.whole else []
        lines = piece_lines(whole, say, limit=one.section.limit) + _parts(one, index, say)
    lines = lines[1:] if lines[:1] == [""] else lines or [_elsewhere(one, answered, say)]
    if _is_agreement(one.section):
        lines += ["", say("agreement")]
    if one.section.choices:
        lines += ["", say("choice", " / ".join(one.section.choices))]
    return lines


def _in_order(topic: Topic, index: Index) -> list[Piece]:
    """Tool results, then what somebody wrote, then single rows of tables; the best fit first in each."""
    return sorted(
        (index.pieces[n] for n in topic.taken), key=lambda p: (not p.tool or p.kind == "row", p.kind == "row")
    )


def _is_agreement(section: Section) -> bool:
    return "#agreement" in terms(section.name)


def _parts(one: Answered, index: Index, say: Phrases) -> list[str]:
    """What is listed in a section, each with its own points below it."""
    lines: list[str] = []
    missing = []
    for topic in one.parts:
        told = [_told(piece, say) for piece in _in_order(topic, index)]
        lines += ["", f"### {topic.name}", "", *(f"- {text}" for text in told)] if told else []
        missing += [] if told else [topic.name]
    return [*lines, "", say("missing", say.listed(missing))] if lines and missing else lines


def _listed(one: Answered, index: Index, say: Phrases) -> list[str]:
    """A table with the columns asked for: that of a table of the material, then passages as rows."""
    columns = one.section.details
    rows: list[list[str]] = []
    told, lines = [], []
    for piece in (index.pieces[n] for n in one.taken):
        if piece.kind == "table":
            most = _ROWS if not piece.repeated else _REPEATED_ROWS
            made = recast(piece, columns, one.section.name, most)
            rows += made or []
            lines += [_caption(piece, most, say), ""] if made else []
        else:
            told.append((_bare_text(piece, say), say.origin(piece.source, piece.place)))
    if not rows and any(index.pieces[n].kind == "table" for n in one.taken):
        return []  # a table with other columns is shown as it is
    # A table that answers is enough; what it lacks are only things still open.
    rows += passages_as_rows(told, columns) if not rows or _is_open(one) else []
    if not rows:
        return []
    blank = ["", say("blank")] if any("—" in row for row in rows) else []
    return [*lines, *markdown_table([bare(name) for name in columns], rows, _CELL), *blank]


def _is_open(one: Answered) -> bool:
    """Whether a list is about what is open: problems, questions."""
    return bool({"#problem", "#open", "#risk"} & set(terms(one.section.name)))


def _elsewhere(one: Answered, answered: Sequence[Answered], say: Phrases) -> str:
    """Where the best piece for this section stands; the honest line when there is none."""
    for topic in one.topics:
        for other in answered:
            if other is not one and topic.elsewhere is not None and topic.elsewhere in other.taken:
                return say("see", other.section.name)
    return say("nothing")


def piece_lines(pieces: Sequence[Piece], say: Phrases, *, limit: int = 0) -> list[str]:
    """Pieces as Markdown: what is said as bullets, then tables."""
    told = [piece for piece in pieces if piece.kind != "table"]
    lines = [f"- {_told(piece, say)}" for piece in told[: limit or None]]
    for piece in [piece for piece in pieces if piece.kind == "table" and not (limit and lines)]:
        most = _SECTION_ROWS if not piece.repeated else _REPEATED_ROWS
        lines += ["", _caption(piece, most, say), "", *rows_table(piece.rows, most, _CELL)]
    return lines[1:] if lines[:1] == [""] else lines


def _caption(piece: Piece, most: int, say: Phrases) -> str:
    count = min(len(piece.rows), most)
    more = say("rows", count, piece.count) if count < piece.count else ""
    return say.origin(piece.source, piece.place, more)


def _told(piece: Piece, say: Phrases) -> str:
    return f"{_bare_text(piece, say)} {say.origin(piece.source, piece.place)}"


def _bare_text(piece: Piece, say: Phrases) -> str:
    if piece.kind == "gap":
        return say("gap", piece.text)
    return f"`{piece.key}`: {piece.text}" if piece.key else piece.text
