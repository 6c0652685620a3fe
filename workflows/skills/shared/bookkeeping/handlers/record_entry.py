"""One entry of a register."""

import hashlib
import json
from typing import Any

import _register


def record_entry(
    number: str,
    kind: str,
    amount: float,
    currency: str,
    reason: str,
    decided_by: list[str],
    register: str = "",
) -> dict[str, Any]:
    """Record a decided payment once: the same number with the same facts again changes nothing.

    Args:
        number: Number of the entry; it identifies it, and is its file's name.
        kind: What is paid, such as refund.
        amount: How much, more than zero.
        currency: Three letters, such as CNY.
        reason: Why, in one sentence.
        decided_by: Names of those who decided.
        register: Absolute path of the folder that holds the entries; empty: only the entry is returned.
    """
    if amount <= 0:
        raise ValueError(f"an entry needs an amount above zero, not {amount}")
    if not decided_by:
        raise ValueError("nobody decided this: an entry names who did")
    facts = {
        "number": number,
        "kind": kind,
        "amount": round(amount, 2),
        "currency": currency.upper(),
        "reason": reason.strip(),
        "decided_by": sorted(set(decided_by)),
    }
    voided = _register.place(register, number, ".void.json")
    if voided is not None and _register.read(voided) is not None:
        raise ValueError(f"{number} was taken back; record it again under another number")
    file = _register.place(register, number, ".json")
    if file is not None:
        _register.write_once(file, facts)
    digest = hashlib.sha256(json.dumps(facts, ensure_ascii=False, sort_keys=True).encode()).hexdigest()
    # Whether it stood there before is not told: repeated after a crash, the call must give the same.
    return {**facts, "digest": digest, "file": str(file or "")}
