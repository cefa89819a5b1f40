"""Anthropic's SDK over vendors that speak chat only, and over one that speaks the Messages API."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic
from pydantic import BaseModel

from tests.clients.gateway import (
    ALIAS,
    BREAKING,
    FULL,
    NATIVE,
    PLAIN,
    UPSTREAM_NAMES,
    Purse,
    Tokens,
    tokens_of,
)
from tests.clients.pictures import png
from tests.clients.turns import of, turns
from tests.fakes.upstream import FakeUpstream

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("gateway", [*UPSTREAM_NAMES, *NATIVE], indirect=True),
]
TOKENS = "tokens: 1000 200 50 20"
SAY = f"say: one two three\n{TOKENS}"
CALL = f'think: First the line.\ncall: fare_of {{"line": 7}}\nsay: It is four.\n{TOKENS}'
FARE_OF: Any = {
    "name": "fare_of",
    "description": "What a ride on a line costs.",
    "input_schema": {
        "type": "object",
        "properties": {"line": {"type": "integer"}},
        "required": ["line"],
    },
}
THINKING: Any = {"type": "enabled", "budget_tokens": 2000}


class Fare(BaseModel):
    """What a ride costs."""

    line: int
    price: str


@pytest.fixture
def client(purse: Purse) -> Iterator[Anthropic]:
    with Anthropic(base_url=purse.gateway.origin, api_key=purse.key, max_retries=0) as sdk:
        yield sdk


def asking(text: str, **more: Any) -> dict[str, Any]:
    """The arguments of a call that says this."""
    messages = [{"role": "user", "content": text}]
    return {"model": PLAIN, "max_tokens": 4000, "messages": messages, **more}


def used(message: Any) -> Tokens:
    """What the SDK read of the usage: what caches gave and took stands beside the input."""
    usage = message.usage
    cached = usage.cache_read_input_tokens
    whole = usage.input_tokens + cached + usage.cache_creation_input_tokens
    return Tokens(whole, cached, usage.output_tokens)


def text_of(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def test_create(client: Anthropic, purse: Purse) -> None:
    """A finished message, whose id and whose request's id are those of its receipt."""
    message = client.messages.create(**asking(SAY))
    assert [block.type for block in message.content] == ["text"]
    assert (text_of(message), message.stop_reason) == ("one two three", "end_turn")
    assert message.model == PLAIN
    (receipt,) = purse.receipts()
    assert message._request_id == receipt["request_id"]
    assert message.id == receipt["request_id"].replace("req_", "msg_")
    assert used(message) == purse.charged()


def test_create_with_a_stream(client: Anthropic, purse: Purse) -> None:
    """The events come in their order, and the last but one has the usage."""
    events: list[Any] = list(client.messages.create(**asking(SAY, model=ALIAS), stream=True))
    kinds = [event.type for event in events if event.type != "ping"]
    assert kinds == [
        *("message_start", "content_block_start"),
        *["content_block_delta"] * 3,
        *("content_block_stop", "message_delta", "message_stop"),
    ]
    deltas = [event.delta.text for event in events if event.type == "content_block_delta"]
    assert deltas == ["one ", "two ", "three"]
    assert events[0].message.model == ALIAS
    assert used(events[-2]) == purse.charged()


def test_the_stream_helper(client: Anthropic, purse: Purse) -> None:
    """It puts the events together to the message that a call without a stream gets."""
    with client.messages.stream(**asking(SAY)) as stream:
        assert list(stream.text_stream) == ["one ", "two ", "three"]
        final = stream.get_final_message()
    assert (text_of(final), final.stop_reason) == ("one two three", "end_turn")
    assert used(final) == purse.charged()


async def test_the_asynchronous_client(purse: Purse) -> None:
    """A message and a stream, with the key as a Bearer token."""
    async with AsyncAnthropic(base_url=purse.gateway.origin, auth_token=purse.key) as client:
        message = await client.messages.create(**asking(SAY))
        async with client.messages.stream(**asking(SAY)) as stream:
            pieces = [text async for text in stream.text_stream]
            final = await stream.get_final_message()
    assert (text_of(message), pieces) == ("one two three", ["one ", "two ", "three"])
    assert used(message) + used(final) == purse.charged()


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_and_thinking_go_round(
    client: Anthropic, purse: Purse, fake_upstream: FakeUpstream, streamed: bool
) -> None:
    """A thought and a call, both sent back as they came with the result, and the answer."""
    request = asking(CALL, tools=[FARE_OF], thinking=THINKING)
    total = Tokens(0, 0, 0)
    for _ in range(2):
        if streamed:
            with client.messages.stream(**request) as stream:
                message: Any = stream.get_final_message()
        else:
            message = client.messages.create(**request)
        total += used(message)
        thought = message.content[0]
        assert (thought.type, thought.thinking) == ("thinking", "First the line.")
        assert thought.signature
        request["messages"] = [
            *request["messages"],
            {"role": "assistant", "content": message.content},
        ]
        results: list[Any] = []
        for call in [block for block in message.content if block.type == "tool_use"]:
            assert (call.name, call.input, message.stop_reason) == (
                *("fare_of", {"line": 7}),
                "tool_use",
            )
            results.append({"type": "tool_result", "tool_use_id": call.id, "content": "4"})
        request["messages"].append({"role": "user", "content": results})
    assert text_of(message) == "It is four."
    told = turns(fake_upstream.last)
    ((call_id, _),) = of(fake_upstream.last, "called")
    assert told[-3:] == [
        ("thought", "First the line."),
        ("called", (call_id, {"line": 7})),
        ("returned", (call_id, "4")),
    ]
    assert total == purse.charged()


def test_the_tool_runner(client: Anthropic, purse: Purse, fake_upstream: FakeUpstream) -> None:
    """It calls the function, and asks again with what it gave. Before, it asks for a thread, which
    is refused, and does without.
    """

    @anthropic.beta_tool
    def fare_of(line: int) -> str:
        """What a ride on a line costs."""
        return f"line {line}: 4"

    runner = client.beta.messages.tool_runner(**asking(CALL, tools=[fare_of]))
    messages = list(runner)
    assert text_of(messages[-1]) == "It is four."
    assert [text for _, text in of(fake_upstream.last, "returned")] == ["line 7: 4"]
    refused, *receipts = purse.receipts()
    assert (refused["outcome"], refused["charge_nanocredits"]) == ("refused", 0)
    assert [used(each) for each in messages] == [tokens_of(each["usage"]) for each in receipts]


def test_an_image(client: Anthropic, purse: Purse, fake_upstream: FakeUpstream) -> None:
    """Its bytes reach the upstream as they are, before the text that stands behind it."""
    data = base64.b64encode(png()).decode()
    source = {"type": "base64", "media_type": "image/png", "data": data}
    content = [{"type": "image", "source": source}, {"type": "text", "text": SAY}]
    request = asking(SAY, messages=[{"role": "user", "content": content}])
    message = client.messages.create(**request)
    assert text_of(message) == "one two three"
    assert turns(fake_upstream.last) == [("image", data), ("user", SAY)]
    assert used(message) == purse.charged()


def test_parse(client: Anthropic, purse: Purse) -> None:
    """A text format comes back as the model that it was made from."""
    said = json.dumps({"line": 7, "price": "4"})
    message = client.messages.parse(**asking(f"say: {said}\n{TOKENS}"), output_format=Fare)
    assert message.parsed_output == Fare(line=7, price="4")
    assert used(message) == purse.charged()


def test_betas(client: Anthropic, purse: Purse, fake_upstream: FakeUpstream) -> None:
    """Only a vendor that speaks this API hears of them; what they add is no reason to fail."""
    edits: Any = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
    message = client.beta.messages.create(
        **asking(SAY, thinking=THINKING),
        context_management=edits,
        betas=["context-management-2025-06-27"],
    )
    assert text_of(message) == "one two three"
    heard = fake_upstream.last.headers.get("anthropic-beta")
    native = fake_upstream.last.persona in NATIVE
    assert heard == ("context-management-2025-06-27" if native else None)
    assert ("context_management" in fake_upstream.last.body) is native
    assert used(message) == purse.charged()


def test_marks_for_a_cache(client: Anthropic, purse: Purse, fake_upstream: FakeUpstream) -> None:
    """They reach a vendor that has such a cache, and are left out for the others."""
    mark = {"type": "ephemeral"}
    system = [{"type": "text", "text": "Be brief.", "cache_control": mark}]
    raw = client.messages.with_raw_response.create(**asking(SAY, system=system))
    native = fake_upstream.last.persona in NATIVE
    assert ('"cache_control"' in fake_upstream.last.raw.decode()) is native
    adjusted = raw.headers.get("x-farebox-adjusted", "")
    assert ("cache_control=dropped" in adjusted) is not native
    assert used(raw.parse()) == purse.charged()


def test_tokens_are_counted_without_a_call(
    client: Anthropic, purse: Purse, fake_upstream: FakeUpstream
) -> None:
    """Nothing is charged, and nobody upstream hears of it."""
    request = asking("a b c", tools=[FARE_OF])
    del request["max_tokens"]
    bare = client.messages.count_tokens(**{**request, "tools": []})
    whole = client.messages.count_tokens(**request)
    assert whole.input_tokens > bare.input_tokens > 3
    assert client.beta.messages.count_tokens(**request).input_tokens == whole.input_tokens
    assert (purse.receipts(), fake_upstream.requests) == ([], [])


def test_models(client: Anthropic) -> None:
    """All of them in pages, and one by its alias."""
    listed = list(client.models.list(limit=2))
    assert PLAIN in [model.id for model in listed]
    assert len({model.id for model in listed}) == len(listed) > 2
    found = client.models.retrieve(ALIAS)
    assert (found.id, found.type) == (PLAIN, "model")
    assert found in listed


def test_what_is_refused_is_raised_as_its_own_class(client: Anthropic, purse: Purse) -> None:
    """With the sentence of the gateway and the id of the request; nothing is charged."""
    with pytest.raises(anthropic.BadRequestError, match="messages") as bad:
        client.messages.create(**asking(SAY, messages=[]))
    assert bad.value.request_id is not None
    with pytest.raises(anthropic.NotFoundError, match="no-model"):
        client.messages.create(**asking(SAY, model="no-model"))
    with pytest.raises(anthropic.AuthenticationError):
        client.with_options(api_key="sk-fb-nobodys").messages.create(**asking(SAY))
    with pytest.raises(anthropic.OverloadedError):
        client.messages.create(**asking(SAY, model=FULL))
    assert {receipt["charge_nanocredits"] for receipt in purse.receipts()} <= {0}


def test_without_credits_it_is_asked_once(purse: Purse, fake_upstream: FakeUpstream) -> None:
    """402, which the SDK does not try again as it does other errors."""
    poor = Purse.fresh(purse.gateway, "0")
    with (
        Anthropic(base_url=poor.gateway.origin, api_key=poor.key, max_retries=3) as client,
        pytest.raises(anthropic.PaymentRequiredError, match="the balance is 0") as refused,
    ):
        client.messages.create(**asking(SAY))
    assert refused.value.type == "billing_error"
    assert [receipt["outcome"] for receipt in poor.receipts()] == ["refused"]
    assert fake_upstream.requests == []


def test_a_stream_that_breaks_raises(client: Anthropic, purse: Purse) -> None:
    """Nobody takes half a message for a whole one. It has a receipt of what had come."""
    with client.messages.stream(**asking("say:" + " well" * 40, model=BREAKING)) as stream:
        events = iter(stream)
        assert next(events).type == "message_start"
        with pytest.raises(anthropic.APIStatusError):
            list(events)
    assert [receipt["outcome"] for receipt in purse.receipts()] == ["upstream_failed"]
