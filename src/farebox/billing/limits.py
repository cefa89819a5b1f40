"""Limits that protect the operator's money. Limits that cost the caller money are the store's."""

from __future__ import annotations

import math
from collections import deque

_HANGUPS = 3
_SPAN_S = 60.0
_KEEP_KEYS = 100_000


class Hangups:
    """Calls hung up before the upstream's head cost nothing, so a key may make only a few a
    minute.
    """

    def __init__(self) -> None:
        self._times_s: dict[str, deque[float]] = {}

    def note(self, key_id: str, now_s: float) -> None:
        """A call of this key was cancelled before the upstream answered."""
        if len(self._times_s) >= _KEEP_KEYS:
            self._times_s.clear()  # only under attack; forgetting is the cheaper mistake
        self._times_s.setdefault(key_id, deque(maxlen=_HANGUPS - 1)).append(now_s)

    def wait_s(self, key_id: str, now_s: float) -> int:
        """Whole seconds until this key may call again; 0 when it may now.

        After two such calls within a minute the third is refused.
        """
        times = self._times_s.get(key_id)
        if times is None:
            return 0
        while times and now_s - times[0] >= _SPAN_S:
            times.popleft()
        if not times:
            del self._times_s[key_id]
            return 0
        if len(times) < _HANGUPS - 1:
            return 0
        return max(1, math.ceil(_SPAN_S - (now_s - times[0])))
