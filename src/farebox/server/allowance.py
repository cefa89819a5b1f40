"""How often a key may have tokens counted: that is free, but not without end."""

from __future__ import annotations

import math

from farebox.core import clock
from farebox.errors import TooManyRequests

COUNTS_A_MINUTE = 600  # of one key in one process: agents ask before each turn, some for each part
_KEYS_KEPT = 100_000


class Allowance:
    """How often each key may ask: so many at once, and as many again in each minute."""

    def __init__(self, a_minute: int = COUNTS_A_MINUTE) -> None:
        self._pause_s = 60.0 / a_minute
        self._full_s: dict[str, float] = {}  # when a key's allowance is whole again, monotonic

    def take(self, key_id: str) -> None:
        """One of this key's. Raises TooManyRequests."""
        now_s = clock.monotonic_s()
        full_s = max(now_s, self._full_s.get(key_id, now_s)) + self._pause_s
        wait_s = full_s - now_s - 60.0
        if wait_s > 0:
            raise TooManyRequests(
                f"Tokens are counted {round(60 / self._pause_s)} times a minute for one key. Try"
                f" again in {math.ceil(wait_s)} s.",
                retry_after_s=math.ceil(wait_s),
            )
        if len(self._full_s) >= _KEYS_KEPT:
            self._full_s.clear()  # forgetting is the cheaper mistake
        self._full_s[key_id] = full_s
