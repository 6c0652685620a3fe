"""`make bench`: a table of figures, ratios within one run. Nothing here passes or fails.

Works on a temporary home with its own Prefect server, which is ended at the end. Beside some figures stands
what they should be. `--json FILE` keeps the figures. "Computed" is the processor time of the process itself,
which other programs of the machine disturb less than its time on the wall.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.resuming import resuming
from tests.support.command import clean_environment
from tests.support.messages_api import messages_api_process

ROOT = Path(__file__).parents[2]
WIDTHS = (50, 300)
LATENCIES = (0, 1)
BARS = {
    "  more per turn": "5 ms",
    "  more per step": "10 ms",
    "  slower than the hand-written one": "5 %",
    "resume after SIGKILL": "6 s",
    "  tokens paid again": "0",
    "  requests asked twice": "1",
}
"""At most, by how the name of a figure begins."""


def main() -> None:
    """Measures, prints, and writes JSON when asked."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--json", type=Path, help="keep the figures there")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="phaseline-bench-") as folder:
        figures = measure(Path(folder), args.rounds)
    print(f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores")
    for name, value in figures.items():
        most = next((bar for start, bar in BARS.items() if name.startswith(start)), "")
        print(f"  {name:<66} {value:<8} {f'at most {most}' if most else ''}".rstrip())
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2))


def measure(folder: Path, rounds: int) -> dict[str, str]:
    """All figures by name, medians of `rounds`."""
    figures = compiling(folder, rounds)
    figures |= checking(folder, rounds)
    figures |= ledger_operations(folder, rounds)
    environment = clean_environment(folder / "home", {"PHASELINE_HOME": str(folder / "home")})
    command(environment, "up")
    try:
        figures |= running(environment, folder, rounds)
        figures |= resuming(environment, folder, min(rounds, 3))
        pointed = {**environment, **exports(environment)}
        figures |= turning(pointed, folder, rounds)
        for latency in LATENCIES:
            for width in WIDTHS:
                # A round of the wide one takes 20 s, most of it the server's.
                few = rounds if width == WIDTHS[0] else min(rounds, 3)
                figures |= flows_side_by_side(pointed, folder, few, width, latency)
    finally:
        command(environment, "down")
    return figures


def command(environment: dict[str, str], *words: str) -> str:
    """Runs `phaseline WORDS`; its standard output."""
    done = subprocess.run(
        [sys.executable, "-m", "deployments.cli", *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"phaseline {' '.join(words)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def median(rounds: int, work: Callable[[], object]) -> float:
    """Median wall seconds of `rounds` calls."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def layered(steps: int, width: int = 10) -> str:
    """A workflow of `steps` steps in layers, three dependencies each."""
    lines = ["workflow: layered", "steps:"]
    for n in range(steps):
        layer = n // width
        lines += [f"  - id: s{n}", "    agent: ann", f"    prompt: Write part {n}."]
        if layer:
            before = [f"s{(layer - 1) * width + (n + k) % width}" for k in range(3)]
            lines.append(f"    depends_on: [{', '.join(before)}]")
    return "\n".join(lines) + "\n"


def compiling(folder: Path, rounds: int) -> dict[str, str]:
    """Reading and compiling a workflow of 100 and of 1,000 steps."""
    from tests.support.catalogs import compiled, make_catalog

    out = {}
    for steps in (100, 1000):
        root = make_catalog(folder / f"catalog-{steps}", w=layered(steps).replace("layered", "w", 1))
        seconds = median(rounds, lambda root=root: compiled(root))
        out[f"read and compile {steps:,} steps"] = f"{seconds * 1000:.0f} ms"
    return out


def checking(folder: Path, rounds: int) -> dict[str, str]:
    """`phaseline check` on the default catalog as a process, beside importing its three libraries."""
    environment = clean_environment(folder / "home", {})

    def imports() -> None:
        subprocess.run([sys.executable, "-c", "import pydantic, yaml, jinja2"], env=environment, check=True)

    checked = median(rounds, lambda: command(environment, "check"))
    bare = median(rounds, imports)
    return {
        "phaseline check, default catalog, whole process": f"{checked:.2f} s",
        "  over `import pydantic, yaml, jinja2`": f"{checked / bare:.2f}",
    }


def running(environment: dict[str, str], folder: Path, rounds: int) -> dict[str, str]:
    """The delivery offline, its reuse, and the first model request of a command."""
    whole = median(rounds, lambda: command(environment, "run", "end-to-end-delivery", "--offline"))
    words = ("run", "end-to-end-delivery", "--offline", "--json", "--run-id", "bench")
    inside = float(json.loads(command(environment, *words))["seconds"])
    again = float(json.loads(command(environment, *words))["seconds"])
    return {
        "end-to-end delivery offline, whole command, warm server": f"{whole:.2f} s",
        "  in the run itself": f"{inside:.2f} s",
        "  in the run itself, everything reused": f"{again:.2f} s",
        "first model request after the command starts": f"{first_request(environment, folder):.2f} s",
    }


def first_request(environment: dict[str, str], folder: Path) -> float:
    """Seconds from the start of the process to the first request at the model stand-in."""
    import urllib.request

    with messages_api_process(folder=folder) as base_url:
        asking = {**environment, "ANTHROPIC_BASE_URL": base_url, "ANTHROPIC_API_KEY": "bench"}
        started = time.time()
        process = subprocess.Popen(
            [sys.executable, "-m", "deployments.cli", "run", "end-to-end-delivery"],
            cwd=ROOT,
            env=asking,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while process.poll() is None:
                with urllib.request.urlopen(f"{base_url}/_requests") as answer:
                    if json.load(answer).get("count"):
                        return time.time() - started
                time.sleep(0.01)
        finally:
            process.kill()
            process.wait()
    raise SystemExit("the command ended without asking a model")


def exports(environment: dict[str, str]) -> dict[str, str]:
    """What `phaseline env` exports: it points this process' children at the server."""
    lines = [line.removeprefix("export ") for line in command(environment, "env").splitlines()]
    shown = dict(line.split("=", 1) for line in lines)
    # As the command does it: lines are kept by the server, and not shown.
    quiet = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL"}
    return {**{name: value.strip("'\"") for name, value in shown.items()}, **quiet}


def measured(environment: dict[str, str], module: str, *words: object) -> Any:
    """What a module beside this one prints, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.benchmarks.{module}", *map(str, words)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def ledger_operations(folder: Path, rounds: int) -> dict[str, str]:
    """One journal record of 8 KB, one effect from its intention to its outcome, one step row; on SQLite."""
    found = measured(clean_environment(folder / "home", {}), "ledger_operations", folder / "ledger", rounds)
    shown = {"keep": "journal record", "effect": "effect (intend, sending, settle)", "step": "step row"}
    return {
        f"ledger, {name}, {where}": f"{found[key][how]:.2f} ms"
        for key, name in shown.items()
        for how, where in (("in turn", "one after the other"), ("at once", "by 300 coroutines"))
    }


def turning(environment: dict[str, str], folder: Path, rounds: int) -> dict[str, str]:
    """A turn of an agent step with a call that only reads, beside the bare request over the SDK."""
    found = measured(environment, "turns", folder / "turns", rounds)
    ours, bare = found["phaseline"], found["bare"]
    return {
        "turn with one tool call, zero latency": f"{ours['wall'] * 1000:.1f} ms",
        "the same request, bare SDK": f"{bare['wall'] * 1000:.1f} ms",
        "  more per turn": f"{(ours['wall'] - bare['wall']) * 1000:.1f} ms",
        "  of it computed per turn": f"{(ours['computed'] - bare['computed']) * 1000:.1f} ms",
    }


def flows_side_by_side(
    environment: dict[str, str], folder: Path, rounds: int, width: int, latency: int
) -> dict[str, str]:
    """1-`width`-1: phaseline beside a hand-written Prefect flow with persisted results."""
    graph = f"1-{width}-1, {latency} s" if latency else f"1-{width}-1, zero latency"
    place = folder / f"side-{width}-{latency}"
    found = measured(environment, "side_by_side", place, width, rounds, latency)
    ours, plain = found["phaseline"], found["prefect"]
    more = {how: (ours[how] - plain[how]) / (width + 2) * 1000 for how in ours}
    bar = (
        {f"  slower than the hand-written one, {graph}": f"{(ours['wall'] / plain['wall'] - 1) * 100:.1f} %"}
        if latency
        else {
            f"  ratio, {graph}": f"{ours['wall'] / plain['wall']:.2f}",
            f"  more per step, {graph}": f"{more['wall']:.1f} ms",
        }
    )
    return {
        f"{graph}, phaseline in-run": f"{ours['wall']:.2f} s",
        f"{graph}, hand-written persisted Prefect flow": f"{plain['wall']:.2f} s",
        **bar,
        f"  computed per step, more than by hand, {graph}": f"{more['computed']:.1f} ms",
    }


if __name__ == "__main__":
    main()
