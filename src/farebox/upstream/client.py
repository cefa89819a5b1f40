"""The HTTP/1.1 client that calls vendors. Which vendor is called is the relay's business."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from farebox.core.ports import Exchange, UpstreamRequest
from farebox.core.settings import Settings
from farebox.upstream.connection import Connection
from farebox.upstream.dial import Dialer
from farebox.upstream.exchange import HttpExchange
from farebox.upstream.pool import Pool
from farebox.upstream.proxy import Proxies, Proxy
from farebox.upstream.target import Origin, parse_url, request_head, request_line_rest
from farebox.upstream.tls import ClientContext

_MAX_ROUTES = 1000  # URLs remembered: the channels' are few, but a path may hold an id


@dataclass(frozen=True, slots=True)
class _Route:
    """What is the same for every request to one URL."""

    loop: asyncio.AbstractEventLoop  # to ask which one runs is a system call
    pool: Pool
    line_rest: bytes


class Client:
    """Implements core.ports.Upstream for one event loop. Redirects are answers like all others.

    `tls` replaces a context that trusts the system's authorities; `proxies` replaces what the
    environment says (see proxy.Proxies). Raises ValueError for a proxy that cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        tls: ClientContext | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> None:
        self._settings = settings
        self._proxies = Proxies(proxies)
        self._dialer = Dialer(tls or ClientContext(), self._make_connection)
        self._pools: dict[Origin, Pool] = {}
        self._routes: dict[str, _Route] = {}

    @property
    def open_connections(self) -> int:
        """Connections that are open or being opened, in use or not."""
        return sum(pool.open_connections for pool in self._pools.values())

    def open(self, request: UpstreamRequest) -> Exchange:
        """Start sending; failures surface in the exchange's head().

        Raises ValueError for what must not be sent: a URL with a user name, a header with a line
        break, a header that the client writes itself (target.OURS).
        """
        route = self._routes.get(request.url) or self._find_route(request.url)
        head = request_head(request.method, route.line_rest, request.headers, len(request.body))
        return HttpExchange(route.loop, self._settings, route.pool, request, head)

    async def aclose(self) -> None:
        """Break off every exchange, close every connection, and wait until they are gone."""
        for pool in self._pools.values():
            await pool.aclose()
        await self._dialer.aclose()

    def _find_route(self, url: str) -> _Route:
        loop = asyncio.get_running_loop()
        target = parse_url(url)
        proxy = self._proxies.choose(target.origin)
        pool = self._pools.get(target.origin) or self._make_pool(loop, target.origin, proxy)
        # A tunnel hides the proxy; without one every request is told as a proxy wants it.
        is_told = proxy is not None and not target.origin.is_secure
        extra = proxy.headers if proxy is not None and is_told else ()
        route = _Route(loop, pool, request_line_rest(target, absolute=is_told, extra=extra))
        if len(self._routes) >= _MAX_ROUTES:
            self._routes.clear()
        self._routes[url] = route
        return route

    def _make_pool(
        self, loop: asyncio.AbstractEventLoop, origin: Origin, proxy: Proxy | None
    ) -> Pool:
        pool = Pool(loop, self._settings, self._dialer, origin, proxy)
        self._pools[origin] = pool
        return pool

    def _make_connection(self) -> Connection:
        return Connection(asyncio.get_running_loop(), self._settings.max_head_bytes)
