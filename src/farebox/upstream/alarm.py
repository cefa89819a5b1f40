"""A timer that is set for every wait and hardly ever rings. What is due when, its user knows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Alarm:
    """Rings at the time it is set for or earlier: the user looks at the clock, and sets it again.

    Setting it later moves nothing, so a connection that is used again and again, or is fed
    chunk by chunk, costs a timer of the loop only every few seconds.
    """

    __slots__ = ("_handle", "_loop", "_ring", "_rings_s")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None
        self._rings_s = 0.0
        self._ring: Callable[[], None] | None = None

    def set(self, due_s: float, ring: Callable[[], None]) -> None:
        """Call `ring` at this loop time or earlier."""
        self._ring = ring
        if self._handle is not None:
            if self._rings_s <= due_s:
                return
            self._handle.cancel()
        self._rings_s = due_s
        self._handle = self._loop.call_at(due_s, self._on_time)

    def clear(self) -> None:
        """Call nobody. The timer stays, for the next to set it."""
        self._ring = None

    def stop(self) -> None:
        """Call nobody, and leave no timer."""
        self._ring = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _on_time(self) -> None:
        self._handle = None
        if self._ring is not None:
            self._ring()
