"""How the tests of the fake's Messages API ask it, over plain HTTP."""

from __future__ import annotations

from typing import Any

from tests.fakes.asking import events_of, exchange
from tests.fakes.personas import ALL_PERSONAS
from tests.fakes.upstream import FakeUpstream

VERSION = {"anthropic-version": "2023-06-01"}


def request(text: Any = "hello", model: str = "m", **fields: Any) -> dict[str, Any]:
    """The least good body."""
    messages = [{"role": "user", "content": text}]
    return {"model": model, "max_tokens": 4096, "messages": messages, **fields}


def post(
    upstream: FakeUpstream,
    body: dict[str, Any],
    persona: str = "anthropic",
    headers: dict[str, str] | None = None,
) -> tuple[int, bytes]:
    """Status and body of the answer."""
    path = next(p for p, api in ALL_PERSONAS[persona].paths.items() if api == "messages")
    own = {"x-api-key": upstream.key(persona), **VERSION} if headers is None else headers
    return exchange(upstream, path, body, own)


def events(upstream: FakeUpstream, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a stream."""
    return events_of(post(upstream, {**body, "stream": True}))
