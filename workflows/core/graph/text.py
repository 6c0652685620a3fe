"""A picture as text for other programs: Mermaid and Graphviz's dot."""

from __future__ import annotations

import re
from collections.abc import Iterator

from workflows.core.graph.picture import Edge, Node, Picture, colours

_MERMAID_PLAIN = frozenset(" ,:()/=_-.")
# Titles of groups are one line, which may be long; without a margin the first node covers them.
_MERMAID_ROOM = (
    '%%{init: {"flowchart": {"wrappingWidth": 420, "subGraphTitleMargin": {"top": 4, "bottom": 12}}}}%%'
)
_MARKDOWN_LIST = re.compile(r"(\d+)[.)](?=\s)|[-+*](?=\s)")


def _name_nodes(picture: Picture) -> dict[str, str]:
    """A plain identifier for every node: nothing people wrote becomes syntax."""
    return {node.id: f"n{number}" for number, node in enumerate(picture.flat())}


# --- Mermaid ------------------------------------------------------------------------------------------


def mermaid(picture: Picture) -> str:
    """A Mermaid flowchart."""
    names = _name_nodes(picture)
    lines = [_MERMAID_ROOM, "flowchart TB", f"  accTitle: {_mermaid_line(picture.title)}"]
    lines += _mermaid_picture(picture, names, "  ")
    for node in picture.flat():
        fill, line = colours(node)
        dash = ",stroke-dasharray:4 3" if node.state == "skipped" else ""
        lines.append(f"  style {names[node.id]} fill:{fill},stroke:{line},color:#1f2328{dash}")
    return "\n".join(lines) + "\n"


def _mermaid_picture(picture: Picture, names: dict[str, str], indent: str) -> Iterator[str]:
    for node in picture.nodes:
        yield from _mermaid_node(node, names, indent)
    for edge in picture.edges:
        ends = names[edge.source], names[edge.target]
        if edge.label:
            yield f'{indent}{ends[0]} -->|"{_mermaid_text(edge.label)}"| {ends[1]}'
        else:
            yield f"{indent}{ends[0]} -.-> {ends[1]}"


def _mermaid_node(node: Node, names: dict[str, str], indent: str) -> Iterator[str]:
    name = names[node.id]
    label = "<br/>".join(_mermaid_text(line) for line in _label_lines(node))
    if not _is_group(node):
        left, right = node.looks.mermaid
        yield f'{indent}{name}{left}"{label}"{right}'
    else:
        title = _mermaid_text(" · ".join(_label_lines(node)))
        yield f'{indent}subgraph {name}["{title}"]'
        yield f"{indent}  direction TB"
        for number, member in enumerate(node.members):
            yield f'{indent}  {name}_m{number}(["{_mermaid_text(member)}"])'
        if node.inside is not None:
            yield from _mermaid_picture(node.inside, names, indent + "  ")
        yield f"{indent}end"


def _mermaid_text(text: str) -> str:
    """Text for a quoted label: whatever Mermaid, its Markdown or HTML could read is written as a code."""
    clean = " ".join(text.split())
    listed = _MARKDOWN_LIST.match(clean)
    coded = listed.end() - 1 if listed else -1  # the sign that would begin a list
    made = (f"#{ord(c)};" if n == coded else _mermaid_char(c) for n, c in enumerate(clean))
    return "".join(made) or " "


def _mermaid_char(char: str) -> str:
    if char.isalnum() or char in _MERMAID_PLAIN or (ord(char) > 0x9F and char.isprintable()):
        return char
    return f"#{ord(char)};" if char.isprintable() else ""


def _mermaid_line(text: str) -> str:
    """Text up to the end of a line, where no codes are read."""
    kept = "".join(c if c.isalnum() or c in " -_." else " " for c in text)
    return " ".join(kept.split()) or "workflow"


def _label_lines(node: Node) -> list[str]:
    lines = [node.title, *node.lines, *node.notes]
    return [*lines, node.state.replace("_", " ")] if node.state else lines


# --- dot ----------------------------------------------------------------------------------------------


def dot(picture: Picture) -> str:
    """A Graphviz graph. Panels, sub-workflows and final steps are clusters."""
    names = _name_nodes(picture)
    lines = [
        f"digraph {_dot_text(picture.title)} {{",
        "  graph [compound=true, rankdir=TB, fontname=sans, fontsize=12, bgcolor=transparent];",
        '  node [shape=box, style="rounded,filled", fontname=sans, fontsize=11, fontcolor="#1f2328"];',
        '  edge [color="#7d8590", fontname=sans, fontsize=10, fontcolor="#57606a"];',
    ]
    lines += _dot_picture(picture, names, "  ")
    anchors = {node.id: _anchors(node, names) for node in picture.flat()}
    for inner in _pictures(picture):
        lines += [_dot_edge(edge, names, anchors) for edge in inner.edges]
    return "\n".join([*lines, "}"]) + "\n"


def _dot_picture(picture: Picture, names: dict[str, str], indent: str) -> Iterator[str]:
    for node in picture.nodes:
        fill, line = colours(node)
        label = _dot_text("\n".join(" ".join(t.split()) for t in _label_lines(node)))
        style = f'fillcolor="{fill}", color="{line}"'
        if not _is_group(node):
            shape = f", shape={node.looks.dot}" if node.looks.dot else ""
            yield f"{indent}{names[node.id]} [label={label}, {style}{shape}];"
            continue
        yield f"{indent}subgraph cluster_{names[node.id]} {{"
        yield f'{indent}  graph [label={label}, style="rounded,filled", {style}];'
        for number, member in enumerate(node.members):
            text = _dot_text(" ".join(member.split()))
            yield f"{indent}  {names[node.id]}_m{number} [label={text}, shape=ellipse, fillcolor=white];"
        if node.inside is not None:
            yield from _dot_picture(node.inside, names, indent + "  ")
        yield f"{indent}}}"


def _dot_edge(edge: Edge, names: dict[str, str], anchors: dict[str, tuple[str, str]]) -> str:
    """dot draws edges between nodes only: an edge of a cluster is one of a node in it, cut at the border."""
    parts = [f"label={_dot_text(edge.label)}"] if edge.label else ["style=dashed"]
    if anchors[edge.source][1] != names[edge.source]:
        parts.append(f"ltail=cluster_{names[edge.source]}")
    if anchors[edge.target][0] != names[edge.target]:
        parts.append(f"lhead=cluster_{names[edge.target]}")
    return f"  {anchors[edge.source][1]} -> {anchors[edge.target][0]} [{', '.join(parts)}];"


def _anchors(node: Node, names: dict[str, str]) -> tuple[str, str]:
    """The nodes that stand for a node as the target and as the source of an edge."""
    if not _is_group(node):
        return names[node.id], names[node.id]
    if node.members:
        return f"{names[node.id]}_m0", f"{names[node.id]}_m{len(node.members) - 1}"
    assert node.inside is not None
    return _anchors(node.inside.nodes[0], names)[0], _anchors(node.inside.nodes[-1], names)[1]


def _is_group(node: Node) -> bool:
    return bool(node.members or (node.inside is not None and node.inside.nodes))


def _pictures(picture: Picture) -> Iterator[Picture]:
    yield picture
    for node in picture.nodes:
        if node.inside is not None:
            yield from _pictures(node.inside)


def _dot_text(text: str) -> str:
    clean = "".join(c for c in text if c == "\n" or c.isprintable())
    escaped = clean.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
