"""The home: the folder of what phaseline keeps on this machine, closed to everybody but its owner.

Ledger, bodies and the local server's password lie in it, so whoever may write there decides what runs, and
whoever may read there reads everything. Standard library only: every command comes by.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from workflows.core.errors import UsageError

FOLDER_MODE = 0o700
FILE_MODE = 0o600
_OTHERS = 0o077
_OTHERS_WRITE = 0o022
_MOST_LINKS = 40
_OURS = "ledger.db"
"""What lies in a home and hardly anywhere else."""
_HELD = ("server", "storage", "empty")
_HELD_BEGIN = ("empty-until-", "wake.")
"""What lies in a home besides, also one whose ledger is elsewhere, by name or by how its name begins."""


def make_home(home: Path) -> Path:
    """The home, made when it is missing, for its owner only whatever the umask.

    Raises UsageError when it cannot be made, or when what is there may not be trusted.
    """
    check_home(home)
    try:
        make_folder(home)
    except OSError as fault:
        raise UsageError(
            f"the folder {home} cannot be made: {fault.strerror}", "set PHASELINE_HOME to one you may write"
        ) from None
    check_home(home)  # again: somebody may have been quicker
    return home


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it that are missing, for their owner only whatever the umask.

    What is there already stays as it is. Raises OSError.
    """
    missing = [f for f in (folder, *folder.parents) if not os.path.lexists(f)]
    for one in reversed(missing):
        one.mkdir(FOLDER_MODE, exist_ok=True)
        one.chmod(FOLDER_MODE)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


def make_file(file: Path, mode: int = FILE_MODE) -> None:
    """Makes an empty file when it is missing, with that mode whatever the umask. Raises OSError."""
    try:
        made = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        return
    os.fchmod(made, mode)
    os.close(made)


def check_home(home: Path) -> bool:
    """Whether a home of ours was open for reading, and is closed now; False also when there is none.

    Raises UsageError for a home that others own or may write, or that a link of somebody else leads to:
    what is in it may be theirs. Whoever could only read it changed nothing. Raises it as well for a folder
    that is no home and open: that is not ours to close.
    """
    home = home.absolute()
    _refuse_planted(home)
    try:
        found = home.stat()
    except FileNotFoundError:
        return False
    except OSError as fault:
        raise _refuse_home(home, f"cannot be looked at ({fault.strerror})") from None
    if not stat.S_ISDIR(found.st_mode):
        raise _refuse_home(home, "is no folder")
    if found.st_uid != os.geteuid():
        raise _refuse_home(
            home, f"belongs to {_user_name(found.st_uid)}, and this is {_user_name(os.geteuid())}"
        )
    if found.st_mode & _OTHERS_WRITE:
        raise UsageError(
            f"the home {home} may be written by other users (mode {stat.S_IMODE(found.st_mode):04o})",
            f"see that all in it is yours, then close it: chmod 700 {home}; or set PHASELINE_HOME to another",
        )
    if not found.st_mode & _OTHERS:
        return False
    try:
        if _is_home(home):
            home.chmod(FOLDER_MODE)
            return True
    except OSError as fault:
        raise _refuse_home(home, f"cannot be closed to others ({fault.strerror})") from None
    raise UsageError(
        f"the folder {home} holds other things, and other users may read it",
        f"set PHASELINE_HOME to a folder of its own, such as {home / '.phaseline'}; or: chmod 700 {home}",
    )


def _is_home(folder: Path) -> bool:
    """Whether a folder is, or may become, a home and nothing else: nobody's project is closed by the way."""
    held = {entry.name for entry in folder.iterdir()}
    return _OURS in held or all(name in _HELD or name.startswith(_HELD_BEGIN) for name in held)


def _refuse_planted(home: Path) -> None:
    """Refuses a link on the way that neither we nor the system's administrator made."""
    ahead, seen = list(home.parts[1:]), 0
    place = home.anchor
    while ahead:
        name = ahead.pop(0)
        path = os.path.join(place, name)  # noqa: PTH118 - a Path would drop what `..` means behind a link
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as fault:
            raise _refuse_home(home, f"cannot be looked at ({fault.strerror})") from None
        if not stat.S_ISLNK(found.st_mode):
            place = os.path.realpath(path) if name == ".." else path
            continue
        seen += 1
        if found.st_uid not in (0, os.geteuid()) or seen > _MOST_LINKS:
            raise _refuse_home(home, f"is reached through the link {path} of {_user_name(found.st_uid)}")
        target = Path(os.readlink(path))  # noqa: PTH115 - of a text
        place = target.anchor or place
        ahead = [*target.parts[1 if target.anchor else 0 :], *ahead]


def _refuse_home(home: Path, why: str) -> UsageError:
    return UsageError(
        f"the home {home} {why}",
        "set PHASELINE_HOME (or --home) to a folder of your own, or run this as the user it belongs to",
    )


def _user_name(number: int) -> str:
    import pwd  # here: absent where nobody has a number

    try:
        return f"{pwd.getpwuid(number).pw_name} (user {number})"
    except KeyError:
        return f"user {number}"
