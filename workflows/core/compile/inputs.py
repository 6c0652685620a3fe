"""The inputs of a workflow: declared ones, names nobody makes, and values people give."""

from __future__ import annotations

import json
import keyword
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from pydantic import BaseModel

from workflows.core.catalog.contents import Catalog
from workflows.core.compile.edges import as_written
from workflows.core.errors import UsageError, did_you_mean, join_faults
from workflows.core.models.workflow import InputSpec, Step, Workflow
from workflows.core.plans.plan import InputPlan, Plan
from workflows.core.read.findings import Findings, is_file, is_inside
from workflows.core.read.source import Key, Source

SUFFIXES = {
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".txt": "text/plain",
    ".csv": "text/csv",
    ".json": "application/json",
}
"""File types that are read as inputs."""

MOST_BYTES = 64 * 1024 * 1024
"""What a document given as an input may hold."""

REFERENCE = "env:"
"""How an input of the type `secret` names the variable that holds it."""
_REFERENCE = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)|\[secret ([A-Za-z_][A-Za-z0-9_]*)\]")

MOST_DEPTH = 200
"""Levels of lists and objects that an input may have."""

_TOO_DEEP = f"nest it less: more than {MOST_DEPTH} levels are not read"

OWN_PARAMETERS = ("run_id", "offline")
"""Parameters that every workflow's flow has besides its inputs."""

# An input becomes a parameter of a Prefect flow, and Prefect makes a pydantic model out of those.
RESERVED = {
    **dict.fromkeys(dir(BaseModel), "an attribute of the model that checks the inputs"),
    **dict.fromkeys(keyword.kwlist, "a word of Python"),
    **dict.fromkeys(("self", "return_state", "wait_for"), "a parameter of Prefect's own"),
    **dict.fromkeys(OWN_PARAMETERS, "a parameter of every run"),
}
"""Names no input may have, and what each is already."""


def compile_inputs(
    source: Source,
    workflow: Workflow,
    catalog: Catalog,
    steps: Sequence[tuple[Key, Step]],
    made_by: Mapping[str, str],
    findings: Findings,
) -> tuple[InputPlan, ...]:
    """Declared inputs, then undeclared names that steps read and no step makes."""
    out = {name: _plan_input(source, name, spec, catalog, findings) for name, spec in workflow.inputs.items()}
    for at, step in steps:
        for name in step.inputs:
            if name in out or name in made_by:
                continue
            if not name.isidentifier():
                findings.error(source, (*at, "inputs"), f"'{name}' is no name", "use letters, digits and '_'")
                continue
            if not _check_name(source, name, (*at, "inputs", step.inputs.index(name)), findings):
                out[name] = InputPlan(name=name, type="file", declared=False)  # told once
                continue
            near = findings.near(name, as_written(chain(out, made_by))) if workflow.inputs else ""
            if workflow.inputs and near.startswith("did you mean"):
                findings.error(source, (*at, "inputs"), f"nothing makes or declares '{name}'", near)
                continue
            if workflow.inputs:
                findings.warn(
                    source,
                    (*at, "inputs"),
                    f"nothing makes '{name}'; it is taken as an input of the workflow",
                    f"declare it: `{name}: {{type: file}}` under `inputs:`",
                )
            out[name] = InputPlan(name=name, type="file", declared=False)
    return tuple(out.values())


def _check_name(source: Source, name: str, place: Key, findings: Findings, *, of_key: bool = False) -> bool:
    """Whether a name can be a parameter of the flow; one that cannot is recorded."""
    if name.startswith("_"):
        message, cure = f"the input '{name}' begins with '_'", f"call it '{name.lstrip('_') or 'value'}'"
    elif name in RESERVED:
        message = f"an input cannot be called '{name}': it is {RESERVED[name]}"
        cure = f"give it another name, such as '{name.lower()}_value'"
    else:
        return True
    findings.error(source, place, message, cure, of_key=of_key)
    return False


def _plan_input(
    source: Source, name: str, spec: InputSpec, catalog: Catalog, findings: Findings
) -> InputPlan:
    place: Key = ("inputs", name)
    _check_name(source, name, place, findings, of_key=True)
    default_file, default = "", spec.default
    if spec.type == "file" and default is not None:
        default, default_file = None, _default_file(source, place, str(spec.default), catalog, findings)
    elif default is not None and spec.type != "secret":
        try:
            default = coerce(InputPlan(name=name, type=spec.type, choices=spec.choices), spec.default)
        except UsageError as fault:
            findings.error(source, (*place, "default"), fault.message, fault.cure)
            default = None
    has_default = default is not None or bool(default_file)
    if spec.type == "secret" and spec.default is not None:
        # A catalog may be somebody else's: it must not get to choose a variable of the environment.
        mistake = source.mistake(
            (*place, "default"),
            f"the input '{name}' is a secret: who starts the run says which",
            f"leave the default out; it is given as -i {name}={REFERENCE}NAME",
        )
        findings.errors.append(replace(mistake, value="[hidden]"))
        default = None
    return InputPlan(
        name=name,
        type=spec.type,
        description=spec.description,
        required=spec.required if spec.required is not None else not has_default and spec.default is None,
        default=default,
        default_file=default_file,
        choices=tuple(spec.choices),
    )


def _default_file(source: Source, place: Key, written: str, catalog: Catalog, findings: Findings) -> str:
    path = catalog.root / written
    if written.startswith("/") or not is_inside(catalog.root, path):
        findings.error(
            source, (*place, "default"), "the file lies outside the catalog", "copy it into the catalog"
        )
        return ""
    if not is_file(path):
        findings.error(
            source, (*place, "default"), f"there is no file {written} in the catalog", "check its name"
        )
        return ""
    if path.suffix not in SUFFIXES:
        findings.error(source, (*place, "default"), *unreadable_suffix(path.suffix))
        return ""
    return written


def unreadable_suffix(suffix: str) -> tuple[str, str]:
    """Message and cure for a file type that is not read."""
    known = ", ".join(SUFFIXES)
    if suffix == ".pdf":
        return "PDF files are not read", "convert it to text or Markdown first, such as with pdftotext"
    return f"files of type '{suffix or 'none'}' are not read", f"use one of {known}"


def bind_inputs(plan: Plan, given: Mapping[str, Any]) -> dict[str, Any]:
    """Values by input name, typed, with defaults; raises UsageError that tells all unknown, missing, wrong.

    Values of files are left as they are; a default of a file is not opened here (see `default_file`).
    """
    out: dict[str, Any] = {}
    faults = []
    for name, value in given.items():
        try:
            out[name] = coerce(input_of(plan, name), value)
        except UsageError as fault:
            faults.append(fault)
    missing = [s for s in plan.inputs if s.required and s.name not in given]
    if missing:
        faults.append(missing_inputs(missing))
    if faults:
        raise join_faults(faults)
    return {**{s.name: s.default for s in plan.inputs if not s.default_file}, **out}


def input_of(plan: Plan, name: str) -> InputPlan:
    """The input of that name. Raises UsageError when the workflow has none."""
    found = next((i for i in plan.inputs if i.name == name), None)
    if found is None:
        raise UsageError(
            f"the workflow '{plan.workflow}' has no input '{name}'",
            did_you_mean(name, [i.name for i in plan.inputs]) or "it takes none",
        )
    return found


def missing_inputs(missing: Sequence[InputPlan]) -> UsageError:
    """The error of required inputs that nobody gave."""
    ways = " ".join(f"-i {s.name}=" + ("@FILE" if s.type == "file" else "VALUE") for s in missing)
    return UsageError(f"missing input: {', '.join(s.name for s in missing)}", f"add {ways}")


def coerce(spec: InputPlan, value: Any) -> Any:
    """A value as the input's type wants it; texts from the command line are read. Raises UsageError."""
    if spec.type == "secret":
        return _read_reference(spec.name, value)
    try:
        typed = _READ[spec.type](value)
        _check_plain(typed)
    except (ValueError, TypeError) as fault:
        raise UsageError(
            f"the input '{spec.name}' is no {spec.type}: {_quote_value(value)}", str(fault)
        ) from None
    if spec.choices and typed not in spec.choices:
        choices = [str(c) for c in spec.choices]
        raise UsageError(
            f"the input '{spec.name}' may not be {_quote_value(value)}", did_you_mean(str(value), choices)
        )
    return typed


def _read_reference(name: str, value: Any) -> str:
    """A secret as it travels: `[secret NAME]` for `env:NAME`, never the value. The error does not show it."""
    found = _REFERENCE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise UsageError(
            f"the input '{name}' is a secret: it is named, not given",
            f"set a variable where it runs, and give its name: -i {name}={REFERENCE}NAME",
        )
    return f"[secret {found[1] or found[2]}]"


def variable_of(reference: Any) -> str:
    """The variable that a secret's reference names; empty for anything else."""
    found = _REFERENCE.fullmatch(reference) if isinstance(reference, str) else None
    return (found[1] or found[2]) if found else ""


def named_secrets(inputs: Iterable[InputPlan], given: Mapping[str, Any]) -> frozenset[str]:
    """The variables that secrets among the given inputs name."""
    return frozenset(name for i in inputs if i.type == "secret" and (name := variable_of(given.get(i.name))))


def _quote_value(value: Any) -> str:
    text = str(value)
    return f"'{text[:60]}...'" if len(text) > 60 else f"'{text}'"


def _read_integer(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError("write a whole number")
    try:
        return int(value)
    except (ValueError, TypeError, OverflowError):
        raise ValueError("write a whole number") from None


def _read_number(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError("write a number")
    try:
        number = float(value)
    except (ValueError, TypeError, OverflowError):
        raise ValueError("write a number") from None
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError("write a finite number")
    return number


def _read_boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in ("true", "yes", "1", "on"):
        return True
    if word in ("false", "no", "0", "off"):
        return False
    raise ValueError("write true or false")


def read_json(text: str) -> Any:
    """The value of a JSON text. Raises JSONDecodeError, and ValueError for what JSON does not have."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON: leave it out, or write null")

    try:
        value = json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    _check_plain(value)
    return value


def _check_plain(value: Any) -> None:
    """ValueError for what cannot be stored as JSON in UTF-8, or is nested too deep to be handed on."""
    level, depth = [value], 0
    while level:
        depth += 1
        below: list[Any] = []
        for each in level:
            if depth > MOST_DEPTH and isinstance(each, (Mapping, list, tuple)):
                raise ValueError(_TOO_DEEP)
            if isinstance(each, Mapping):
                below += [*each.keys(), *each.values()]
            elif isinstance(each, (list, tuple)):
                below += each
            elif isinstance(each, float) and not math.isfinite(each):
                raise ValueError("write finite numbers")
            elif isinstance(each, str) and not is_unicode(each):
                raise ValueError("write it in UTF-8: it holds half a character")
        level = below


def is_unicode(text: str) -> bool:
    """Whether a text can be stored: no half of a surrogate pair, as bytes outside UTF-8 become."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_json(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return read_json(value)
    except json.JSONDecodeError as fault:
        raise ValueError(f"write JSON ({fault.msg}, column {fault.colno})") from None


def _read_list(value: Any) -> list[Any]:
    if isinstance(value, str) and not value.lstrip().startswith("["):
        return [part.strip() for part in value.split(",") if part.strip()]
    read = _read_json(value)
    if not isinstance(read, (list, tuple)):
        raise ValueError('write a list: a,b,c or ["a", "b"]')
    return list(read)


def _read_document(value: Any) -> Any:
    if isinstance(value, str) and not value.strip():
        raise ValueError("an empty text is no document: give one as @FILE, or its text")
    return value


def _read_string(value: Any) -> str:
    if isinstance(value, (dict, list)):
        raise ValueError("write a text")
    return getattr(value, "spelling", None) or str(value)


_READ: dict[str, Any] = {
    "string": _read_string,
    "integer": _read_integer,
    "number": _read_number,
    "boolean": _read_boolean,
    "json": _read_json,
    "list": _read_list,
    "file": _read_document,
}
