"""A worker for tests: the real application on a real server, with fakes at the gateway's seams."""

import asyncio
import contextlib
import re
import tempfile
import threading
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import cache, partial
from pathlib import Path
from typing import Any

import httptools
import msgspec
import pytest
import uvicorn
from uvicorn.server import ServerState

from farebox.billing.prices import read_price
from farebox.core.account import Account, Key
from farebox.core.channel import Channel
from farebox.core.ids import key_digest, new_key
from farebox.core.ports import Settled, UpstreamHead
from farebox.core.settings import Settings
from farebox.counting.client import ProcessCounter
from farebox.counting.factors import Factors
from farebox.dialects.seal import Seal
from farebox.errors import NotFound, UpstreamFailed
from farebox.relay import Gateway
from farebox.routing.catalogue import Catalogue, Group, Model, Route
from farebox.server.allowance import Allowance
from farebox.server.asgi import application
from farebox.server.auth import Directory
from farebox.server.background import Background
from farebox.server.count import Counting
from farebox.server.lane import Lane
from farebox.server.protocol import Protocol
from farebox.server.state import Reads, State
from farebox.store.store import open_store
from farebox.telemetry.metrics import Metrics

PEPPER = b"pepper of tests"
CHANNEL_SECRET = "vendor-secret-canary-0123456789"
PRICE = read_price({"input": "1", "output": "2"})
MODELS = [
    Model("m", (Route("c", "upstream-m"),), (PRICE,), context=8000, max_output=100),
    Model("xiaomi/mimo-v2.6-pro", (Route("c", "mimo"),), (PRICE,), aliases=("mimo-pro",)),
    Model("secret-m", (Route("c", "s"),), (PRICE,)),
    Model("free-by-mistake", (Route("c", "f"),), ()),
]
CATALOGUE = Catalogue.of(
    7,
    [Channel("c", "openai_compatible", "http://vendor.invalid/v1", CHANNEL_SECRET)],
    MODELS,
    [Group("default", 1_000_000, ("m", "xiaomi/*")), Group("all", 500_000)],
    created_us=1_700_000_000_000_000,
)
# By which of the two ways hot requests go, if a test does not say; BOTH_WAYS runs tests by each.
WAY = {"carrier": "lane"}
BOTH_WAYS = pytest.mark.parametrize("carrier", ["lane", "asgi"], indirect=True)
JSON_HEAD = UpstreamHead(200, {b"content-type": b"application/json"})
SSE_HEAD = UpstreamHead(200, {b"content-type": b"text/event-stream"})


@dataclass
class FakeExchange:
    """An upstream's answer as a script: bytes to give, events to wait for, errors to raise."""

    answer_head: UpstreamHead
    script: list
    aborted: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False

    async def head(self, patience_s):
        await asyncio.sleep(0)
        return self.answer_head

    def whole(self, limit_bytes):
        return None  # a script is read step by step

    async def read(self, patience_s):
        await asyncio.sleep(0)
        if not self.script:
            return b""
        step = self.script[0]
        if isinstance(step, asyncio.Event):
            abort = asyncio.create_task(self.aborted.wait())
            waits = [asyncio.create_task(step.wait()), abort]
            await asyncio.wait(waits, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            if self.aborted.is_set():
                raise UpstreamFailed("Aborted.", reason="aborted")
            if not step.is_set():
                return None
            self.script.pop(0)
            return await self.read(patience_s)
        self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    async def pump(self, take, patience_s):
        while (data := await self.read(patience_s)) is not None and take(data) and data:
            pass

    def wake(self):
        pass  # these waits are short; tests that need it have a real upstream

    def abort(self):
        self.aborted.set()

    def close(self):
        self.closed = True


@dataclass
class FakeUpstream:
    """Gives the next prepared exchange to each call, and keeps what was asked."""

    exchanges: list = field(default_factory=list)
    requests: list = field(default_factory=list)

    def open(self, request):
        self.requests.append(request)
        return self.exchanges.pop(0)


@dataclass
class FakeBooks:
    """Grants every hold, or raises what it was told to; keeps the settlements."""

    refuse: Exception | None = None
    settlements: list = field(default_factory=list)
    released_ids: list = field(default_factory=list)
    delivered_ids: list = field(default_factory=list)

    async def hold(self, request):
        if self.refuse is not None:
            raise self.refuse
        return request.most_nanocredits

    def release(self, request_id):
        self.released_ids.append(request_id)

    async def settle(self, settlement):
        self.settlements.append(settlement)
        return Settled(settlement.due_nanocredits, 0)

    async def extend(self, request_id, more_nanocredits):
        raise AssertionError("these calls hold in full")

    def delivered(self, request_id):
        self.delivered_ids.append(request_id)


@dataclass
class FakeKeys:
    """The accounts and keys of the store, in lists."""

    accounts: list = field(default_factory=list)
    keys: list = field(default_factory=list)
    revision: int = 0

    def find_key(self, digest):
        return None

    def changed_since(self, revision):
        return self

    def add(self, name, group="default", models=()):
        secret = new_key()
        number = len(self.accounts) + 1
        self.accounts.append(Account(number, name, group, None))
        self.keys.append(Key(f"key_{number}", number, key_digest(PEPPER, secret), models=models))
        return secret


@dataclass
class FakeReads:
    """Receipts by id and account, and balances."""

    receipts: dict = field(default_factory=dict)
    broken: bool = False

    def receipt(self, request_id, account_id):
        self.check()
        if (request_id, account_id) not in self.receipts:
            raise NotFound(f"There is no receipt {request_id!r}.")
        return self.receipts[request_id, account_id]

    def money(self, account_id):
        self.check()
        return {"name": f"account {account_id}", "balance": "4.25"}

    def check(self):
        if self.broken:
            raise OSError("no such disk")


class LazyStore:
    """A real store of kept responses for one worker, made when it is first used."""

    # Two threads may be the first to want one, and migrating is for one thread at a time.
    _making = threading.Lock()

    def __init__(self):
        self._store = None
        self._folder = None

    def __getattr__(self, name):
        with self._making:
            return getattr(self._store or self._make(), name)

    def _make(self):
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        (folder / "farebox.db").write_bytes(empty_store())
        self._store = open_store(f"sqlite:///{folder}/farebox.db", folder)
        for number in range(1, 6):
            self._store.create_account(f"account {number}", credits_nanocredits=0)
        return self._store

    def close(self):
        if self._store is not None and self._folder is not None:
            self._store.close()
            self._folder.cleanup()


@cache
def empty_store():
    """A store's file, made once: migrating takes most of a test's time."""
    with tempfile.TemporaryDirectory() as folder:
        open_store(f"sqlite:///{folder}/farebox.db", Path(folder)).close()
        return (Path(folder) / "farebox.db").read_bytes()


@dataclass(frozen=True)
class Answer:
    """What came back: status, headers by lower-case name, body, and whether it came to its end."""

    status: int
    headers: dict
    body: bytes
    complete: bool

    @property
    def json(self):
        return msgspec.json.decode(self.body)


class _Reader:
    def __init__(self):
        self.headers, self.body, self.complete = {}, b"", False

    def on_header(self, name, value):
        self.headers.setdefault(name.decode().lower(), value.decode())

    def on_body(self, body):
        self.body += body

    def on_message_complete(self):
        self.complete = True


@dataclass
class Worker:
    """A running worker and what its seams were told. `secret` is a key of account 1."""

    state: State
    upstream: FakeUpstream
    books: FakeBooks
    keys: FakeKeys
    reads: FakeReads
    secret: str
    port: int = 0
    served: ServerState = field(default_factory=ServerState)  # uvicorn's, while it runs

    @property
    def origin(self):
        return f"http://127.0.0.1:{self.port}"

    def will_answer(self, head, *script):
        """Prepare the upstream's next answer."""
        exchange = FakeExchange(head, list(script))
        self.upstream.exchanges.append(exchange)
        return exchange

    async def send(self, method, path, headers=None, body=None, secret=None):
        """Send a request; its connection's streams."""
        lines = {"host": "gateway", "connection": "close", **(headers or {})}
        if secret is not None:
            lines["authorization"] = f"Bearer {secret}"
        if body is not None:
            lines.setdefault("content-length", str(len(body)))
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + (body or b""))
        return reader, writer

    async def ask(self, method, path, headers=None, body=None, secret=None):
        """Send a request and read the answer to its end."""
        reader, writer = await self.send(method, path, headers, body, secret)
        async with asyncio.timeout(10):
            raw = await reader.read()
        writer.close()
        return parse(raw, to_head=method == "HEAD")

    async def call(self, body, secret=None, headers=None):
        """POST a chat completion, with this worker's own key unless told otherwise."""
        return await self.ask(
            "POST", "/v1/chat/completions", headers, body, self.secret if secret is None else secret
        )


def parse(raw, *, to_head=False):
    """An answer's bytes as an Answer."""
    target = _Reader()
    parser = httptools.HttpResponseParser(target)
    if to_head:  # its Content-Length announces what a GET would have brought
        raw = re.sub(rb"content-length: \d+", b"content-length: 0", raw)
    parser.feed_data(raw)
    return Answer(parser.get_status_code(), target.headers, target.body, target.complete)


def make_worker(kept: Any = None, **settings):
    """A worker that is not listening yet. `kept`: where its responses are kept."""
    books, upstream, keys, reads = FakeBooks(), FakeUpstream(), FakeKeys(), FakeReads()
    kept = kept or LazyStore()
    chosen = Settings(Path("/nowhere"), "", **settings)
    metrics = Metrics()
    gateway = Gateway(
        chosen, "inst_here", CATALOGUE, upstream, books, metrics.call_finished, Seal(b"s" * 32)
    )
    state = State(
        chosen,
        gateway,
        Directory(keys, PEPPER),
        Reads(reads.receipt, reads.money, reads.check),
        metrics,
        kept,
        Background("w0-test"),
        Counting(ProcessCounter(None), Factors()),
        Allowance(),
    )
    return Worker(state, upstream, books, keys, reads, keys.add("alice"))


@contextlib.asynccontextmanager
async def running(worker, pages=(), keep_alive_s=5, carrier=None):
    """Serve the worker on a free port of loopback; by `asgi`, no request takes the fast lane."""
    await worker.state.directory.reload()
    lane = Lane(worker.state) if (carrier or WAY["carrier"]) == "lane" else None
    config = uvicorn.Config(
        application(worker.state, pages),
        http=partial(Protocol, worker.state.settings, lane),  # pyright: ignore[reportArgumentType]
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_keep_alive=keep_alive_s,
    )
    config.load()
    # What uvicorn's own server does, without its waits, which are most of a short test's time.
    served = worker.served = ServerState()
    served.default_headers = [(b"date", formatdate(usegmt=True).encode())]
    serve = partial(config.http_protocol_class, config=config, server_state=served, app_state={})  # pyright: ignore[reportCallIssue]
    server = await asyncio.get_running_loop().create_server(serve, "127.0.0.1", 0)
    worker.port = server.sockets[0].getsockname()[1]
    try:
        yield worker
    finally:
        server.close()
        await _end(served)
        await worker.state.background.finish(0)
        if isinstance(worker.state.kept, LazyStore):
            worker.state.kept.close()


async def _end(served):
    """Let what is being answered end, for two seconds at most, and cut off the rest."""
    for connection in list(served.connections):
        connection.shutdown()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2):
            while served.connections or served.tasks:
                await asyncio.sleep(0.001)
    for task in served.tasks:
        task.cancel()
