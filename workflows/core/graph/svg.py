"""A picture as SVG: one file, no script, no style sheet, no font of its own.

Every text stands on a filled shape and every line is a middle grey, so that the picture reads on light and
dark pages alike.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from workflows.core.graph.layout import MANY, Box, Layout, arrange
from workflows.core.graph.picture import Edge, Node, Picture, colours
from workflows.core.text.cut_text import cut

_FONT = (
    "system-ui, -apple-system, 'Segoe UI', 'PingFang SC', 'Microsoft YaHei', 'Noto Sans CJK SC', "
    "'WenQuanYi Micro Hei', sans-serif"
)
_INK, _GREY, _LINE = "#1f2328", "#57606a", "#7d8590"
_MARGIN = 24.0
_PAD = 12.0
_CARD = (130.0, 280.0)
_MOST_SHOWN = 2_000
"""Characters of a text that are measured: more fit nowhere."""
_TITLE, _SMALL = 13.0, 11.5
_GAP = 32.0
_BEND = 10.0
_CUT = 10.0
"""How far a corner is cut: less than the margin of the text."""
_PAGE = (1000.0, 1500.0)
"""A page people look at without scrolling sideways; the direction that fits it better is taken."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of text in a card, or a chip when it has a fill."""

    text: str
    size: float
    colour: str
    bold: bool = False
    fill: str = ""

    @property
    def height(self) -> float:
        return self.size * 1.45 + (7.0 if self.fill else 0.0)


@dataclass(frozen=True, slots=True)
class _Card:
    """A node with its size; a group holds the drawing inside it."""

    node: Node
    rows: tuple[_Row, ...]
    width: float
    height: float
    inside: _Drawing | None = None


@dataclass(frozen=True, slots=True)
class _Drawing:
    """A laid out picture. `down` means its layers go from top to bottom."""

    cards: tuple[_Card, ...]
    labels: tuple[str, ...]
    edges: tuple[Edge, ...]
    layout: Layout
    down: bool

    @property
    def width(self) -> float:
        return self.layout.across if self.down else self.layout.along

    @property
    def height(self) -> float:
        return self.layout.along if self.down else self.layout.across

    def point(self, along: float, across: float) -> tuple[float, float]:
        """A point of the layout as (x, y)."""
        return (across, along) if self.down else (along, across)


def svg(picture: Picture) -> str:
    """A self-contained SVG document."""
    drawing = _lay_out(picture)
    heading = _Row(_shorten(picture.title, 15.0, 900.0), 15.0, _LINE, bold=True)
    width = max(drawing.width, text_width(heading.text, 15.0, bold=True)) + 2 * _MARGIN
    height = drawing.height + 2 * _MARGIN + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" font-family="{_FONT}">',
        f"<title>{_xml(picture.title)}</title>",
        f"<desc>{_xml(_summary(picture))}</desc>",
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7.2" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0 0.6 L8 4 L0 7.4 z" fill="{_LINE}"/></marker></defs>',
        _text(heading, _MARGIN, _MARGIN + 12),
        f'<g transform="translate({_MARGIN:.1f} {_MARGIN + 30:.1f})">',
        *_draw_elements(drawing),
        "</g>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def text_width(text: str, size: float, bold: bool = False) -> float:
    """About how wide a text is, in pixels: Chinese characters are square, Latin ones vary."""
    total = 0.0
    for char in text:
        if unicodedata.east_asian_width(char) in "WF":
            total += 1.0
        elif unicodedata.combining(char):
            continue
        elif char in "iIjl.,:;'|!()[]{}/ tfr-":
            total += 0.38
        elif char in "mwMW@%":
            total += 0.9
        else:
            total += 0.7 if char.isupper() else 0.6
    return total * size * (1.13 if bold else 1.0)


# --- sizes --------------------------------------------------------------------------------------------


def _lay_out(picture: Picture) -> _Drawing:
    """Lay a picture out in the direction that fits a page better."""
    cards = tuple(_card(node) for node in picture.nodes)
    at = {node.id: n for n, node in enumerate(picture.nodes)}
    holder = {inner.id: at[n.id] for n in picture.nodes if n.inside for inner in n.inside.flat()}
    lines: dict[tuple[int, int], Edge] = {}
    for edge in picture.edges:
        target = at[edge.target] if edge.target in at else holder[edge.target]
        lines.setdefault((at[edge.source], target), edge)  # several final steps: one line to their group
    edges, ends = tuple(lines.values()), list(lines)
    last = [n for n, node in enumerate(picture.nodes) if node.kind == "finally"]
    labels = _out_labels(picture.nodes, edges)
    made = []
    for down in (True, False):
        boxes = [_box(card, label, down) for card, label in zip(cards, labels, strict=True)]
        layout = arrange(boxes, ends, _GAP, 26.0 if down else 14.0, last)
        made.append(_Drawing(cards, tuple(labels), edges, layout, down))
    return min(made, key=lambda d: max(d.width / _PAGE[0], d.height / _PAGE[1]))


def _box(card: _Card, label: str, down: bool) -> Box:
    width = text_width(label, _SMALL) + 16 if label else 0.0
    if down:
        return Box(card.height, card.width, 18.0 if label else 0.0)
    return Box(card.width, card.height, width)


def _out_labels(nodes: Sequence[Node], edges: Sequence[Edge]) -> list[str]:
    """What flows out of each step, written once where its lines begin. An input is its own label."""
    names: dict[str, dict[str, None]] = {}
    for edge in edges:
        if edge.label:
            names.setdefault(edge.source, {})[edge.label] = None
    texts = [", ".join(names.get(node.id, ())) if node.kind != "input" else "" for node in nodes]
    return [_shorten(text, _SMALL, 190.0) for text in texts]


def _card(node: Node) -> _Card:
    if node.inside is not None and node.inside.nodes:
        return _group(node, _lay_out(node.inside))
    rows = _rows(node)
    widest = max(text_width(row.text, row.size, row.bold) + (14 if row.fill else 0) for row in rows)
    width = min(max(widest + 2 * _PAD + 4, 90.0 if node.kind == "input" else _CARD[0]), _CARD[1])
    return _Card(node, rows, width, sum(row.height for row in rows) + _PAD * 1.5)


def _group(node: Node, inside: _Drawing) -> _Card:
    rows = _rows(node)
    widest = max(text_width(row.text, row.size, row.bold) for row in rows)
    width = max(inside.width, widest) + 2 * (_PAD + 4)
    height = inside.height + sum(row.height for row in rows) + 3 * _PAD
    return _Card(node, rows, width, height, inside)


def _rows(node: Node) -> tuple[_Row, ...]:
    room = _CARD[1] - 2 * _PAD - 4
    bold = node.kind != "input"
    rows = [_Row(text, _TITLE if bold else _SMALL, _INK, bold) for text in _wrap(node.title, room, 2, bold)]
    if node.state:
        rows.append(_Row(node.state.replace("_", " "), _SMALL, colours(node)[1], bold=True))
    if node.kind != "input":
        rows += [_Row(_shorten(line, _SMALL, room), _SMALL, _GREY) for line in node.lines]
    rows += [_Row(_shorten(m, _SMALL, room - 14), _SMALL, "#6639ba", fill="#ffffff") for m in node.members]
    rows += [
        _Row(text, _SMALL, "#7d4e00", fill="#fff8c5")
        for note in node.notes
        for text in (_shorten(note, _SMALL, room - 14),)
    ]
    return tuple(rows)


def _wrap(text: str, room: float, most: int, bold: bool) -> list[str]:
    """A title in at most `most` lines: broken at blanks and hyphens, between Chinese characters anywhere."""
    lines, line = [], ""
    for piece in _pieces(_start(text)):
        if line and text_width(line + piece, _TITLE, bold) > room:
            lines.append(line.rstrip())
            line = piece.lstrip()
        else:
            line += piece
    lines.append(line)
    if len(lines) > most:
        lines = [*lines[: most - 1], " ".join(lines[most - 1 :])]
    return [_shorten(line, _TITLE, room, bold) for line in lines] or [""]


def _start(text: str) -> str:
    """As much of a text as might fit anywhere, on one line."""
    return " ".join(text[:_MOST_SHOWN].split())


def _pieces(text: str) -> list[str]:
    pieces = [""]
    for char in text:
        wide = unicodedata.east_asian_width(char) in "WF"
        if wide or (pieces[-1] and pieces[-1][-1] in " -_/") or char == " ":
            pieces.append(char)
        else:
            pieces[-1] += char
    return [piece for piece in pieces if piece]


def _shorten(text: str, size: float, room: float, bold: bool = False) -> str:
    text = _start(text)
    if text_width(text, size, bold) <= room:
        return text
    while text and text_width(text + "…", size, bold) > room:
        text = text[:-1]
    return text.rstrip() + "…"


# --- drawing ------------------------------------------------------------------------------------------


def _draw_elements(drawing: _Drawing) -> list[str]:
    out = Counter(edge.source for edge in drawing.edges)
    into = Counter(edge.target for edge in drawing.edges)
    parts = [
        _line(drawing, edge, points, out[edge.source] > MANY, into[edge.target] > MANY)
        for edge, points in zip(drawing.edges, drawing.layout.lines, strict=True)
    ]
    for card, label, corner in zip(drawing.cards, drawing.labels, drawing.layout.corners, strict=True):
        x, y = drawing.point(*corner)
        parts += _draw_card(card, x, y)
        if label:
            parts.append(_draw_label(label, card, x, y, drawing.down))
    return parts


def _line(drawing: _Drawing, edge: Edge, points: list[tuple[float, float]], out: bool, into: bool) -> str:
    """Straight through layers, curved between them; dashed when nothing flows but order.

    `out` and `into` say that the source or the target is busy: its lines share a trunk.
    """
    path = "M" + _at(drawing, points[0])
    for n in range(1, len(points)):
        before, here = points[n - 1], points[n]
        if n % 2 == 1:
            path += " L" + _at(drawing, here)
        elif out and n == 2:
            path += _elbow(drawing, before, here, before[0] + _BEND)
        elif into and n == len(points) - 2:
            path += _elbow(drawing, before, here, here[0] - _BEND)
        else:
            middle = (before[0] + here[0]) / 2
            bends = ((middle, before[1]), (middle, here[1]), here)
            path += " C" + " ".join(_at(drawing, point) for point in bends)
    dash = "" if edge.label else ' stroke-dasharray="5 4"'
    return (
        f'<path d="{path}" fill="none" stroke="{_LINE}" stroke-width="1.4"{dash} marker-end="url(#arrow)"/>'
    )


def _elbow(drawing: _Drawing, before: tuple[float, float], here: tuple[float, float], trunk: float) -> str:
    """Along a trunk that all lines of a busy box share, with rounded corners."""
    bend = min(_BEND, abs(here[1] - before[1]) / 2)
    side = bend if here[1] > before[1] else -bend
    return (
        f" L{_at(drawing, (trunk - bend, before[1]))}"
        f" Q{_at(drawing, (trunk, before[1]))} {_at(drawing, (trunk, before[1] + side))}"
        f" L{_at(drawing, (trunk, here[1] - side))}"
        f" Q{_at(drawing, (trunk, here[1]))} {_at(drawing, (trunk + bend, here[1]))}"
        f" L{_at(drawing, here)}"
    )


def _at(drawing: _Drawing, point: tuple[float, float]) -> str:
    return "{:.1f} {:.1f}".format(*drawing.point(*point))


def _draw_label(label: str, card: _Card, x: float, y: float, down: bool) -> str:
    width = text_width(label, _SMALL) + 10
    if down:
        left, top = x + card.width / 2 - width / 2, y + card.height + 4
    else:
        left, top = x + card.width + 3, y + card.height / 2 - 9
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="18" rx="5" fill="#eaeef2"/>'
        + _text(_Row(label, _SMALL, _INK), left + width / 2, top + 13, middle=True)
    )


def _draw_card(card: _Card, x: float, y: float) -> list[str]:
    node = card.node
    fill, line = colours(node)
    group = card.inside is not None
    dash = ' stroke-dasharray="6 4"' if node.state == "skipped" or node.kind == "finally" else ""
    parts = [
        f'<g id="{_xml(node.id)}">',
        f"<title>{_xml(_tip(node))}</title>",
        f'{_outline(card, x, y)} fill="{fill}" stroke="{line}" stroke-width="1.3"{dash}/>',
    ]
    at = y + _PAD * 0.75
    for row in card.rows:
        parts += _draw_row(row, card, x, at, group)
        at += row.height
    if card.inside is not None:
        left = x + (card.width - card.inside.width) / 2
        parts.append(f'<g transform="translate({left:.1f} {at + _PAD:.1f})">')
        parts += [*_draw_elements(card.inside), "</g>"]
    parts.append("</g>")
    return parts


def _outline(card: _Card, x: float, y: float) -> str:
    """The beginning of a card's shape: a box; with its corners cut, or a point, for a step that waits."""
    left, top, right, bottom = x, y, x + card.width, y + card.height
    if card.node.looks.outline == "cut":
        ends = [(left + _CUT, top), (right - _CUT, top), (right, top + _CUT), (right, bottom - _CUT)]
        ends += [(right - _CUT, bottom), (left + _CUT, bottom), (left, bottom - _CUT), (left, top + _CUT)]
    elif card.node.looks.outline == "point":
        ends = [(left, top), (right - _CUT, top), (right, (top + bottom) / 2)]
        ends += [(right - _CUT, bottom), (left, bottom)]
    else:
        radius = card.height / 2 if card.node.kind == "input" else 8.0
        size = f'width="{card.width:.1f}" height="{card.height:.1f}"'
        return f'<rect x="{x:.1f}" y="{y:.1f}" {size} rx="{radius:.1f}"'
    points = " ".join(f"{across:.1f},{down:.1f}" for across, down in ends)
    return f'<polygon points="{points}" stroke-linejoin="round"'


def _draw_row(row: _Row, card: _Card, x: float, y: float, group: bool) -> list[str]:
    middle = card.node.kind == "input"
    left = x + card.width / 2 if middle else x + _PAD
    if not row.fill:
        return [_text(row, left, y + row.size * 1.1, middle)]
    width = min(text_width(row.text, row.size) + 14, card.width - 2 * _PAD)
    return [
        f'<rect x="{left:.1f}" y="{y + 1.5:.1f}" width="{width:.1f}" height="{row.height - 3:.1f}" rx="5" '
        f'fill="{row.fill}" stroke="{row.colour}" stroke-opacity="0.35"/>',
        _text(row, left + 7, y + row.size * 1.1 + 3.2),
    ]


def _text(row: _Row, x: float, y: float, middle: bool = False) -> str:
    weight = ' font-weight="600"' if row.bold else ""
    anchor = ' text-anchor="middle"' if middle else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{row.size:g}" fill="{row.colour}"{weight}{anchor}>'
        f"{_xml(row.text)}</text>"
    )


def _tip(node: Node) -> str:
    lines = [node.title, *node.lines, *node.members, *node.notes, node.state.replace("_", " ")]
    return "\n".join(line for line in lines if line)


def _summary(picture: Picture) -> str:
    steps = [node.title for node in picture.nodes if node.kind not in ("input", "finally")]
    return cut(f"{len(steps)} steps: {', '.join(steps)}", 2_000)


def _xml(text: str) -> str:
    """Text and attribute values; characters XML cannot hold are left out."""
    kept = "".join(c for c in text if c in "\n\t" or (ord(c) >= 0x20 and not 0xD800 <= ord(c) <= 0xDFFF))
    kept = "".join(c for c in kept if ord(c) not in (0xFFFE, 0xFFFF))
    return escape(kept, {'"': "&quot;"})
