"""Two ways of doing the same, in turn, so that a slower moment of the machine meets both."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock on the wall, and those that all threads of this process computed."""

    wall: float = field(default_factory=time.perf_counter)
    computed: float = field(default_factory=time.process_time)

    def since(self, start: Spent) -> Spent:
        """What passed from there to here."""
        return Spent(self.wall - start.wall, self.computed - start.computed)


Work = Callable[[int], Coroutine[Any, Any, Spent | list[Spent]]]
"""Called with the number of the round, from 0; gives what it took, or what each of its parts took."""


def alternating(
    works: Mapping[str, Work], rounds: int, between: Callable[[], object] = lambda: None
) -> dict[str, dict[str, float]]:
    """Median `wall` and `computed` seconds of each by its name, over all rounds and parts.

    Each has an event loop of its own. A first round warms all up and does not count. `between` waits until
    nothing of a work is left that would slow down the next.
    """
    taken: dict[str, list[Spent]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            spent = asyncio.run(work(number))
            between()
            if number:
                taken[name] += spent if isinstance(spent, list) else [spent]
    return {name: _medians(spents) for name, spents in taken.items()}


def _medians(spents: list[Spent]) -> dict[str, float]:
    return {
        "wall": statistics.median(spent.wall for spent in spents),
        "computed": statistics.median(spent.computed for spent in spents),
    }
