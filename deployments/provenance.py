"""Whether our packages are the ones Python would import. Standard library only; runs before anything else.

`workflows`, `tasks` and `flows` are words other people use too: another distribution may install one, and
a folder on the search path may hold one. Python takes the first it finds, and the fault would show up
much later as a missing attribute.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

PACKAGES = ("workflows", "blocks", "tasks", "flows", "deployments")

ROOT = Path(os.path.realpath(__file__)).parents[1]
"""Where this distribution's packages lie: a checkout, or site-packages."""


def ignore_working_folder() -> None:
    """Take the folder that `python -m` put in front of the search path out again, unless it is ours."""
    if sys.path and os.path.realpath(sys.path[0] or ".") != str(ROOT):
        del sys.path[0]


def intruder() -> tuple[str, str] | None:
    """Message and cure when another package stands where one of ours should; None when all is well."""
    for name in PACKAGES:
        found = _origin(name)
        if found != str(ROOT / name / "__init__.py"):
            place = found or "nowhere on the search path"
            return (
                f"the package '{name}' would be taken from {place}, not from phaseline ({ROOT})",
                "start phaseline from another folder, take that folder out of PYTHONPATH, "
                "or install phaseline into an environment of its own",
            )
    return None


def version() -> str:
    """This distribution's version; of a checkout the one its pyproject.toml names."""
    project = ROOT / "pyproject.toml"
    if project.is_file():
        import tomllib

        return str(tomllib.loads(project.read_text("utf-8"))["project"]["version"])
    import importlib.metadata  # 20 ms, so only where somebody asks

    return importlib.metadata.version("phaseline")


def installed() -> bool:
    """Whether this runs from an installed package, not from a checkout."""
    return not (ROOT / "pyproject.toml").is_file()


def _origin(name: str) -> str | None:
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    if spec.origin:
        return os.path.realpath(spec.origin)
    return next(iter(spec.submodule_search_locations or ()), None)
