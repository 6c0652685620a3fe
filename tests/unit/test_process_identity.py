"""When a process is certainly gone, and when that cannot be known."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

from blocks.ledger.tables.process_identity import Owner


def test_this_process_is_alive() -> None:
    here = Owner.current()
    assert here.pid == os.getpid() and here.host and not here.gone_as_seen_from(here)
    assert Owner.current() == here


def test_an_ended_process_is_gone_also_before_it_is_collected() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    here = Owner.current()
    owner = dataclasses.replace(here, pid=child.pid, started="")
    assert not owner.gone_as_seen_from(here)
    assert child.stdin is not None
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert owner.gone_as_seen_from(here)
    child.wait()
    assert owner.gone_as_seen_from(here)


def test_a_number_used_again_is_another_process() -> None:
    here = Owner.current()
    assert dataclasses.replace(here, started="1").gone_as_seen_from(here)


def test_of_another_host_boot_or_namespace_nothing_is_certain() -> None:
    here = Owner.current()
    dead = dataclasses.replace(here, started="1")
    assert not dataclasses.replace(dead, host="other").gone_as_seen_from(here)
    assert not dataclasses.replace(dead, boot="other").gone_as_seen_from(here)
