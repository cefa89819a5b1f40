"""One response on a WebSocket: the relay's events become text frames, and are read for its items.

Back-pressure and clients that go are client.py's business.
Source: OpenAI's guide "WebSocket mode": a frame is what the data of an event are in a stream.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import msgspec

from farebox.core.call import Headers
from farebox.dialects import chat
from farebox.dialects.sse import Splitter
from farebox.errors import FareboxError
from farebox.server.reply import Send

_ADJUSTED = b"x-farebox-adjusted"
_ITEM_DONE = "response.output_item.done"
_ENDS = ("response.completed", "response.incomplete")
_SIGNS = (b"response.output_item.done", b"response.completed", b"response.incomplete")


class _Response(msgspec.Struct, frozen=True):
    output: list[msgspec.Raw] = []


class _Event(msgspec.Struct, frozen=True):
    type: str
    output_index: int = 0
    item: msgspec.Raw | None = None
    response: _Response | None = None


_READ = msgspec.json.Decoder(_Event)


class Frames:
    """Where a response goes: a Sending. `output` are its items once it has ended well."""

    def __init__(
        self,
        send: Send,
        stream_id: str | None,
        max_event_bytes: int,
        on_last: Callable[[], None] | None = None,
    ) -> None:
        """`stream_id`: what the client wants to find again in each frame. `on_last` is called when
        the last is about to be sent.
        """
        self._send = send
        self._on_last = on_last
        self._splitter = Splitter(max_event_bytes)
        self._label = {} if stream_id is None else {"stream_id": stream_id}
        self._adjusted: str | None = None
        self._items: dict[int, bytes] = {}
        self.status: int | None = None
        self.output: tuple[bytes, ...] | None = None

    async def send_head(self, status: int, headers: Headers) -> None:
        """There is no head on a socket, but what was changed for the upstream must be told: it
        comes with the first frame.
        """
        self.status = status
        self._adjusted = next((v.decode() for name, v in headers if name == _ADJUSTED), None)

    async def send(self, data: bytes, *, last: bool = False) -> None:
        """A frame for each event of the stream; comments are none."""
        events = self._splitter.feed(data)
        if last:
            events += self._splitter.close()
            self._call_on_last()
        for _, text in events:
            if text is not None:
                self._note(text)
                await self._frame(text)

    async def error(self, error: FareboxError) -> None:
        """The frame of what went wrong before the response began, or with another frame."""
        self.status = error.status
        self._call_on_last()
        frame = {"type": "error", "status": error.status, **chat.error_object(error)}
        await self._frame(msgspec.json.encode(frame))

    def _call_on_last(self) -> None:
        if self._on_last is not None:
            self._on_last()

    async def _frame(self, text: bytes) -> None:
        more = dict(self._label)
        if self._adjusted is not None:
            more[_ADJUSTED.decode()], self._adjusted = self._adjusted, None
        if more:
            text = text.rstrip().removesuffix(b"}") + b"," + msgspec.json.encode(more)[1:]
        message = {"type": "websocket.send", "text": text.decode("utf-8", "replace")}
        with suppress(OSError):  # the client has gone, which whoever reads the socket finds out
            await self._send(message)

    def _note(self, text: bytes) -> None:
        if not any(sign in text for sign in _SIGNS):
            return
        try:
            event = _READ.decode(text)
        except msgspec.MsgspecError:
            return
        if event.type == _ITEM_DONE and event.item is not None:
            self._items[event.output_index] = bytes(event.item)
        elif event.type in _ENDS:
            output = event.response.output if event.response else []
            # Some upstreams leave the list empty at the end.
            done = [self._items[index] for index in sorted(self._items)]
            self.output = tuple(map(bytes, output)) or tuple(done)
