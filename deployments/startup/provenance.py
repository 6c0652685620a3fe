"""Whether our packages are the ones Python would import. Standard library only; runs before anything else.

`workflows`, `tasks` and `flows` are words other people use too: another distribution may install one, and
a folder on the search path may hold one. Python takes the first it finds, and the fault would show up
much later as a missing attribute. Installed into one environment, such a package is written over ours: then
the files are not those that our distribution recorded: that is looked at as each of them is imported.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

PACKAGES = ("workflows", "blocks", "tasks", "flows", "deployments")
_OURS = tuple(f"{name}/" for name in PACKAGES)
_FIRST = tuple(f"{name}/__init__.py" for name in PACKAGES)
"""What another package of one of these names has as well, whether or not this command imports it."""
RUN_BY_PATH = (
    *("tasks/process_keeper.py", "tasks/handlers/child.py", "deployments/server/process.py"),
    "blocks/ledger/migrations/",
)
"""How the paths of our code begin that no import finds: programs, and what Alembic loads."""

ROOT = Path(os.path.realpath(__file__)).parents[2]
"""Where this distribution's packages lie: a checkout, or site-packages."""


class Intruder(Exception):
    """Another package stands where one of ours should; message and cure are its arguments."""


def refuse_intruders() -> None:
    """Raises Intruder, now or as a module of ours is imported, where another package stands in its place."""
    for name in PACKAGES:
        found = _origin(name)
        if found != str(ROOT / name / "__init__.py"):
            place = found or "nowhere on the search path"
            raise Intruder(
                f"the package '{name}' would be taken from {place}, not from phaseline ({ROOT})",
                "start phaseline from another folder, take that folder out of PYTHONPATH, "
                "or install phaseline into an environment of its own",
            )
    recorded = {path: (digest, size) for path, digest, size in _read_records()}
    if recorded and not any(isinstance(finder, _Recorded) for finder in sys.meta_path):
        checked = _Recorded(recorded)
        checked.look_at_sizes()
        checked.look_at_others()
        sys.meta_path.insert(0, checked)


class _Recorded(MetaPathFinder):
    """Finds our modules, and sees that they are what our distribution recorded.

    All of them would take ten milliseconds a command; those that a command imports take one or two. Their
    sizes are looked at when it starts, so that most replacements are told before anything else. A checkout
    (installed with `pip install -e`) records none of its files: of it only the place can be told.
    """

    def __init__(self, recorded: dict[str, tuple[str, str]]) -> None:
        self._recorded = recorded

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: object = None
    ) -> ModuleSpec | None:
        if not (file := self._file(name)):
            return None
        spec = PathFinder.find_spec(name, path)
        self._look_at(file, spec.origin if spec is not None else None)
        return spec

    def look_at_sizes(self) -> None:
        """Raises Intruder for a file of another size."""
        for path, (_, size) in self._recorded.items():
            file = f"{ROOT}{os.sep}{path}"
            try:
                if size and os.stat(file).st_size != int(size):  # noqa: PTH116 - a Path costs more than this
                    raise _overwritten(file)
            except OSError:
                raise _overwritten(file) from None

    def look_at_others(self) -> None:
        """Raises Intruder for what was imported before this looks, and for what no import will find."""
        for module in tuple(sys.modules.values()):
            spec = getattr(module, "__spec__", None)
            if spec is not None and (file := self._file(spec.name)):
                self._look_at(file, spec.origin)
        for file in self._recorded:
            if file.startswith(RUN_BY_PATH) or file in _FIRST:
                self._look_at(file, f"{ROOT}{os.sep}{file}")

    def _file(self, name: str) -> str:
        """The file that our distribution recorded of a module; "" when it has none of that name."""
        if name.partition(".")[0] not in PACKAGES:
            return ""
        start = name.replace(".", "/")
        return next((path for path in (f"{start}.py", f"{start}/__init__.py") if path in self._recorded), "")

    def _look_at(self, file: str, origin: str | None) -> None:
        recorded, _ = self._recorded[file]
        place, ours = origin or "", f"{ROOT}{os.sep}{file}"
        try:
            same = (place == ours or os.path.realpath(place) == ours) and _digest(ours) == recorded
        except OSError:
            same = False
        if not same:
            raise _overwritten(place or ours)


def _overwritten(file: str) -> Intruder:
    return Intruder(
        f"{file} is not the file that phaseline installed: another package was installed over it",
        "install phaseline into an environment of its own; or, if you changed that file yourself, again",
    )


def version() -> str:
    """This distribution's version; of a checkout the one its pyproject.toml names."""
    project = ROOT / "pyproject.toml"
    if project.is_file():
        import tomllib

        return str(tomllib.loads(project.read_text("utf-8"))["project"]["version"])
    import importlib.metadata  # 20 ms, so only where somebody asks

    return importlib.metadata.version("phaseline")


def is_installed() -> bool:
    """Whether this runs from an installed package, not from a checkout."""
    return not (ROOT / "pyproject.toml").is_file()


def _origin(name: str) -> str | None:
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    if spec.origin:
        return os.path.realpath(spec.origin)
    return next(iter(spec.submodule_search_locations or ()), None)


def _read_records() -> Iterator[tuple[str, str, str]]:
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
    import binascii
    import hashlib

    with open(file, "rb", 0) as body:  # noqa: PTH123 - a Path costs as much as the rest
        digest = hashlib.sha256(body.read()).digest()
    written = binascii.b2a_base64(digest, newline=False).rstrip(b"=").translate(_URL_SAFE)
    return f"sha256={written.decode('ascii')}"


_URL_SAFE = bytes.maketrans(b"+/", b"-_")
