"""Handlers in their own processes: what comes back, what is killed, what is refused, what is cleaned up."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.handlers.faults import HandlerCrashed, HandlerError, HandlerFault, HandlerOutput, HandlerTimeout
from tasks.handlers.process import run_handler
from tasks.values import DocumentFile
from tests.support.code import code_of
from workflows.core.errors import PhaselineError

LONG = 60.0
"""Seconds no test reaches: the process ends by itself or by another limit."""


def call(folder: Path, body: str, timeout: float = LONG, documents: Any = None, **more: Any) -> Any:
    """Write `body` as the handler `work`, call it, and see that its scratch folder is gone."""
    file = folder / "work.py"
    file.write_text(textwrap.dedent(body), encoding="utf-8")
    memory, output_limit = more.pop("memory", None), more.pop("output_limit", 8 * 2**20)
    root = folder / "scratch"
    root.mkdir(exist_ok=True)
    try:
        return asyncio.run(
            run_handler(
                code=code_of(file),
                function="work",
                arguments=more,
                documents=documents or {},
                timeout=timeout,
                memory=memory,
                output_limit=output_limit,
                scratch_root=root,
            )
        )
    finally:
        assert list(root.iterdir()) == []


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until(true: Callable[[], bool]) -> None:
    """Wait for what another process does."""
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def gone(pid: int) -> None:
    """Wait until a killed process has left; the kernel needs a moment."""
    await until(lambda: not alive(pid))


def test_arguments_and_results_are_json(tmp_path: Path) -> None:
    body = (
        "def work(a, b=2):\n    return {'sum': a + b, 'text': '中文', 'none': None, 'list': (1, 2.5, True)}"
    )
    assert call(tmp_path, body, a=1) == {"sum": 3, "text": "中文", "none": None, "list": [1, 2.5, True]}


def test_async_handlers_and_neighbours(tmp_path: Path) -> None:
    (tmp_path / "_near.py").write_text("VALUE = 7\n")
    body = """
        import asyncio
        from _near import VALUE
        async def work():
            await asyncio.sleep(0)
            return VALUE
    """
    assert call(tmp_path, body) == 7
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_handler_may_be_named_like_a_module_and_use_dataclasses(tmp_path: Path) -> None:
    file = tmp_path / "statistics.py"
    file.write_text(
        "from __future__ import annotations\nimport dataclasses, json\n"
        "@dataclasses.dataclass\nclass D:\n    x: int\n"
        "def statistics(): return json.loads(json.dumps(dataclasses.asdict(D(1))))\n"
    )
    run = run_handler(code=code_of(file), function="statistics", arguments={}, documents={}, timeout=LONG)
    assert asyncio.run(run) == {"x": 1}


def test_documents_are_read_only_files_with_a_suffix(tmp_path: Path) -> None:
    body = """
        import os, stat
        def work(table, many):
            return {
                "name": table.name, "text": table.read_text(), "mode": stat.S_IMODE(table.stat().st_mode),
                "many": [p.name for p in many], "inside": str(table).startswith(os.path.dirname(os.getcwd())),
            }
    """
    documents = {
        "table": DocumentFile("指标/../x", b"a,b\n", "text/csv; charset=utf-8"),
        "many": [
            DocumentFile("a.md", b"#"),
            DocumentFile("a.md", b"#"),
            DocumentFile("..", b"{}", "application/json"),
        ],
    }
    assert call(tmp_path, body, documents=documents) == {
        "name": "指标_.._x.csv",
        "text": "a,b\n",
        "mode": 0o444,
        "many": ["a.md", "a.md", "document.json"],
        "inside": True,
    }


def test_the_environment_holds_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    body = """
        import os, sys
        def work():
            fds = [int(n) for n in os.listdir("/proc/self/fd")]
            return {"env": dict(os.environ), "cwd": os.getcwd(), "group": os.getpgid(0) == os.getpid(),
                    "inheritable": [f for f in fds if f > 2 and os.path.exists(f"/proc/self/fd/{f}")
                                    and os.get_inheritable(f)], "stdin": sys.stdin.read()}
    """
    made = call(tmp_path, body)
    given = {"PATH", "HOME", "TMPDIR", "LANG", "OPENBLAS_NUM_THREADS", "LC_CTYPE", "PHASELINE_WITHIN_RUN"}
    assert set(made["env"]) <= given
    assert made["env"]["HOME"] == made["env"]["TMPDIR"] == made["cwd"]
    assert made["group"] is True
    assert made["inheritable"] == []
    assert made["stdin"] == ""


def test_installed_packages_can_be_imported(tmp_path: Path) -> None:
    assert call(tmp_path, "def work():\n    import regex\n    return bool(regex.match('a', 'a'))") is True


def test_an_error_comes_with_the_skills_own_frames(tmp_path: Path) -> None:
    body = """
        import json
        def work(text):
            return inner(text)
        def inner(text):
            return json.loads(text)
    """
    with pytest.raises(HandlerError) as caught:
        call(tmp_path, body, text="{")
    assert caught.value.type == "JSONDecodeError"
    assert [f.split(":")[0] for f in caught.value.frames] == ["work.py", "work.py"]
    assert "in inner: return json.loads(text)" in caught.value.frames[-1]
    assert "json/decoder" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "type_"),
    [
        ("import no_such_module\ndef work(): ...", "ModuleNotFoundError"),
        ("def work(: ...", "SyntaxError"),
        ("def other(): ...", "AttributeError"),
        ("def work(needed): ...", "TypeError"),
        ("def work():\n    raise BaseException('odd')", "BaseException"),
        ("class E(Exception):\n    def __str__(self): raise ValueError\ndef work(): raise E", "E"),
        ("def work():\n    return [0] * 10**12", "MemoryError"),
        ("def work(): return work()", "RecursionError"),
        ("def work():\n    open('big', 'wb').write(b'x' * (300 * 2**20))", "OSError"),
    ],
)
def test_whatever_a_handler_raises_is_an_error_with_a_cure(tmp_path: Path, body: str, type_: str) -> None:
    with pytest.raises(HandlerError) as caught:
        call(tmp_path, body)
    assert caught.value.type == type_
    assert caught.value.cure
    assert isinstance(caught.value, PhaselineError)


@pytest.mark.parametrize(
    ("body", "nothing"),
    [
        ("class No(ValueError):\n    nothing_done = True\ndef work(): raise No('closed')", True),
        ("def work():\n    no = ValueError('closed')\n    no.nothing_done = True\n    raise no", True),
        ("import no_such_module\ndef work(): ...", True),
        ("def other(): ...", True),
        ("def work(): raise ValueError('closed')", False),
        ("class No(ValueError):\n    nothing_done = 'perhaps'\ndef work(): raise No('closed')", False),
        ("def work():\n    import no_such_module", False),
    ],
)
def test_a_handler_says_that_it_did_nothing(tmp_path: Path, body: str, nothing: bool) -> None:
    with pytest.raises(HandlerError) as caught:
        call(tmp_path, body)
    assert caught.value.before_sending is nothing


def test_memory_is_limited_on_top_of_the_interpreter(tmp_path: Path) -> None:
    body = "def work(size):\n    return len(bytearray(size))"
    assert call(tmp_path, body, memory=200 * 2**20, size=100 * 2**20) == 100 * 2**20
    with pytest.raises(HandlerError, match="MemoryError") as caught:
        call(tmp_path, body, memory=200 * 2**20, size=400 * 2**20)
    assert "memory" in caught.value.cure


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        ("import os\ndef work(): os._exit(3)", 3, "exit status 3"),
        ("import sys\ndef work(): sys.exit(3)", 3, "exit status 3"),
        ("import os\ndef work(): os._exit(0)", 0, "exit status 0"),
        ("import os, signal\ndef work(): os.kill(os.getpid(), signal.SIGSEGV)", -signal.SIGSEGV, "SIGSEGV"),
        ("import os\ndef work():\n    os.closerange(3, 64)\n    os._exit(4)", None, "without a result"),
        ("def work(): raise KeyboardInterrupt", None, "without a result"),
        (
            "import os, time\ndef work():\n    if os.fork() == 0: time.sleep(600)\n    os._exit(5)",
            5,
            "exit status 5",
        ),
    ],
)
def test_a_process_that_ends_is_a_crash(tmp_path: Path, body: str, status: int | None, part: str) -> None:
    with pytest.raises(HandlerCrashed, match=part) as caught:
        call(tmp_path, body)
    assert status is None or caught.value.status == status


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ("def work(): return {1, 2}", "set is not JSON"),
        ("def work(): return float('nan')", "not JSON"),
        ("def work(): return object", "not JSON"),
        ("def work():\n    a = []\n    a.append(a)\n    return a", "Circular"),
        ("def work(): return 'x' * (9 * 2**20)", "9,437,186 bytes"),
    ],
)
def test_a_result_must_be_json_and_fit(tmp_path: Path, body: str, part: str) -> None:
    with pytest.raises(HandlerOutput, match=part) as caught:
        call(tmp_path, body)
    assert caught.value.cure


@pytest.mark.parametrize(
    "answer",
    [
        "b'garbage!' * 9",
        "bytes(8)",
        "(3).to_bytes(8, 'big') + b'{x}'",
        "(2).to_bytes(8, 'big') + b'[]'",
        "(11).to_bytes(8, 'big') + b'{\"ok\": NaN}'",
        "(200000).to_bytes(8, 'big') + b'[' * 200000",
        "(12).to_bytes(8, 'big') + b'{\"error\": 1}'",
    ],
)
def test_an_answer_forged_by_the_handler_is_untrusted(tmp_path: Path, answer: str) -> None:
    body = f"import os, sys\ndef work():\n    os.write(int(sys.argv[1]), {answer})\n    os._exit(0)"
    with pytest.raises(HandlerOutput):
        call(tmp_path, body)


def test_a_full_size_result_arrives_whole(tmp_path: Path) -> None:
    assert len(call(tmp_path, "def work(): return 'x' * (7 * 2**20)")) == 7 * 2**20
    with pytest.raises(HandlerOutput, match="the most"):
        call(tmp_path, "def work(): return 'x' * 100", output_limit=100)


def test_printing_is_kept_apart_from_the_result(tmp_path: Path) -> None:
    body = """
        import sys
        def work():
            print('{"ok": 1}')
            print('x' * 10**6, file=sys.stderr)
            return 2
    """
    assert call(tmp_path, body) == 2
    with pytest.raises(HandlerError) as caught:
        call(tmp_path, "def work():\n    print('seen before')\n    raise ValueError('bad')")
    assert caught.value.printed.startswith("seen before")


def test_printing_a_gigabyte_is_stopped(tmp_path: Path) -> None:
    body = "def work():\n    for _ in range(1024): print('x' * 2**20)\n    return 1"
    with pytest.raises(HandlerOutput, match="printed more than 16 MiB") as caught:
        call(tmp_path, body)
    assert len(caught.value.printed) == 65_536


def test_an_endless_loop_times_out(tmp_path: Path) -> None:
    with pytest.raises(HandlerTimeout, match=r"longer than 1.5 s"):
        call(tmp_path, "def work():\n    while True: pass", timeout=1.5)


@pytest.mark.parametrize("own_session", [False, True])
def test_what_a_handler_started_dies_with_it(tmp_path: Path, own_session: bool) -> None:
    pids = tmp_path / "pids"
    body = f"""
        import os, subprocess, time
        def work(wait):
            other = subprocess.Popen(["sleep", "600"], start_new_session={own_session})
            child = os.fork()
            if child == 0:
                {own_session} and os.setsid()
                time.sleep(600)
            open({str(pids)!r}, "w").write(f"{{other.pid}} {{child}} {{os.getpid()}}")
            time.sleep(600 if wait else 0)
            return "done"
    """
    assert call(tmp_path, body, wait=False) == "done"
    found = [int(pid) for pid in pids.read_text().split()]
    with pytest.raises(HandlerTimeout):
        call(tmp_path, body, wait=True, timeout=3)
    for pid in found + [int(pid) for pid in pids.read_text().split()]:
        asyncio.run(gone(pid))


def test_a_cancelled_call_leaves_nothing(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    root = tmp_path / "scratch"
    root.mkdir()
    file = tmp_path / "work.py"
    file.write_text(
        f"import os, time\ndef work():\n    open({str(pid_file)!r} + '.new', 'w').write(str(os.getpid()))\n"
        f"    os.rename({str(pid_file)!r} + '.new', {str(pid_file)!r})\n    time.sleep(600)\n"
    )

    async def scenario() -> None:
        run = run_handler(
            code=code_of(file), function="work", arguments={}, documents={}, timeout=LONG, scratch_root=root
        )
        task = asyncio.create_task(run)
        await until(pid_file.exists)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await gone(int(pid_file.read_text()))

    asyncio.run(scenario())
    assert list(root.iterdir()) == []


def test_the_handler_dies_with_the_process_that_called_it(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    (tmp_path / "work.py").write_text(
        "import os, subprocess, time\ndef work():\n"
        "    other = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        f"    open({str(pid_file)!r} + '.new', 'w').write(f'{{os.getpid()}} {{other.pid}}')\n"
        f"    os.rename({str(pid_file)!r} + '.new', {str(pid_file)!r})\n    time.sleep(600)\n"
    )
    code = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom tasks.handlers.process import run_handler\n"
        "from tests.support.code import code_of\n"
        "call = dict(function='work', arguments={}, documents={}, timeout=600)\n"
        "asyncio.run(run_handler(code=code_of(Path(sys.argv[1])), **call))"
    )

    async def scenario() -> None:
        root = Path(__file__).parents[2]
        caller = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            code,
            str(tmp_path / "work.py"),
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root), "TMPDIR": str(tmp_path)},
        )
        try:
            await until(pid_file.exists)
        finally:
            caller.kill()
            await caller.wait()
        for pid in pid_file.read_text().split():
            await gone(int(pid))

    asyncio.run(scenario())


def test_a_scratch_folder_with_changed_rights_is_removed(tmp_path: Path) -> None:
    body = """
        import os
        def work():
            os.makedirs("a/b/c")
            open("a/b/c/file", "w").write("x")
            os.symlink("/etc", "a/link")
            os.chmod("a/b/c", 0)
            os.chmod("a/b", 0)
            os.chmod("a", 0)
            return 1
    """
    assert call(tmp_path, body) == 1
    assert Path("/etc/hostname").exists()


def test_a_handler_that_deletes_its_scratch_still_answers(tmp_path: Path) -> None:
    body = """
        import os, shutil
        def work():
            shutil.rmtree(os.path.dirname(os.getcwd()))
            return 1
    """
    assert call(tmp_path, body) == 1


def test_many_calls_at_once_do_not_mix_and_leak_nothing(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text("def work(n):\n    print(n)\n    return n * n\n")

    async def scenario() -> list[Any]:
        run = [
            run_handler(
                code=code_of(tmp_path / "work.py"),
                function="work",
                arguments={"n": n},
                documents={},
                timeout=LONG,
            )
            for n in range(12)
        ]
        return await asyncio.gather(*run)

    asyncio.run(scenario())
    before = len(os.listdir("/proc/self/fd"))
    assert asyncio.run(scenario()) == [n * n for n in range(12)]
    assert len(os.listdir("/proc/self/fd")) == before


def test_faults_read_well(tmp_path: Path) -> None:
    with pytest.raises(HandlerFault) as caught:
        call(tmp_path, "def work(): raise ValueError('no rows')")
    assert str(caught.value).splitlines() == [
        "work raised ValueError: no rows (work.py:1 in work: def work(): raise ValueError('no rows'))",
        "  cure: call it with other arguments, or mend the handler",
    ]
    assert json.dumps(caught.value.frames)
