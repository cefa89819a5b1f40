"""The children of one supervisor while they run: started, drained, replaced, seen to their end.

What a child is, and how its place is kept filled, is children.py's; which there are, the
supervisor's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from farebox.children import Child, Say, Worker
from farebox.core.bus import Changed


class Crew:
    """Made inside the loop."""

    def __init__(self, say: Say, exit_limit_s: float) -> None:
        """`exit_limit_s`: how long a worker may take to end when its drain is over."""
        self._say = say
        self._exit_limit_s = exit_limit_s
        self._running: dict[Child, asyncio.Task[None]] = {}
        self._workers: dict[int, Worker] = {}  # by slot, those that accept connections
        self._farewells: set[asyncio.Task[None]] = set()

    @property
    def workers(self) -> Sequence[Worker]:
        """Those that accept connections, by slot."""
        return [worker for _, worker in sorted(self._workers.items())]

    @property
    def former(self) -> int:
        """How many workers were replaced and have not ended yet."""
        return len(self._farewells)

    @property
    def alive(self) -> int:
        """How many processes are workers now, former ones included."""
        return sum(worker.lives for worker in self._all_workers)

    @property
    def _all_workers(self) -> list[Worker]:
        return [child for child in self._running if isinstance(child, Worker)]

    def start(self, child: Child) -> None:
        """Have its place filled. Of a slot's workers, only the first is started so."""
        self._running[child] = asyncio.create_task(child.run(), name=child.name)
        if isinstance(child, Worker):
            self._workers.setdefault(child.slot, child)

    def tell(self, message: Changed) -> None:
        """Pass it on to every worker: former ones still answer calls."""
        for worker in self._all_workers:
            worker.tell(message)

    async def replace(self, worker: Worker, limit_s: float) -> str | None:
        """Start a worker on its slot's socket, and when it serves, have the one before it end what
        it has within the limit. None, or how the new one ended: then the old one stays.
        """
        self.start(worker)
        end = await worker.first_ready()
        if end is not None:
            await self.kill([worker])
            return end
        former = self._workers[worker.slot]
        self._workers[worker.slot] = worker
        former.name = f"The former {former.name.lower()}"
        # One that is only just being started again has nothing that could be handed over.
        former.drain(limit_s, hand_over=former.ready.is_set())
        farewell = asyncio.create_task(self._see_off(former, limit_s))
        self._farewells.add(farewell)
        farewell.add_done_callback(self._farewells.discard)
        return None

    async def wait_for_former(self, limit_s: float) -> None:
        """Give those the time to end that have nothing left to do."""
        if self._farewells:
            await asyncio.wait(self._farewells, timeout=limit_s)

    async def _see_off(self, former: Worker, limit_s: float) -> None:
        await self.ended([former], limit_s + self._exit_limit_s)
        if former.failed:
            self._say(f"{former.name} {former.last_end} before it had ended what it had.\n")

    async def drain(self, limit_s: float) -> None:
        """Have every worker end what it has within the limit, and wait until they have ended."""
        for farewell in self._farewells:
            farewell.cancel()
        for worker in self._all_workers:
            worker.drain(limit_s)
        await self.ended(self._all_workers, limit_s + self._exit_limit_s)

    async def ended(self, children: Sequence[Child], limit_s: float) -> None:
        """Wait until these have ended; who has not within the limit is killed."""
        tasks = {self._running[child]: child for child in children}
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=limit_s)
        for task in late:
            self._say(f"{tasks[task].name} did not end in time and was killed.\n")
        await self.kill([tasks[task] for task in late])
        for child in children:
            self._running.pop(child, None)

    async def kill(self, children: Sequence[Child]) -> None:
        """End these at once."""
        for child in children:
            child.kill()
        await asyncio.gather(*(self._running[child] for child in children))
        for child in children:
            self._running.pop(child, None)

    def hurry(self) -> None:
        """Have all of them end at once, and wait for none."""
        for child in self._running:
            child.kill()

    async def close(self) -> None:
        """End at once whoever still runs."""
        for farewell in self._farewells:
            farewell.cancel()
        await self.kill(tuple(self._running))
