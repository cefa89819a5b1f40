"""Values by key, for keys that come again: the memory of what would otherwise be worked out anew.

Whoever keeps something here must be able to do without it, at any time.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_LARGEST_SHARE = 16  # of all bytes that may be kept, for one value


class Known(Generic[K, V]):
    """A value is kept from the second time on that its key came: from some who send them, no key
    ever comes again. For one thread.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        """Room for so many values, and for so many bytes of them and their keys together."""
        self._most = most
        self._most_bytes = most_bytes
        self._kept_bytes = 0
        self._values: dict[K, V] = {}
        self._seen: set[int] = set()  # hashes of keys that came
        self.find = self._values.get  # None for what is not kept; any thread may ask

    def has_come(self, key: K) -> bool:
        """Whether this key came before, as it does now. Perhaps also when it did not."""
        seen = hash(key)
        if seen in self._seen:
            return True
        if len(self._seen) >= self._most:
            self._seen.clear()
        self._seen.add(seen)
        return False

    def keep(self, key: K, value: V, size_bytes: int) -> bool:
        """Have the value found from now on, and whether it is: one that is too large is not."""
        if size_bytes * _LARGEST_SHARE > self._most_bytes:
            return False
        if len(self._values) >= self._most or self._kept_bytes + size_bytes > self._most_bytes:
            self._values.clear()
            self._kept_bytes = 0
        self._values[key] = value
        self._kept_bytes += size_bytes
        return True
