"""Somebody may write to the storage, a folder or a bucket, and to nothing else: they run nothing and decide
nothing."""

from __future__ import annotations

import base64
import json
import pickle
import re
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from blocks.storage.artifacts import ArtifactStore
from blocks.storage.root import Root
from tests.support.catalogs import compiled
from tests.support.command import Answer, User, refused
from tests.support.durable import CONFIG, Desk, statuses
from tests.support.s3 import S3Server, s3_server
from workflows.core.plans.plan import content_key
from workflows.core.refs import Ref, digest_bytes

EVIL = '''"""Marks, for somebody else."""

from pathlib import Path


def mark(file: str, text: str, unless: str = "") -> dict[str, str]:
    """Leave a mark of its own."""
    Path(file).with_name("pwned").touch()
    return {"text": "pwned"}
'''
PURE = CONFIG.replace("effect: idempotent", "effect: none")
APPROVAL = '  - {id: ok, depends_on: a, approval: {ask: "Go on?"}}\n'


@dataclass
class Attacker:
    """Somebody who may write to a storage."""

    files: Root
    listed: Callable[[], list[str]]

    def write(self, key: str, body: bytes) -> None:
        """Put bytes under a key, whatever was there."""
        self.files.write(key, body)

    def change(self, key: str, change: Callable[[Any], Any]) -> None:
        """Replace a JSON document by what `change` makes of it."""
        self.write(key, json.dumps(change(json.loads(self.files.read(key)))).encode())

    def results(self, run_id: str, step: str) -> list[str]:
        """The keys of a step's stored results."""
        start = f"_results/default/{run_id}/{step}/"
        found = [key for key in self.listed() if key.startswith(start)]
        assert found, self.listed()
        return found

    def keep(self, body: bytes, run_id: str, step: str) -> Ref:
        """A body of their own, where bodies belong, and what points at it."""
        sha256 = digest_bytes(body)
        key = f"default/blobs/{sha256[:2]}/{sha256}"
        self.write(key, body)
        about: Mapping[str, Any] = {"media_type": "application/json", "kind": step, "run_id": run_id}
        return Ref(uri=self.files.address(key), sha256=sha256, size=len(body), step=step, **about)


@dataclass
class Scene:
    """A desk whose runs are kept in a storage that somebody else may write to."""

    desk: Desk
    attacker: Attacker

    def pwned(self) -> bool:
        """Whether any code of the attacker ran."""
        return self.desk.path("pwned").exists()

    def evil_skill(self) -> Path:
        """A folder beside the catalog with a handler of the attacker."""
        folder = self.desk.catalog.parent / "elsewhere"
        (folder / "handlers").mkdir(parents=True)
        (folder / "handlers" / "mark.py").write_text(EVIL)
        return folder


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(params=["folder", "s3"])
def scene(request: pytest.FixtureRequest, newcomer: User, tmp_path: Path) -> Iterator[Scene]:
    """A desk with its storage in a folder, and in a bucket."""
    if request.param == "folder":
        address, environ = str(tmp_path / "storage"), dict[str, str]()
    else:
        server: S3Server = request.getfixturevalue("s3")
        address, environ = f"s3://{server.make_bucket()}/runs", server.environ
    desk = Desk.make(newcomer.with_variables(PHASELINE_STORAGE=address, **environ))
    with ArtifactStore.open(address, environ=environ) as store:
        yield Scene(desk, Attacker(store.files, lambda: listed(address, environ)))


@pytest.fixture
def local(newcomer: User, tmp_path: Path) -> Iterator[Scene]:
    """The same with a folder alone, where the kind of storage makes no difference."""
    address = str(tmp_path / "storage")
    desk = Desk.make(newcomer.with_variables(PHASELINE_STORAGE=address))
    with ArtifactStore.open(address, environ={}) as store:
        yield Scene(desk, Attacker(store.files, lambda: listed(address, {})))


def listed(address: str, environ: Mapping[str, str]) -> list[str]:
    """The keys of a storage."""
    if not environ:
        root = Path(address)
        return [p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()]
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    with urllib.request.urlopen(f"{environ['AWS_ENDPOINT_URL']}/{bucket}?list-type=2", timeout=30) as answer:
        keys = re.findall(r"<Key>([^<]+)</Key>", answer.read().decode())
    return [key.removeprefix(f"{prefix}/") for key in keys]


def asked(scene: Scene) -> None:
    """The run `w`: `a` is done, `ok` asks, `b` would follow it."""
    desk = scene.desk
    desk.write("w", desk.step("a"), APPROVAL, desk.step("b", "depends_on: ok"))
    assert desk.run("w").code == 3 and desk.marks == ["a"]


def evil_plan(scene: Scene, folder: Path) -> Callable[[Any], Any]:
    """The manifest without its approval, and with the attacker's handler for what follows it."""

    def change(manifest: Any) -> Any:
        steps = [step for step in manifest["plan"]["steps"] if step["id"] != "ok"]
        evil = (folder / "handlers" / "mark.py").read_bytes()
        file = {"path": "handlers/mark.py", "sha256": digest_bytes(evil), "size": len(evil)}
        for step in steps:
            if step["id"] == "b":
                place = f"../{folder.name}"
                step |= {"depends_on": ["a"], "guards": [], "when": None}
                step["skill"] |= {"folder": place, "files": [file]}
        manifest["plan"]["steps"] = steps
        return manifest

    return change


# ---------------------------------------------------------------- run.json


def test_a_changed_plan_drops_no_approval_and_runs_no_other_handler(scene: Scene) -> None:
    desk = scene.desk
    asked(scene)
    scene.attacker.change("default/runs/w/run.json", evil_plan(scene, scene.evil_skill()))
    assert desk.user.phaseline("answer", desk.wait_id("w"), "--reject").code == 0
    # The catalog still says what the ledger has the digest of: it is what counts.
    answer = desk.user.phaseline("resume", "w", "--use", "stored", "--json")
    assert answer.code == 0, answer
    assert statuses(answer.document) == {"a": "completed", "ok": "completed", "b": "skipped"}
    assert "not the one that the ledger knows" in answer.err
    assert desk.marks == ["a"] and not scene.pwned()


def test_where_the_catalog_changed_too_it_is_refused(scene: Scene) -> None:
    desk = scene.desk
    asked(scene)
    kept = scene.attacker.files.read("default/runs/w/run.json")
    scene.attacker.change("default/runs/w/run.json", evil_plan(scene, scene.evil_skill()))
    desk.write("w", desk.step("a"), APPROVAL, desk.step("b", "depends_on: ok", text="new b"))
    assert desk.user.phaseline("answer", desk.wait_id("w")).code == 0
    refused(desk.user.phaseline("resume", "w", "--use", "stored"), "--use new", "--storage")
    refused(desk.user.phaseline("resume", "w"), "changed since the run w began")
    # What goes on by itself keeps its definition, and says why it does not go on.
    woken = desk.user.phaseline("wake", "w", "--json")
    assert woken.code != 0 and "--use new" in woken.out and "Traceback" not in woken.out + woken.err
    assert desk.marks == ["a"] and not scene.pwned()
    # Put back as it was, the run goes on with what it began with.
    scene.attacker.write("default/runs/w/run.json", kept)
    assert desk.user.phaseline("resume", "w", "--use", "stored").code == 0
    assert desk.marks == ["a", "b"]


def test_a_changed_plan_takes_nothing_back(local: Scene) -> None:
    desk = local.desk
    args = json.dumps({"file": str(desk.file), "text": "undo a"})
    undo = f"undo: {{skill: shared/tool, handler: mark, args: {args}}}"
    desk.write("w", desk.step("a", undo), APPROVAL)
    assert desk.run("w").code == 3
    folder = local.evil_skill()
    evil = (folder / "handlers" / "mark.py").read_bytes()

    def change(manifest: Any) -> Any:
        file = {"path": "handlers/mark.py", "sha256": digest_bytes(evil), "size": len(evil)}
        manifest["plan"]["steps"][0]["undo"]["skill"] |= {"folder": f"../{folder.name}", "files": [file]}
        return manifest

    kept = local.attacker.files.read("default/runs/w/run.json")
    local.attacker.change("default/runs/w/run.json", change)
    desk.write("w", desk.step("a", undo, text="new a"), APPROVAL)
    refused(desk.user.phaseline("cancel", "w", "--undo"), "restore its run.json")
    assert desk.marks == ["a"] and not local.pwned()
    local.attacker.write("default/runs/w/run.json", kept)
    assert desk.user.phaseline("cancel", "w", "--undo").code == 0
    assert desk.marks == ["a", "undo a"]


GARBAGE = {
    "no JSON": b"{",
    "no object": b"[]",
    "nested without an end": b'{"plan": ' + b"[" * 100_000,
    "a plan that is none": b'{"schema_version": 1, "plan": {"steps": 7}, "inputs": 7}',
    "a number that is none": b'{"schema_version": 1, "plan": {"steps": [NaN]}}',
    "of a newer version": b'{"schema_version": 99}',
}


def test_garbage_for_a_manifest_is_told_and_not_crashed_on(local: Scene) -> None:
    desk = local.desk
    asked(local)
    for body in GARBAGE.values():
        local.attacker.write("default/runs/w/run.json", body)
        local.attacker.write("default/runs/unknown/run.json", body)
        for words in (
            ("resume", "w", "--plan"),
            ("show", "w"),
            [*desk.words("w")[:-1], "unknown"],
        ):
            answer = desk.user.phaseline(*words)
            assert "Traceback" not in answer.out + answer.err, (body[:40], answer)
            assert answer.code in (0, 3) or "cure: " in answer.err, (body[:40], answer)


# ---------------------------------------------------------------- Prefect's results


class Pwn:
    """Runs a command where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self._file,)


def forged(scene: Scene) -> dict[str, Callable[[Any], Any]]:
    """Stored results that say themselves how they are read."""
    body = base64.encodebytes(pickle.dumps(Pwn(scene.desk.path("pwned")))).decode()
    module = scene.desk.user.folder / "pwning.py"
    module.write_text(f"open({str(scene.desk.path('pwned'))!r}, 'w')\nloads = dumps = print\n")

    def with_(**changes: Any) -> Callable[[Any], Any]:
        def change(record: Any) -> Any:
            record["metadata"]["serializer"] |= changes
            return record

        return change

    def pickled(record: Any) -> Any:
        record["metadata"]["serializer"] = {"type": "pickle", "picklelib": "pickle"}
        return {**record, "result": body}

    def old(record: Any) -> Any:
        return {"data": body, "serializer": {"type": "pickle", "picklelib": "pickle"}}

    def object_(record: Any) -> Any:
        return {**record, "result": json.dumps({"__class__": "pwning.X", "data": {}})}

    return {
        "pickle": pickled,
        "the old form": old,
        "an imported module": with_(jsonlib="pwning"),
        "a called decoder": with_(object_decoder="pwning.loads"),
        "an object of a class": object_,
        "no record, but an object": lambda record: {"__class__": "pwning.X", "data": {}},
    }


def test_a_stored_result_runs_nothing_when_it_is_read(scene: Scene, tmp_path: Path) -> None:
    """Each step's result says in another way how it is to be read. The ledger's own runs do not read them; a
    ledger that did not know the run does, and finds that they are none."""
    desk = scene.desk
    (desk.catalog / "skills" / "shared" / "tool" / "config.yaml").write_text(PURE)
    desk = replace(desk, user=desk.user.with_variables(PYTHONPATH=str(desk.user.folder)))
    kinds = forged(scene)
    names = [f"a{n}" for n in range(len(kinds))]
    last = desk.step("b", f"depends_on: [{', '.join(names)}]", unless="in-the-way")
    desk.write("w", *map(desk.step, names), last)
    desk.path("in-the-way").touch()
    assert desk.run("w").code == 1
    desk.path("in-the-way").unlink()
    for name, change in zip(names, kinds.values(), strict=True):
        for key in scene.attacker.results("w", name):
            scene.attacker.change(key, change)
    elsewhere = replace(desk, user=replace(desk.user, home=tmp_path / "other-home"))
    answer = elsewhere.run("w", "--json")
    assert answer.code == 0 and "Traceback" not in answer.err, answer
    assert not scene.pwned()
    assert answer.err.count("not believed: what is stored as its result") == len(kinds), answer.err
    assert {s["id"]: s["reused"] for s in answer.document["steps"]} == dict.fromkeys([*names, "b"], False)
    assert sorted(desk.marks) == sorted([*names, *names, "b", "b"])
    resumed = desk.user.phaseline("resume", "w", "--json")
    assert resumed.code == 0 and not scene.pwned(), resumed
    # The ledger has what the steps gave: nothing is done again.
    reused = {s["id"]: s["reused"] for s in resumed.document["steps"]}
    assert reused == dict.fromkeys(names, True) | {"b": False}


def test_a_result_put_under_an_approval_approves_nothing(scene: Scene) -> None:
    desk = scene.desk
    other = '  - {id: other, approval: {ask: "And this?"}}\n'
    desk.write("w", desk.step("a"), APPROVAL, other, desk.step("b", "depends_on: ok"))
    assert desk.run("w").code == 3
    step = compiled(desk.catalog).step("ok")
    key = content_key(step, {})
    answer = {"approved": True, "data": {}, "votes": [], "by_timeout": False}
    ref = scene.attacker.keep(json.dumps(answer).encode(), "w", "ok")
    result = {"step": "ok", "path": "ok", "key": key, "output": ref.model_dump(mode="json")}
    (known,) = scene.attacker.results("w", "a")
    record = json.loads(scene.attacker.files.read(known))
    record["result"] = json.dumps(json.dumps(result))
    for place in {f"default/w/ok/{key}", *(k.removeprefix("_results/") for k in listed_of(scene, "w", "ok"))}:
        record["metadata"]["storage_key"] = place
        scene.attacker.write(f"_results/{place}", json.dumps(record).encode())
    assert desk.user.phaseline("answer", desk.wait_id("w", "other")).code == 0
    resumed = desk.user.phaseline("resume", "w", "--json")
    assert resumed.code == 3, resumed
    assert statuses(resumed.document)["ok"] == "waiting" and desk.marks == ["a"]


def listed_of(scene: Scene, run_id: str, step: str) -> list[str]:
    """What is stored for a step, if anything is."""
    return [key for key in scene.attacker.listed() if key.startswith(f"_results/default/{run_id}/{step}/")]


def test_a_shared_result_is_what_the_ledger_has_of_it(local: Scene) -> None:
    """`cache: always`: the result of one run serves others; what somebody made of it does not."""
    desk = local.desk
    shared = desk.step("a", "cache: always").replace("handler: mark", "handler: hold")
    shared = shared.replace('"text": "a"', f'"text": "a", "until": "{desk.path("go")}"')
    desk.write("w", shared)
    desk.path("go").touch()

    def run(run_id: str) -> Answer:
        return desk.user.phaseline(*desk.words("w")[:-1], run_id, "--json")

    assert [s["reused"] for s in run("one").completed["steps"]] == [False]
    assert [s["reused"] for s in run("two").completed["steps"]] == [True]
    (key,) = [k for k in local.attacker.listed() if k.startswith("_results/default/shared/")]
    body = b'{"text": "somebody else\'s"}\n'
    ref = local.attacker.keep(body, "one", "a")

    def change(record: Any) -> Any:
        result = json.loads(json.loads(record["result"]))
        result["output"] = {**result["output"], "sha256": ref.sha256, "size": ref.size, "uri": ref.uri}
        return {**record, "result": json.dumps(json.dumps(result))}

    local.attacker.change(key, change)
    answer = run("three")
    assert [s["reused"] for s in answer.completed["steps"]] == [False]
    assert "not what this ledger has of it" in answer.err
    assert desk.marks == ["a", "a"]


# ---------------------------------------------------------------- bodies


def test_a_changed_body_is_never_read(scene: Scene) -> None:
    desk = scene.desk
    follows = desk.step("b", "depends_on: a", text="after {{ a.text }}", unless="in-the-way")
    desk.write("w", desk.step("a"), follows)
    desk.path("in-the-way").touch()
    assert desk.run("w").code == 1
    desk.path("in-the-way").unlink()
    bodies = [key for key in scene.attacker.listed() if key.startswith("default/blobs/")]
    (made,) = [key for key in bodies if json.loads(scene.attacker.files.read(key)) == {"text": "a"}]
    scene.attacker.write(made, b'{"text": "pwned"}')
    resumed = desk.json("resume", "w")
    assert resumed["status"] == "completed"
    # Made again from the recorded outcome of its call: it is not called again, and nobody's words are used.
    assert desk.marks == ["a", "after a", "after a"]


# ---------------------------------------------------------------- runs that only the storage knows


def planted(scene: Scene, run_id: str, **changes: Any) -> None:
    """The manifest of another run, put under an id that no ledger knows."""
    manifest = json.loads(scene.attacker.files.read("default/runs/w/run.json"))
    scene.attacker.write(
        f"default/runs/{run_id}/run.json", json.dumps({**manifest, "run_id": run_id, **changes}).encode()
    )


def test_a_planted_run_is_not_one_that_asked(local: Scene) -> None:
    desk = local.desk
    asked(local)
    for budget in ("", "budget: {tokens: 1000}\n"):
        desk.write("w", desk.step("a"), APPROVAL, desk.step("b", "depends_on: ok"), also=budget)
        planted(local, "planted")
        for _ in "12":  # a refusal leaves nothing that lets the next one through
            answer = desk.user.phaseline(*desk.words("w")[:-1], "planted")
            refused(answer, "not in this ledger", "PHASELINE_DATABASE_URL")
    assert desk.marks == ["a"]


TOPIC = "inputs: {topic: {type: string, default: bees}}\n"


def test_a_planted_run_of_what_acts_on_nothing_runs_what_the_catalog_says(local: Scene) -> None:
    """Its inputs are taken over, which is said; its plan, with a handler of somebody else, is not."""
    desk = local.desk
    (desk.catalog / "skills" / "shared" / "tool" / "config.yaml").write_text(PURE)
    desk.write("w", desk.step("b", text="about {{ topic }}"), also=TOPIC)
    assert desk.run("w").code == 0
    evil = evil_plan(local, local.evil_skill())(
        json.loads(local.attacker.files.read("default/runs/w/run.json"))
    )
    planted(local, "planted", plan=evil["plan"], inputs={"topic": {"value": "wasps"}})
    answer = desk.user.phaseline(*desk.words("w")[:-1], "planted", "--json")
    assert answer.code == 0, answer
    assert "not in this ledger" in answer.err and "inputs taken from there: topic" in answer.err
    assert desk.marks == ["about bees", "about wasps"] and not local.pwned()


UNFIT: tuple[dict[str, Any], ...] = (
    {"inputs": 7},
    {"inputs": {"topic": 7}},
    {"inputs": {"topic": {"ref": {"sha256": "../../../etc/passwd"}}}},
    {"offline": False},
    {"workflow": "another"},
)


def test_a_planted_run_that_fits_nothing_is_refused(local: Scene) -> None:
    """Also one that would have an offline command ask a real model."""
    desk = local.desk
    (desk.catalog / "skills" / "shared" / "tool" / "config.yaml").write_text(PURE)
    desk.write("w", desk.step("b", text="about {{ topic }}"), also=TOPIC)
    assert desk.run("w").code == 0
    for n, changes in enumerate(UNFIT):
        planted(local, f"planted-{n}", **changes)
        refused(desk.user.phaseline(*desk.words("w")[:-1], f"planted-{n}"), "--run-id")
    assert desk.marks == ["about bees"]
