"""The Messages API as an Interpreter: as it came over upstreams that speak it too, as a chat
completion over those that speak chat, and by way of that as a response over the rest.
"""

from __future__ import annotations

import msgspec

from farebox.core.call import Call
from farebox.core.usage import Usage
from farebox.dialects.chat_answer import Answer
from farebox.dialects.chat_from_responses import ChatFromResponses, read_responses_answer
from farebox.dialects.chat_to_responses import chat_to_responses
from farebox.dialects.interpreter import Circumstances, Endings, Outgoing, Stream
from farebox.dialects.messages_errors import error_event
from farebox.dialects.messages_from_chat import MessageFromChat, WholeMessageFromChat
from farebox.dialects.messages_native import to_native_messages
from farebox.dialects.messages_shell import PING
from farebox.dialects.messages_stream import NativeMessage, NativeMessageStream
from farebox.dialects.messages_to_chat import MessagesToChat, messages_to_chat
from farebox.dialects.said import Said
from farebox.errors import FareboxError, UpstreamFailed

_CHATS_OWN = Endings()  # chunks that are made here end in chat's own words


class MessagesInterpreter:
    """One message."""

    def __init__(self, call: Call, around: Circumstances) -> None:
        self._call = call
        self._around = around
        self._wire = "messages"
        self._sent: MessagesToChat | None = None  # None: the upstream speaks Messages itself
        self._answering: (
            MessageFromChat
            | ChainedStream
            | NativeMessageStream
            | WholeMessageFromChat
            | NativeMessage
            | None
        ) = None

    def outgoing(self, wire: str, *, cache_control: bool = False) -> Outgoing:
        """The call itself, or as chat, or as a response. Raises BadRequest for what cannot be had
        there.
        """
        self._wire = wire
        if wire == "messages":
            self._sent = None
            return to_native_messages(self._call, self._around)
        marks = cache_control and wire == "chat"  # the Responses API has none
        sent = self._sent = messages_to_chat(self._call, self._around, cache_control=marks)
        if wire == "chat":
            return Outgoing(sent.call, sent.adjusted)
        further = chat_to_responses(sent.call)
        return Outgoing(further.call, tuple(dict.fromkeys((*sent.adjusted, *further.adjusted))))

    def stream(self, endings: Endings, max_event_bytes: int) -> Stream:
        """Events as they came, or made of an upstream's chunks or of a response's events."""
        call, sent, around = self._call, self._sent, self._around
        if sent is None:
            stream = NativeMessageStream(call, max_event_bytes)
        elif self._wire == "chat":
            stream = MessageFromChat(call, sent, around, endings, max_event_bytes)
        else:
            stream = ChainedStream(
                ChatFromResponses(sent.call, around.created_s, max_event_bytes),
                MessageFromChat(call, sent, around, _CHATS_OWN, max_event_bytes),
            )
        self._answering = stream
        return stream

    def answer(self, body: bytes, endings: Endings) -> Answer:
        """The message as it came, or made of an upstream's completion or response."""
        call, sent, around = self._call, self._sent, self._around
        if sent is None:
            native = self._answering = NativeMessage(body, call)
            return native.answer
        if self._wire == "chat":
            whole = self._answering = WholeMessageFromChat(body, call, sent, around, endings)
            return whole.answer
        read = read_responses_answer(body, sent.call, around.created_s)
        if read.error is None:
            self._answering = WholeMessageFromChat(
                read.body, call, sent, around, _CHATS_OWN, reported=read.usage
            )
        return read

    def ping(self) -> bytes:
        """A `ping` event, which the SDKs pass over also where nothing has begun."""
        return PING

    def tail(self, usage: Usage) -> bytes:
        """The events that end the message; of a whole answer, the message object."""
        assert self._answering is not None
        return self._answering.tail(usage)

    def error_event(self, error: FareboxError, usage: Usage) -> bytes:
        """An `error` event; what there was of the message stays without an end."""
        del usage  # these errors say nothing of it
        return error_event(error, self._call.request_id)


class ChainedStream:
    """A response's events as chunks, and the chunks as a message's events. What the upstream
    reported is the inner's to know.
    """

    def __init__(self, inner: ChatFromResponses, outer: MessageFromChat) -> None:
        self._inner = inner
        self._outer = outer
        self._end: bytes | None = None  # what leaves first in the tail; None: nothing ends yet

    @property
    def started(self) -> bool:
        """Whether an event of the answer was seen."""
        return self._inner.started

    @property
    def usage(self) -> msgspec.Raw | None:
        """The one that was reported."""
        return self._inner.usage

    @property
    def service_tier(self) -> str | None:
        """As the upstream reported it."""
        return self._inner.service_tier

    @property
    def error(self) -> object | None:
        """What the upstream said went wrong, decoded."""
        return self._inner.error

    @property
    def failure(self) -> UpstreamFailed | None:
        """Why the rest is of no use, whichever step found it so."""
        return self._inner.failure or self._outer.failure

    @property
    def text_bytes(self) -> int:
        """Of what the model wrote."""
        return self._inner.text_bytes

    @property
    def said(self) -> Said | None:
        """The text itself, if it is kept."""
        return self._inner.said

    def keep_text(self) -> None:
        """Keep what the model writes."""
        self._inner.keep_text()

    @property
    def tool_calls(self) -> tuple[tuple[str, int], ...] | None:
        """How often each hosted tool ran."""
        return self._inner.tool_calls

    @property
    def ending(self) -> bool:
        """Whether what has come is all of the answer."""
        return self._inner.ending

    @property
    def whole(self) -> bool:
        """The same: the usage came with it."""
        return self._inner.whole

    @property
    def finished(self) -> bool:
        """Whether nothing more can come that matters."""
        return self._inner.finished or self._outer.failure is not None

    @property
    def is_alike(self) -> bool:
        """No: each step of each event is taken by itself."""
        return False

    def feed(self, data: bytes) -> bytes:
        """What may leave now that these bytes have come."""
        return self._pass_on(self._inner.feed(data))

    def end(self) -> bytes:
        """The same for the end of the upstream's body."""
        return self._pass_on(self._inner.end())

    def tail(self, usage: Usage) -> bytes:
        """What came with the response's end, and the events that end the message."""
        end, self._end = self._end, b""
        return (end or b"") + self._outer.tail(usage)

    def _pass_on(self, chunks: bytes) -> bytes:
        leaving = self._outer.feed(chunks)
        if self._inner.ending and self._end is None:
            # The last chunks are read before the charge, while there may still be a failure. They
            # tell no usage, since the client of a message does not ask for it in chat's way.
            self._end = self._outer.feed(self._inner.tail(Usage()))
            self._outer.usage = self._inner.usage  # which says how much was reasoning
        return leaving
