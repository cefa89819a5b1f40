"""Which proxy a request goes through and what it is told. Connecting is dial.py's business."""

from __future__ import annotations

import ipaddress
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from farebox.core.call import Headers
from farebox.upstream.target import Origin


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy. `authorization` is the value of Proxy-Authorization: never logged."""

    host: str
    port: int
    authorization: bytes | None = field(default=None, repr=False)

    @property
    def headers(self) -> Headers:
        """What every request to the proxy carries."""
        if self.authorization is None:
            return ()
        return ((b"proxy-authorization", self.authorization),)

    def connect_request(self, origin: Origin) -> bytes:
        """The request that asks for a tunnel (RFC 9110, 9.3.6)."""
        authority = origin.authority.encode("ascii")
        lines = [b"CONNECT %b HTTP/1.1" % authority, b"host: " + authority]
        lines += [b"%b: %b" % pair for pair in self.headers]
        return b"\r\n".join(lines) + b"\r\n\r\n"


class Proxies:
    """The proxies of the environment: HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in either case.

    `proxies` maps "http" and "https" to a proxy's URL and "no" to the hosts that need none,
    as urllib.request.getproxies() gives them; None reads the environment, once.
    """

    def __init__(self, proxies: Mapping[str, str] | None = None) -> None:
        known = dict(urllib.request.getproxies() if proxies is None else proxies)
        self._known = known
        self._by_scheme = {
            scheme: _parse(known[scheme]) for scheme in ("http", "https") if known.get(scheme)
        }

    def choose(self, origin: Origin) -> Proxy | None:
        """The proxy for an origin; None goes straight, as to this very machine it always does."""
        proxy = self._by_scheme.get(origin.scheme)
        if proxy is None or _is_loopback(origin.host):
            return None
        return None if urllib.request.proxy_bypass(origin.authority, self._known) else proxy


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _parse(url: str) -> Proxy:
    """Read a proxy's URL. Raises ValueError without the URL, which may hold a password."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme.lower() != "http" or not parts.hostname:
        raise ValueError(
            "HTTP_PROXY and HTTPS_PROXY must be http://host:port; no other kind can be used."
        )
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = b"Basic " + b64encode(pair.encode())
    return Proxy(parts.hostname, parts.port or 80, authorization)
