"""The document the offline model writes: what its material holds, laid out as the instruction asks."""

from __future__ import annotations

from blocks.offline.answering import Answered, answer_sections, piece_lines, section_lines
from blocks.offline.document import TABULAR, Document
from blocks.offline.matching import Index, is_told
from blocks.offline.material import Material
from blocks.offline.outline import requested_sections
from blocks.offline.phrases import Phrases
from blocks.offline.pieces import Piece, pieces_of
from blocks.offline.tables import describe, markdown_table, rows_of, rows_table
from blocks.offline.words import plain, terms

_RESULT_LIMIT = 1500
_REST_FACTS = 24
_MORE = 10


def write_document(material: Material) -> str:
    """The answer as Markdown, or as plain text when the contract asks for that. Begins with the note.

    The sections asked for come first, then what of the tool results and documents none of them shows, and
    last how the answer came about. Without such sections each document and tool result is shown in turn.
    """
    say = Phrases(material.chinese)
    index = Index(pieces_of(material), material.speaker, material.persona)
    answered = answer_sections(requested_sections(material.instruction), index)
    # In the note's own line, which later steps do not quote.
    by = f" {say('speaker')}: {material.speaker}" if material.speaker else ""
    lines = [f"> {say('note')}{by}", "", f"# {material.output_name or material.title or say('answer')}", ""]
    for one in answered:
        lines += [f"## {one.section.name}", "", *section_lines(one, answered, index, say), ""]
    taken = {n for one in answered for n in one.taken}
    lines += _tool_results(material, index, taken, say, partly=bool(answered))
    lines += _more(material, index, taken, say) if answered else _documents(material, index, say)
    lines += [] if _asks_open(answered) else _open_questions(index, taken, say)
    text = "\n".join([*lines, *_appendix(material, say, partly=bool(answered))]).strip() + "\n"
    return _as_plain(text) if material.output_type == "text" else text


def _tool_results(
    material: Material, index: Index, taken: set[int], say: Phrases, *, partly: bool
) -> list[str]:
    """What no section shows of the tool results, by tool; what is not JSON as it is."""
    lines: list[str] = []
    of_tools = [piece for n, piece in enumerate(index.pieces) if piece.tool and n not in taken]
    for name, text, is_error in material.results:
        pieces = [piece for piece in of_tools if piece.source == name and piece.kind != "row"]
        if pieces and not is_error:
            lines += [f"### {name}", "", *_of_source(pieces, say), ""]
        elif is_error or not any(piece.tool and piece.source == name for piece in index.pieces):
            shortened = text if len(text) <= _RESULT_LIMIT else text[:_RESULT_LIMIT] + "\n..."
            failed = f" ({say('failed')})" if is_error else ""
            lines += [f"### {name}{failed}", "", "~~~text", shortened.replace("~~~", "~ ~ ~"), "~~~", ""]
    return [f"## {say('rest' if partly else 'tools')}", "", *lines] if lines else []


def _of_source(pieces: list[Piece], say: Phrases) -> list[str]:
    """Facts and tables of one source, without saying again where they stand."""
    lines = [
        f"- {'.'.join([*piece.place.split(' › '), piece.key]).strip('.')}: {piece.text}"
        for piece in [piece for piece in pieces if piece.kind == "fact"][:_REST_FACTS]
    ]
    for piece in pieces:
        if piece.kind == "table":
            lines += ["", *([f"{piece.place}:", ""] if piece.place else []), *rows_table(piece.rows, 20, 80)]
    return lines


def _more(material: Material, index: Index, taken: set[int], say: Phrases) -> list[str]:
    """What stands out in the documents and no section shows."""
    told = [said for n in sorted(taken) if (said := index.pieces[n].said)]
    weights = {
        (document.name, passage): weight
        for document in material.documents
        if not document.ours
        for passage, weight in zip(document.passages, document.weights, strict=True)
    }
    left = [
        (n, piece)
        for n, piece in enumerate(index.pieces)
        if n not in taken and not piece.repeated and _stands_alone(piece) and not is_told(piece, told)
    ]
    left.sort(key=lambda item: -weights.get((item[1].source, item[1].text), 99.0) * index.factor(item[0]))
    chosen = [piece for _, piece in sorted(left[:_MORE], key=lambda item: item[0])]
    lines = piece_lines([piece for piece in chosen if piece.kind != "table"], say)
    for piece in chosen:
        if piece.kind == "table":
            # Below a heading of its own, so that later steps know what it is about.
            lines += ["", f"### {piece.place or piece.source}", "", *piece_lines([piece], say)]
    return [f"## {say('more')}", "", *(lines if lines[:1] != [""] else lines[1:]), ""] if lines else []


def _stands_alone(piece: Piece) -> bool:
    """A passage, or a small table of a document."""
    return piece.kind == "passage" or (piece.kind == "table" and not piece.tool and len(piece.rows) <= _MORE)


def _documents(material: Material, index: Index, say: Phrases) -> list[str]:
    """Each document in turn, for an instruction that names no sections; the nearest to who answers first."""
    lines: list[str] = []
    for document in material.documents:
        lines += [f"### {document.name}", "", *_about(document, index, say)]
    return [f"## {say('points')}", "", *lines] if lines else []


def _about(document: Document, index: Index, say: Phrases) -> list[str]:
    rows = rows_of(document)
    if document.media_type in TABULAR and rows:
        return [*describe(rows, say.chinese), "", *rows_table(rows, 5), ""]
    own = [piece for piece in index.pieces if piece.source == document.name and not piece.tool]
    if "json" in document.media_type:
        return [*_of_source(own, say), ""]
    lines = (
        [f"{say('outline')}:", "", *(f"- {h}" for h in document.headings[:12]), ""]
        if document.headings
        else []
    )
    points = document.key_points(8)
    return [*lines, *([f"{say('points')}:", "", *(f"- {point}" for point in points), ""] if points else [])]


def _asks_open(answered: list[Answered]) -> bool:
    return any("#open" in terms(topic.name) for one in answered for topic in one.topics)


def _open_questions(index: Index, taken: set[int], say: Phrases) -> list[str]:
    """Questions and things undecided, wherever they stand."""
    found = [
        piece
        for n, piece in enumerate(index.pieces)
        if n not in taken and piece.said and (piece.said.endswith(("?", "？")) or "#open" in piece.body)
    ]
    return [f"## {say('open')}", "", *piece_lines(found[:8], say), ""] if found else []


def _appendix(material: Material, say: Phrases, *, partly: bool) -> list[str]:
    """The task and the inputs: later steps and readers know what the answer came from."""
    lines = [f"## {say('appendix')}", ""]
    first = material.instruction.split("\n\n")[0].strip()
    if first:
        lines += [f"### {say('task')}", "", *(f"> {line}" for line in first[:800].splitlines()), ""]
    lines += [f"### {say('inputs')}", "", *(_overview(material) or [say("none")]), ""]
    for document in material.documents if partly and not material.results else ():
        rows = rows_of(document) if document.media_type in TABULAR else []
        lines += [f"#### {document.name}", "", *describe(rows, say.chinese), ""] if rows else []
    return lines


def _overview(material: Material) -> list[str]:
    if not material.documents:
        return []
    chinese = material.chinese
    head = ["名称", "类型", "字符", "标题数"] if chinese else ["name", "type", "characters", "headings"]
    rows = [[d.name, d.media_type, str(len(d.body)), str(len(d.headings))] for d in material.documents]
    return markdown_table(head, rows)


def _as_plain(text: str) -> str:
    """Without Markdown marks, for an output of type text."""
    lines = [plain(line) if not line.startswith("|") else line.strip("| ") for line in text.splitlines()]
    return "\n".join(lines).strip() + "\n"
