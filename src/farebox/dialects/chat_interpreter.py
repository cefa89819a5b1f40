"""Chat Completions as an Interpreter: as they came over upstreams that speak chat, translated over
those that speak only Responses.
"""

from __future__ import annotations

import msgspec

from farebox.core.call import Call
from farebox.core.usage import Usage
from farebox.dialects import chat
from farebox.dialects.chat_answer import Answer, read_answer, usage_chunk
from farebox.dialects.chat_from_responses import (
    ChatFromResponses,
    read_responses_answer,
    with_usage,
)
from farebox.dialects.chat_stream import ChatStream
from farebox.dialects.chat_to_responses import chat_to_responses
from farebox.dialects.interpreter import Circumstances, Endings, Outgoing, Stream
from farebox.errors import FareboxError


class ChatInterpreter(msgspec.Struct, eq=False):
    """One chat completion."""

    _call: Call
    _around: Circumstances
    _wire: str = "chat"
    _stream: ChatStream | ChatFromResponses | None = None
    _answer: Answer | None = None  # made of a response
    _body: bytes = b""  # of a completion: nothing else of it is kept until it leaves

    def outgoing(self, wire: str, *, cache_control: bool = False) -> Outgoing:
        """The call itself, or as a response. Raises BadRequest for what cannot be had there."""
        del cache_control  # whoever speaks chat says what their upstream knows
        self._wire = wire
        if wire == "responses":
            return chat_to_responses(self._call)
        return Outgoing(self._call)

    def stream(self, endings: Endings, max_event_bytes: int) -> Stream:
        """Chunks as they came, mended where the SDKs would stumble; or made of events."""
        call, self._answer, self._body = self._call, None, b""
        if self._wire == "responses":
            self._stream = ChatFromResponses(call, self._around.created_s, max_event_bytes)
        else:
            self._stream = ChatStream(call, endings.standard, endings.failing, max_event_bytes)
        return self._stream

    def answer(self, body: bytes, endings: Endings) -> Answer:
        """The completion under the model's name as asked."""
        if self._wire == "responses":
            answer = self._answer = read_responses_answer(body, self._call, self._around.created_s)
        else:
            answer = read_answer(body, self._call, endings.standard, endings.failing)
            self._body = answer.body
        return answer

    def ping(self) -> bytes:
        """A comment."""
        return chat.PING

    def tail(self, usage: Usage) -> bytes:
        """The last chunks, the usage if the client asked for it, and `[DONE]`; of a whole answer,
        the completion.
        """
        if self._body:
            return self._body
        if self._answer is not None:
            return with_usage(self._answer, usage)
        if isinstance(self._stream, ChatFromResponses):
            return self._stream.tail(usage)
        assert self._stream is not None
        return self._stream.tail(usage_chunk(self._call, usage, self._around.created_s))

    def error_event(self, error: FareboxError, usage: Usage) -> bytes:
        """A chunk that SDKs raise on; no `[DONE]` follows."""
        del usage  # chunks of an error say nothing of it
        return chat.error_event(error)
