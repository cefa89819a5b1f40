"""The seams of the relay: a client to answer, an upstream to ask, books to keep. Tests pass
fakes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from farebox.core.call import Attempt, Headers
from farebox.core.usage import Usage


class Client(Protocol):
    """The caller's side of one call. Sending to a client that has gone does nothing and raises
    nothing.
    """

    @property
    def gone(self) -> bool:
        """Whether the client has hung up."""
        ...

    @property
    def drains(self) -> bool:
        """Whether the upstream is read on for the usage when the client has gone. One who says
        "stop" means the upstream too.
        """
        ...

    def on_gone(self, callback: Callable[[], None] | None) -> None:
        """Call this once when the client hangs up (at once if it has); None forgets the
        callback.
        """
        ...

    async def send_head(self, status: int, headers: Headers) -> None:
        """The status and headers; x-request-id is added by the server."""
        ...

    async def send(self, data: bytes, *, last: bool = False) -> None:
        """Part of the body, waiting while the client is slow; `last` ends the answer."""
        ...

    def send_now(self, data: bytes) -> bool:
        """Part of the body behind the first, if nothing has to be waited for; False: send() it."""
        ...

    def answer_now(self, status: int, headers: Headers, body: bytes) -> bool:
        """All of an answer, if nothing has to be waited for; False: send its head, and then its
        body. `headers` name the body's length, and say nothing of the connection.
        """
        ...


# Structs, here and below: every call makes one of each, and a named tuple takes four times as long
# to make and to read a field of, a frozen dataclass ten times.
class UpstreamRequest(msgspec.Struct, frozen=True, gc=False):
    """One HTTP request to a vendor, complete but for Host and Content-Length."""

    url: str
    headers: Headers  # of which the credential is one: never logged
    body: bytes
    method: str = "POST"
    first_byte_timeout_s: float | None = None  # None: the settings'

    def __repr__(self) -> str:
        return f"UpstreamRequest({self.method} {self.url})"


class UpstreamHead(msgspec.Struct, frozen=True, gc=False):
    """Status and headers of an upstream's answer: names in lower case, each once, and of those
    that came several times the last.
    """

    status: int
    headers: Mapping[bytes, bytes]


class Exchange(Protocol):
    """One request on its way and the answer to it. Raises errors.UpstreamFailed on every
    failure.
    """

    async def head(self, patience_s: float) -> UpstreamHead | None:
        """The answer's head; None when nothing came for `patience_s` (ask again). First-byte limit
        applies.
        """
        ...

    def whole(self, limit_bytes: int) -> bytes | None:
        """What is left of the body, if it is all here and no larger than that. None: it is to be
        read.
        """
        ...

    async def read(self, patience_s: float) -> bytes | None:
        """What has arrived of the body; b"" at its clean end; None when nothing came for
        `patience_s`.
        """
        ...

    async def pump(self, take: Callable[[bytes], bool], patience_s: float) -> None:
        """Have the body taken as it arrives, b"" at its clean end, until `take` wants no more, or
        for `patience_s`. What `take` raises is raised here.
        """
        ...

    def wake(self) -> None:
        """Have a waiting pump(), head() or read() end as if its patience had run out."""
        ...

    def abort(self) -> None:
        """Drop the connection at once; a waiting head() or read() raises UpstreamFailed. May be
        repeated.
        """
        ...

    def close(self) -> None:
        """Done: the connection goes back to the pool if the answer was read to its end, else it is
        dropped.
        """
        ...


class Upstream(Protocol):
    """What opens connections to vendors."""

    def open(self, request: UpstreamRequest) -> Exchange:
        """Start sending; failures surface in the exchange's head()."""
        ...


class HoldRequest(msgspec.Struct, frozen=True, gc=False):
    """Reserve between `least` and `most`, as much as the account has. All amounts in
    nano-credits.
    """

    request_id: str
    account_id: int
    key_id: str
    least_nanocredits: int
    most_nanocredits: int
    budget: Budget | None = None  # of the key


@dataclass(frozen=True, slots=True)
class Budget:
    """What a key may be charged in a period, and when the present one began."""

    limit_nanocredits: int
    period: str  # total | day | month
    since_us: int  # 0 for a total


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """Everything that is written of a finished call. `due_nanocredits` is its price; nothing may
    be due of a failed one.
    """

    request_id: str
    account_id: int
    key_id: str
    model: str  # canonical id
    channel: str | None  # the one that answered
    dialect: str
    stream: bool
    outcome: str  # complete | client_gone | upstream_failed | refused
    created_us: int  # at admission: also the time that the price was taken at
    price_version: int
    rate_ppm: int
    usage: Usage
    due_nanocredits: int
    hold_nanocredits: int
    service_tier: str | None = None
    tool_calls: tuple[tuple[str, int], ...] = ()
    flags: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    ms: int = 0
    ttft_ms: int | None = None


class Settled(msgspec.Struct, frozen=True, gc=False):
    """What became of a settlement: what the account paid and what it could not."""

    charge_nanocredits: int
    absorbed_nanocredits: int


class Books(Protocol):
    """Who keeps the money. Each answer comes after the commit that it speaks of."""

    def hold(self, request: HoldRequest) -> Awaitable[int]:
        """Reserve; the nano-credits held. Raises errors.OutOfCredit, errors.BillingUnavailable.
        Whoever is cancelled while waiting says release().
        """
        ...

    def release(self, request_id: str) -> None:
        """Nobody will settle what was held, or is just being held, for this call."""
        ...

    async def extend(self, request_id: str, more_nanocredits: int) -> int:
        """Hold so much more for a call; what is held for it altogether. Raises as `hold`, and then
        what was held stays.
        """
        ...

    def settle(self, settlement: Settlement) -> Awaitable[Settled]:
        """Release the hold, charge, and write the call with its attempts, in one transaction.

        A request id that is settled already changes nothing and gives the first answer again; who
        asks while another waits shares its answer. Raises errors.BillingUnavailable.
        """
        ...

    def delivered(self, request_id: str) -> None:
        """The client has the end of an answer that was settled as complete, or has hung up by then.
        Until this is said, it counts as undelivered if the worker dies.
        """
        ...
