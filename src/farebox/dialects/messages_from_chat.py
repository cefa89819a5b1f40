"""A chat completion as a message: its stream as events, its object as a whole answer.

Chunks are read by chat_pieces.py and become blocks in messages_from_chat_blocks.py; here is what
stands around them: the message, why it stopped, its usage. Source: Anthropic's SDK for Python,
`Message` and `RawMessageStreamEvent`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from farebox.core.call import Call
from farebox.core.usage import Usage
from farebox.dialects.chat_mend import Choice, is_set
from farebox.dialects.chat_pieces import Piece, PieceStream, Reader, put_whole, reasoning_tokens
from farebox.dialects.interpreter import Circumstances, Endings
from farebox.dialects.messages_from_chat_blocks import Blocks
from farebox.dialects.messages_shell import event, message_id, usage_object
from farebox.dialects.messages_to_chat import MessagesToChat
from farebox.dialects.values import Object

_STOP_REASONS: Final[Mapping[str, str]] = {"length": "max_tokens", "content_filter": "refusal"}
# The input is only known at the end. What was written to a cache is not split here, for the SDKs
# keep the split of the first event to the last.
_NO_USAGE: Final[Object] = {
    "input_tokens": 0,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "output_tokens": 0,
}


class MessageFromChat(PieceStream):
    """One stream, up to its end, which is the tail's."""

    def __init__(
        self,
        call: Call,
        sent: MessagesToChat,
        around: Circumstances,
        endings: Endings,
        max_event_bytes: int,
    ) -> None:
        self._message = MessageMaker(call, sent, around)
        super().__init__(self._message, sent.call.request_id, endings, max_event_bytes)

    def tail(self, usage: Usage) -> bytes:
        """What was kept, the ends of all open blocks, and the events that end the message."""
        kept = self.put_kept()
        closed, ending = self._message.close()
        told = told_usage(usage, self.usage)
        last = event("message_delta", delta=ending, usage=told) + event("message_stop")
        return kept + closed + last


class WholeMessageFromChat:
    """One answer. Raises UpstreamFailed when the body is no chat completion."""

    def __init__(
        self,
        body: bytes,
        call: Call,
        sent: MessagesToChat,
        around: Circumstances,
        endings: Endings,
        *,
        reported: msgspec.Raw | None = None,
    ) -> None:
        """`reported` is the usage of a body that has none."""
        self._reported = reported
        self._message = MessageMaker(call, sent, around)
        self.answer = put_whole(body, sent.call, endings, self._message)

    def tail(self, usage: Usage) -> bytes:
        """The message object."""
        _, ending = self._message.close()
        told = told_usage(usage, self._reported or self.answer.usage)
        return msgspec.json.encode(self._message.object(ending, told))


class MessageMaker:
    """Pieces of a chat answer become a message, until it is closed."""

    def __init__(self, call: Call, sent: MessagesToChat, around: Circumstances) -> None:
        self._call = call
        self._stop_sequences = sent.stop_sequences
        self._blocks = Blocks(call, sent, around)
        self._reader = Reader()
        self._stop_sequence: str | None = None  # the one that stopped the model
        self._has_begun = False

    def check(self) -> None:
        """Raises UpstreamFailed for arguments of a tool that was never named."""
        self._reader.check()

    def read(self, choice: Choice) -> Piece | None:
        """A piece of the answer, if there is anything in it. Raises ValueError or MsgspecError."""
        if self._stop_sequences and is_set(choice.stop_reason):
            stopped_by: object = msgspec.json.decode(choice.stop_reason)
            if isinstance(stopped_by, str) and stopped_by in self._stop_sequences:
                self._stop_sequence = stopped_by
        return self._reader.read(choice)

    def put(self, piece: Piece) -> bytes:
        """The events that a piece makes; the first of all begin the message."""
        blocks, made = self._blocks, b""
        if piece.reasoning:
            made += blocks.think(piece.reasoning)
        if piece.content:
            made += blocks.say(piece.content)
        if piece.refusal:
            made += blocks.refuse(piece.refusal)
        for call in piece.calls:
            made += blocks.call(*call)
        return self._begin() + made if made else b""

    def put_texts(self, field: str, texts: list[str]) -> bytes:
        """The same for pieces that have only a text, which is in `field` of each delta."""
        write = self._blocks.say if field == "content" else self._blocks.think
        made = write(*texts)
        return self._begin() + made if made else b""

    def close(self) -> tuple[bytes, Object]:
        """The events that end all blocks, and why the message ends: stop_reason and
        stop_sequence. There may be no block at all.
        """
        return self._begin() + self._blocks.close(), self._ending()

    def object(self, ending: Object, usage: Object) -> Object:
        """The message with the blocks that were closed."""
        return self._object(self._blocks.content, ending, usage)

    def _object(self, content: Sequence[Object], ending: Object, usage: Object) -> Object:
        return {
            "id": message_id(self._call.request_id),
            "type": "message",
            "role": "assistant",
            "model": self._call.model,
            "content": content,
            **ending,
            "usage": usage,
        }

    def _begin(self) -> bytes:
        if self._has_begun:
            return b""
        self._has_begun = True
        open_end: Object = {"stop_reason": None, "stop_sequence": None}
        return event("message_start", message=self._object((), open_end, _NO_USAGE))

    def _ending(self) -> Object:
        reason = _STOP_REASONS.get(self._reader.finish or "")
        sequence = None
        if reason is None and self._blocks.has_calls:
            reason = "tool_use"  # also where the upstream says `stop`
        elif reason is None and self._blocks.has_refused:
            reason = "refusal"  # so that no client takes the text for the format it asked for
        elif reason is None and self._stop_sequence is not None:
            reason, sequence = "stop_sequence", self._stop_sequence
        return {"stop_reason": reason or "end_turn", "stop_sequence": sequence}


def told_usage(usage: Usage, reported: msgspec.Raw | None) -> Object:
    """What was charged; how much of it was reasoning, the upstream has said."""
    output = usage.output + usage.audio_output
    thinking = min(reasoning_tokens(reported), output)
    return usage_object(usage, output_tokens_details={"thinking_tokens": thinking})
