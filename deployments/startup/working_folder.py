"""The folder a command works in: people's own only until a library is imported that reads settings there.

Prefect reads `.env`, `prefect.toml` and `pyproject.toml` of the working folder, when it is imported and
whenever it looks at its settings again, and such a file can name code to run (`[logging] config_path`).
Other libraries do the like. So before the first of them is imported, this process moves to an empty folder
of its own home and stays there to its end, and with it all that it starts: a folder that somebody unpacked,
a catalog and a storage set nothing. This is held at the one door through which all of them come, the import
itself, so that no command can forget it.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator, MutableMapping, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType
from urllib.parse import quote

from blocks.home import make_home
from blocks.paths import leave_for, user_folder
from workflows.core.errors import UsageError

READERS = frozenset(
    {
        *("prefect", "pydantic_settings", "dotenv", "great_expectations"),
        *("anthropic", "mcp", "fsspec", "s3fs", "aiobotocore", "botocore", "boto3", "uvicorn"),
    }
)
"""Libraries that take settings from files, by the first part of their modules' names."""

EMPTY = "empty"
"""In the home: where commands work."""

PATHS = frozenset(
    {
        *("PHASELINE_HOME", "PHASELINE_CATALOG", "PHASELINE_STORAGE", "PHASELINE_DATABASE_URL"),
        *("PREFECT_HOME", "PREFECT_PROFILES_PATH", "PREFECT_LOGGING_SETTINGS_PATH"),
        *("PREFECT_LOGGING_CONFIG_PATH", "PREFECT_API_SSL_CERT_FILE", "PREFECT_LOCAL_STORAGE_PATH"),
        *("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "SSLKEYLOGFILE"),
        *("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL"),
        *(
            "PGPASSFILE",
            "PGSERVICEFILE",
            "PGSYSCONFDIR",
            "PGSSLROOTCERT",
            "PGSSLCERT",
            "PGSSLKEY",
            "PGSSLCRL",
        ),
        *("FSSPEC_CONFIG_DIR", "HOME", "TMPDIR", "NETRC"),
    }
)
"""Variables in which people write a path, which keeps its meaning when the folder is left."""

_WORDS = frozenset({"system"})
"""What stands for something else in their place: `PGSSLROOTCERT=system`."""

_PATH_IN_ADDRESS = re.compile(
    r"([?&](?:sslrootcert|sslcert|sslkey|sslcrl|sslcrldir|passfile|servicefile)=)([^&#]+)"
)
"""Files that the address of a PostgreSQL database names."""


class _Door(MetaPathFinder):
    """Finds nothing: it only makes sure that the folder is left before somebody else finds a reader."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> None:
        if name.partition(".")[0] in READERS:
            leave(self._home)


@contextlib.contextmanager
def guard_imports(home: Path) -> Iterator[None]:
    """Within it, importing a library that reads settings leaves people's folder first."""
    _fix_paths(os.environ)
    door = _Door(home)
    sys.meta_path.insert(0, door)
    try:
        yield
    finally:
        sys.meta_path.remove(door)


def leave(home: Path) -> None:
    """Moves this process to the empty folder of `home`, which is made if need be. Raises UsageError."""
    leave_for(_empty_folder(make_home(home)))


def _empty_folder(home: Path) -> Path:
    """An empty folder that nobody writes to. What somebody left in it all the same is put beside it."""
    folder = home / EMPTY
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(0o700)
        if folder.is_symlink() or any(folder.iterdir()):
            with contextlib.suppress(FileNotFoundError, FileExistsError):  # another command does it as well
                folder.rename(folder.with_name(f"{EMPTY}-until-{time.time_ns()}"))
                folder.mkdir(0o700)
        folder.chmod(0o500)
    except OSError as fault:
        raise UsageError(
            f"the folder {folder} cannot be used: {fault.strerror}", "set PHASELINE_HOME to one you may write"
        ) from None
    return folder


def _fix_paths(environ: MutableMapping[str, str]) -> None:
    """Writes the relative paths among the variables in full."""
    for name in PATHS & environ.keys():
        before, path = _split(environ[name])
        if "://" in path:
            environ[name] = _PATH_IN_ADDRESS.sub(_in_address, path)
        elif path and _is_relative(path):
            environ[name] = f"{before}{user_folder() / path}"


def _is_relative(path: str) -> bool:
    return (
        ":/" not in path
        and path not in _WORDS
        and not path.startswith(("/", "~", ":memory:", "file:", "%2F", "%2f"))
    )


def _in_address(found: re.Match[str]) -> str:
    return f"{found[1]}{quote(str(user_folder()))}/{found[2]}" if _is_relative(found[2]) else found[0]


def _split(written: str) -> tuple[str, str]:
    """The path in what was written, and what stands before it in the address of a SQLite file."""
    scheme, mark, path = written.partition(":///")
    return (scheme + mark, path) if mark and scheme.startswith("sqlite") else ("", written)
