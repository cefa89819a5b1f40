"""One request and its answer: waiting, limits, one retry. Bytes are the connection's business."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from farebox.core.ports import UpstreamHead, UpstreamRequest
from farebox.core.settings import Settings
from farebox.upstream.alarm import Alarm
from farebox.upstream.connection import Connection
from farebox.upstream.decoding import Decoder, DecodingError
from farebox.upstream.failures import failed

_TIMER_SLACK_S = 0.001  # uvloop counts whole milliseconds: a timer may seem to ring early
_NO_LONGER_TRUE = frozenset((b"content-encoding", b"content-length"))  # once a body is decoded


class Connections(Protocol):
    """Who finds a connection for an exchange and calls its begin() or fail(), now or later."""

    def start(self, exchange: HttpExchange, *, fresh: bool) -> None:
        """Use an idle connection, unless a `fresh` one is wanted; else open one; else wait."""
        ...

    def give_up(self, exchange: HttpExchange) -> None:
        """The exchange needs no connection any more."""
        ...

    def put_back(self, connection: Connection) -> None:
        """The connection may serve another exchange."""
        ...


class HttpExchange:
    """Implements core.ports.Exchange. Only one task at a time may wait in head() or read()."""

    __slots__ = (
        "_alarm",
        "_body",
        "_connection",
        "_connections",
        "_decoder",
        "_failure",
        "_first_byte_timeout_s",
        "_head",
        "_is_retry",
        "_loop",
        "_patience_until_s",
        "_request_head",
        "_settings",
        "_started_s",
        "_take",
        "_waiter",
    )

    _started_s: float  # waiting for a connection, if it has to
    _patience_until_s: float  # of who waits

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: Settings,
        connections: Connections,
        request: UpstreamRequest,
        request_head: bytes,
    ) -> None:
        self._loop = loop
        self._settings = settings
        self._connections = connections
        self._request_head = request_head
        self._body = request.body  # kept for the one retry
        limit_s = request.first_byte_timeout_s
        self._first_byte_timeout_s = settings.first_byte_timeout_s if limit_s is None else limit_s
        self._connection: Connection | None = None
        self._head: UpstreamHead | None = None
        self._decoder: Decoder | None = None
        self._failure: tuple[str, BaseException | None] | None = None
        self._is_retry = False
        self._waiter: asyncio.Future[bool] | None = None  # of who waits, or did last
        self._take: Callable[[bytes], object] | None = None  # of who waits in pump()
        self._alarm: Alarm | None = None  # until there is a connection, which has its own
        connections.start(self, fresh=False)
        if self._connection is None:
            self._started_s = loop.time()

    # What the caller asks for.

    async def head(self, patience_s: float) -> UpstreamHead | None:
        """The answer's head; None when nothing came for `patience_s`. Raises UpstreamFailed."""
        while self._head is None:
            connection = self._connection
            if connection is not None and connection.head is not None:
                return self._accept(connection.head)
            if self._failure is not None:
                raise failed(*self._failure)
            if not await self._wait(patience_s):
                return None
        return self._head

    def whole(self, limit_bytes: int) -> bytes | None:
        """What is left of the body, if it is all here, as sent, and no larger than that."""
        if self._connection is None or self._decoder is not None or self._failure is not None:
            return None
        return self._connection.take_whole(limit_bytes)

    async def read(self, patience_s: float) -> bytes | None:
        """What has arrived of the body; b"" at its end; None when nothing came for `patience_s`.

        What arrived before a failure is given first, then UpstreamFailed is raised.
        """
        data: list[bytes] = []
        await self.pump(data.append, patience_s)  # which is never true: one is enough
        return data[0] if data else None

    async def pump(self, take: Callable[[bytes], object], patience_s: float) -> None:
        """Call `take` with what arrives, in the callback in which it arrives, as long as that is
        true, and for `patience_s`; b"" is the clean end.

        What arrived before a failure is given first, then UpstreamFailed is raised; or whatever
        `take` raises.
        """
        if self._head is None and await self.head(patience_s) is None:
            return
        self._take = take
        try:
            self._pour(take)
            while self._take is not None:
                if self._decoder is None and self._connection is not None:
                    # It is given what comes without us; once more, perhaps, if this task is
                    # cancelled and has not had its turn.
                    self._connection.sink = take
                if not await self._wait(patience_s):
                    break
                if self._take is not None:  # the end or a failure, else it would have been poured
                    self._pour(take)
        finally:
            self._take = None
            if self._connection is not None:
                self._connection.sink = None

    def wake(self) -> None:
        """Have who waits look again at what the wait is for."""
        self._wake(False)

    def abort(self) -> None:
        """Drop the connection, or the wait for one, at once."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop()
        self.fail("aborted", None)

    def close(self) -> None:
        """Give the connection back if the answer was read to its end, else drop it."""
        connection = self._connection
        if connection is None or not connection.release():
            self.abort()
            return
        self._connection = None
        if self._failure is None:
            self._failure = ("aborted", None)
        self._connections.put_back(connection)

    # What the pool tells.

    def begin(self, connection: Connection) -> None:
        """Send the request on this connection."""
        if self._alarm is not None:
            self._stop_alarm()
        self._connection = connection
        connection.send(self, self._request_head, self._body)
        if self._waiter is not None:  # mostly nobody waits yet
            self._arm_again()

    def fail(self, reason: str, cause: BaseException | None) -> None:
        """End the exchange; only the first reason counts."""
        if self._failure is None:
            self._failure = (reason, cause)
            if self._connection is None:
                self._connections.give_up(self)
            else:
                self._connection.drop()
        self._stop_alarm()
        self._wake(True)

    # What the connection tells.

    def on_progress(self) -> None:
        """The head, part of the body or the end has arrived."""
        take, waiter = self._take, self._waiter
        if take is not None and waiter is not None and not waiter.done():
            try:
                self._pour(take)
            except Exception as error:  # noqa: BLE001 (it is the waiting task's)
                self.on_enough(error)
                return
            if self._take is not None:
                return
            self._wake(True)
        elif waiter is not None and not waiter.done():  # nobody pours: the head, or a whole answer
            waiter.set_result(True)

    def on_enough(self, error: Exception | None) -> None:
        """Who waits in pump() wants no more of what comes, or could not take it."""
        waiter = self._waiter
        if error is None:
            self._take = None
            self._wake(True)
        elif waiter is not None and not waiter.done():  # else it was woken to find the failure
            self._waiter = None  # which would keep the error, and that us
            waiter.set_exception(error)

    def on_broken(self, reason: str, cause: BaseException | None) -> None:
        """The connection is gone, and the answer is not whole."""
        connection = self._connection
        assert connection is not None
        # An upstream may close an idle connection just as we use it, without having seen the
        # request; so that is sent again. On a new connection the same thing is a failure.
        is_stale = connection.reused and connection.heard_s == 0.0 and reason in ("closed", "reset")
        if is_stale and not self._is_retry:
            self._is_retry = True
            self._connection = None
            self._started_s = self._loop.time()
            self._connections.start(self, fresh=True)
            self._arm_again()
            return
        self.fail(reason, cause)

    def on_alarm(self) -> None:
        """Something may be due for who waits."""
        if self._waiter is None or self._waiter.done():
            return
        now_s = self._loop.time() + _TIMER_SLACK_S
        if now_s >= self._limit_s():
            self.fail(self._overdue(), None)
        elif now_s >= self._patience_until_s:
            self._wake(False)
        else:
            self._arm()

    # Reading.

    def _accept(self, head: UpstreamHead) -> UpstreamHead:
        """Take the head as the answer's, and undo a content-encoding that was not asked for."""
        self._body = b""  # it is not sent again now, and the answer may take long
        coding = head.headers.get(b"content-encoding")
        if coding is not None and coding.lower() != b"identity":
            try:
                self._decoder = Decoder(coding)
            except DecodingError as error:
                self.fail("bad_encoding", error)
                raise failed("bad_encoding", error) from error
            kept = {k: v for k, v in head.headers.items() if k not in _NO_LONGER_TRUE}
            head = UpstreamHead(head.status, kept)
        self._head = head
        return head

    def _pour(self, take: Callable[[bytes], object]) -> None:
        """Give all that there is to read, to its end, or until no more is wanted."""
        if self._decoder is not None:
            self._pour_decoded(take, self._decoder)
            return
        connection = self._connection
        data = b"" if connection is None else connection.take()
        if data and not take(data):
            self._take = None
        elif self._failure is not None:
            raise failed(*self._failure)
        elif connection is not None and connection.complete:
            take(b"")
            self._take = None

    def _pour_decoded(self, take: Callable[[bytes], object], decoder: Decoder) -> None:
        while True:
            connection = self._connection
            data = b"" if connection is None else self._decoded(connection, decoder)
            if data:
                if not take(data):
                    break
                if decoder.has_rest:
                    # What came in one read may be a thousand times its size: the loop has its turn
                    # after each part of that.
                    self._loop.call_soon(self.on_progress)
                    return
            elif not self._has_all():
                return
            elif self._is_decoded(decoder):
                take(b"")
                break
        self._take = None

    def _has_all(self) -> bool:
        """Whether the answer has come to its end. Raises UpstreamFailed if it never will."""
        if self._failure is not None:
            raise failed(*self._failure)
        assert self._connection is not None
        return self._connection.complete

    def _decoded(self, connection: Connection, decoder: Decoder) -> bytes:
        """What there is to read now; b"" also while more is needed for that."""
        try:
            data = decoder.decode(b"" if decoder.has_rest else connection.take())
        except DecodingError as error:
            self.fail("bad_encoding", error)
            return b""
        if decoder.made_bytes > self._settings.max_answer_bytes:
            self.fail("too_large", None)
            return b""
        return data

    def _is_decoded(self, decoder: Decoder) -> bool:
        """Whether all of an answer that has come to its end was given."""
        assert self._connection is not None
        if self._connection.has_unread or decoder.has_rest:
            return False
        if not decoder.is_whole:
            self.fail("truncated", None)
            raise failed("truncated")
        return True

    # Waiting. One alarm serves patience and limit alike; it is not moved when data comes, but
    # looks at the clock when it rings and is set again for what is left.

    def _wait(self, patience_s: float) -> asyncio.Future[bool]:
        """Wait for something to happen: True; False when patience ran out first."""
        waiter, loop = self._waiter, self._loop
        assert waiter is None or waiter.done(), "only one task may wait for an exchange"
        # What the loop's create_future() calls, too.
        future: asyncio.Future[bool] = asyncio.Future(loop=loop)
        self._waiter = future
        self._patience_until_s = loop.time() + patience_s
        self._arm()
        return future

    def _limit_s(self) -> float:
        """When the upstream must have been heard of."""
        connection = self._connection
        if connection is None:
            return self._started_s + self._settings.connect_timeout_s
        if connection.head is None:
            return connection.sent_s + self._first_byte_timeout_s
        return connection.heard_s + self._settings.idle_timeout_s

    def _overdue(self) -> str:
        """The reason for a failure when it was not."""
        if self._connection is None:
            return "connect_timeout"
        return "first_byte_timeout" if self._connection.head is None else "idle_timeout"

    def _arm(self) -> None:
        alarm = self._own_alarm() if self._connection is None else self._connection.alarm
        # Mostly it was set for an earlier wait, and rings early enough.
        if alarm.rings_s > self._patience_until_s or alarm.rings_s > self._limit_s():
            alarm.set(min(self._patience_until_s, self._limit_s()))

    def _arm_again(self) -> None:
        """For who waits, if somebody still does: other limits count from here on."""
        if self._waiter is not None and not self._waiter.done():
            self._arm()

    def _own_alarm(self) -> Alarm:
        if self._alarm is None:
            self._alarm = Alarm(self._loop, self.on_alarm)
        return self._alarm

    def _stop_alarm(self) -> None:
        """End the alarm for the time without a connection."""
        if self._alarm is not None:
            self._alarm.stop()
            self._alarm = None

    def _wake(self, is_progress: bool) -> None:
        if self._connection is not None:
            self._connection.sink = None  # what comes before it has its turn waits for it
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(is_progress)
