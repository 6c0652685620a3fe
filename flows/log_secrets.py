"""Log records without known secrets: Prefect sends those of a run to its server, which keeps them."""

from __future__ import annotations

import functools
import logging
import traceback
from collections.abc import Callable
from typing import Any

from blocks.secrecy import secrets


def mask_logs() -> None:
    """From here on every record of this process is made without secrets, its traceback too."""
    before = logging.getLogRecordFactory()
    if getattr(before, "masks", False):
        return
    masking = functools.partial(_make_masked_record, before)
    masking.masks = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(masking)


def _make_masked_record(
    before: Callable[..., logging.LogRecord], *given: Any, **named: Any
) -> logging.LogRecord:
    record = before(*given, **named)
    known = secrets.current_secrets()
    if not known:
        return record
    try:
        said = record.getMessage()
    except Exception:  # noqa: BLE001 - a record that cannot be put together is told by whoever shows it
        return record
    if known.text(said) != said:
        record.msg, record.args = known.text(said), ()
    if record.exc_info and record.exc_info[0] is not None:
        trace = "".join(traceback.format_exception(*record.exc_info)).removesuffix("\n")
        if known.text(trace) != trace:
            record.exc_text = known.text(trace)  # a formatter makes its own only where there is none
    return record
