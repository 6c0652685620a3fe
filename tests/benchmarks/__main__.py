"""`make bench`: a table of figures, ratios within one run. Nothing here passes or fails.

Works on a temporary home with its own Prefect server, which is ended at the end. `--json FILE` keeps the
figures.
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

from tests.support.command import clean_environment
from tests.support.messages_api import messages_api_process

ROOT = Path(__file__).parents[2]
WIDE = 50


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
        print(f"  {name:<64} {value}")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2))


def measure(folder: Path, rounds: int) -> dict[str, str]:
    """All figures by name, medians of `rounds`."""
    figures = compiling(folder, rounds)
    figures |= checking(folder, rounds)
    environment = clean_environment(folder / "home", {"PHASELINE_HOME": str(folder / "home")})
    command(environment, "up")
    try:
        figures |= running(environment, folder, rounds)
        figures |= flows_side_by_side(environment, folder, rounds)
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


def flows_side_by_side(environment: dict[str, str], folder: Path, rounds: int) -> dict[str, str]:
    """1-50-1 with a free model: phaseline beside a hand-written Prefect flow with persisted results."""
    shell = command(environment, "env")
    pointed = dict(environment)
    for line in shell.splitlines():
        name, _, value = line.removeprefix("export ").partition("=")
        pointed[name] = value.strip("'\"")
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.side_by_side", str(folder / "side"), str(WIDE), str(rounds)],
        cwd=ROOT,
        env=pointed,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    figures = json.loads(done.stdout.splitlines()[-1])
    ours, plain = figures["phaseline"], figures["prefect"]
    return {
        f"1-{WIDE}-1, zero latency, phaseline in-run": f"{ours:.2f} s",
        f"1-{WIDE}-1, zero latency, hand-written persisted Prefect flow": f"{plain:.2f} s",
        "  ratio": f"{ours / plain:.2f}",
        "  more per step": f"{(ours - plain) / (WIDE + 2) * 1000:.1f} ms",
    }


if __name__ == "__main__":
    main()
