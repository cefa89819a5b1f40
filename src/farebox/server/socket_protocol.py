"""A client's connection once it is a WebSocket: uvicorn's protocol, with a limit on everything.

What is said over it is websocket.py's business; which connections become one is protocol.py's.
Sources: RFC 6455 (5.5.2, 7.1.7, 7.4.1) and RFC 7692.
"""

from __future__ import annotations

from asyncio import TimerHandle
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import CloseCode, Frame
from websockets.server import ServerProtocol

from farebox.core.settings import Settings

DRAIN = "farebox.drain"  # the type of the message that says: no more responses after this one
_CLOSE_S = 2.0  # for a client to answer our goodbye; a reset would take the last frames from it
_MAX_FRAGMENTS = 65_536  # of one message: 64 MiB in pieces of 1 KiB; empty ones have no size
_WINDOW_BITS = 12  # 16 KiB a direction; 15 would be 128 KiB a socket and saves little


class Socket(WebSocketsSansIOProtocol):
    """One socket. It says nothing by itself but pings, pongs and goodbyes."""

    def __init__(self, settings: Settings, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        deflate = ServerPerMessageDeflateFactory(
            server_max_window_bits=_WINDOW_BITS,
            client_max_window_bits=_WINDOW_BITS,
            compress_settings={"memLevel": 5},
        )
        # The limit is on messages as they are when inflated.
        self.conn = ServerProtocol(
            extensions=[deflate], max_size=settings.max_body_bytes, logger=self.logger
        )
        self.ping_interval = settings.keepalive_s
        self.ping_timeout = settings.idle_timeout_s
        self.close_timeout = _CLOSE_S
        # Nothing is read before the handshake is answered: receive() begins with it.
        self.read_paused = True
        self._failed = False  # what came was no WebSocket any more
        self._stall_s = settings.idle_timeout_s
        self._abort: TimerHandle | None = None
        self._lost = False

    def data_received(self, data: bytes) -> None:
        """Frames, or parts of them; behind what could not be read, nothing counts."""
        if not self._failed:
            super().data_received(data)

    def shutdown(self) -> None:
        """The worker ends: whoever serves the socket says goodbye when its response is out."""
        self.queue.put_nowait({"type": DRAIN})  # pyright: ignore[reportArgumentType]

    def handle_ping(self) -> None:
        """Answered, but for a client that takes nothing: its pongs would pile up here."""
        data = self.conn.data_to_send()
        if self.writable.is_set():
            self.transport.write(b"".join(data))

    def handle_cont(self, event: Frame) -> None:
        """A further fragment of a message."""
        if len(self.frames) >= _MAX_FRAGMENTS:
            self._fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
        elif not self._failed:
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        """A message is whole. Texts must be UTF-8."""
        if self._failed:
            return
        if self.curr_msg_data_type == "text":
            data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
            try:
                data.decode()
            except UnicodeDecodeError:
                self._fail(CloseCode.INVALID_DATA, "not UTF-8")
                return
            self.frames = [data]
        super().send_receive_event_to_app()

    def _fail(self, code: CloseCode, reason: str) -> None:
        self.conn.fail(code, reason)
        self.handle_parser_exception()

    def handle_parser_exception(self) -> None:
        """Say why, and let go of the connection when the client has had time to read it."""
        self._failed = True
        self.frames = []
        self.stop_keepalive()
        close = self.conn.close_sent
        if close is not None and not self.close_sent:
            self.queue.put_nowait(
                {"type": "websocket.disconnect", "code": close.code, "reason": close.reason}
            )
            self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if not self.transport.is_closing():
            self.transport.write_eof()
            # Read on, and drop it: a connection closed with something unread is reset.
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)

    def keepalive_timeout(self) -> None:
        """The client has not answered a ping: it is not there, or reads nothing."""
        super().keepalive_timeout()
        self._abort_within(self.close_timeout)

    def on_task_complete(self, task: Any) -> None:
        """Nobody serves the socket any more; what was sent has its time to arrive."""
        super().on_task_complete(task)
        self.stop_keepalive()
        self._abort_within(self._stall_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """There is no connection any more."""
        super().connection_lost(exc)
        if self._abort is not None:
            self._abort.cancel()
        self._abort = None
        self._lost = True

    def _abort_within(self, limit_s: float) -> None:
        # Closing waits until all has been sent, which may be never.
        if self._abort is None and not self._lost:
            self._abort = self.loop.call_later(limit_s, self.transport.abort)

    async def send(self, message: Any) -> None:
        """Raises ClientDisconnected, an OSError, once the socket is closing for whatever reason."""
        if self.handshake_complete and self.close_sent:
            raise ClientDisconnected
        await super().send(message)
