"""Chat Completions as an Interpreter: what passes as it came, over upstreams that speak chat."""

from __future__ import annotations

from farebox.core.call import Call
from farebox.core.usage import Usage
from farebox.dialects import chat
from farebox.dialects.chat_answer import Answer, read_answer, usage_chunk
from farebox.dialects.chat_stream import ChatStream
from farebox.dialects.interpreter import Circumstances, Endings, Outgoing, Stream
from farebox.errors import FareboxError


class ChatInterpreter:
    """One chat completion."""

    def __init__(self, call: Call, around: Circumstances) -> None:
        self._call = call
        self._around = around
        self._stream: ChatStream | None = None
        self._answer: Answer | None = None

    def outgoing(self, wire: str) -> Outgoing:
        """The call itself."""
        assert wire == "chat"
        return Outgoing(self._call)

    def stream(self, endings: Endings, max_event_bytes: int) -> Stream:
        """Chunks as they came, mended where the SDKs would stumble."""
        self._stream = ChatStream(self._call, endings.standard, endings.failing, max_event_bytes)
        return self._stream

    def answer(self, body: bytes, endings: Endings) -> Answer:
        """The completion under the model's name as asked."""
        self._answer = read_answer(body, self._call, endings.standard, endings.failing)
        return self._answer

    def ping(self) -> bytes:
        """A comment."""
        return chat.PING

    def tail(self, usage: Usage) -> bytes:
        """The last chunks, the usage if the client asked for it, and `[DONE]`."""
        if self._stream is None:
            assert self._answer is not None
            return self._answer.body
        return self._stream.tail(usage_chunk(self._call, usage, self._around.created_s))

    def error_event(self, error: FareboxError) -> bytes:
        """A chunk that SDKs raise on; no `[DONE]` follows."""
        return chat.error_event(error)
