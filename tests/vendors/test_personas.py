"""What is prepared for a vendor is accepted by the fake that refuses what that vendor refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from farebox.core.channel import Channel
from farebox.core.ports import UpstreamHead
from farebox.vendors import registry
from tests.fakes.upstream import FakeUpstream
from tests.vendors.contract import CAP, call_of
from tests.vendors.preparing import post

HARD: dict[str, Any] = {
    "messages": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "What is the time?", "name": "me"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "noon"},
        {"role": "user", "content": "say: done"},
    ],
    "max_tokens": 99,
    "stream": True,
    "store": True,
    "metadata": {"a": "b"},
    "reasoning_effort": "medium",
    "frequency_penalty": 0.5,
    "tools": [
        {
            "type": "function",
            "function": {"name": "f", "strict": True, "parameters": {"type": "object"}},
        }
    ],
    "tool_choice": "required",
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
}
MODELS = {"openai": "gpt-6-sol", "zai": "glm-5.3", "zhipu": "glm-5.3"}


def ask(
    upstream: FakeUpstream, name: str, body: dict[str, Any], model: str = "m", key: str = ""
) -> tuple[Channel, int, bytes]:
    """Prepare and send one call."""
    vendor = registry.find(name)
    channel = Channel("c", name, upstream.base_url(name), key or upstream.key(name))
    request = vendor.prepare(channel, model, call_of(json.dumps(body).encode()), CAP, "hop").request
    return channel, *post(request)


@pytest.mark.parametrize("name", registry.all())
def test_the_hardest_ordinary_call_is_accepted_by_every_vendor(
    fake_upstream: FakeUpstream, name: str
):
    """Tools, schema, effort, roles and caps at once: none of them makes a strict vendor refuse."""
    _, status, body = ask(fake_upstream, name, HARD, MODELS.get(name, "m"))
    assert status == 200, body
    assert b"[DONE]" in body
    assert b'"usage":{' in body
    assert fake_upstream.last.headers["x-farebox-hop"] == "hop"


@pytest.mark.parametrize("name", registry.all())
@pytest.mark.parametrize(
    ("model", "status", "elsewhere"),
    [
        ("fail-401", 502, True),
        ("fail-402", 503, True),
        ("fail-404", 502, True),
        ("fail-429", 429, True),
        ("fail-500", 502, True),
        ("fail-503", 503, True),
        ("leak-500", 502, True),
        ("leak-400", 400, False),
        ("refuse-400", 400, False),
        ("context-400", 400, False),
    ],
)
def test_refusals_in_each_vendors_own_shape_are_understood(
    fake_upstream: FakeUpstream, name: str, model: str, status: int, elsewhere: bool
):
    """Whose fault it is comes out the same, whatever the shape; nothing leaks."""
    channel, upstream_status, body = ask(
        fake_upstream, name, {"messages": [{"role": "user"}]}, model
    )
    error = registry.find(name).refused(channel, UpstreamHead(upstream_status, {}), body)
    assert (error.status, error.retry_elsewhere) == (status, elsewhere)
    assert channel.api_key not in error.message
    assert "127.0.0.1" not in error.message
    if model == "context-400":
        assert error.code == "context_length_exceeded"


@pytest.mark.parametrize("name", registry.all())
def test_a_wrong_credential_is_our_trouble(fake_upstream: FakeUpstream, name: str):
    """The caller hears neither of keys nor of accounts."""
    channel, status, body = ask(fake_upstream, name, HARD, key="sk-wrong-0123456789")
    error = registry.find(name).refused(channel, UpstreamHead(status, {}), body)
    assert (status, error.status, error.code) == (401, 502, None)
    assert "key" not in error.message.lower()
