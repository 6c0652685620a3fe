"""What a step raises when it cannot go on before a person, or an outside system, has answered."""

from __future__ import annotations

from collections.abc import Sequence

from workflows.core.errors import PhaselineError


class Waiting(PhaselineError):
    """The step waits; it has not failed, and nothing of it is lost. `wait_ids` are the open waits."""

    exit_code = 3
    final = True

    def __init__(self, wait_ids: Sequence[str], ask: str = "") -> None:
        self.wait_ids = tuple(dict.fromkeys(wait_ids))
        first = self.wait_ids[0] if self.wait_ids else "WAIT_ID"
        more = f" (and {len(self.wait_ids) - 1} more)" if len(self.wait_ids) > 1 else ""
        super().__init__(
            f"waiting for an answer to {first}{more}" + (f": {ask}" if ask else ""),
            f"see what is asked with `phaseline inbox`, answer with `phaseline answer {first}`",
        )
