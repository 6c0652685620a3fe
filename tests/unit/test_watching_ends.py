"""A command that forks has no thread beside it."""

from __future__ import annotations

import signal
import threading

import pytest

from blocks.process.ending import ending_in_time, ignore_signals, stop_watching


def test_who_forks_has_no_thread_beside_it_and_is_watched_afterwards() -> None:
    before, handler = threading.active_count(), signal.getsignal(signal.SIGTERM)
    with ending_in_time(stays=False):
        assert threading.active_count() == before + 1
        with stop_watching():
            assert threading.active_count() == before
        assert threading.active_count() == before + 1
        assert signal.getsignal(signal.SIGTERM) is not handler, "it still leaves through every `with`"
    assert threading.active_count() == before
    assert signal.getsignal(signal.SIGTERM) is handler


def test_what_is_private_is_removed_whatever_signal_comes() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins without
    with ending_in_time(stays=False):
        with ignore_signals():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
