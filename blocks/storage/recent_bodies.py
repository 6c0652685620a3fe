"""The bodies a process stored or read last: what one step wrote, the next ones read, mostly at once."""

from __future__ import annotations

import threading
from collections import OrderedDict

LARGEST = 256 * 1024
"""Bytes: larger bodies are not kept, since few would push out all others."""
ENTRY = 256
"""Bytes that an entry takes beside its body."""


class RecentBodies:
    """At most `limit` bytes of bodies by their key, the oldest given up first. For several threads at once.

    A key must name its body for good, as the digest does that a blob is stored under.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._bodies: OrderedDict[str, bytes] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, key: str) -> bytes | None:
        """The body, None when it is not kept."""
        with self._guard:
            body = self._bodies.get(key)
            if body is not None:
                self._bodies.move_to_end(key)
            return body

    def add(self, key: str, body: bytes) -> None:
        """Keeps a body, unless it is too large."""
        if len(body) > LARGEST or _size(body) > self._limit:
            return
        with self._guard:
            self._forget(key)
            self._bodies[key] = body
            self._size += _size(body)
            while self._size > self._limit:
                self._forget(next(iter(self._bodies)))

    def drop(self, key: str) -> None:
        """Gives a body up. Harmless when it is not kept."""
        with self._guard:
            self._forget(key)

    def _forget(self, key: str) -> None:
        body = self._bodies.pop(key, None)
        if body is not None:
            self._size -= _size(body)


def _size(body: bytes) -> int:
    return len(body) + ENTRY
