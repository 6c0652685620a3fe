"""A command that forks has no thread beside it."""

from __future__ import annotations

import signal
import threading

from blocks.ending import ending_in_time, stop_watching


def test_who_forks_watches_no_more_and_still_ends_well() -> None:
    before, handler = threading.active_count(), signal.getsignal(signal.SIGTERM)
    with ending_in_time(stays=False):
        assert threading.active_count() == before + 1
        stop_watching()
        assert threading.active_count() == before
        assert signal.getsignal(signal.SIGTERM) is not handler, "it still leaves through every `with`"
    assert signal.getsignal(signal.SIGTERM) is handler
