"""TLS between a connection and its socket. Who is trusted is tls.py's business, dialling dial.py's.

asyncio and uvloop have their own, for any protocol. This one takes half of their time for a read
of an event: OpenSSL is asked only for what is there, and what it gives is handed on at once. Since
each step takes from OpenSSL's buffers all that it put there, one pair of them serves all
connections of a context, and stays in the processor's cache.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any, cast

from farebox.upstream.connection import Connection
from farebox.upstream.tls import ClientContext

_RECORD_BYTES = 16 * 1024  # of data in one record, at most (RFC 8446, 5.1)


class Secure(asyncio.Transport, asyncio.Protocol):
    """The protocol of a TCP transport, and the transport of a Connection, which hears of it when
    the server has proved who it is.
    """

    __slots__ = (
        "_connection",
        "_failure",
        "_has_part",
        "_incoming",
        "_is_open",
        "_opened",
        "_outgoing",
        "_tls",
        "_transport",
        "_unsent",
    )

    def __init__(self, context: ClientContext, host: str, connection: Connection) -> None:
        super().__init__()
        self._incoming, self._outgoing = context.incoming, context.outgoing
        self._tls = context.wrap(host)
        self._connection = connection
        self._transport = cast("asyncio.Transport", None)  # until TCP is open
        self._unsent: list[bytes | bytearray | memoryview] = []  # what is not encrypted yet
        self._failure: ssl.SSLError | None = None
        self._has_part = False  # OpenSSL may hold the beginning of a record, and waits for the rest
        self._is_open = False
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self) -> Connection:
        """The connection, when it may be used. Raises SSLError; OSError when it was lost."""
        try:
            await self._opened
        except asyncio.CancelledError:
            self._transport.abort()
            raise
        return self._connection

    # What the event loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP is open."""
        self._transport = cast("asyncio.Transport", transport)
        self._shake_hands()

    def data_received(self, data: bytes) -> None:
        """Records, and parts of them."""
        incoming, left = self._incoming, len(data)
        size = left  # a record gives less data than it has bytes: more need not be allocated
        if self._has_part or left > _RECORD_BYTES:
            size, self._has_part = _RECORD_BYTES, False
        parts: list[bytes] = []
        is_end = False
        incoming.write(data)
        try:
            if not self._is_open:
                size, left = _RECORD_BYTES, self._shake_hands()
            while left:
                part = self._tls.read(size)
                if not part:
                    is_end = True
                    break
                parts.append(part)
                left = incoming.pending
        except ssl.SSLError as error:
            self._note(error)
        finally:
            if left:
                incoming.read()  # wanted by nobody, and the next to use the buffer is another one
        if self._unsent or self._outgoing.pending:
            self._send()
        if parts:
            self._connection.data_received(b"".join(parts))  # a single one is not copied
        if is_end or self._failure is not None:
            self._end()

    def _note(self, error: ssl.SSLError) -> None:
        if isinstance(error, ssl.SSLWantReadError):
            self._has_part = True  # of a record, which OpenSSL keeps; or there was one without data
        else:
            self._failure = error

    def _end(self) -> None:
        if self._failure is not None:
            self._transport.abort()
        else:
            self._connection.eof_received()

    def eof_received(self) -> None:
        """The server has closed its side. Some say no goodbye first; an answer's end shows in HTTP,
        but for those that end with the connection.
        """
        if self._is_open:
            self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """TCP is closed, by either side."""
        if self._is_open:
            self._connection.connection_lost(self._failure or exc)
        else:
            self._fail(exc or ConnectionResetError("lost within the TLS handshake"))

    def pause_writing(self) -> None:
        """The server takes less than we have."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """The server takes more."""
        self._connection.resume_writing()

    # What the connection asks for.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send data."""
        unsent = self._unsent
        if unsent or self._failure is not None:
            unsent.append(data)  # its turn comes with the next read, or never
            return
        try:
            self._tls.write(data)
        except ssl.SSLError:
            unsent.append(data)
            self._send()  # to which OpenSSL says the same again
        else:
            self._transport.write(self._outgoing.read())

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        """Send all of these."""
        self._unsent += list_of_data
        self._send()

    def pause_reading(self) -> None:
        """Receive no more for now."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on receiving."""
        self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As of the TCP transport; the SSLObject is `ssl_object`."""
        return self._tls if name == "ssl_object" else self._transport.get_extra_info(name, default)

    def _send(self) -> None:
        unsent = self._unsent
        try:
            while unsent:
                self._tls.write(unsent[0])  # all of it, or SSLWantReadError, and the same again
                del unsent[0]
        except ssl.SSLWantReadError:
            pass  # TLS 1.2 may shake hands again in between: then this goes on with the next read
        except ssl.SSLError as error:
            self._failure = error
            self._transport.abort()
        records = self._outgoing.read()
        if records and self._failure is None:
            self._transport.write(records)

    def _shake_hands(self) -> int:
        """The next step of it. If that was the last, the connection is open; how many bytes came
        behind it.
        """
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
            return 0
        except ssl.SSLError as error:
            self._incoming.read()
            self._send()  # the alert that says why
            self._transport.close()
            self._fail(error)
            return 0
        self._send()
        self._is_open = True
        self._connection.connection_made(self)
        if not self._opened.done():  # whoever dials may have given up
            self._opened.set_result(None)
        return self._incoming.pending

    def _fail(self, error: Exception) -> None:
        if not self._opened.done():
            self._opened.set_exception(error)
            self._opened.exception()  # seen: whoever dials may have given up already
