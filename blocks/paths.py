"""Paths as people write them. Standard library only: every command reads some.

A command leaves the folder it was started in before it imports Prefect
(deployments/startup/working_folder.py). What people write stays relative to where they stood.
"""

from __future__ import annotations

import os
from pathlib import Path

from workflows.core.errors import UsageError

_left: list[Path] = []
"""The folder that people stand in, once this process has left it."""


def user_folder() -> Path:
    """The folder that relative paths of people start from. Raises UsageError when it is gone."""
    try:
        return _left[0] if _left else Path.cwd()
    except OSError as fault:
        raise UsageError(
            f"the working folder cannot be used: {fault.strerror}", "change into a folder that is there"
        ) from None


def leave_for(folder: Path) -> None:
    """Makes `folder` the working folder of this process. Relative paths of people keep their meaning."""
    if not _left:
        try:
            here = Path.cwd()
        except OSError:  # it is gone, and no relative path can mean anything
            here = Path("/")
        os.chdir(folder)
        _left.append(here)


def come_back() -> None:
    """Undoes `leave_for`, where several commands run in one process."""
    if _left:
        os.chdir(_left.pop())


def here(path: Path) -> Path:
    """The path as this process finds it: as it is, until people's folder was left."""
    return path if path.is_absolute() or not _left else user_folder() / path


def expand_home(written: str | Path, of: str) -> Path:
    """The path with a leading `~` or `~user` replaced. `of` says what was written, such as an option.

    Raises UsageError when there is no such user.
    """
    try:
        return here(Path(written).expanduser())
    except RuntimeError:
        user = Path(written).parts[0]
        raise UsageError(
            f"{of} is '{written}', and there is no home folder of '{user}'", "write the path in full"
        ) from None


def full_path(written: str | Path, of: str) -> Path:
    """The same in full, for what is used after people's folder was left."""
    path = expand_home(written, of)
    return path if path.is_absolute() else user_folder() / path
