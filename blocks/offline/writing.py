"""The document the offline model writes: its tools' results and its inputs, as they are.

What has the name of a requested heading stands under it, the other results by tool; the inputs are shown for
themselves where there is neither. A heading that nothing has the name of is said to be left open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from blocks.offline.material import Material
from blocks.offline.outline import heading_for, requested_headings
from blocks.offline.pieces import Piece, data_pieces, document_pieces
from blocks.offline.words import phrase, plain

_SECTION_LINES, _EXCERPT_LINES, _EXCERPTS, _FACTS = 24, 6, 8, 40
_RESULT_CHARS, _TASK_CHARS = 1500, 800


def write_document(material: Material) -> str:
    """The answer as Markdown, or as plain text when the contract asks for that. Begins with the note."""
    chinese = material.chinese
    headings = requested_headings(material.instruction)
    placed: dict[str, list[Piece]] = {heading: [] for heading in headings}
    results = [[] if failed else data_pieces(text, name) for name, text, failed in material.results]
    inputs = [document_pieces(document) for document in material.documents]
    results = [_place_pieces(pieces, placed) for pieces in results]
    inputs = [_place_pieces(pieces, placed) for pieces in inputs]
    by = f" {phrase('speaker', chinese)}: {material.speaker}" if material.speaker else ""
    lines = [f"> {phrase('note', chinese)}{by}", "", f"# {material.title or phrase('answer', chinese)}", ""]
    lines += _say_sources(material)
    for heading, pieces in placed.items():
        lines += [f"## {heading}", "", *_lay_out(pieces, _SECTION_LINES, _origin)] if pieces else []
    if told := [line for n, rest in enumerate(results) for line in _show_result(material, n, rest)]:
        lines += [f"## {phrase('tools', chinese)}", "", *told]
    elif material.documents and not any(placed.values()):
        lines += [f"## {phrase('inputs', chinese)}", ""]
        for document, pieces in zip(material.documents, inputs, strict=True):
            lines += [f"### {document.name}", "", *_lay_out(pieces[:_EXCERPTS], _EXCERPT_LINES, _title)]
    if empty := [heading for heading, pieces in placed.items() if not pieces]:
        lines += [f"## {phrase('open', chinese)}", "", phrase("nothing", chinese, "; ".join(empty)), ""]
    text = "\n".join([*lines, *_appendix(material)]).strip() + "\n"
    return _as_plain(text) if material.output_type == "text" else text


def _say_sources(material: Material) -> list[str]:
    """What the document is made of: the line that stands for it in lists."""
    told = [name for name, _, failed in material.results if not failed]
    names = told or [document.name for document in material.documents]
    which = "results" if told else "excerpts"
    return [phrase(which, material.chinese, ", ".join(dict.fromkeys(names))), ""] if names else []


def _place_pieces(pieces: Sequence[Piece], placed: dict[str, list[Piece]]) -> list[Piece]:
    """Puts each piece under the heading of its name; those without one are returned."""
    rest: list[Piece] = []
    for piece in pieces:
        heading = heading_for(piece.name, [*placed])
        (rest if heading is None else placed[heading]).append(piece)
    return rest


def _lay_out(pieces: Sequence[Piece], most: int, above: Callable[[Piece], str]) -> list[str]:
    """The facts, then each table or section below what `above` says of it."""
    lines = [line for piece in [p for p in pieces if p.fact][:_FACTS] for line in piece.lines]
    lines += [""] if lines else []
    for piece in pieces:
        if not piece.fact:
            cut = ["", "…"] if len(piece.lines) > most else []
            title = above(piece)
            lines += [*([title, ""] if title else []), *piece.lines[:most], *cut, ""]
    return lines


def _origin(piece: Piece) -> str:
    """Where something stands; later steps read their documents without these marks."""
    return f"〔{' · '.join(part for part in (piece.source, piece.place) if part)}〕"


def _title(piece: Piece) -> str:
    return f"#### {piece.place}" if piece.place else ""


def _show_result(material: Material, number: int, rest: Sequence[Piece]) -> list[str]:
    """What no heading asked for of a tool's result; what is not data as it is."""
    name, text, is_error = material.results[number]
    if rest:
        return [f"### {name}", "", *_lay_out(rest, _SECTION_LINES, _title)]
    if not is_error and data_pieces(text, name):
        return []
    shown = text if len(text) <= _RESULT_CHARS else text[:_RESULT_CHARS] + "\n..."
    failed = f" ({phrase('failed', material.chinese)})" if is_error else ""
    return [f"### {name}{failed}", "", "~~~text", shown.replace("~~~", "~ ~ ~"), "~~~", ""]


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
