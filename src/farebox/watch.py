"""Follows the store while the gateway runs: workers are told what has changed in it, and what a
dead one ran has failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from farebox.children import Say
from farebox.core.bus import Changed

POLL_S = 0.3  # a revoked key is refused within 5 s, a new price used within 2 s


class Revisions(Protocol):
    """How often the store's catalogue, and its accounts and keys, have changed."""

    @property
    def catalogue(self) -> int:
        """Goes up with every change of channels, models, prices and groups."""
        ...

    @property
    def keys(self) -> int:
        """Goes up with every change of accounts and keys."""
        ...


class StorePort(Protocol):
    """What the supervisor needs of the store. Called from threads."""

    def revisions(self) -> Revisions:
        """The two counters, cheaply: asked three times a second."""
        ...

    def fail_orphans(self, owner: str) -> object:
        """Responses that a dead worker ran have failed. May be repeated."""
        ...

    def fail_all_orphans(self, host: str) -> object:
        """Every response that runs on this host has failed: no worker lives yet."""
        ...


class StoreWatch:
    """Made inside the loop, before any worker is started."""

    def __init__(self, store: StorePort, tell: Callable[[Changed], None], say: Say) -> None:
        """`tell` is told of every change."""
        self._store = store
        self._tell = tell
        self._say = say
        self._known = Changed(0, 0)
        self._dead_owners: set[str] = set()

    async def begin(self, host: str) -> None:
        """Before any worker loads, so that no change can fall between its load and the first look.
        Raises whatever the store raises.
        """
        await asyncio.to_thread(self._store.fail_all_orphans, host)
        seen = await asyncio.to_thread(self._store.revisions)
        self._known = Changed(seen.catalogue, seen.keys)

    def died(self, owner: str) -> None:
        """What this worker ran will have failed."""
        self._dead_owners.add(owner)

    async def run(self) -> None:
        """For ever."""
        trouble = ""
        while True:
            await asyncio.sleep(POLL_S)
            await self.fail_dead()
            try:
                now = await asyncio.to_thread(self._store.revisions)
            except Exception as error:  # noqa: BLE001 (a store that is busy or away will come back)
                if str(error) != trouble:
                    trouble = str(error)
                    self._say(f"The store cannot be read, changes will be seen late: {trouble}\n")
                continue
            trouble = ""
            if (now.catalogue, now.keys) != (self._known.catalogue, self._known.keys):
                self._known = Changed(now.catalogue, now.keys)
                self._tell(self._known)

    async def fail_dead(self, tries: int = 1) -> None:
        """Have what the dead ran failed; with more tries, the last one tells of what went wrong."""
        for owner in tuple(self._dead_owners):
            for left in reversed(range(tries)):
                try:
                    await asyncio.to_thread(self._store.fail_orphans, owner)
                    self._dead_owners.discard(owner)
                    break
                except Exception as error:  # noqa: BLE001 (tried again, if need be by the next start)
                    if not left and tries > 1:
                        self._say(f"Responses of {owner} run until the next start: {error}\n")
