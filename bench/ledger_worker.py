"""The worker's side of the ledger's benchmark: a process that holds, prices and settles calls.

Its first line of input is a Plan, its output a Measured, both JSON. What a call needs besides the
ledger (HTTP, upstreams) is left out.
"""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import time
from dataclasses import dataclass, field

import msgspec
import uvloop

from bench import proc
from bench.ledger_plain import PlainBooks
from farebox.billing.charge import charge
from farebox.billing.hold import InputEstimate, bound
from farebox.billing.prices import read_price
from farebox.core import clock
from farebox.core.call import Attempt, Call
from farebox.core.ids import new_id
from farebox.core.money import PPM
from farebox.core.ports import Books, HoldRequest, Settlement
from farebox.core.usage import Usage
from farebox.ledger.client import LedgerBooks

OUTPUT_CAP = 1_000
_PRICE = read_price({"input": "0.5", "output": "2"})
_GC_ALLOCATIONS = 50_000
_ANSWER_S = 0.02  # of a paced call, from its hold to its settlement
_ATTEMPTS = (Attempt(1, "main", 200, None, 20, 15),)


class Plan(msgspec.Struct, frozen=True):
    """What to do. Without `rate`, `in_flight` calls are made side by side, each followed by the
    next; with it, so many calls are begun in a second. `once`: each account makes one call only, so
    that each hold needs a grant.
    """

    ledger: str  # the socket; or, if it is plain, the file of SQLite
    is_plain: bool
    accounts: list[tuple[int, str]]  # with the id of a key
    in_flight: int
    seconds: float
    warm_s: float
    processes: list[int]  # whose CPU time is looked at too, with all below them
    rate: float = 0.0
    once: bool = False


class Measured(msgspec.Struct):
    """What came of it, within the window."""

    calls: int
    window_s: float
    worker_s: float  # CPU time
    processes_s: list[float]
    begun_us: int  # wall time
    ended_us: int
    held_ms: list[float]  # of paced calls, from asking for a hold to having it


def _call() -> Call:
    return Call("", "chat", "gpt", {}, output_cap=OUTPUT_CAP, text_bytes=1_000)


@dataclass
class _Run:
    plan: Plan
    books: Books
    # What the server makes of a request in any case is not the ledger's: made once.
    asked_call: Call = field(default_factory=_call)
    ids: str = field(default_factory=lambda: new_id("req"))
    estimate: InputEstimate = field(default_factory=InputEstimate)
    calls: int = 0
    asked: int = 0
    held_ms: list[float] = field(default_factory=list[float])
    is_measuring: bool = False

    async def call(self) -> None:
        """One call, as admission.py and settlement.py do it."""
        accounts = self.plan.accounts
        account_id, key_id = accounts[self.asked % len(accounts)]
        self.asked += 1
        call, request_id = self.asked_call, f"{self.ids}{self.asked:08}"
        at_us = clock.now_us()
        tokens = self.estimate.tokens(call, account_id, key_id, "gpt", at_us)
        most = bound(call, _PRICE, PPM, tokens, at_us).nanocredits(OUTPUT_CAP)
        began_s = clock.monotonic_s()
        held = await self.books.hold(HoldRequest(request_id, account_id, key_id, most, most))
        if self.is_measuring and self.plan.rate:
            self.held_ms.append((clock.monotonic_s() - began_s) * 1e3)
        if self.plan.rate:
            await asyncio.sleep(_ANSWER_S)
        usage = Usage(uncached_input=250, output=100 + self.asked % 200)
        self.estimate.learn(call, key_id, "gpt", usage.uncached_input)
        # In their order, as settlement.py has them.
        settlement = Settlement(
            request_id,
            account_id,
            key_id,
            "gpt",  # model
            "main",  # channel
            "chat",
            True,  # a stream
            "complete",
            at_us,
            1,  # price version
            PPM,  # rate
            usage,
            charge(usage, _PRICE, PPM, at_us),
            held,
            None,  # service tier
            (),  # tool calls
            (),  # flags
            _ATTEMPTS,
            20,  # ms
            15,  # to the first token
        )
        await self.books.settle(settlement)
        self.books.delivered(request_id)
        self.calls += 1

    async def call_on(self, until_s: float) -> None:
        """One call after the other."""
        while clock.monotonic_s() < until_s:
            await self.call()

    async def call_paced(self, until_s: float) -> None:
        """Calls that begin at random, whether those before have ended or not."""
        chance = random.Random(0)  # noqa: S311 (no secret)
        async with asyncio.TaskGroup() as group:
            while clock.monotonic_s() < until_s:
                if self.plan.once and self.asked >= len(self.plan.accounts):
                    break
                group.create_task(self.call())
                await asyncio.sleep(chance.expovariate(self.plan.rate))


async def measure(plan: Plan) -> Measured:
    """Warm up, and measure."""
    books = PlainBooks(plan.ledger) if plan.is_plain else LedgerBooks(plan.ledger)
    run = _Run(plan, books)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_ALLOCATIONS, 10, 10)
    until_s = clock.monotonic_s() + plan.warm_s + plan.seconds
    if plan.rate:
        pressing = asyncio.gather(run.call_paced(until_s))
    else:
        pressing = asyncio.gather(*(run.call_on(until_s) for _ in range(plan.in_flight)))
    await asyncio.sleep(plan.warm_s)
    calls, begun_us, began_s = run.calls, clock.now_us(), clock.monotonic_s()
    processes_s = [proc.cpu_s([pid]) for pid in plan.processes]
    worker_s, run.is_measuring = time.process_time(), True
    await asyncio.sleep(plan.seconds * 0.98)
    worker_s = time.process_time() - worker_s
    measured = Measured(
        run.calls - calls,
        clock.monotonic_s() - began_s,
        worker_s,
        [
            proc.cpu_s([pid]) - before
            for pid, before in zip(plan.processes, processes_s, strict=True)
        ],
        begun_us,
        clock.now_us(),
        run.held_ms,
    )
    await pressing
    await books.close()
    return measured


def main() -> None:
    """Measure what the first line says."""
    plan = msgspec.json.decode(sys.stdin.buffer.readline(), type=Plan)
    measured = uvloop.run(measure(plan))
    sys.stdout.buffer.write(msgspec.json.encode(measured) + b"\n")


if __name__ == "__main__":
    main()
