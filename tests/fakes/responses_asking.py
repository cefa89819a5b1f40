"""How the tests of the fake's Responses API ask it, over plain HTTP."""

from __future__ import annotations

from typing import Any

from tests.fakes.asking import events_of, exchange
from tests.fakes.personas import ALL_PERSONAS
from tests.fakes.upstream import FakeUpstream


def request(text: Any = "hello", model: str = "m", **fields: Any) -> dict[str, Any]:
    """The least good body."""
    return {"model": model, "input": text, "store": False, **fields}


def post(
    upstream: FakeUpstream, body: dict[str, Any], persona: str = "openai", *, key: str = ""
) -> tuple[int, bytes]:
    """Status and body of the answer."""
    path = ALL_PERSONAS[persona].base_path + "/responses"
    headers = {"authorization": f"Bearer {key or upstream.key(persona)}"}
    return exchange(upstream, path, body, headers)


def events(upstream: FakeUpstream, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a stream."""
    return events_of(post(upstream, {**body, "stream": True}))
