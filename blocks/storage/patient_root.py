"""A storage root whose passing faults are waited out. Every use of a store goes through one."""

from __future__ import annotations

from blocks.patience import STORE, Vigil
from blocks.storage.errors import MOST_BODY, StorageError, StoreAway
from blocks.storage.root import Root


class PatientRoot:
    """The root itself, for callers that may block for as long as there is patience."""

    def __init__(self, root: Root, vigil: Vigil) -> None:
        self._root = root
        self._vigil = vigil
        self._reading = vigil.reading()

    @property
    def bare(self) -> Root:
        """The same without patience, for what may be lost."""
        return self._root

    @property
    def uri(self) -> str:
        return self._root.uri

    def describe(self) -> str:
        return self._root.describe()

    def address(self, key: str) -> str:
        return self._root.address(key)

    def place(self, key: str) -> str:
        return self._root.place(key)

    def read(self, key: str, most: int = MOST_BODY) -> bytes:
        return self._reading.outwait_blocking(STORE, lambda: self._root.read(key, most), _passing, _over)

    def write(self, key: str, body: bytes, *, media_type: str = "", durable: bool = False) -> None:
        def work() -> None:
            self._root.write(key, body, media_type=media_type, durable=durable)

        self._vigil.outwait_blocking(STORE, work, _passing, _over)

    def probe(self) -> None:
        """Waits as long as before anything was done: what is wrong then is mostly the address."""
        self._vigil.at_start().outwait_blocking(STORE, self._root.probe, _passing, lambda fault, *_: fault)

    def close(self) -> None:
        self._root.close()


def _passing(fault: Exception) -> str | None:
    return fault.message if isinstance(fault, StorageError) and fault.passing else None


def _over(fault: Exception, waited: float, wake_after: float) -> StoreAway:
    assert isinstance(fault, StorageError)
    return StoreAway(fault.message, fault.cure, waited, wake_after)
