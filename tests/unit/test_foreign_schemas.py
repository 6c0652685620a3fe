"""Schemas of other people: nothing of them is fetched, and none of them ends a step."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blocks.ledger.waits.forms import UnfitForm, checked_form
from blocks.schemas.checking import UnusableSchema, foreign_problems, problems_of, schema_fault
from tasks.servers.tools import _shown_schema
from tasks.tools import argument_problems
from tests.support.catalogs import examined, make_catalog

CIRCLES: tuple[dict[str, Any], ...] = (
    {"$ref": "#"},
    {"allOf": [{"$ref": "#"}]},
    {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}},
    {"properties": {"x": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"not": {"$ref": "#/$defs/a"}}}},
    {"$dynamicRef": "#"},
)
OLDER = "http://json-schema.org/draft-0{}/schema#"
"""Drafts that say nothing about what `$defs` holds."""
DANGLING: tuple[dict[str, Any], ...] = (
    {"$ref": "#/$defs/none"},
    {"properties": {"x": {"$ref": "#none"}}},
    {"properties": {"x": {"$dynamicRef": "#none"}}},
    *({"$schema": OLDER.format(n), "$defs": 5, "$ref": "#/$defs/a"} for n in (3, 4, 6, 7)),
    *({"$schema": OLDER.format(n), "$defs": {"a": 5}, "$ref": "#/$defs/a"} for n in (3, 4, 6, 7)),
)


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """An address that serves a schema, and the paths somebody asked it for."""
    paths: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"type": "object"}')

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", paths
        server.shutdown()


def remote(url: str) -> Iterator[dict[str, Any]]:
    """Every way in which a schema can name an address."""
    local = {"$defs": {"a": {}}}
    yield {"$ref": f"{url}/ref"}
    yield {"$dynamicRef": f"{url}/dynamic"}
    yield {"$ref": "#/$defs/a", "$dynamicRef": f"{url}/beside", **local}
    yield {"$recursiveRef": f"{url}/recursive", "$schema": "https://json-schema.org/draft/2019-09/schema"}
    yield {"$id": f"{url}/base", "$ref": "other"}
    yield {"$id": f"{url}/base/", "properties": {"x": {"$ref": "deep"}}}
    yield {"properties": {"x": {"$ref": "#/$defs/a", "$dynamicRef": f"{url}/property"}}, **local}
    yield {"$schema": f"{url}/meta", "$ref": f"{url}/ref"}


def test_nothing_a_schema_names_is_fetched(asked: tuple[str, list[str]]) -> None:
    url, paths = asked
    for schema in remote(url):
        with pytest.raises(UnusableSchema):
            foreign_problems(schema, {"x": 1})
        with pytest.raises(UnusableSchema):
            problems_of(schema, {"x": 1})
        assert argument_problems(schema, {"x": 1})[0].startswith("the tool's own schema cannot be used")
        assert _shown_schema(schema) == ({"type": "object"}, False)
        with pytest.raises(UnfitForm):
            checked_form({"type": "object", **schema})
    assert paths == []


@pytest.mark.parametrize("schema", [*CIRCLES, *DANGLING, {"type": "thing"}, {"properties": 3}])
def test_a_schema_that_means_nothing_ends_no_step(schema: dict[str, Any]) -> None:
    assert schema_fault(schema) is not None
    assert _shown_schema(schema) == ({"type": "object"}, False)
    assert all(isinstance(problem, str) for problem in argument_problems(schema, {"x": 1}))


def test_a_deep_schema_ends_no_step() -> None:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"not": deep}
    assert "nested too deeply" in (schema_fault(deep) or "")
    assert _shown_schema(deep) == ({"type": "object"}, False)


def test_what_refers_to_itself_further_inside_is_right() -> None:
    tree = {
        "type": "object",
        "properties": {"children": {"type": "array", "items": {"$ref": "#"}}, "near": {"$ref": "#/$defs/a"}},
        "$defs": {"a": {"type": "integer"}},
    }
    assert schema_fault(tree) is None
    assert foreign_problems(tree, {"children": [{"children": [{"near": "x"}]}]}) == [
        "$.children[0].children[0].near: 'x' is not of type 'integer'"
    ]
    assert _shown_schema(tree)[0] == tree


@pytest.mark.parametrize("word", ["$ref", "$dynamicRef", "$recursiveRef"])
@pytest.mark.parametrize(
    ("to", "told"),
    [("http://127.0.0.1:1/x", "not fetched"), ("#/$defs/no", "to nothing"), ("#", "back to itself")],
)
def test_an_authors_references_are_checked_before_anything_runs(
    tmp_path: Path, word: str, to: str, told: str
) -> None:
    output = {"type": "json", "schema": {"allOf": [{word: to}]}}
    step = json.dumps({"id": "a", "agent": "ann", "output": output})
    found = examined(make_catalog(tmp_path, w=f"workflow: w\nsteps: [{step}]\n"))
    (mistake,) = found.errors
    assert told in mistake.message and mistake.path.endswith(word)
