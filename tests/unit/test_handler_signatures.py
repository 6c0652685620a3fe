"""What a handler's text says about the tool it becomes; the text is never run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflows.core.tools.handlers import (
    HandlerSpec,
    SignatureError,
    inspect_handler,
    tool_name,
    with_documents,
)

HEAD = (
    "import pathlib\nimport typing as t\nfrom pathlib import Path\n"
    "from typing import Annotated, Any, Literal, Optional, Union\n"
    "Level = Literal['low', 'high']\n"
)
BUILT_IN = Path(__file__).parents[2] / "workflows" / "skills"


def spec(
    parameters: str, doc: str = "Do it.", head: str = HEAD, name: str = "f", kind: str = "def"
) -> HandlerSpec:
    return inspect_handler(f'{head}{kind} {name}({parameters}):\n    """{doc}"""\n', name)


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        ("str", {"type": "string"}),
        ("int", {"type": "integer"}),
        ("float", {"type": "number"}),
        ("bool", {"type": "boolean"}),
        ("list", {"type": "array"}),
        ("dict", {"type": "object"}),
        ("Any", {}),
        ("list[int]", {"type": "array", "items": {"type": "integer"}}),
        ("t.List[str]", {"type": "array", "items": {"type": "string"}}),
        ("dict[str, float]", {"type": "object", "additionalProperties": {"type": "number"}}),
        ("dict[str, Any]", {"type": "object", "additionalProperties": {}}),
        ("Literal['a', 'b']", {"type": "string", "enum": ["a", "b"]}),
        ("t.Literal[1, 'b']", {"enum": [1, "b"]}),
        ("Level", {"type": "string", "enum": ["low", "high"]}),
        ("'list[Level]'", {"type": "array", "items": {"type": "string", "enum": ["low", "high"]}}),
        ("str | None", {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        ("Optional[int]", {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        ("Union[int, str, None]", {"anyOf": [{"type": "integer"}, {"type": "string"}, {"type": "null"}]}),
        ("Annotated[int, 'how many']", {"type": "integer", "description": "how many"}),
    ],
)
def test_annotations_become_schema(annotation: str, schema: dict[str, Any]) -> None:
    made = spec(f"x: {annotation}")
    assert made.input_schema["properties"]["x"] == schema
    assert made.input_schema["required"] == ["x"]
    assert made.input_schema["additionalProperties"] is False
    jsonschema.Draft202012Validator.check_schema(made.input_schema)


@pytest.mark.parametrize(
    ("annotation", "required"),
    [
        ("Path", True),
        ("pathlib.Path", True),
        ("Path | None", True),
        ("list[Path]", True),
        ("Annotated[Path, 'x']", True),
    ],
)
def test_paths_are_documents(annotation: str, required: bool) -> None:
    made = spec(f"x: {annotation}, y: str")
    assert made.documents == ("x",)
    narrowed = with_documents(made.input_schema, made.documents, ["报告", "b"])
    check = jsonschema.Draft202012Validator(narrowed)
    value: Any = ["报告"] if annotation.startswith("list") else "报告"
    wrong: Any = ["c"] if annotation.startswith("list") else "c"
    assert check.is_valid({"x": value, "y": "anything"})
    assert not check.is_valid({"x": wrong, "y": "anything"})
    assert "enum" not in str(made.input_schema)


def test_without_documents_optional_ones_go_and_required_ones_refuse() -> None:
    made = spec("x: Path | None = None, y: int = 1")
    assert list(with_documents(made.input_schema, made.documents, [])["properties"]) == ["y"]
    needs = spec("x: Path")
    with pytest.raises(ValueError, match="needs a document for 'x'"):
        with_documents(needs.input_schema, needs.documents, [])


def test_defaults_are_kept_when_they_are_data() -> None:
    made = spec(
        "a: int = 3, b: str = 'x', *, c: float = LIMIT, d: str | None = None, e: list = (1, 2), f: int"
    )
    assert made.input_schema["required"] == ["f"]
    assert made.defaults == {"a": 3, "b": "x", "d": None, "e": [1, 2]}
    assert made.input_schema["properties"]["a"]["default"] == 3
    assert "default" not in made.input_schema["properties"]["c"]


def test_docstring_gives_the_descriptions() -> None:
    doc = """Count things.

    All of them.

    Args:
        first: The first one,
            on two lines.
        second (int, optional): Another: with a colon.

    Returns:
        A number.
    """
    made = spec("first: str, second: int = 2", doc)
    assert made.description == "Count things.\n\nAll of them.\n\nReturns:\n    A number."
    properties = made.input_schema["properties"]
    assert properties["first"]["description"] == "The first one, on two lines."
    assert properties["second"]["description"] == "Another: with a colon."


def test_a_missing_docstring_falls_back_to_the_name() -> None:
    assert inspect_handler("def count_all(): pass", "count_all").description == "count all"


def test_async_functions_and_a_byte_order_mark_are_fine() -> None:
    made = inspect_handler("\ufeffasync def f(x: int): ...", "f")
    assert made.is_async
    assert made.line == 1


def test_nothing_of_the_text_is_run() -> None:
    made = inspect_handler("raise SystemExit(1)\nimport no_such_module\ndef f(x: int = 1/0): ...", "f")
    assert made.defaults == {}


@pytest.mark.parametrize(
    ("source", "line", "part"),
    [
        ("def g(): ...", 1, "no function 'f'; "),
        ("def fo(): ...", 1, "did you mean"),
        ("class f: ...", 1, "no function 'f'"),
        ("def f(:", 1, "not Python"),
        ("\x00", 1, "not Python"),
        ("def f(x): ...", 1, "'x' has no annotation"),
        ("\ndef f(\n  x: int,\n  *rest: int): ...", 4, r"'\*rest'"),
        ("def f(**rest: int): ...", 1, r"'\*\*rest'"),
        ("def f(x: int, /): ...", 1, "by name"),
        ("def f(x: set[int]): ...", 1, "cannot take 'set"),
        ("def f(x: Thing): ...", 1, "cannot take 'Thing'"),
        ("def f(x: tuple[int, str]): ...", 1, "cannot take"),
        ("def f(x: dict[int, str]): ...", 1, "cannot take"),
        ("def f(x: 3): ...", 1, "cannot take '3'"),
        ("def f(x: 'list['): ...", 1, "cannot take"),
        ("def f(x: Path): ...", 1, "import Path"),
        ("def f(x: int = None): ...", 1, r"int \| None = None"),
        ("from pathlib import Path\ndef f(x: Path | str): ...", 2, "mixes Path"),
        ("from pathlib import Path\ndef f(x: dict[str, Path]): ...", 2, "documents cannot"),
        ("def f(参数: int): ...", 1, "A-Z"),
        ("A = list[A]\ndef f(x: A): ...", 1, "cannot take"),
        ("def f(x: int):\n  '''D.\n\n  Args:\n    y: what?\n  '''", 1, "describes 'y'"),
        ("def f(x: " + "|".join(["int"] * 300) + "): ...", 1, "cannot take"),
        ("x = " + "(" * 5000, 1, "not Python"),
        ("#" * 600_000, 1, "too large"),
    ],
)
def test_mistakes_have_a_line_and_a_cure(source: str, line: int, part: str) -> None:
    with pytest.raises(SignatureError, match=part) as caught:
        inspect_handler(source, "f")
    assert caught.value.line == line
    assert caught.value.cure
    assert isinstance(caught.value, ValueError)


def test_aliases_that_multiply_are_refused_in_time() -> None:
    lines = ["A0 = int"] + [f"A{n} = dict[str, A{n - 1}] | list[A{n - 1}] | A{n - 1}" for n in range(1, 14)]
    with pytest.raises(SignatureError):
        inspect_handler("\n".join(lines) + "\ndef f(x: A13): ...", "f")


@pytest.mark.parametrize(
    ("skill", "handler", "name"),
    [
        ("shared/data-analysis", "trend", "data-analysis__trend"),
        ("product-design", "write_user_stories", "product-design__write_user_stories"),
    ],
)
def test_tool_names(skill: str, handler: str, name: str) -> None:
    assert tool_name(skill, handler) == name


@settings(deadline=None)
@given(st.text(max_size=90), st.text(max_size=90))
def test_tool_names_are_always_valid(skill: str, handler: str) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", tool_name(skill, handler))
    assert tool_name(skill, handler) == tool_name(skill, handler)


def test_two_names_that_do_not_fit_stay_two() -> None:
    assert tool_name("s", "x" * 80) != tool_name("s", "x" * 81)
    assert tool_name("技能", "f") != tool_name("能技", "f")


def test_every_handler_of_the_default_catalog_is_a_tool() -> None:
    files = [f for f in BUILT_IN.rglob("handlers/*.py") if not f.stem.startswith("_")]
    for file in files:
        made = inspect_handler(file.read_text(encoding="utf-8"), file.stem)
        jsonschema.Draft202012Validator.check_schema(made.input_schema)
        assert all("description" in p for p in made.input_schema["properties"].values()), file
