"""Whether our packages are the ones Python would import. Standard library only; runs before anything else.

`workflows`, `tasks` and `flows` are words other people use too: another distribution may install one, and
a folder on the search path may hold one. Python takes the first it finds, and the fault would show up
much later as a missing attribute. Installed into one environment, such a package is written over ours: then
the files are not those that our distribution recorded.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("workflows", "blocks", "tasks", "flows", "deployments")
_OURS = tuple(f"{name}/" for name in PACKAGES)

ROOT = Path(os.path.realpath(__file__)).parents[1]
"""Where this distribution's packages lie: a checkout, or site-packages."""


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
    if file := _overwritten():
        return (
            f"{file} is not the file that phaseline installed: another package was installed over it",
            "install phaseline into an environment of its own; or, if you changed that file yourself, again",
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


def _overwritten() -> str | None:
    """The first of our files that is not as our distribution recorded it; None when all are.

    Looked at are the size of each and the content of every package's own `__init__.py`, which another package
    of that name has too: a millisecond or two, where reading all of them takes twenty. A checkout (installed
    with `pip install -e`) records none of its files: of it only the place can be told.
    """
    for path, recorded, size in _recorded():
        file = f"{ROOT}{os.sep}{path}"
        try:
            if size and os.stat(file).st_size != int(size):  # noqa: PTH116 - a Path costs more than this
                return file
            if path.endswith("/__init__.py") and path.count("/") == 1 and _digest(file) != recorded:
                return file
        except OSError:
            return file
    return None


def _recorded() -> Iterator[tuple[str, str, str]]:
    """Path, digest and size of each file of our packages, as the installer wrote them down."""
    with os.scandir(ROOT) as entries:
        names = [e.name for e in entries if e.name.startswith("phaseline-") and e.name.endswith(".dist-info")]
    for name in names:
        try:
            lines = (ROOT / name / "RECORD").read_text("utf-8").splitlines()
        except OSError:  # some systems' own packages leave it out
            continue
        for line in lines:
            if line.startswith(_OURS) and len(parts := line.split(",")) == 3 and parts[0].endswith(".py"):
                yield parts[0], parts[1], parts[2]


def _digest(file: str) -> str:
    import base64
    import hashlib

    written = base64.urlsafe_b64encode(hashlib.sha256(Path(file).read_bytes()).digest()).decode("ascii")
    return f"sha256={written.rstrip('=')}"
