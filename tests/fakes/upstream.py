"""A real HTTP server that plays an OpenAI-style upstream: strict per vendor, broken on demand.

It runs on loopback in a thread and loop of its own, so that what is tested may block or crash.
The base path of a URL chooses the persona (personas.py), the last user message what is said
(answers.py), and the model's name what goes wrong (faults.py). Every request is kept. Some
personas speak the Responses API beside chat or instead of it (responses.py and its siblings).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from dataclasses import dataclass, field, replace
from typing import Any, Self

from tests.fakes import messages_rules
from tests.fakes.answers import answer_to
from tests.fakes.faults import (
    Close,
    Hang,
    Repeat,
    Reply,
    Reset,
    Sleep,
    Step,
    fault_of,
    reply_instead,
    reply_with,
)
from tests.fakes.messages_faults import OWN_PROBLEMS, reply_to_messages
from tests.fakes.personas import ALL_PERSONAS, Persona
from tests.fakes.responses_faults import reply_to
from tests.fakes.responses_rules import violations
from tests.fakes.shapes import Problem

_API_PATHS = {"chat": "/chat/completions", "responses": "/responses", "messages": "/messages"}
_MAX_HEAD_BYTES = 256 * 1024


@dataclass
class Recorded:
    """One request as it arrived. `finished`: its whole answer was written."""

    persona: str
    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    raw: bytes
    body: Any  # None if it is not JSON
    connection: int
    finished: bool = False
    # What would be stored at the vendor or is looked for there; not of chats.
    violations: list[str] = field(default_factory=list)


class _Gone(Exception):
    """The connection is of no more use."""


class FakeUpstream:
    """Start it with `with FakeUpstream() as upstream:` or by start() and stop()."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[Recorded] = []
        self.open_sockets = 0
        self.connections = 0  # ever accepted
        self.loop_to = ""  # base URL and key that the model `hop-loop` sends its requests to
        self.loop_key = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fake-upstream", daemon=True)
        self._changed = threading.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def start(self) -> Self:
        """Listen on a free loopback port."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def stop(self) -> None:
        """Close every connection and end the thread."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def base_url(self, persona: str) -> str:
        """The base URL under which a persona is found, as a channel would have it."""
        return f"http://127.0.0.1:{self.port}{ALL_PERSONAS[persona].base_path}"

    def key(self, persona: str) -> str:
        """The credential that a persona takes."""
        return ALL_PERSONAS[persona].key

    @property
    def last(self) -> Recorded:
        """The latest request."""
        return self.requests[-1]

    @property
    def violations(self) -> list[str]:
        """Those of all requests seen but chats: none, if nothing was to be stored here."""
        return [found for recorded in self.requests for found in recorded.violations]

    def clear(self) -> None:
        """Forget the requests seen so far."""
        with self._changed:
            self.requests.clear()

    def wait_for_requests(self, count: int, timeout_s: float = 10) -> list[Recorded]:
        """The requests, once that many have come. Raises AssertionError."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self.requests) >= count, timeout_s)
            assert came, f"{len(self.requests)} requests came in {timeout_s} s, not {count}."
            return list(self.requests)

    def wait_for_sockets(self, at_most: int = 0, timeout_s: float = 10) -> None:
        """Wait until no more than that many connections are open. Raises AssertionError."""
        with self._changed:
            closed = self._changed.wait_for(lambda: self.open_sockets <= at_most, timeout_s)
            assert closed, f"{self.open_sockets} connections are open after {timeout_s} s."

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._connected, "127.0.0.1", 0, limit=_MAX_HEAD_BYTES
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._count(+1)
        self.connections += 1
        number = self.connections
        try:
            while await self._serve(reader, writer, number):
                pass
        except (_Gone, ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()
            self._tasks.discard(task)
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._changed:
            self.open_sockets += change
            self._changed.notify_all()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> bool:
        recorded = await _read_request(reader, number)
        if recorded is None:
            return False
        with self._changed:
            self.requests.append(recorded)
            self._changed.notify_all()
        model = recorded.body.get("model") if isinstance(recorded.body, dict) else ""
        if self.loop_to and fault_of(model) == "hop-loop":
            await self._send_on(recorded, writer)
            return False
        await _play(self._reply(recorded), reader, writer)
        recorded.finished = True
        return recorded.headers.get("connection", "").lower() != "close"

    def _reply(self, recorded: Recorded) -> Reply:
        persona = ALL_PERSONAS.get(recorded.persona)
        if persona is None:
            return Reply(404, steps=(b'{"error":{"message":"Not found","code":null}}',))
        dialect = _dialect(persona, recorded)
        if dialect == "messages":
            persona = replace(persona, error=messages_rules.anthropic_error)
        problem = _problem(persona, recorded)
        if problem is not None:
            return Reply(problem.status, steps=(persona.error(problem),))
        fault = fault_of(recorded.body.get("model"))
        instead = reply_instead(fault, persona, self.base_url(persona.name))
        if instead is not None and not (dialect == "messages" and fault in OWN_PROBLEMS):
            return instead
        return _answer(persona, recorded, fault)

    async def _send_on(self, recorded: Recorded, writer: asyncio.StreamWriter) -> None:
        """Play the proxy that leads back to the gateway: same body, same hops, the loop's key."""
        host, _, path = self.loop_to.removeprefix("http://").partition("/")
        name, _, port = host.partition(":")
        reader, out = await asyncio.open_connection(name, int(port))
        path += _API_PATHS[_dialect(ALL_PERSONAS[recorded.persona], recorded) or "chat"]
        head = (
            f"POST /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n"
            f"authorization: Bearer {self.loop_key}\r\ncontent-type: application/json\r\n"
            f"x-farebox-hop: {recorded.headers.get('x-farebox-hop', '')}\r\n"
            f"content-length: {len(recorded.raw)}\r\n\r\n"
        )
        out.write(head.encode() + recorded.raw)
        try:
            while data := await reader.read(65536):
                writer.write(data)
            await writer.drain()
        finally:
            out.close()


def closed_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _dialect(persona: Persona, recorded: Recorded) -> str | None:
    return persona.paths.get(recorded.path)


def _problem(persona: Persona, recorded: Recorded) -> Problem | None:
    dialect = _dialect(persona, recorded)
    if recorded.method != "POST" or dialect is None:
        return Problem(404, f"Invalid URL ({recorded.method} {recorded.path})")
    if dialect == "messages":
        unauthorized = messages_rules.unauthorized(persona, recorded.headers)
        if unauthorized is not None:
            return unauthorized
    elif recorded.headers.get("authorization") != f"Bearer {persona.key}":
        return persona.unauthorized
    if not isinstance(recorded.body, dict):
        return Problem(400, "We could not parse the JSON body of your request.")
    return None


def _violations(path: str, body: Any) -> list[str]:
    if path.endswith("/responses"):
        return violations(body)
    return messages_rules.violations(body) if path.endswith("/messages") else []


def _answer(persona: Persona, recorded: Recorded, fault: str) -> Reply:
    body = recorded.body
    match _dialect(persona, recorded):
        case "messages":
            return reply_to_messages(persona, body, recorded.headers)
        case "responses":
            return reply_to(persona, body)
        case _:
            problem = persona.refuses(body)
            if problem is not None:
                return Reply(problem.status, steps=(persona.error(problem),))
            return reply_with(fault, answer_to(persona, body), stream=body.get("stream") is True)


def _is_of(persona: Persona, path: str) -> bool:
    return path in persona.paths or path.startswith(persona.base_path + "/")


async def _read_request(reader: asyncio.StreamReader, number: int) -> Recorded | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    request_line, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = request_line.split(" ", 2)
    headers = {k.lower(): v.strip() for k, _, v in (li.partition(":") for li in lines) if k}
    raw = await reader.readexactly(int(headers.get("content-length", "0")))
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    names = (p.name for p in ALL_PERSONAS.values() if _is_of(p, path))
    found = _violations(path, body)
    return Recorded(next(names, ""), method, path, headers, raw, body, number, violations=found)


async def _play(reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _step(reply.before, reader, writer, chunked=False)
    known = all(isinstance(step, bytes) for step in reply.steps) and not reply.stream
    length = sum(len(step) for step in reply.steps if isinstance(step, bytes))
    framing = f"content-length: {length}" if known else "transfer-encoding: chunked"
    lines = [f"HTTP/1.1 {reply.status} Fake", *(f"{k}: {v}" for k, v in reply.headers), framing]
    if any(name == "content-length" for name, _ in reply.headers):
        lines.pop()
    writer.write("\r\n".join((*lines, "", "")).encode())
    for step in reply.steps:
        await _step(step, reader, writer, chunked=not known)
    if not known:
        writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _step(
    step: Step, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, chunked: bool
) -> None:
    match step:
        case bytes():
            await _write(step, writer, chunked=chunked)
        case Sleep(seconds):
            await asyncio.sleep(seconds)
        case Hang():
            await writer.drain()
            while await reader.read(65536):
                pass
            raise _Gone
        case Close():
            raise _Gone
        case Reset():
            writer.transport.abort()
            raise _Gone
        case Repeat(data, seconds):
            while True:
                await _write(data, writer, chunked=chunked)
                await asyncio.sleep(seconds)


async def _write(data: bytes, writer: asyncio.StreamWriter, *, chunked: bool) -> None:
    if not data:
        return
    writer.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
    await writer.drain()
    # Each piece goes out by itself, as far as the network lets it.
    await asyncio.sleep(0)
