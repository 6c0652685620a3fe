"""The lines of Markdown tables."""

from __future__ import annotations

import re

_BETWEEN = re.compile(r"(?<!\\)\|")


def is_rule(line: str, least: int = 2) -> bool:
    """Whether it is the line under a table's head, of at least so many dashes a column: `|---|:--:|`."""
    inner = line.strip().removeprefix("|").removesuffix("|")
    return all(_is_dashes(cell.strip(), least) for cell in inner.split("|"))


def row_cells(line: str) -> list[str]:
    """The cells of a row, without the blanks around them; `\\|` is part of a cell."""
    return [cell.strip() for cell in _BETWEEN.split(line.strip().strip("|"))]


def _is_dashes(cell: str, least: int) -> bool:
    dashes = cell.removeprefix(":").removesuffix(":")
    return len(dashes) >= least and not dashes.strip("-")
