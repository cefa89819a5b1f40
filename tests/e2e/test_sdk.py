"""The official SDK against the real server: the local model, and each vendor's quirks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.e2e.config import MODELS
from tests.e2e.serving import Serving

TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "Adds.",
            "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}},
            "strict": True,
        },
    }
    for name in ("first", "second")
]
# What clients send that one vendor or the other refuses; the gateway makes each fit.
AWKWARD: dict[str, Any] = {
    "reasoning_effort": "medium",
    "frequency_penalty": 0.1,
    "parallel_tool_calls": True,
    "max_completion_tokens": 200,
}


@pytest.fixture
def client(gateway: Serving) -> Iterator[OpenAI]:
    with OpenAI(base_url=gateway.base_url, api_key=gateway.key, max_retries=0) as sdk:
        yield sdk


@pytest.mark.parametrize("vendor", MODELS)
def test_each_vendor_takes_a_chat_with_tools_and_sampling(client: OpenAI, vendor: str) -> None:
    """developer role, effort, penalties, strict tools: what a vendor refuses never reaches it."""
    raw = client.chat.completions.with_raw_response.create(
        model=MODELS[vendor],
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "tools"},
        ],
        tools=TOOLS,
        **AWKWARD,
    )
    completion = raw.parse()
    assert raw.headers["x-request-id"].startswith("req_")
    assert completion.model == MODELS[vendor]
    calls = completion.choices[0].message.tool_calls or []
    assert [call.function.name for call in calls if call.type == "function"] == ["first", "second"]
    assert completion.choices[0].finish_reason == "tool_calls"
    assert completion.usage is not None


@pytest.mark.parametrize("vendor", MODELS)
def test_each_vendors_tool_turn_goes_round(client: OpenAI, vendor: str) -> None:
    """The stream helper puts the calls together; their outputs are accepted on the next turn."""
    messages: list[Any] = [{"role": "user", "content": "tools"}]
    with client.chat.completions.stream(
        model=MODELS[vendor],
        messages=messages,
        tools=TOOLS,
        stream_options={"include_usage": True},
    ) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    message = final.choices[0].message
    calls = message.tool_calls or []
    assert [call.function.name for call in calls] == ["first", "second"]
    assert len({call.id for call in calls}) == 2
    assert all(json.loads(call.function.arguments) for call in calls)
    assert final.usage is not None
    messages.append(
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.function.name, "arguments": call.function.arguments},
                }
                for call in calls
            ],
        }
    )
    messages += [{"role": "tool", "tool_call_id": call.id, "content": "3"} for call in calls]
    messages.append({"role": "user", "content": "say: six"})
    answer = client.chat.completions.create(model=MODELS[vendor], messages=messages, tools=TOOLS)
    assert answer.choices[0].message.content == "six"


@pytest.mark.parametrize("vendor", MODELS)
def test_each_vendor_streams_text(client: OpenAI, vendor: str) -> None:
    """create(stream=True): the deltas are the text, and the last chunk has the usage."""
    chunks = list(
        client.chat.completions.create(
            model=MODELS[vendor],
            messages=[{"role": "user", "content": "say: one two three"}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "one two three"
    assert {chunk.model for chunk in chunks} == {MODELS[vendor]}
    assert len({chunk.id for chunk in chunks}) == 1
    assert [chunk.usage for chunk in chunks if chunk.usage][-1].total_tokens > 0  # type: ignore[union-attr]


@pytest.mark.parametrize("vendor", ["deepseek", "zai", "mimo"])
def test_a_schema_is_kept_where_only_json_objects_are_known(client: OpenAI, vendor: str) -> None:
    """json_schema becomes json_object and a text; the answer's head names the change."""
    inner = {"name": "a", "schema": {"type": "object"}, "strict": True}
    schema: Any = {"type": "json_schema", "json_schema": inner}
    raw = client.chat.completions.with_raw_response.create(
        model=MODELS[vendor],
        messages=[{"role": "user", "content": 'say: {"json": 1}'}],
        response_format=schema,
    )
    assert "response_format" in raw.headers["x-farebox-adjusted"]
    assert raw.parse().choices[0].message.content == '{"json": 1}'


def test_errors_are_the_sdks_own(client: OpenAI, gateway: Serving) -> None:
    """Wrong key, wrong model, wrong parameter, empty balance: each the class that the SDK has for
    it.
    """
    hello: list[Any] = [{"role": "user", "content": "x"}]
    with pytest.raises(openai.NotFoundError) as not_found:
        client.chat.completions.create(model="gpt-5.66", messages=hello)
    assert not_found.value.code == "model_not_found"
    assert "gpt-5.6" in str(not_found.value)
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="gpt-5.6", messages=hello, n=0)
    assert bad.value.param == "n"
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="sk-fb-wrong").models.list()
    gateway.cli("accounts", "create", "penniless")
    key = gateway.cli("keys", "create", "--account", "penniless")["key"]
    with pytest.raises(openai.RateLimitError) as empty:
        client.with_options(api_key=key, max_retries=2).chat.completions.create(
            model="gpt-5.6", messages=hello
        )
    assert empty.value.code == "credit_balance_exhausted"


def test_models_are_listed_and_found(client: OpenAI) -> None:
    """models.list and models.retrieve, with a slash in the id."""
    assert {model.id for model in client.models.list()} >= set(MODELS.values())
    assert client.models.retrieve("xiaomi/mimo-v2.6-pro").id == "xiaomi/mimo-v2.6-pro"
    assert client.models.retrieve("ZHIPU/GLM-5.3").object == "model"


@pytest.mark.anyio
async def test_the_async_client(gateway: Serving) -> None:
    """Many at once, streamed and not, on one connection pool."""
    import asyncio

    async with AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key) as client:

        async def one(n: int) -> str:
            messages: list[Any] = [{"role": "user", "content": f"say: number {n}"}]
            if n % 2:
                answer = await client.chat.completions.create(model="gpt-5.6", messages=messages)
                return answer.choices[0].message.content or ""
            stream = await client.chat.completions.create(
                model="gpt-5.6", messages=messages, stream=True
            )
            return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])

        said = await asyncio.gather(*(one(n) for n in range(40)))
    assert said == [f"number {n}" for n in range(40)]
    gateway.money()


def test_the_local_model_with_the_sdk(local_gateway: Serving) -> None:
    """A real model's real answer, plain and streamed, with usage that the receipt agrees with."""
    with OpenAI(base_url=local_gateway.base_url, api_key=local_gateway.key) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="smollm2-135m-instruct",
            messages=[{"role": "user", "content": "Name a colour."}],
            max_tokens=8,
        )
        completion = raw.parse()
        assert completion.choices[0].message.content
        receipt = local_gateway.get(f"/v1/receipts/{raw.headers['x-request-id']}").json
        assert completion.usage is not None
        assert receipt["usage"]["output"] == completion.usage.completion_tokens
        with client.chat.completions.stream(
            model="smollm2-135m-instruct",
            messages=[{"role": "user", "content": "Name a colour."}],
            max_tokens=64,
        ) as stream:
            deltas = [event.delta for event in stream if event.type == "content.delta"]
        assert "".join(deltas)
