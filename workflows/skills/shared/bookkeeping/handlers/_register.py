"""A register: a folder with one file per entry, which is written once and never changed."""

import json
import re
import tempfile
from pathlib import Path
from typing import Any

_NUMBER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")


def place(register: str, number: str, ending: str) -> Path | None:
    """The file of an entry; None without a register. Raises ValueError for a number that is no file name."""
    if not _NUMBER.fullmatch(number):
        raise ValueError(f"'{number}' is no number of an entry: use letters, digits, '.', '_' and '-'")
    if not register:
        return None
    folder = Path(register)
    if not folder.is_absolute():
        raise ValueError(f"the register '{register}' is no absolute path; a call runs in a folder of its own")
    return folder / f"{number}{ending}"


def read(file: Path) -> dict[str, Any] | None:
    """An entry as it was written, None when there is none."""
    try:
        kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return kept


def write_once(file: Path, facts: dict[str, Any]) -> bool:
    """Writes an entry whole or not at all; False when the same one stood there, ValueError for another."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=file.parent, suffix=".tmp", encoding="utf-8") as made:
        made.write(json.dumps(facts, ensure_ascii=False, indent=2, sort_keys=True) + "\n")
        made.flush()
        try:
            file.hardlink_to(made.name)  # the one step that either takes the name or finds it taken
        except FileExistsError:
            if read(file) != facts:
                raise ValueError(f"{file.name} is recorded already, with other facts") from None
            return False
    return True
