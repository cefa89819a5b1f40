"""Limits that protect the operator's money and disk. Limits that cost the caller money are the
ledger's.
"""

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
        # When each is forgotten. The end is kept and not the beginning, so that who waits as long
        # as told has waited long enough, whatever a sum of floats is rounded to.
        self._ends_s: dict[str, deque[float]] = {}
        self.keys = self._ends_s.keys()  # of which some were; all others may call

    def note(self, key_id: str, now_s: float) -> None:
        """A call of this key was cancelled before the upstream answered."""
        if len(self._ends_s) >= _KEEP_KEYS:
            self._ends_s.clear()  # only under attack; forgetting is the cheaper mistake
        ends_s = self._ends_s.setdefault(key_id, deque(maxlen=_HANGUPS - 1))
        ends_s.append(now_s + _SPAN_S)

    def wait_s(self, key_id: str, now_s: float) -> int:
        """Whole seconds until this key may call again; 0 when it may now.

        After two such calls within a minute the third is refused.
        """
        ends_s = self._ends_s.get(key_id)
        if ends_s is None:
            return 0
        while ends_s and now_s >= ends_s[0]:
            ends_s.popleft()
        if not ends_s:
            del self._ends_s[key_id]
            return 0
        if len(ends_s) < _HANGUPS - 1:
            return 0
        return min(math.ceil(ends_s[0] - now_s), math.ceil(_SPAN_S))


class Seldom:
    """Lets something happen once a minute for each key."""

    def __init__(self) -> None:
        self._ends_s: dict[str, float] = {}

    def is_due(self, key_id: str, now_s: float) -> bool:
        """Whether it may happen now; then it has, and not again within the minute."""
        if now_s < self._ends_s.get(key_id, now_s):
            return False
        if len(self._ends_s) >= _KEEP_KEYS:
            self._ends_s.clear()
        self._ends_s[key_id] = now_s + _SPAN_S
        return True
