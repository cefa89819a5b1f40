"""The first of several attempts to connect. How one attempt is made is dial.py's business."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from farebox.errors import UpstreamFailed
from farebox.upstream.connection import Connection

STAGGER_S = 0.25  # before the next address is tried as well (RFC 8305, 5)

Attempt = Callable[[], Coroutine[Any, Any, Connection]]


async def race(attempts: Sequence[Attempt]) -> Connection:
    """The first attempt to succeed; each starts when the one before fails or takes long.

    Raises what the last one to fail raised.
    """
    if len(attempts) == 1:
        return await attempts[0]()
    failure: OSError | UpstreamFailed | None = None
    running: set[asyncio.Task[Connection]] = set()
    waiting = list(reversed(attempts))
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.create_task(waiting.pop()(), name="farebox-dial"))
            done, running = await asyncio.wait(
                running,
                timeout=STAGGER_S if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            while done:
                task = done.pop()
                try:
                    connection = task.result()
                except (OSError, UpstreamFailed) as error:
                    failure = error
                else:
                    running |= done
                    return connection
    finally:
        for task in running:
            task.add_done_callback(_drop_late)
            task.cancel()
    raise failure if failure is not None else OSError("no address to try")


def _drop_late(task: asyncio.Task[Connection]) -> None:
    """An attempt that was overtaken: close what it opened all the same."""
    if not task.cancelled() and task.exception() is None:
        task.result().drop()
