"""Takes an entry of a register back."""

from typing import Any

import _register


def void_entry(number: str, reason: str, register: str = "") -> dict[str, Any]:
    """Take a recorded entry back by an entry that voids it; the first one stays as it was written.

    Args:
        number: Number of the entry.
        reason: Why it is taken back, in one sentence.
        register: Absolute path of the folder that holds the entries; empty: nothing is written.
    """
    facts = {"number": number, "voided": True, "reason": reason.strip()}
    file = _register.place(register, number, ".json")
    if file is not None and _register.read(file) is None:
        return {**facts, "voided": False, "file": ""}
    void = _register.place(register, number, ".void.json")
    if void is not None:
        _register.write_once(void, facts)
    return {**facts, "file": str(void or "")}
