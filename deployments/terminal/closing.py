"""The panel at the end of a run: what came out, where it lies, what it cost, how to go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from blocks.storage.root import local_path
from deployments.runs.next_commands import resuming, step_anew
from deployments.terminal.display import Out, Style, cell, pad, width
from deployments.terminal.questions import wait_lines

_STYLES: dict[str, Style] = {
    "completed": "green",
    "failed": "red",
    "invalid": "red",
    "interrupted": "red",
    "cancelled": "yellow",
    "waiting": "yellow",
    "stopped": "yellow",
}


_LOGIN = "UI login"
"""The one line that is there to tell a secret."""
_MOST_PARTS = 10
"""Failed items of a step that are named."""


def closing(
    out: Out,
    document: Mapping[str, Any],
    ui_url: str | None,
    auth: str | None,
    places: Sequence[str] = (),
) -> None:
    """Prints the end of a run (`document` as `run --json` gives it); nothing under --json.

    ui_url: page of the run, or None when there is none; auth: the string its login asks for;
    places: options of the commands it tells, that say where things are.
    """
    if out.json_mode:
        return
    status = str(document.get("status"))
    out.line()
    out.line(f"{document.get('workflow')}  {status}{_counts(document)}", _STYLES.get(status, ""))
    if _offline(document):
        out.line("offline: the offline model answered; nothing here is a real model's work", "yellow")
    _print_failures(document, out)
    _print_failed_calls(document, out)
    _print_outputs(document, out)
    pairs = [("run", document.get("run_id")), ("spent", _spent(document))]
    if ui_url:
        pairs += [("UI", ui_url), (_LOGIN, auth)]  # lines of their own: they are copied
    for wait in document.get("waits") or ():
        pairs += wait_lines(wait, places)
    if status not in ("completed", "invalid") and document.get("run_id"):
        errors = (document.get("error"), *(step.get("error") for step in document.get("steps") or ()))
        step = step_anew(errors) if status == "failed" else ""
        pairs.append(("go on", resuming(places, str(document["run_id"]), step)))
    _print_pairs([(name, str(value)) for name, value in pairs if value], out)


def error_text(error: Any) -> str:
    """An error of an event or a document as text: a string, or a mapping with `message`."""
    if isinstance(error, Mapping):
        return str(error.get("message") or "")
    return str(error or "")


def tokens_read(usage: Mapping[str, Any]) -> int:
    """Every token a model read: new ones, and those written to or read from the provider's cache."""
    kinds = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return sum(int(usage.get(kind) or 0) for kind in kinds)


def tokens_of(usage: Mapping[str, Any]) -> int:
    """Tokens read and written."""
    return tokens_read(usage) + int(usage.get("output_tokens") or 0)


def _counts(document: Mapping[str, Any]) -> str:
    steps = document.get("steps") or []
    reused = sum(bool(s.get("reused")) for s in steps)
    done = sum(s.get("status") == "completed" for s in steps)
    return f"  {done} of {len(steps)} step{'s' if len(steps) != 1 else ''}" + (
        f", {reused} reused" if reused else ""
    )


def _offline(document: Mapping[str, Any]) -> bool:
    refs = [ref for ref in (document.get("outputs") or {}).values() if isinstance(ref, Mapping)]
    steps = document.get("steps") or []
    return any(bool(item.get("offline")) for item in (document, *refs, *steps))


def _print_failures(document: Mapping[str, Any], out: Out) -> None:
    told: set[str] = set()
    for step in document.get("steps") or ():
        if step.get("status") == "waiting":
            continue  # what it waits for is told below, with the way to answer it
        message = error_text(step.get("error"))
        if message:
            told.add(message)
            style: Style = "red" if step.get("status") == "failed" else ""
            out.line(f"  {step.get('id')}: {_lines(message)}", style)
            _print_cure(step.get("error"), told, out)
        _print_failed_parts(step, out)
    message = error_text(document.get("error"))
    if message and message not in told and document.get("status") != "waiting":
        out.line(f"  {_lines(message)}", "red")
        _print_cure(document.get("error"), told, out)


def _print_cure(error: Any, told: set[str], out: Out) -> None:
    """The cure of an error, once for all steps that need it."""
    cure = str(error.get("cure") or "") if isinstance(error, Mapping) else ""
    if cure and cure not in told:
        told.add(cure)
        out.line(f"    cure: {_lines(cure)}")


def _print_failed_parts(step: Mapping[str, Any], out: Out) -> None:
    """Items that failed and were continued, each with its error."""
    parts = step.get("failed_parts") or ()
    for part in parts[:_MOST_PARTS]:
        out.line(f"  {part['id']}: {_lines(error_text(part.get('error')) or 'failed')}", "red")
    if len(parts) > _MOST_PARTS:
        out.line(f"  {step.get('id')}: and {len(parts) - _MOST_PARTS} more items failed", "red")


def _print_failed_calls(document: Mapping[str, Any], out: Out) -> None:
    """Tool calls that gave agents an error: they went on, but people should know."""
    steps = document.get("steps") or ()
    counts = {str(s.get("id")): int(s.get("failed_tool_calls") or 0) for s in steps}
    if told := calls_failed(sum(counts.values())):
        where = ", ".join(f"{step}: {count}" for step, count in counts.items() if count)
        out.line(f"  {told} ({where})", "yellow")


def calls_failed(count: Any) -> str:
    """`3 tool calls failed`; empty for none."""
    return f"{count} tool call{'s' if count != 1 else ''} failed" if count else ""


def _lines(text: str) -> str:
    """A text of several lines with all but the first indented, so that it stays one entry."""
    return "\n      ".join(line.rstrip() for line in text.splitlines() if line.strip())


def _print_outputs(document: Mapping[str, Any], out: Out) -> None:
    outputs = document.get("outputs") or {}
    places = document.get("places") or {}
    if outputs:
        out.line()
        _print_pairs([(name, places.get(name) or place(value)) for name, value in outputs.items()], out)
        out.line()


def place(value: Any) -> str:
    """Where an output lies: a path for files, else its address; a value that is no ref as itself."""
    if not isinstance(value, Mapping) or "uri" not in value:
        return cell(value)
    uri = str(value["uri"])
    return local_path(uri) or uri


def _spent(document: Mapping[str, Any]) -> str:
    usage = document.get("usage") or {}
    read, written = tokens_read(usage), int(usage.get("output_tokens") or 0)
    if not read and not written:
        return "no tokens"
    cached = int(usage.get("cache_read_input_tokens") or 0)
    usd = usage.get("usd")
    cost = f", ${usd:.4f}" if isinstance(usd, (int, float)) else ", price unknown"
    of_cache = f" ({cached:,} from the cache)" if cached else ""
    return f"{read:,} tokens in{of_cache}, {written:,} out{cost}"


def _print_pairs(pairs: list[tuple[str, str]], out: Out) -> None:
    columns = max((width(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        below = "\n" + " " * (columns + 4)
        out.line(f"  {pad(name, columns)}  {below.join(value.splitlines())}", reveal=name == _LOGIN)
