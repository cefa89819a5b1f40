"""What tests of the relay stand it between: a client that records, books in memory, a catalogue."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from farebox import relay
from farebox.admission import Memory
from farebox.billing.prices import read_price
from farebox.core.account import Account, Caller, Key
from farebox.core.call import Call, Headers
from farebox.core.channel import Channel
from farebox.core.ports import HoldRequest, Settled, Settlement
from farebox.core.settings import Settings
from farebox.dialects import chat, messages, responses
from farebox.dialects.seal import Seal
from farebox.errors import BillingUnavailable, OutOfCredit
from farebox.passage import Passage
from farebox.routing.catalogue import Catalogue, Group, Model, Route
from farebox.upstream.client import Client as UpstreamClient
from farebox.vendors import registry
from farebox.vendors.base import Vendor
from tests.fakes.upstream import FakeUpstream
from tests.upstream.raw_server import RawServer

CALLER = Caller(Account(1, "alice", "default", None), Key("key_1", 1, b"digest"))
PRICE = {"input": "2.5", "output": "10"}
# 1 credit = 10^9; 10 tokens in, 5 out: 10 × 2500 + 5 × 10000 nano-credits
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
USAGE_CHARGE = 75_000
CACHED_USAGE = {
    "prompt_tokens": 30,
    "completion_tokens": 9,
    "total_tokens": 39,
    "prompt_tokens_details": {"cached_tokens": 10, "cache_write_tokens": 5},
    "completion_tokens_details": {"reasoning_tokens": 4},
}
FULL = 10**10  # the balance of an account that paid nothing
SEAL = Seal(b"s" * 32)


class MemoryBooks:
    """Books of one account: plain integers, checked after each step."""

    def __init__(self, balance: int = FULL) -> None:
        self.available = balance
        self.holds: dict[str, int] = {}
        self.requests: list[HoldRequest] = []
        self.extended: list[int] = []  # what more was asked for, got or not
        self.settled: list[Settlement] = []
        self.delivered_ids: list[str] = []
        self.absorbed = 0
        self.most_at_once = 0  # calls that were held for
        self.log: list[str] = []
        self.broken = False

    async def hold(self, request: HoldRequest) -> int:
        self.requests.append(request)
        if self.available < request.least_nanocredits:
            raise OutOfCredit(f"{request.least_nanocredits - self.available} short")
        amount = min(self.available, request.most_nanocredits)
        self.available -= amount
        self.holds[request.request_id] = amount
        self.most_at_once = max(self.most_at_once, len(self.holds))
        return amount

    def release(self, request_id: str) -> None:
        self.available += self.holds.pop(request_id, 0)
        self.log.append("released")

    async def extend(self, request_id: str, more_nanocredits: int) -> int:
        self.extended.append(more_nanocredits)
        if self.available < more_nanocredits:
            raise OutOfCredit(f"{more_nanocredits - self.available} short")
        self.available -= more_nanocredits
        self.holds[request_id] += more_nanocredits
        return self.holds[request_id]

    async def settle(self, settlement: Settlement) -> Settled:
        if self.broken:
            raise BillingUnavailable("The books cannot be written.")
        held = self.holds.pop(settlement.request_id, 0)
        self.available += held
        charge = min(settlement.due_nanocredits, self.available)
        self.available -= charge
        absorbed = settlement.due_nanocredits - charge
        self.absorbed += absorbed
        self.settled.append(settlement)
        self.log.append("settled")
        return Settled(charge, absorbed)

    def delivered(self, request_id: str) -> None:
        self.delivered_ids.append(request_id)


@dataclass
class RecordingClient:
    """A client that keeps what it is sent, and hangs up when it is told to."""

    log: list[str] = field(default_factory=list)
    status: int | None = None
    headers: dict[bytes, bytes] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)
    ended: bool = False
    gone: bool = False
    drains: bool = True
    waits: bool = False  # each part is sent in a task, as it is to a client that is slow
    hang_up_after: int | None = None  # parts
    _callback: Callable[[], None] | None = None

    def on_gone(self, callback: Callable[[], None] | None) -> None:
        self._callback = callback
        if callback and self.gone:
            callback()

    @property
    def is_being_answered(self) -> bool:
        """Whether the relay, who is told of a hang-up, has the head of the upstream's answer."""
        passage = getattr(self._callback, "__self__", None)
        return isinstance(passage, Passage) and passage.heard

    def hang_up(self) -> None:
        self.gone = True
        if self._callback:
            self._callback()

    async def send_head(self, status: int, headers: Headers) -> None:
        self.status, self.headers = status, dict(headers)

    async def send(self, data: bytes, *, last: bool = False) -> None:
        if not self.gone:
            self.keep(data, last=last)

    def send_now(self, data: bytes) -> bool:
        if self.gone or self.waits:
            return False
        self.keep(data)
        return True

    def answer_now(self, status: int, headers: Headers, body: bytes) -> bool:
        if self.gone or self.waits:
            return False
        self.status, self.headers = status, dict(headers)
        assert self.headers[b"content-length"] == b"%d" % len(body), "nothing else ends it"
        self.keep(body, last=True)
        return True

    def keep(self, data: bytes, *, last: bool = False) -> None:
        """Take a part; the client may hang up with it."""
        self.parts.append(data)
        self.log.append("last" if last else "part")
        self.ended = last
        if self.hang_up_after is not None and len(self.parts) >= self.hang_up_after:
            self.hang_up()

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    @property
    def events(self) -> list[Any]:
        """The data of each event, decoded; comments left out."""
        lines = (event.splitlines() for event in self.body.replace(b"\r", b"").split(b"\n\n"))
        datas = [
            b"\n".join(line[5:].strip() for line in each if line.startswith(b"data:"))
            for each in lines
        ]
        datas = [data for data in datas if data]
        return [data.decode() if data == b"[DONE]" else json.loads(data) for data in datas]


@dataclass
class Relaying:
    """A gateway over the fake upstream. `channels`: personas in the order in which they are
    tried.
    """

    upstream: FakeUpstream
    books: MemoryBooks = field(default_factory=MemoryBooks)
    settings: dict[str, Any] = field(default_factory=dict)
    channels: tuple[str, ...] = ("openai",)
    vendors: dict[str, str] = field(default_factory=dict)  # persona -> vendor, if named otherwise
    speaks: dict[str, tuple[str, ...]] = field(default_factory=dict)  # by persona, if not chat
    model: dict[str, Any] = field(default_factory=lambda: {"max_output": 1000})
    price: dict[str, Any] = field(default_factory=lambda: dict(PRICE))
    rate_ppm: int = 1_000_000
    base_urls: dict[str, str] = field(default_factory=dict)
    observed: list[tuple[Settlement, Settled]] = field(default_factory=list)
    client: UpstreamClient | None = None
    memory: Memory = field(default_factory=Memory)
    find_vendor: Callable[[str], Vendor] = registry.find
    key: dict[str, Any] = field(default_factory=dict)  # what the caller's key has beside its id
    counted: list[tuple[str, ...]] = field(default_factory=list)  # texts that were to be counted
    tokens: int | None = None  # what counting them gives
    played: RawServer | None = None  # the upstream, where it is not the fake
    _served: int = 0

    async def __aenter__(self) -> Self:
        self.all_settings = Settings(data_dir=Path("/nowhere"), database="", **self.settings)
        self.client = UpstreamClient(self.all_settings, proxies={})
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.client is not None
        await self.client.aclose()

    def catalogue(self, *upstream_models: str) -> Catalogue:
        """One model, `m`, that each channel knows by one of these names (the last one repeats)."""
        names = [*upstream_models, *[upstream_models[-1]] * len(self.channels)]
        channels = [
            Channel(
                f"ch-{n}-{persona}",
                self.vendors.get(persona, persona),
                self.base_urls.get(persona) or self.upstream.base_url(persona),
                self.upstream.key(persona),
                speaks=self.speaks.get(persona, ("chat",)),
            )
            for n, persona in enumerate(self.channels)
        ]
        routes = tuple(Route(ch.id, name) for ch, name in zip(channels, names, strict=False))
        model = Model("m", routes, (read_price(self.price),), aliases=("alias",), **self.model)
        return Catalogue.of(7, channels, [model], [Group("default", self.rate_ppm)])

    async def call(
        self, *upstream_models: str, client: RecordingClient | None = None, **fields: Any
    ) -> RecordingClient:
        """Make one call of model `m`; give `fields` of the body, such as say="text"."""
        asked = [{"role": "user", "content": _script(fields) or "Hello"}]
        return await self._serve(chat.parse, {"messages": asked, **fields}, upstream_models, client)

    async def respond(
        self, *upstream_models: str, client: RecordingClient | None = None, **fields: Any
    ) -> RecordingClient:
        """Ask for one response of it, as `call` does."""
        body = {"input": _script(fields) or "Hello", "store": False, **fields}
        return await self._serve(responses.parse, body, upstream_models, client)

    async def message(
        self, *upstream_models: str, client: RecordingClient | None = None, **fields: Any
    ) -> RecordingClient:
        """Ask for one message of it, as `call` does."""
        asked = [{"role": "user", "content": _script(fields) or "Hello"}]
        body = {"max_tokens": 500, "messages": asked, **fields}
        return await self._serve(messages.parse, body, upstream_models, client)

    async def _serve(
        self,
        parse: Callable[[bytes, str], Call],
        body: dict[str, Any],
        upstream_models: tuple[str, ...],
        client: RecordingClient | None,
    ) -> RecordingClient:
        assert self.client is not None
        client = client or RecordingClient(self.books.log)
        raw = json.dumps({"model": "m", **body}).encode()
        call = parse(raw, f"req_{self._served}")
        self._served += 1
        self.gateway = relay.Gateway(
            self.all_settings,
            "inst_self",
            self.catalogue(*(upstream_models or ("gpt-4o",))),
            self.client,
            self.books,
            lambda settlement, settled: self.observed.append((settlement, settled)),
            SEAL,
            self.memory,
            find_vendor=self.find_vendor,
            count_text=self._count,
        )
        caller = replace(CALLER, key=replace(CALLER.key, **self.key))
        await relay.serve(self.gateway, caller, call, client)
        return client

    async def _count(self, model: Model, texts: Sequence[str]) -> int | None:
        self.counted.append(tuple(texts))
        return self.tokens

    async def start(
        self, *upstream_models: str, client: RecordingClient, **fields: Any
    ) -> asyncio.Task[RecordingClient]:
        """The same as a task, once the upstream has the request."""
        seen = len(self.upstream.requests)
        task = asyncio.create_task(self.call(*upstream_models, client=client, **fields))
        while len(self.upstream.requests) == seen:
            await asyncio.sleep(0.005)
        return task

    @property
    def settlement(self) -> Settlement:
        """The latest."""
        return self.books.settled[-1]


def _script(fields: dict[str, Any]) -> str:
    """What the fake upstream is to say, taken out of the fields: `say`, `usage` …"""
    return "\n".join(
        f"{name}: {json.dumps(fields.pop(name)) if name == 'usage' else fields.pop(name)}"
        for name in ("say", "think", "search", "usage", "finish")
        if name in fields
    )
