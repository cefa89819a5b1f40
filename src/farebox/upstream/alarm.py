"""A timer that is set for every wait and hardly ever rings. What is due when, its user knows."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable


class Alarm:
    """Rings at the time it is set for or earlier: the user looks at the clock, and sets it again.

    Setting it later moves nothing, so a connection that is used again and again, or is fed
    chunk by chunk, costs a timer of the loop only every few seconds.
    """

    __slots__ = ("_handle", "_loop", "_ring", "rings_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring: Callable[[], None] | None = ring
        self._handle: asyncio.TimerHandle | None = None
        self.rings_s = math.inf  # loop time

    def set(self, due_s: float) -> None:
        """Ring at this loop time, which is earlier than `rings_s`: else there is nothing to do."""
        if self._handle is not None:
            self._handle.cancel()
        self.rings_s = due_s
        self._handle = self._loop.call_at(due_s, self._on_time)

    def stop(self) -> None:
        """Ring no more, and leave no timer."""
        self._ring = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _on_time(self) -> None:
        self._handle = None
        self.rings_s = math.inf
        if self._ring is not None:
            self._ring()
