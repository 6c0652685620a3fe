"""Prefect's results on the artifact store's root: a folder and a real S3 server."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.patience import Patience, Vigil
from blocks.storage.artifacts import ArtifactStore
from blocks.storage.result_records import SERIALIZER
from blocks.storage.results import ResultStorage
from deployments.server.kept_server import ServerInfo
from tests.support.prefect_server import ROOT, finished, run_python
from tests.support.s3 import S3Server, s3_server


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, str]]:
    """An address nobody used before, and the environment it is reached with."""
    if request.param == "folder":
        return str(tmp_path / "store"), {}
    server: S3Server = request.getfixturevalue("s3")
    return f"s3://{server.make_bucket()}/some/prefix", server.environ


def prefect_variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(("PREFECT_", "DO_NOT"))}


BYTES = """if 1:
    import asyncio, json, os, sys
    from blocks.storage.result_records import SERIALIZER
    from blocks.storage.results import ResultStorage
    from blocks.storage.artifacts import ArtifactStore

    def record(key, text):
        head = {"storage_key": key, "expiration": None, "serializer": SERIALIZER, "prefect_version": "3"}
        head["storage_block_id"] = None
        return json.dumps({"metadata": head, "result": json.dumps(text)}).encode()

    async def use():
        block = ResultStorage(root=ArtifactStore.open(sys.argv[1], environ=os.environ).root)
        for key in ("default/run/step/键", "plain"):
            for text in ("a text", "another 文"):
                await block.write_path(key, record(key, text))
                assert await block.read_path(key) == record(key, text)
            await block.write_path(key, record(key, None))
            assert await block.read_path(key) == record(key, text), "nothing was written"
        try:
            await block.read_path("missing/key")
        except FileNotFoundError:
            print("missing")
        for key in ("../x", "/etc/passwd", "a/../../x", "", "a//b"):
            for attempt in (block.read_path(key), block.write_path(key, record(key, "x"))):
                try:
                    await attempt
                    print("escaped", key)
                except ValueError:
                    pass
        return block

    block = asyncio.run(use())
    assert block.read_path("plain", _sync=True) == record("plain", "another 文")
    block.write_path("sync", record("sync", "s"), _sync=True)
    assert block.read_path("sync") == record("sync", "s")
"""


def test_the_block_keeps_bytes_below_its_root(place: tuple[str, dict[str, str]]) -> None:
    assert finished(run_python(BYTES, place[0], **place[1])).split() == ["missing"]


RUN = """if 1:
    import asyncio, json, os, sys
    from prefect import flow, task
    from prefect.cache_policies import CacheKeyFnPolicy
    from blocks.storage.results import ensure_block
    from blocks.storage.artifacts import ArtifactStore

    @task
    async def step(n):
        return f"文 {n}"

    @flow
    async def work(block):
        keyed = step.with_options(
            persist_result=True,
            result_storage=block,
            result_serializer="json",
            cache_policy=CacheKeyFnPolicy(cache_key_fn=lambda run, given: f"default/run/step/{given['n']}"),
        )
        states = [await keyed(n, return_state=True) for n in (1, 2)]
        return [[state.name, await state.result()] for state in states]

    async def main():
        with ArtifactStore.open(sys.argv[1], environ=os.environ) as store:
            block = await ensure_block(store)
            again = await ensure_block(store)
            assert again._block_document_id == block._block_document_id
            print(json.dumps([str(block._block_document_id), await work(block)]))

    asyncio.run(main())
"""


def test_a_second_process_finds_the_results_of_the_first(
    prefect_server: ServerInfo, place: tuple[str, dict[str, str]]
) -> None:
    variables = {**prefect_variables(), **place[1]}
    outcomes = [json.loads(finished(run_python(RUN, place[0], **variables)).splitlines()[-1]) for _ in "12"]
    values = ["文 1", "文 2"]
    assert outcomes[0][1] == [["Completed", value] for value in values]
    assert outcomes[1][1] == [["Cached", value] for value in values]
    assert outcomes[0][0] == outcomes[1][0], "the block was saved twice"
    with ArtifactStore.open(place[0], environ=place[1]) as store:
        record = json.loads(store.files.read("_results/default/run/step/1"))
    assert json.loads(record["result"]) == values[0] and record["metadata"]["serializer"]["type"] == "json"


def test_no_key_reaches_prefects_database(prefect_server: ServerInfo, s3: S3Server) -> None:
    from prefect.client.orchestration import get_client

    from blocks.storage.results import block_name, ensure_block

    async def saved() -> str:
        with ArtifactStore.open(f"s3://{s3.make_bucket()}", environ=s3.environ) as store:
            blocks = await asyncio.gather(*(ensure_block(store) for _ in range(4)))
            assert len({block._block_document_id for block in blocks}) == 1
            async with get_client() as client:
                document = await client.read_block_document_by_name(
                    block_name(store.root), "phaseline-result-storage", include_secrets=True
                )
            assert document.data == {"root": store.root}
            return document.model_dump_json()

    text = asyncio.run(saved())
    assert s3.environ["AWS_SECRET_ACCESS_KEY"] not in text and s3.endpoint not in text


LOAD = """if 1:
    import sys
    from prefect.blocks.core import Block
    assert "blocks.storage.results" not in sys.modules
    print(type(Block.load(sys.argv[1])).__name__)
"""


WORKER = """
import ctypes, sys
from prefect.cli._worker_utils import _load_worker_class

sys.argv = sys.argv[1:]
assert _load_worker_class("process") is not None
print(ctypes.CDLL(None).prctl(3))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="nothing closes a process elsewhere")
def test_a_worker_is_closed_to_what_it_runs_before_it_runs_anything(tmp_path: Path) -> None:
    """Whoever else imports Prefect beside phaseline stays as it is."""
    variables = {"PYTHONPATH": f"{ROOT}:{installed(tmp_path)}"}
    prefect, module = "/usr/bin/prefect", "/lib/prefect/__main__.py"
    for words, dumpable in (
        ((prefect, "worker", "start"), "0"),
        ((module, "worker", "start"), "0"),
        ((prefect, "deploy"), "1"),
        (("/usr/bin/worker", "worker"), "1"),
    ):
        assert finished(run_python(WORKER, *words, **variables)).split()[-1] == dumpable, words


def installed(place: Path) -> Path:
    """What an installation of the package leaves behind, made from the same pyproject.toml."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    folder = place / "phaseline-0.0.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: phaseline\nVersion: 0.0.0\n")
    lines = [f"{name} = {target}" for name, target in groups["prefect.collections"].items()]
    (folder / "entry_points.txt").write_text("[prefect.collections]\n" + "\n".join(lines) + "\n")
    return place


def test_a_process_that_never_heard_of_the_block_can_load_it(
    prefect_server: ServerInfo, tmp_path: Path
) -> None:
    from blocks.storage.results import block_name, ensure_block

    with ArtifactStore.open(str(tmp_path / "store"), environ={}) as store:
        asyncio.run(ensure_block(store))
    variables = {**prefect_variables(), "PYTHONPATH": f"{ROOT}:{installed(tmp_path)}"}
    address = f"phaseline-result-storage/{block_name((tmp_path / 'store').as_uri())}"
    assert finished(run_python(LOAD, address, **variables)).split() == ["ResultStorage"]


def test_storage_and_ledger_do_without_prefect() -> None:
    program = """if 1:
        import sys, blocks, blocks.storage.artifacts, blocks.ledger
        heavy = {"prefect", "s3fs", "botocore", "psycopg", "alembic"} & set(sys.modules)
        print(sorted(heavy))
    """
    assert finished(run_python(program)).strip() == "[]"


def test_a_root_that_is_away_is_not_waited_for_when_a_result_is_written(s3: S3Server) -> None:
    """What is stored for Prefect is in the ledger too; a unit that was held up waited for it once more."""
    environ = {**s3.environ, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    with ArtifactStore.open("s3://nowhere/x", environ=environ, vigil=Vigil(Patience(150))) as store:
        block = ResultStorage(root=store.root).attach(store.files)
        metadata = {"storage_key": "k", "expiration": None, "serializer": SERIALIZER}
        metadata |= {"prefect_version": "3", "storage_block_id": None}
        record = json.dumps({"metadata": metadata, "result": json.dumps("a text")}).encode()

        async def write() -> None:
            await asyncio.wait_for(block.write_path("k", record), 60)

        asyncio.run(write())
