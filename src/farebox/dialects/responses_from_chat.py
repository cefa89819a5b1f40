"""A chat completion's stream as the events of a response.

Chunks are read by chat_pieces.py and become items in responses_from_chat_items.py; here is what a
stream is beyond that: its end, its tail, its usage.
"""

from __future__ import annotations

from farebox.core.usage import Usage
from farebox.dialects.chat_mend import Choice, Delta
from farebox.dialects.chat_pieces import Piece, PieceStream, Reader, reasoning_tokens
from farebox.dialects.interpreter import Circumstances, Endings
from farebox.dialects.responses_from_chat_items import Items
from farebox.dialects.responses_shell import Object, Shell, usage_object
from farebox.dialects.responses_to_chat import ToChat
from farebox.dialects.said import text_of
from farebox.errors import broke_off

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_SEALED = "reasoning.encrypted_content"


class FromChat(PieceStream):
    """One stream, up to its end, which is the tail's."""

    def __init__(
        self,
        shell: Shell,
        sent: ToChat,
        around: Circumstances,
        endings: Endings,
        max_event_bytes: int,
    ) -> None:
        self._shell = shell
        self._response = ResponseMaker(shell, sent, around)
        super().__init__(self._response, sent.call.request_id, endings, max_event_bytes)

    def tail(self, usage: Usage) -> bytes:
        """What was kept, the ends of all open items, and the event that ends the response."""
        self._shell.service_tier = self.service_tier
        kept = self.put_kept()
        closed, status, more = self._response.close()
        told = usage_object(usage, reasoning_tokens(self.usage))
        return kept + closed + self._shell.finish(status, usage=told, **more)


class ResponseMaker:
    """Pieces of a chat answer become items, until it is closed. Also serves whole answers."""

    def __init__(self, shell: Shell, sent: ToChat, around: Circumstances) -> None:
        self._shell = shell
        self._around = around
        self._items = Items(shell, sent, around, seals=shell.includes(_SEALED))
        self._summary: list[str] | None = [] if sent.compacts else None
        self._reader = Reader()

    def check(self) -> None:
        """Raises UpstreamFailed if what was written is no answer: no summary where one is wanted,
        or arguments for a tool that was never named.
        """
        if self._summary is not None and not "".join(self._summary).strip():
            raise broke_off("no_summary")
        self._reader.check()

    def read(self, choice: Choice) -> Piece | None:
        """A piece of the answer, if there is anything in it. Raises ValueError or MsgspecError."""
        if self._summary is not None:
            self._summary.append(text_of((choice.delta or Delta()).content))
            return None
        return self._reader.read(choice)

    def put(self, piece: Piece) -> bytes:
        """The events that a piece makes."""
        items, made = self._items, b""
        if piece.reasoning:
            made += items.reason(piece.reasoning)
        if piece.content:
            made += items.say(piece.content, logprobs=piece.logprobs)
        if piece.refusal:
            made += items.refuse(piece.refusal)
        for call in piece.calls:
            made += items.call(*call)
        return made

    def put_texts(self, field: str, texts: list[str]) -> bytes:
        """The same for pieces that have only a text, which is in `field` of each delta."""
        if field != "content":
            return b"" if self._summary is not None else self._items.reason(*texts)
        if self._summary is not None:
            self._summary += texts
            return b""
        return self._items.say(*texts)

    def close(self) -> tuple[bytes, str, Object]:
        """The events that end all items, the response's status, and what else its object says."""
        if self._summary is not None:
            return self._summarise(), "completed", {}
        reason = _INCOMPLETE.get(self._reader.finish or "")
        if reason is not None:
            return self._items.close("incomplete"), "incomplete", {"incomplete": reason}
        if self._items.is_empty:
            return self._items.say_nothing(), "completed", {}
        return self._items.close("completed"), "completed", {}

    def _summarise(self) -> bytes:
        summary = "".join(self._summary or ())
        item = {
            "type": "compaction",
            "id": self._shell.item_id("cmp"),
            "encrypted_content": self._around.seal.seal(
                self._around.account_id, "compaction", summary
            ),
        }
        opened = self._shell.open()
        self._shell.output = [item]
        added = self._shell.event("response.output_item.added", output_index=0, item=item)
        done = self._shell.event("response.output_item.done", output_index=0, item=item)
        return opened + added + done
