"""What a command prints: text for people, or one JSON document for programs.

Every command calls both `line` or `table` and `document`; which of them is seen depends on `--json`.
On a terminal there are colours and rich's tables; elsewhere plain text without colours or boxes.
"""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Literal

from blocks.secrecy import secrets

if TYPE_CHECKING:
    from rich.console import Console

    from workflows.core.errors import Mistake, PhaselineError

Style = Literal["", "bold", "dim", "red", "green", "yellow", "cyan"]

_SGR = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_STATUS = {1: "failed", 2: "invalid", 3: "waiting", 4: "stopped"}
_INVISIBLE = ("Mn", "Me", "Cf")


class OutputClosed(Exception):
    """Whoever read our output is gone, as in `phaseline plan x | head`."""


class Out:
    """Where a command writes.

    json_mode: `document` is printed, lines and tables are not.
    terminal: standard output is a terminal, and its people want no plain text (TERM=dumb).
    colour: as `terminal`, without NO_COLOR.
    """

    def __init__(
        self, json_mode: bool = False, stdout: IO[str] | None = None, stderr: IO[str] | None = None
    ) -> None:
        self.json_mode = json_mode
        self.stdout = sys.stdout if stdout is None else stdout
        self.stderr = sys.stderr if stderr is None else stderr
        self.terminal = _terminal(self.stdout) and not json_mode
        self.colour = self.terminal and not os.environ.get("NO_COLOR")
        self.documented = False

    # ------------------------------------------------------------ for people

    def line(self, text: str = "", style: Style = "", *, reveal: bool = False) -> None:
        """One or more lines on standard output; nothing under --json.

        `reveal` leaves known secrets in it, for the few lines that are there to tell one.
        """
        if not self.json_mode:
            self._write(self.stdout, self.style_text(text, style, reveal=reveal) + "\n")

    def note(self, text: str, style: Style = "") -> None:
        """A line on standard error, in both modes: what happens meanwhile, never a result."""
        colour = _terminal(self.stderr) and not os.environ.get("NO_COLOR")
        text = secrets.current_secrets().text(text)
        self._write(self.stderr, (paint(text, style) if colour else printable(text)) + "\n")

    def style_text(self, text: str, style: Style, *, reveal: bool = False) -> str:
        """The text as it may go to standard output: without secrets (unless they are to be revealed), control
        characters shown, colours where wanted."""
        text = text if reveal else secrets.current_secrets().text(text)
        return paint(text, style) if self.colour else printable(text)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """A table; columns whose every cell is a number stand to the right. Nothing under --json."""
        if self.json_mode:
            return
        between = "\n" if self.terminal else ", "  # a terminal is narrow, a pipe has lines
        cells = [[cell(value, between) for value in row] for row in rows]
        right = [_numeric([row[i] for row in cells]) for i in range(len(columns))]
        if self.terminal:
            self._rich_table(columns, cells, right)
        else:
            self._write(self.stdout, plain_table(columns, cells, right))

    def _rich_table(self, columns: Sequence[str], rows: list[list[str]], right: list[bool]) -> None:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for number, (name, numeric) in enumerate(zip(columns, right, strict=True)):
            justify: Literal["left", "right"] = "right" if numeric else "left"
            table.add_column(name, justify=justify, overflow="fold", no_wrap=number == 0)
        for row in rows:
            table.add_row(*(Text(value) for value in row))
        self.console().print(table)

    def console(self) -> Console:
        """rich's console on standard output, imported here since most commands do without."""
        from rich.console import Console

        return Console(file=self.stdout, no_color=not self.colour, highlight=False)

    # ------------------------------------------------------------ for programs

    def document(self, value: Mapping[str, Any], *, reveal: bool = False) -> None:
        """The command's one JSON document; nothing without --json. Raises RuntimeError the second time.

        Known secrets are masked in it, unless it is there to `reveal` one.
        """
        if not self.json_mode:
            return
        if self.documented:
            raise RuntimeError("a command prints one document")
        self.documented = True
        told = as_json(value) if reveal else secrets.current_secrets().value(as_json(value), ours=True)
        self._write(self.stdout, json_text(told) + "\n")

    # ------------------------------------------------------------ errors

    def error(self, fault: PhaselineError) -> None:
        """What went wrong and the cure, on standard error; under --json a document (once) instead."""
        mistakes: tuple[Mistake, ...] = getattr(fault, "mistakes", ())
        if self.json_mode:
            if not self.documented:
                self.document(_error_document(fault, mistakes))
            return
        if mistakes:
            for text, style in mistake_lines(mistakes, "error"):
                self.note(text, style)
            count = len(mistakes)
            self.note(f"{count} mistake{'s' if count > 1 else ''}; nothing was started", "bold")
            return
        self.note(f"error: {fault.message}", "red")
        if fault.cure:
            self.note(f"  cure: {fault.cure}")

    def flush(self) -> None:
        """Hand everything over. Raises OutputClosed when nobody reads any more."""
        self._write(self.stdout, "", flush=True)

    def _write(self, stream: IO[str], text: str, flush: bool = False) -> None:
        try:
            stream.write(text)
            if flush:
                stream.flush()
        except BrokenPipeError:
            raise OutputClosed from None


def mistake_lines(mistakes: Iterable[Mistake], word: str) -> list[tuple[str, Style]]:
    """Mistakes (or warnings) as lines with their styles, grouped by file."""
    lines: list[tuple[str, Style]] = []
    grouped: dict[str, list[Mistake]] = {}
    for mistake in mistakes:
        grouped.setdefault(mistake.file, []).append(mistake)
    for file, found in grouped.items():
        for m in found:
            where = f"{file}:{m.line}:{m.column}" if m.line else file
            path = f"{m.path}: " if m.path else ""
            lines.append((f"{where}: {word}: {path}{m.message}", "red" if word == "error" else "yellow"))
            if m.cure:
                lines.append((f"    cure: {m.cure}", ""))
    return lines


def width(text: str) -> int:
    """Columns a text takes on a terminal: East Asian wide characters and emoji take two."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.category(character) in _INVISIBLE:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def pad(text: str, columns: int, right: bool = False) -> str:
    """The text with spaces up to that many columns."""
    space = " " * max(0, columns - width(text))
    return space + text if right else text + space


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    """Columns two spaces apart, the heading first, each line ended."""
    lines = [tuple(columns), *rows]
    widths = [max(width(line[i]) for line in lines) for i in range(len(columns))]
    out = []
    for line in lines:
        parts = [pad(value, w, r) for value, w, r in zip(line, widths, right, strict=True)]
        out.append("  ".join(parts).rstrip() + "\n")
    return "".join(out)


def cell(value: Any, between: str = ", ") -> str:
    """One value of a table: null is a dash, the items of a list stand `between` each other."""
    if value is None or value == "" or value == () or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, (list, tuple)):
        return between.join(cell(v) for v in value)
    return " ".join(printable(secrets.current_secrets().text(str(value))).split())


def _numeric(cells: Sequence[str]) -> bool:
    figures = [c for c in cells if c != "-"]
    return bool(figures) and all(
        c.lstrip("$").replace(",", "").replace(".", "", 1).isdigit() for c in figures
    )


def printable(text: str) -> str:
    """The text with control characters spelt out: what a file or a model wrote may not steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t\u3000\u200d" else _spelt(c) for c in text)


def _spelt(character: str) -> str:
    if unicodedata.category(character) == "Zs":
        return " "
    return character.encode("unicode_escape").decode("ascii")


def json_text(value: Any) -> str:
    """JSON for a terminal: what could steer one, or turn the order of its letters, is written as an escape,
    so that the value is the same to who parses it."""
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
    if text.isascii() and "\x7f" not in text:
        return text  # the encoder has escaped the rest
    return "".join(c if c == "\n" or c.isprintable() or _is_blank(c) else _escape(c) for c in text)


def _is_blank(character: str) -> bool:
    return unicodedata.category(character) == "Zs"


def _escape(character: str) -> str:
    return json.dumps(character)[1:-1] if ord(character) > 0x7F else f"\\u{ord(character):04x}"


def paint(text: str, style: Style) -> str:
    """The text in a colour, whatever the output is."""
    shown = printable(text)
    return f"\x1b[{_SGR[style]}m{shown}\x1b[0m" if style and shown else shown


def as_json(value: Any) -> Any:
    """Plain JSON data of what a written file may hold: dates become text, NaN and infinity null."""
    if isinstance(value, Mapping):
        return {str(k): as_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [as_json(v) for v in value]
    if isinstance(value, float):
        return value if value - value == 0 else None
    if value is None or isinstance(value, (str, bool)):
        return value
    return int(value) if isinstance(value, int) else str(value)


def _error_document(fault: PhaselineError, mistakes: tuple[Mistake, ...]) -> dict[str, Any]:
    document: dict[str, Any] = {
        "status": _STATUS.get(fault.exit_code, "failed"),
        "error": {"message": fault.message, "cure": fault.cure},
    }
    # What a script needs to go on with a run that was begun.
    document |= {name: getattr(fault, name) for name in ("run_id", "workflow") if hasattr(fault, name)}
    if mistakes:
        document["errors"] = [m.to_json() for m in mistakes]
    return document


def _terminal(stream: IO[str]) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"
