"""The command that continues a run, in words that can be copied to a shell."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blocks.paths import expanded

LABEL = "started_with"
"""Label of a run in the ledger: the words it was started with, without its id and its inputs."""


def words_of(args: argparse.Namespace) -> list[str]:
    """The words of a `run` command that hold for continuing it too, independent of the working folder.

    Its inputs are left out: the run has them.
    """
    words = ["phaseline", *args.places, "run"]
    if args.text is not None:
        words += ["--text", args.text]
    else:
        words.append(_workflow(args.workflow))
    if args.storage:
        written = args.storage
        words += [
            "--storage",
            written if "://" in written else str(expanded(written, "--storage").absolute()),
        ]
    if args.latest != "table":
        words += ["--latest", args.latest]
    if args.offline:
        words.append("--offline")
    return words


def _workflow(named: str) -> str:
    """A name as it is; a path made absolute."""
    path = Path(named)
    return str(path.absolute()) if path.suffix in (".yaml", ".yml") and path.is_file() else named


def continuing(words: Sequence[str], run_id: str) -> str:
    """The command line that continues a run, quoted for a shell."""
    return shlex.join([*words, "--run-id", run_id])


def continuing_of(labels: Mapping[str, Any], workflow: str, run_id: str) -> str:
    """The same for a run of the ledger; one that another program started is continued by its workflow."""
    words = labels.get(LABEL)
    known = isinstance(words, list) and all(isinstance(w, str) for w in words)
    return continuing(words if known else ["phaseline", "run", workflow], run_id)  # type: ignore[arg-type]
