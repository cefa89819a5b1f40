"""The Responses API as an Interpreter: which of the two ways a call goes, and what they share."""

from __future__ import annotations

from farebox.core.call import Call
from farebox.core.usage import Usage
from farebox.dialects.chat_answer import Answer
from farebox.dialects.interpreter import Circumstances, Endings, Outgoing, Stream
from farebox.dialects.responses_from_chat import FromChat
from farebox.dialects.responses_from_chat_answer import WholeFromChat
from farebox.dialects.responses_native import to_native
from farebox.dialects.responses_shell import Shell
from farebox.dialects.responses_stream import NativeAnswer, NativeStream
from farebox.dialects.responses_to_chat import ToChat, to_chat
from farebox.errors import FareboxError


class ResponsesInterpreter:
    """One response."""

    def __init__(self, call: Call, around: Circumstances) -> None:
        self._call = call
        self._around = around
        self._shell = Shell(call, around)
        self._sent: ToChat | None = None  # None: the upstream speaks Responses itself
        self._answering: FromChat | WholeFromChat | NativeStream | NativeAnswer | None = None

    def outgoing(self, wire: str, *, cache_control: bool = False) -> Outgoing:
        """The call for an upstream that speaks Responses, or translated for one that speaks chat.
        Raises BadRequest for what cannot be had there.
        """
        del cache_control  # the Responses API has no such marks
        self._shell.read()
        if wire == "responses":
            self._sent = None
            return to_native(self._call, self._around)
        self._sent = to_chat(self._call, self._around)
        return Outgoing(self._sent.call, self._sent.adjusted)

    def stream(self, endings: Endings, max_event_bytes: int) -> Stream:
        """Events as they came, or made of an upstream's chunks."""
        if self._sent is None:
            stream = NativeStream(self._call, self._shell, self._around, max_event_bytes)
        else:
            stream = FromChat(self._shell, self._sent, self._around, endings, max_event_bytes)
        self._answering = stream
        return stream

    def answer(self, body: bytes, endings: Endings) -> Answer:
        """The response object as it came, or made of an upstream's completion."""
        if self._sent is None:
            whole = NativeAnswer(body, self._call, self._shell)
        else:
            whole = WholeFromChat(body, self._shell, self._sent, self._around, endings)
        self._answering = whole
        return whole.answer

    def ping(self) -> bytes:
        """A keepalive event, behind `response.created`."""
        return self._shell.ping()

    def tail(self, usage: Usage) -> bytes:
        """The events that end the response; of a whole answer, the response object."""
        assert self._answering is not None
        return self._answering.tail(usage)

    def error_event(self, error: FareboxError, usage: Usage) -> bytes:
        """`response.failed`, with what there was of the output and what it cost."""
        return self._shell.fail(error, usage)
