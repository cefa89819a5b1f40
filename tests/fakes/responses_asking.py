"""How the tests of the fake's Responses API ask it, over plain HTTP."""

from __future__ import annotations

import http.client
import json
from typing import Any

from tests.fakes.personas import ALL_PERSONAS
from tests.fakes.upstream import FakeUpstream


def request(text: Any = "hello", model: str = "m", **fields: Any) -> dict[str, Any]:
    """The least good body."""
    return {"model": model, "input": text, "store": False, **fields}


def post(
    upstream: FakeUpstream, body: dict[str, Any], persona: str = "openai", *, key: str = ""
) -> tuple[int, bytes]:
    """Status and body of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", upstream.port, timeout=10)
    try:
        connection.request(
            "POST",
            ALL_PERSONAS[persona].base_path + "/responses",
            json.dumps(body),
            {"authorization": f"Bearer {key or upstream.key(persona)}"},
        )
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def events(upstream: FakeUpstream, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a stream."""
    status, raw = post(upstream, {**body, "stream": True})
    assert status == 200
    return [json.loads(e.partition("data: ")[2]) for e in raw.decode().split("\n\n") if e]
