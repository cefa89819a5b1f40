"""Short ways to ask an upstream something and to see what became of it."""

from __future__ import annotations

from typing import Any

import pytest

from farebox.core.ports import Exchange, UpstreamHead, UpstreamRequest
from farebox.errors import UpstreamFailed
from farebox.upstream.client import Client

SECRET = b"Bearer sk-very-secret"
PATIENCE_S = 10.0  # longer than any test: to run out of it is a failure


def ask(client: Client, url: str, body: bytes = b"{}", **more: Any) -> Exchange:
    headers = ((b"authorization", SECRET), (b"content-type", b"application/json"))
    return client.open(UpstreamRequest(url, more.pop("headers", headers), body, **more))


async def head_of(exchange: Exchange) -> UpstreamHead:
    head = await exchange.head(PATIENCE_S)
    assert head is not None
    return head


async def body_of(exchange: Exchange) -> bytes:
    parts: list[bytes] = []
    while True:
        data = await exchange.read(PATIENCE_S)
        assert data is not None
        if not data:
            return b"".join(parts)
        parts.append(data)


async def answer_to(
    client: Client, url: str, body: bytes = b"{}", **more: Any
) -> tuple[int, bytes]:
    """Status and body of one whole call."""
    exchange = ask(client, url, body, **more)
    try:
        head = await head_of(exchange)
        return head.status, await body_of(exchange)
    finally:
        exchange.close()


async def failure_of(exchange: Exchange) -> tuple[str, int]:
    """Reason and status of a call that must fail; its message must give nothing away."""
    try:
        with pytest.raises(UpstreamFailed) as caught:
            await body_of(exchange)
    finally:
        exchange.close()
    failure = caught.value
    assert failure.code == "upstream_unreachable"
    for secret in ("127.0.0.1", "localhost", "/v1", "secret"):
        assert secret not in failure.message
    return failure.reason, failure.status
