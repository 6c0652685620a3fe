"""What was there before a run is not looked at for garbage while it goes on."""

from __future__ import annotations

import gc

import pytest

from flows.steady_heap import steady_heap


def test_it_lasts_as_long_as_the_last_run() -> None:
    with steady_heap():
        assert gc.get_freeze_count() > 0
        with pytest.raises(ValueError, match="inner"), steady_heap():
            raise ValueError("inner")
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0


def test_what_somebody_else_keeps_stays_kept() -> None:
    gc.freeze()
    try:
        with steady_heap():
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
