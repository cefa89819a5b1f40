"""Anthropic's SDK against the real server: the local model, and each vendor's quirks."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from anthropic import Anthropic, AsyncAnthropic

from tests.e2e.config import MODELS
from tests.e2e.serving import Serving, events
from tests.shape.tree import ROOT

MANUAL = (ROOT / "docs" / "messages.md").read_text(encoding="utf-8")
MODEL = "smollm2-135m-instruct"
MARK = {"type": "ephemeral"}
TOOLS: list[Any] = [
    {
        "name": name,
        "description": "Adds.",
        "input_schema": {"type": "object", "properties": {"n": {"type": "integer"}}},
        "strict": True,
        "cache_control": MARK,
    }
    for name in ("first", "second")
]
# What clients send that one vendor or the other refuses; the gateway makes each fit.
AWKWARD: dict[str, Any] = {
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2; cc_entrypoint=cli;"},
        {"type": "text", "text": "Be brief.", "cache_control": MARK},
    ],
    "thinking": {"type": "adaptive", "display": "summarized"},
    "output_config": {"effort": "medium"},
    "metadata": {"user_id": json.dumps({"device_id": "d" * 64, "session_id": "s" * 36})},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "stop_sequences": ["\n\nHuman:"],
    "max_tokens": 32_000,
    "betas": ["context-management-2025-06-27", "effort-2025-11-24"],
}


@pytest.fixture
def client(gateway: Serving) -> Iterator[Anthropic]:
    with Anthropic(base_url=gateway.origin, api_key=gateway.key, max_retries=0) as sdk:
        yield sdk


@pytest.mark.parametrize("vendor", MODELS)
def test_each_vendor_takes_a_turn_with_tools_and_what_claude_code_sends(
    client: Anthropic, vendor: str
) -> None:
    """Effort, thinking, marks for a cache, a system message behind the user's: what a vendor
    refuses never reaches it, and results of both calls are accepted on the next turn.
    """
    messages: list[Any] = [
        {"role": "user", "content": [{"type": "text", "text": "tools", "cache_control": MARK}]},
        {"role": "system", "content": "It is Monday."},
    ]
    request = {"model": MODELS[vendor], "tools": TOOLS, **AWKWARD}
    with client.beta.messages.stream(messages=messages, **request) as stream:
        final = stream.get_final_message()
    assert (final.model, final.stop_reason) == (MODELS[vendor], "tool_use")
    calls = [block for block in final.content if block.type == "tool_use"]
    assert [call.name for call in calls] == ["first", "second"]
    assert len({call.id for call in calls}) == 2
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "3"} for call in calls]
    messages += [
        {"role": "assistant", "content": final.content},
        {"role": "user", "content": [*results, {"type": "text", "text": "say: six"}]},
    ]
    answer = client.beta.messages.create(messages=messages, **request, timeout=30)
    assert (answer.content[-1].type, answer.stop_reason) == ("text", "end_turn")
    assert answer.usage.output_tokens > 0


@pytest.mark.anyio
async def test_many_at_once(gateway: Serving) -> None:
    """Streamed and not, on one connection pool: each gets its own answer, and nothing is held."""
    async with AsyncAnthropic(base_url=gateway.origin, api_key=gateway.key) as client:

        async def one(n: int) -> str:
            request: Any = {
                "model": MODELS["openai" if n % 3 else "anthropic"],
                "max_tokens": 100,
                "messages": [{"role": "user", "content": f"say: number {n}"}],
            }
            if n % 2:
                message: Any = await client.messages.create(**request)
                return message.content[0].text
            async with client.messages.stream(**request) as stream:
                return await stream.get_final_text()

        said = await asyncio.gather(*(one(n) for n in range(40)))
    assert said == [f"number {n}" for n in range(40)]
    gateway.money()


def test_the_manuals_curl_line_is_answered_by_the_model(local_gateway: Serving) -> None:
    """Pasted into a shell with the key in the environment: a message, whose receipt adds up."""
    found = re.search(r"^```sh\n(curl [^`]*)```", MANUAL, re.MULTILINE)
    assert found is not None
    line = found[1].replace("http://127.0.0.1:8790", local_gateway.origin)
    done = subprocess.run(
        ["/bin/sh", "-c", line],
        env={**os.environ, "FAREBOX_KEY": local_gateway.key},
        capture_output=True,
        timeout=110,
        check=True,
    )
    message = json.loads(done.stdout)
    assert (message["type"], message["role"], message["model"]) == ("message", "assistant", MODEL)
    assert message["content"][0]["text"]
    receipt = local_gateway.get(f"/v1/receipts/{message['id']}").json
    assert (receipt["outcome"], receipt["dialect"]) == ("complete", "messages")
    used = message["usage"]
    assert receipt["usage"]["output"] == used["output_tokens"] > 0
    assert receipt["usage"]["uncached_input"] == used["input_tokens"] > 0


def test_the_local_model_as_a_stream(local_gateway: Serving) -> None:
    """Its events in their order, cut where the request says."""
    body = {
        "model": MODEL,
        "max_tokens": 2,
        "stream": True,
        "messages": [{"role": "user", "content": "Count from one to a hundred."}],
    }
    answer = local_gateway.request("POST", "/v1/messages?beta=true", json.dumps(body).encode())
    assert answer.headers["request-id"] == answer.headers["x-request-id"]
    kinds = [event["type"] for event in events(answer.body) if event["type"] != "ping"]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    end = next(event for event in events(answer.body) if event["type"] == "message_delta")
    assert end["delta"]["stop_reason"] == "max_tokens"
    assert end["usage"]["output_tokens"] == 2


def test_what_claude_code_asks_of_the_root(gateway: Serving) -> None:
    """HEAD / without a key has an answer, so that it knows that somebody is there."""
    done = subprocess.run(
        ["curl", "-sI", gateway.origin + "/"], capture_output=True, timeout=20, check=True
    )
    assert done.stdout.split(b"\r\n")[0].split()[1] in (b"200", b"204")
