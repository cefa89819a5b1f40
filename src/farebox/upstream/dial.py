"""Opening a connection: name, TCP, tunnel, TLS. Time limits and pooling are decided elsewhere."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from farebox.upstream.connection import Connection
from farebox.upstream.failures import failed
from farebox.upstream.proxy import Proxy
from farebox.upstream.race import Attempt, race
from farebox.upstream.resolve import Resolver
from farebox.upstream.secure import Secure
from farebox.upstream.target import Origin
from farebox.upstream.tls import ClientContext

_MAX_TUNNEL_HEAD_BYTES = 16 * 1024


class Dialer:
    """Opens connections to origins, through a proxy where one is to be used."""

    __slots__ = ("_make_connection", "_resolver", "_tls")

    def __init__(self, tls: ClientContext, make_connection: Callable[[], Connection]) -> None:
        self._tls = tls
        self._make_connection = make_connection
        self._resolver = Resolver()

    async def dial(self, origin: Origin, proxy: Proxy | None) -> Connection:
        """An open connection. Raises UpstreamFailed with reason dns, connect, tls or proxy."""
        host, port = (origin.host, origin.port) if proxy is None else (proxy.host, proxy.port)
        try:
            addresses = await self._resolver.addresses(host)
        except (OSError, UnicodeError) as error:
            raise failed("dns", error) from error
        try:
            return await race([self._attempt(origin, proxy, at, port) for at in addresses])
        except ssl.SSLError as error:
            self._tls.forget_session(origin.host)
            raise failed("tls", error) from error
        except OSError as error:
            raise failed("connect", error) from error

    async def aclose(self) -> None:
        """Give up the look-ups under way."""
        await self._resolver.aclose()

    def _attempt(self, origin: Origin, proxy: Proxy | None, address: str, port: int) -> Attempt:
        if not origin.is_secure:
            return lambda: self._plain(address, port)
        if proxy is None:
            return lambda: self._secure(origin, address, port)
        return lambda: self._tunnelled(origin, proxy, address, port)

    async def _plain(self, address: str, port: int) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(self._make_connection, address, port)
        return connection

    async def _secure(self, origin: Origin, address: str, port: int) -> Connection:
        loop = asyncio.get_running_loop()
        _, secure = await loop.create_connection(lambda: self._make_secure(origin), address, port)
        return await secure.open()

    async def _tunnelled(self, origin: Origin, proxy: Proxy, address: str, port: int) -> Connection:
        loop = asyncio.get_running_loop()
        plain, tunnel = await loop.create_connection(_Tunnel, address, port)
        try:
            plain.write(proxy.connect_request(origin))
            await tunnel.opened
            secure = self._make_secure(origin)
        except BaseException:
            plain.abort()
            raise
        if plain.is_closing():  # it was lost meanwhile, and nobody else would be told
            raise ConnectionResetError("lost before the TLS handshake")
        plain.set_protocol(secure)
        secure.connection_made(plain)
        return await secure.open()

    def _make_secure(self, origin: Origin) -> Secure:
        return Secure(self._tls, origin.host, self._make_connection())


class _Tunnel(asyncio.Protocol):
    """Waits for a proxy's yes to CONNECT: `opened`, which fails with UpstreamFailed on a no."""

    def __init__(self) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._head = b""

    def data_received(self, data: bytes) -> None:
        """Collect the head. Nothing may follow it: in TLS the client speaks first."""
        if self.opened.done():
            return
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0 and len(self._head) <= _MAX_TUNNEL_HEAD_BYTES:
            return
        version, _, rest = self._head.partition(b" ")
        if end == len(self._head) - 4 and version.startswith(b"HTTP/1.") and rest[:1] == b"2":
            self.opened.set_result(None)
        else:
            self._fail(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The proxy hung up."""
        if not self.opened.done():
            self._fail(exc)

    def _fail(self, cause: Exception | None) -> None:
        self.opened.set_exception(failed("proxy", cause))
        self.opened.exception()  # seen: whoever dials may have given up already
