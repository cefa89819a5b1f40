"""One HTTP/1.1 connection: a request out, its answer in. Time limits are exchange.py's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

import httptools

from farebox.core.ports import UpstreamHead
from farebox.upstream.alarm import Alarm
from farebox.upstream.tls import keep_session

SMALL_BODY_BYTES = 64 * 1024  # up to here one copy of the body is cheaper than a second write
_SLICE_BYTES = 256 * 1024  # of a large body, handed over while the transport takes more
_HIGH_WATER_BYTES = 256 * 1024  # unread: then the upstream is paused
_MAX_INTERIM_HEADS = 10  # 1xx heads before the answer
_BODILESS = frozenset((204, 304))  # no body whatever the headers say (RFC 9112, 6.3)


class Listener(Protocol):
    """Who waits for the answer."""

    def on_progress(self) -> None:
        """The head, part of the body or the end has arrived."""
        ...

    def on_broken(self, reason: str, cause: BaseException | None) -> None:
        """The answer ends here, before its end. The connection is dropped already."""
        ...

    def on_enough(self, error: Exception | None) -> None:
        """The sink wants no more for now, or has raised this; it is forgotten already."""
        ...

    def on_alarm(self) -> None:
        """The connection's alarm rings, perhaps early."""
        ...


class Keeper(Protocol):
    """Who keeps the connection between answers."""

    def on_lost(self, connection: Connection) -> None:
        """The connection is closed."""
        ...


class _BadAnswer(Exception):
    """Well-formed bytes that are no answer to what was asked."""


class Connection(asyncio.Protocol):
    """The state of one connection and of the answer on it."""

    __slots__ = (
        "_barren_bytes",
        "_chunks",
        "_interim_heads",
        "_is_interim",
        "_is_reading_paused",
        "_is_writing_paused",
        "_keep_alive",
        "_loop",
        "_max_head_bytes",
        "_named",
        "_parser",
        "_transport",
        "_unread_bytes",
        "_unsent",
        "alarm",
        "complete",
        "dropped",
        "head",
        "heard_s",
        "keeper",
        "listener",
        "on_body",
        "on_header",
        "reused",
        "sent_s",
        "sink",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, max_head_bytes: int) -> None:
        self._loop = loop
        self._max_head_bytes = max_head_bytes
        self._transport: asyncio.Transport | None = None
        self._chunks: list[bytes] = []  # of the body, that came and were not taken
        self._named: dict[bytes, bytes] = {}  # headers as they came, trailers behind them too
        # What the parser tells most often: many headers, and hundreds of chunks of a full read.
        self.on_header = self._named.__setitem__
        self.on_body = self._chunks.append
        self._parser = httptools.HttpResponseParser(self)
        self._unsent: memoryview | None = None  # what of a large body is not written yet
        self._is_writing_paused = False
        self.alarm = Alarm(loop, self._on_alarm)  # for the listener, outliving it: see Alarm
        self.keeper: Keeper | None = None
        self.listener: Listener | None = None
        # Given what comes of the body while more is to come, in the callback in which it comes, and
        # as long as it says that it wants more. What is read already, and the end, are not for it.
        self.sink: Callable[[bytes], object] | None = None
        self.dropped = False  # closed, or to be closed: never to be used again
        self.reused = False  # it has lain idle, so the upstream may have closed it unseen
        self.sent_s = 0.0  # loop time of the last write
        # Of one answer; what is not as here when it was read to its end, send() sets back.
        self.heard_s = 0.0  # loop time of the last read; 0: no byte of the answer has come
        self.head: UpstreamHead | None = None
        self.complete = False  # the answer has been received to its end
        self._barren_bytes = 0  # received since the last byte of body
        self._interim_heads = 0
        self._is_interim = False
        self._keep_alive = False  # known at the end
        self._unread_bytes = 0  # of the reads that brought the chunks, if more is to come
        self._is_reading_paused = False

    # What the exchange and the pool ask for.

    @property
    def has_unread(self) -> bool:
        """Whether take() has something."""
        return bool(self._chunks)

    def send(self, listener: Listener, head: bytes, body: bytes) -> None:
        """Write a request; the listener hears of the answer."""
        transport = self._transport
        assert transport is not None
        assert self.listener is None
        if self.reused:
            self.heard_s = 0.0
            self.head = None
            self.complete = False
            self._barren_bytes = self._interim_heads = 0
        self.listener = listener
        self.sent_s = self._loop.time()
        if len(body) <= SMALL_BODY_BYTES:
            transport.write(head + body)
            return
        # Only as much is handed over as the transport takes, so that the body is not held twice.
        start = memoryview(body)
        self._unsent = start[_SLICE_BYTES:] if len(body) > _SLICE_BYTES else None
        transport.writelines([head, start[:_SLICE_BYTES]])
        self._send_more()

    def take(self) -> bytes:
        """All of the body that has arrived and not been taken."""
        chunks = self._chunks
        if not chunks:
            return b""
        if len(chunks) == 1:
            data = chunks.pop()
        else:
            data = b"".join(chunks)
            chunks.clear()
        if self._unread_bytes:
            self._unread_bytes = 0
            if self._is_reading_paused:
                self._resume_reading()
        return data

    def take_whole(self, limit_bytes: int) -> bytes | None:
        """The same, if the answer has been received to its end and that is no larger."""
        chunks = self._chunks
        if not self.complete:
            return None
        if len(chunks) == 1 and not self._unread_bytes and len(chunks[0]) <= limit_bytes:
            return chunks.pop()  # as most are that come in one read
        return self.take() if sum(map(len, chunks)) <= limit_bytes else None

    def release(self) -> bool:
        """Part with the listener if another request may follow: all is sent, the answer is read to
        its end. Whether that is so.
        """
        is_done = self.complete and not self._chunks and self._unsent is None
        if not is_done or not self._keep_alive or self.dropped:
            return False
        self.listener = None
        return True

    def drop(self) -> None:
        """Close at once. May be repeated."""
        self.listener = self.sink = None
        self.alarm.stop()
        self._unsent = None
        if not self.dropped:
            self.dropped = True
            if self._transport is not None:
                self._transport.abort()

    def break_off(self, reason: str, cause: BaseException | None) -> None:
        """Close at once, and tell whoever waits for the answer."""
        listener = self.listener
        self.drop()
        if listener is not None:
            listener.on_broken(reason, cause)

    # What the event loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open, TLS included."""
        self._transport = cast(asyncio.Transport, transport)
        if self.dropped:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Bytes of the answer; between answers, of nothing that was asked for."""
        listener = self.listener
        if listener is None or self.complete:
            self._drop_after_answer()
            return
        self.heard_s = self._loop.time()
        self._barren_bytes += len(data)
        chunks = self._chunks
        before = len(chunks)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._refuse(listener, error)
            return
        if self.complete:
            listener.on_progress()
            return
        if len(chunks) > before:
            self._barren_bytes = 0
        elif self._barren_bytes > self._max_head_bytes:
            self.break_off("bad_http", None)  # an endless head, chunk extension or trailer
            return
        sink = self.sink
        if sink is None or not chunks:
            self._keep(listener, len(data))
            return
        try:
            wants_more = sink(chunks.pop() if len(chunks) == 1 else self.take())
        except Exception as error:  # noqa: BLE001 (it is for who waits for the sink)
            self.sink = None
            listener.on_enough(error)
        else:
            if not wants_more:
                self.sink = None
                listener.on_enough(None)

    def _refuse(self, listener: Listener, error: Exception) -> None:
        """What has come is no HTTP, or not all of it."""
        if self.complete:  # the answer is good, what follows it is not
            self._drop_after_answer()
            listener.on_progress()
        else:
            self.break_off("bad_http", error)

    def _keep(self, listener: Listener, read_bytes: int) -> None:
        """What has come is the listener's to take, and more will come."""
        if self.head is not None:
            listener.on_progress()
        if self._chunks:  # it was not taken
            self._unread_bytes += read_bytes
            if self._unread_bytes > _HIGH_WATER_BYTES and not self.dropped:
                self._pause_reading()

    def eof_received(self) -> None:
        """The upstream has said all it has to say; asyncio closes the connection after this."""
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed, by either side."""
        self._end(exc)
        self._parser = cast("Any", None)  # it refers to us: without the loop both go at once
        self._transport = None
        keeper, self.keeper = self.keeper, None
        if keeper is not None:
            keeper.on_lost(self)

    def pause_writing(self) -> None:
        """The upstream takes less than we have."""
        self._is_writing_paused = True

    def resume_writing(self) -> None:
        """The upstream takes more."""
        self._is_writing_paused = False
        self._send_more()

    def _send_more(self) -> None:
        while self._unsent is not None and not self._is_writing_paused and not self.dropped:
            assert self._transport is not None
            part, rest = self._unsent[:_SLICE_BYTES], self._unsent[_SLICE_BYTES:]
            self._unsent = rest if len(rest) else None
            self.sent_s = self._loop.time()
            self._transport.write(part)

    def _pause_reading(self) -> None:
        if not self._is_reading_paused:
            assert self._transport is not None
            self._is_reading_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self.dropped:
            assert self._transport is not None
            self._is_reading_paused = False
            self.heard_s = self._loop.time()  # the silence was ours
            self._transport.resume_reading()

    def _drop_after_answer(self) -> None:
        """Something came that answers no request. What has arrived of the answer stays readable."""
        listener = self.listener
        self.drop()
        self.listener = listener

    def _end(self, exc: Exception | None) -> None:
        """The upstream closed. What that means depends on how far the answer was."""
        listener, head = self.listener, self.head
        is_end = head is not None and exc is None and _ends_with_connection(head)
        broken = listener is not None and not self.complete and not is_end
        self.complete = self.complete or is_end
        self.drop()
        if listener is None:
            return
        if broken:
            listener.on_broken(_reason_of_end(exc, has_head=head is not None), exc)
        elif is_end:
            listener.on_progress()

    def _on_alarm(self) -> None:
        if self.listener is not None:
            self.listener.on_alarm()

    # What the parser tells. An exception here ends feed_data() with an HttpParserError.

    def on_message_begin(self) -> None:
        """The first byte of an answer."""
        if self.complete:
            raise _BadAnswer("a second answer")

    def on_headers_complete(self) -> None:
        """The head is whole: final, or one of the interim ones that come before it."""
        status = self._parser.get_status_code()
        if status < 200:
            self._interim_heads += 1
            if status == 101 or self._interim_heads > _MAX_INTERIM_HEADS:
                raise _BadAnswer("an upgrade, or too many interim answers")
            self._is_interim = True
            return
        headers: dict[bytes, bytes] = {}
        for name, value in self._named.items():  # a comprehension would be a call of its own
            headers[name.lower()] = value.rstrip()
        if self._barren_bytes > self._max_head_bytes:
            self._check_size(headers)
        coding = headers.get(b"transfer-encoding")
        # The parser refuses a Content-Length twice or beside Transfer-Encoding (RFC 9112, 6.3).
        if coding is not None and coding.lower() != b"chunked":
            raise _BadAnswer("a transfer-encoding other than chunked")
        self._barren_bytes = 0
        self.head = UpstreamHead(status, headers)
        if not self.reused:
            assert self._transport is not None
            keep_session(self._transport)

    def _check_size(self, headers: Mapping[bytes, bytes]) -> None:
        """Refuse a head that came within one read and so escaped the count over reads."""
        if sum(len(name) + len(value) for name, value in headers.items()) > self._max_head_bytes:
            raise _BadAnswer("headers too large")

    def on_message_complete(self) -> None:
        """The end of the answer, or of an interim head."""
        self._named.clear()  # trailers, too
        if self._is_interim:
            self._is_interim = False
            return
        self._keep_alive = self._parser.should_keep_alive()
        self.complete = True


def _ends_with_connection(head: UpstreamHead) -> bool:
    """Whether nothing else says where the body ends (RFC 9112, 6.3)."""
    if head.status in _BODILESS or b"content-length" in head.headers:
        return False
    return b"transfer-encoding" not in head.headers


def _reason_of_end(exc: Exception | None, *, has_head: bool) -> str:
    if exc is not None:
        return "reset"
    return "truncated" if has_head else "closed"
