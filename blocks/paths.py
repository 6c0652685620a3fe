"""Paths as people write them. Standard library only: every command reads some."""

from __future__ import annotations

from pathlib import Path

from workflows.core.errors import UsageError


def expanded(written: str | Path, of: str) -> Path:
    """The path with a leading `~` or `~user` replaced. `of` says what was written, such as an option.

    Raises UsageError when there is no such user.
    """
    try:
        return Path(written).expanduser()
    except RuntimeError:
        user = Path(written).parts[0]
        raise UsageError(
            f"{of} is '{written}', and there is no home folder of '{user}'", "write the path in full"
        ) from None
