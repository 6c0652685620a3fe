"""Keeps Python's collector away from what was there before a run.

A process that has loaded Prefect holds some hundred thousand objects. A wide run makes enough new ones to
have the collector look at all of them several times, each time for about 100 ms in which no step goes on.
"""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Iterator

_guard = threading.Lock()
_runs = 0
_ours = False
"""Whether what is kept away from the collector is so by our doing."""


@contextlib.contextmanager
def steady_heap() -> Iterator[None]:
    """While a run is in the body, what was there before the first one is not looked at for garbage."""
    global _runs, _ours
    with _guard:
        _runs += 1
        if _runs == 1 and not gc.get_freeze_count():
            gc.freeze()
            _ours = True
    try:
        yield
    finally:
        with _guard:
            _runs -= 1
            if _runs == 0 and _ours:
                gc.unfreeze()
                _ours = False
