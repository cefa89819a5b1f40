"""The books as a worker has them, over a real ledger and a real store, in one process."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from farebox.core.settings import Settings
from farebox.ledger.client import LedgerBooks
from farebox.ledger_process import LedgerProcess
from farebox.store import Store

IDLE_S = 0.05  # so that what is not needed is back soon


class Host:
    """A ledger process's inside, in this loop, and where it listens. `async with` it."""

    def __init__(self, store: Store, folder: Path, owner: str = "own_test", **settings: Any):
        chosen = {"database": "", "lease_idle_s": IDLE_S, "drain_timeout_s": 0.0, **settings}
        self._settings = Settings(data_dir=folder, **chosen)
        self._store = store
        self._owner = owner
        self.path = str(folder / "ledger")
        self._stop = asyncio.Event()

    async def __aenter__(self):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen(16)
        listener.setblocking(False)
        self.process = LedgerProcess(self._settings, self._store, self._owner)
        assert await self.process.begin(0, self._stop)
        ready = asyncio.Event()
        self._serving = asyncio.create_task(self.process.serve(listener, self._stop, ready.set))
        await ready.wait()
        return self

    def hang_up(self) -> None:
        """End every worker's connection, as if this were another process now."""
        for connection in tuple(self.process.server._connections):
            connection.close()

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await self._serving
        self.process.leave()
        os.unlink(self.path)  # noqa: PTH108 (so that another may listen there)


@asynccontextmanager
async def booked(
    store: Store, owner: str = "own_test", patience_s: float = 10.0, **settings: Any
) -> AsyncIterator[LedgerBooks]:
    """The books of one worker. What was leased is given back at the end. `settings` are some of
    those that a ledger process has.
    """
    with tempfile.TemporaryDirectory(prefix="farebox-") as folder:
        async with Host(store, Path(folder), owner, **settings) as host:
            books = LedgerBooks(host.path, patience_s)
            try:
                yield books
            finally:
                await books.close()
