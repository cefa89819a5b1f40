"""Certificates of an authority that only the tests trust, and the contexts that go with them."""

from __future__ import annotations

import ssl
from typing import Any

import trustme

from farebox.upstream.tls import ClientContext

AUTHORITY = trustme.CA()


def server_tls(*names: str, authority: trustme.CA = AUTHORITY, **more: Any) -> ssl.SSLContext:
    """A server's context with a certificate for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, **more).configure_cert(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def trusting(**more: Any) -> ClientContext:
    """A client's context that trusts these certificates."""
    context = ClientContext(**more)
    AUTHORITY.configure_trust(context)
    return context
