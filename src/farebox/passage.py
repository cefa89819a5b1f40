"""One call on its way: what it needs of its worker, and what is known of it so far. No
decisions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache

from farebox.admission import Admitted, Memory
from farebox.core import clock
from farebox.core.account import Caller
from farebox.core.call import Attempt, Call, Headers
from farebox.core.channel import Channel
from farebox.core.ports import Books, Client, Exchange, Settled, Settlement, Upstream
from farebox.core.settings import Settings
from farebox.core.usage import Usage
from farebox.dialects.chat_answer import Answer
from farebox.dialects.interpreter import Circumstances, Interpreter, Stream
from farebox.dialects.recall import Recall
from farebox.dialects.seal import Seal
from farebox.errors import UpstreamFailed
from farebox.holding import Holding
from farebox.routing.catalogue import Catalogue, Model
from farebox.vendors import registry
from farebox.vendors.base import Vendor

_STREAM_HEAD: Headers = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
_LAST_BYTES_S = 0.2  # for what HTTP sends after `[DONE]`: longer than a round trip
_JSON_TYPE = (b"content-type", b"application/json")
_MOST_LISTED_BYTES = 2048
_NOTHING = Usage()
_UNPRINTABLE = re.compile(rb"[^ -~]")


async def _uncounted(model: Model, texts: Sequence[str]) -> int | None:
    """Where nobody counts."""
    del model, texts


@dataclass(slots=True)
class Gateway:
    """What calls need of the worker that they run in. The catalogue is replaced as a whole."""

    settings: Settings
    instance_id: str
    catalogue: Catalogue
    upstream: Upstream
    books: Books
    observe: Callable[[Settlement, Settled], None]
    seal: Seal
    memory: Memory = field(default_factory=Memory)
    recall: Recall = field(default_factory=Recall)
    find_vendor: Callable[[str], Vendor] = registry.find
    count_text: Callable[[Model, Sequence[str]], Awaitable[int | None]] = _uncounted
    sample: Callable[[Passage], None] = lambda _: None  # told of each call when it is over

    def circumstances(self, account_id: int, created_s: int) -> Circumstances:
        """What a dialect must know of a call of this account, admitted at that Unix time."""
        return Circumstances(account_id, created_s, self.seal, self.recall, clock.now_s)


@dataclass(slots=True, eq=False)
class Passage:
    """One call on its way. Times are of the monotonic clock."""

    gateway: Gateway
    caller: Caller
    call: Call
    client: Client
    interpreter: Interpreter
    admitted: Admitted
    holding: Holding
    started_s: float
    attempt_s: float  # when the present attempt began
    sign_s: float  # when the client last got a sign
    attempts: tuple[Attempt, ...] = ()
    adjusted: tuple[str, ...] = ()
    head_sent: bool = False
    delivered: bool = False  # something of the answer left for the client
    complete: bool = False  # the upstream has given all of its answer
    usage: Usage = _NOTHING  # what was charged for
    flags: tuple[str, ...] = ()  # of the settlement
    exchange: Exchange | None = None  # with the upstream that answered
    # Of the present attempt:
    channel: Channel | None = None
    first_s: float | None = None  # when the answer began
    heard: bool = False  # the upstream has begun to speak
    answered: bool = False  # it said yes
    stream: Stream | None = None
    answer: Answer | None = None
    leaving: bytes = b""  # of the stream, and not sent yet
    parts: list[bytes] | None = None  # of a body that is kept until it is whole
    room_bytes: int = 0  # for more of it
    at_end: bool = False  # the upstream's body has ended
    flows: bool = False  # it is a stream of which text alone changes nothing but what leaves
    # Of waiting:
    gone_s: float | None = None  # when the client hung up
    usage_s: float | None = None  # when all of a stream, its usage included, had come

    def begin_attempt(self, channel: Channel) -> None:
        """Forget the attempt before, if there was one; nothing of it has left for the client."""
        if self.channel is not None:
            self.attempt_s = clock.monotonic_s()
            self.heard = self.answered = False
            self.first_s, self.stream, self.answer = None, None, None
            self.leaving, self.at_end, self.usage_s, self.flows = b"", False, None, False
        self.channel = channel

    def begin_body(self, limit_bytes: int) -> None:
        """The body that comes is to be kept, up to so much."""
        self.parts, self.room_bytes = [], limit_bytes

    def keep(self, data: bytes) -> bool:
        """Keep these bytes of the body (b"": its end). False: something has to be looked into."""
        if not data:
            self.at_end = True
            return False
        assert self.parts is not None
        self.parts.append(data)
        self.room_bytes -= len(data)
        # Once the client has gone, its time is looked at with each piece.
        return self.room_bytes >= 0 and self.gone_s is None

    def take_body(self) -> bytes:
        """All of the body, which is not kept any longer."""
        assert self.parts is not None
        body, self.parts = b"".join(self.parts), None
        return body

    def begin_stream(self, vendor: Vendor) -> Stream:
        """The stream that answers. Its text is kept as long as its channel has not shown that it
        reports usage, so that most streams take little memory.
        """
        limit_bytes = self.gateway.settings.max_answer_bytes
        stream = self.stream = self.interpreter.stream(vendor.endings, limit_bytes)
        if self.channel is not None and self.channel.id not in self.gateway.memory.reporting:
            stream.keep_text()
        return stream

    def pass_on(self, data: bytes) -> bool:
        """Send what may leave now that these bytes of the stream have come (b"": its end). False:
        something has to be waited for or looked into, and `leaving` to be sent.

        It is called for each read of the upstream's connection, and there is no task between.
        """
        stream = self.stream
        assert stream is not None
        leaving = stream.feed(data) if data else stream.end()
        if (self.flows and stream.is_alike) or self._goes_on(stream, data):
            if not leaving:
                return True  # comments of the upstream's are not passed on, so are no sign of life
            if self.head_sent and self.client.send_now(leaving):
                self.delivered, self.sign_s = True, clock.monotonic_s()
                return True
        self.leaving, self.at_end = leaving, not data
        return False

    def _goes_on(self, stream: Stream, data: bytes) -> bool:
        """Whether a stream of which these bytes have come needs no more than to be passed on."""
        has_usage = stream.usage is not None
        if self.first_s is None or has_usage:
            self._note_stream(stream)
        goes_on = bool(data) and self.usage_s is None and not stream.finished
        grows = self.holding.grows
        self.flows = goes_on and not grows and not has_usage and self.first_s is not None
        return goes_on and (not grows or self.holding.covers(stream))

    def _note_stream(self, stream: Stream) -> None:
        """Something of a stream has come: it may have begun, and all of it may be here."""
        if self.first_s is None and stream.started:
            self.first_s = clock.monotonic_s()
        if stream.usage is None or not stream.whole:
            self.usage_s = None
        elif self.usage_s is None:
            self.usage_s = clock.monotonic_s()

    def note_gone(self) -> None:
        """The client hung up before its call was over."""
        self.gone_s = clock.monotonic_s()
        if self.exchange is None:
            return
        # While nothing was heard, nothing need be paid for.
        if self.heard and self.gateway.settings.drain_after_hangup_s > 0 and self.client.drains:
            self.exchange.wake()  # it waits until the client is due a sign of life, which is over
        else:
            self.exchange.abort()

    def note_attempt(self, error: UpstreamFailed | None = None, *, cut_off: str = "") -> None:
        """The attempt is over, well or not; or we have `cut_off` it, and why."""
        if self.channel is None:
            return
        status, reason = 200 if self.answered else None, cut_off or None
        if error is not None:
            status, reason = getattr(error, "upstream_status", status), error.reason
        if reason is not None and self.client.gone:
            reason = "client_gone"
        ms, ttft_ms = self.times_ms(self.attempt_s)
        n = len(self.attempts) + 1
        self.attempts += (Attempt(n, self.channel.id, status, reason, ms, ttft_ms),)

    def close(self) -> None:
        """Let go of the upstream; the connection is used again if its answer was read to the
        end. Of a body that broke off nothing is kept.
        """
        self.parts = None
        if self.exchange is not None:
            self.exchange.close()
            self.exchange = None

    async def read_last_bytes(self) -> None:
        """A stream's last bytes may still be on the way when the client has its answer; then its
        connection can be used again.
        """
        if self.stream is not None and self.complete and self.exchange is not None:
            with suppress(UpstreamFailed):
                await self.exchange.read(_LAST_BYTES_S)

    def patience_s(self) -> float:
        """How long to wait for the upstream before looking again at what the wait is for."""
        due_s = self.sign_s + self.gateway.settings.keepalive_s
        if self.gone_s is not None or self.usage_s is not None:
            due_s = min(due_s, self._end_s())
        return due_s - clock.monotonic_s()

    def has_waited_enough(self) -> bool:
        """Whether the upstream has had its time to go on without its client, or to end."""
        if self.gone_s is None and self.usage_s is None:
            return False  # as for nearly every read
        return clock.monotonic_s() >= self._end_s()

    def _end_s(self) -> float:
        settings, gone_s, usage_s = self.gateway.settings, self.gone_s, self.usage_s
        return min(
            math.inf if gone_s is None else gone_s + settings.drain_after_hangup_s,
            math.inf if usage_s is None else usage_s + settings.usage_wait_s,
        )

    def times_ms(self, start_s: float) -> tuple[int, int | None]:
        """Milliseconds from then until now, and until the answer began, if it has. Of one that came
        all at once both are until it came.
        """
        first_s, ttft_ms = self.first_s, None
        if first_s is not None:
            # Not by round(), which takes four times as long.
            ttft_ms = math.floor((first_s - start_s) * 1000 + 0.5)
            if self.answer is not None:
                return ttft_ms, ttft_ms
        return math.floor((clock.monotonic_s() - start_s) * 1000 + 0.5), ttft_ms

    async def ping_if_quiet(self) -> None:
        """A sign of life for a client that has waited long for more of a stream; with its head,
        if that is still due.
        """
        now_s = clock.monotonic_s()
        if now_s < self.sign_s + self.gateway.settings.keepalive_s:
            return
        self.sign_s = now_s
        if self.call.stream:
            await self.send(self.interpreter.ping())

    async def send_leaving(self) -> None:
        """What pass_on() has left to be sent."""
        leaving, self.leaving = self.leaving, b""
        self.delivered = True
        await self.send(leaving)

    async def send(self, data: bytes, *, last: bool = False) -> None:
        """Part of a good answer, with its head before the first."""
        if not self.head_sent:
            self.head_sent = True
            head = self._head(len(data))
            # A stream that came all at once is sent in chunks, too: its head names no length.
            if last and not self.call.stream and self.client.answer_now(200, head, data):
                return
            await self.client.send_head(200, head)
        await self.client.send(data, last=last)
        if not last:
            self.sign_s = clock.monotonic_s()

    def _head(self, data_bytes: int) -> Headers:
        """The head before so many bytes: of a stream its first, else the whole body."""
        ms = math.floor((clock.monotonic_s() - self.started_s) * 1000 + 0.5)
        took = (b"openai-processing-ms", b"%d" % ms)
        if self.call.stream:
            head = (*_STREAM_HEAD, took)
        else:
            head = (_JSON_TYPE, (b"content-length", b"%d" % data_bytes), took)
        return head + _adjustments(self.adjusted) if self.adjusted else head


def _adjustments(adjusted: tuple[str, ...]) -> Headers:
    """What was changed, as a header; clients and proxies take only so much of one."""
    text = ", ".join(adjusted)
    if len(text) > _MOST_LISTED_BYTES:
        text = text[:_MOST_LISTED_BYTES]
        text = (text.rpartition(", ")[0] or text) + ", ..."
    return _listed(text)


@lru_cache(maxsize=256)  # most calls of a client are changed in the same way
def _listed(text: str) -> Headers:
    return ((b"x-farebox-adjusted", _plain(text)),)


def _plain(text: str) -> bytes:
    """What a header can hold of a text, sign by sign: a client's own words may be in it."""
    return _UNPRINTABLE.sub(b"_", text.encode("ascii", "replace"))
