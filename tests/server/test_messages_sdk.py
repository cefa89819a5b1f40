"""Anthropic's SDK against POST /v1/messages, whose upstream speaks chat."""

import asyncio

import anthropic
import pytest

from farebox.core.ports import UpstreamHead
from farebox.errors import OutOfCredit, UpstreamFailed
from tests.server.messaging import (
    CALL,
    REQUEST,
    TOOL,
    of_vendor,
    will_call,
    will_say,
    will_stream,
)
from tests.server.worker import make_worker, running

pytestmark = pytest.mark.anyio

THINKING = {"type": "enabled", "budget_tokens": 2000}


@pytest.fixture
async def client(worker):
    """The SDK's asynchronous client with the worker's key, which tries nothing twice."""
    async with anthropic.AsyncAnthropic(
        base_url=worker.origin, api_key=worker.secret, max_retries=0
    ) as made:
        yield made


async def test_a_message_is_made_and_names_its_call(worker, client):
    """create(): text, usage, and the id that a receipt is found by."""
    will_say(worker, "Hello!")
    made = await client.messages.create(**REQUEST)
    assert (made.content[0].text, made.stop_reason) == ("Hello!", "end_turn")
    assert (made.usage.input_tokens, made.usage.output_tokens) == (10, 5)
    assert made._request_id == worker.books.settlements[0].request_id
    assert made.id == "msg_" + made._request_id.removeprefix("req_")


async def test_the_synchronous_client_works_too(worker):
    """With the key as a Bearer token; stream() and create(stream=True) in a thread."""
    will_say(worker, "Hello!")
    will_stream(worker, "Hel", "lo!")
    will_stream(worker, "Good ", "day")

    def talk():
        with anthropic.Anthropic(
            base_url=worker.origin, auth_token=worker.secret, max_retries=0
        ) as client:
            made = client.messages.create(**REQUEST).content[0].text
            with client.messages.stream(**REQUEST) as stream:
                told = "".join(stream.text_stream)
            events = [event.type for event in client.messages.create(**REQUEST, stream=True)]
            return made, told, events[0], events[-1]

    expected = ("Hello!", "Hello!", "message_start", "message_stop")
    assert await asyncio.to_thread(talk) == expected


async def test_the_stream_helper_adds_up(worker, client):
    """Its final message is what a whole answer would have been."""
    will_stream(worker, "Hel", "lo!")
    async with client.messages.stream(**REQUEST) as stream:
        text = [piece async for piece in stream.text_stream]
        final = await stream.get_final_message()
    assert (text, final.content[0].text) == (["Hel", "lo!"], "Hello!")
    assert (final.usage.input_tokens, final.usage.output_tokens) == (10, 5)


async def test_tools_are_used_in_one_piece_and_in_many(worker, client):
    """The input of a tool arrives parsed, also where its JSON came in splinters."""
    will_call(worker)
    made = await client.messages.create(**REQUEST, tools=[TOOL])
    assert (made.stop_reason, made.content[0].input) == ("tool_use", {"at": "door"})
    head, *rest = ('{"at"', ': "do', 'or"}')
    function = {"name": "look", "arguments": head}
    deltas = [{"tool_calls": [{**CALL, "index": 0, "function": function}]}]
    deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": more}}]} for more in rest]
    will_stream(worker, "Let me see.", *deltas, finish="tool_calls")
    async with client.messages.stream(**REQUEST, tools=[TOOL]) as stream:
        final = await stream.get_final_message()
    assert [block.type for block in final.content] == ["text", "tool_use"]
    assert (final.content[1].name, final.content[1].input) == ("look", {"at": "door"})


async def test_thinking_streams_and_is_sent_back_as_it_came(worker, client):
    """thinking and signature deltas make a block that the next request may hold."""
    of_vendor(worker, "deepseek")
    thoughts = [{"reasoning_content": "A "}, {"reasoning_content": "greeting."}]
    will_stream(worker, *thoughts, "Hello!")
    async with client.messages.stream(**REQUEST, thinking=THINKING) as stream:
        final = await stream.get_final_message()
    thought, text = final.content
    assert (thought.thinking, text.text) == ("A greeting.", "Hello!")
    assert thought.signature
    will_say(worker, "Bye!")
    turns = [
        *REQUEST["messages"],
        {"role": "assistant", "content": final.content},
        {"role": "user", "content": "Bye"},
    ]
    made = await client.messages.create(**{**REQUEST, "messages": turns}, thinking=THINKING)
    assert made.content[-1].text == "Bye!"


async def test_a_beta_is_asked_for_as_any_call(worker, client):
    """client.beta goes to the same route with ?beta=true and a header."""
    will_say(worker, "Hello!")
    made = await client.beta.messages.create(**REQUEST, betas=["context-management-2025-06-27"])
    assert made.content[0].text == "Hello!"


@pytest.mark.parametrize(
    ("status", "raised"),
    [
        (429, anthropic.RateLimitError),
        (503, anthropic.InternalServerError),
        (400, anthropic.BadRequestError),
    ],
)
async def test_errors_are_raised_as_their_own_classes(worker, client, status, raised):
    """By the status; the sentence is the gateway's."""
    head = UpstreamHead(status, {b"content-type": b"application/json"})
    worker.will_answer(head, b'{"error":{"message":"Too spicy."}}')
    with pytest.raises(raised) as caught:
        await client.messages.create(**REQUEST)
    assert caught.value.request_id == worker.books.settlements[0].request_id
    assert ("Too spicy." in caught.value.message) == (status == 400)


async def test_out_of_credit_is_asked_once():
    """The SDK does not try again what only more credit can change."""
    async with running(make_worker()) as worker:
        asked = []

        async def refuse(request):
            asked.append(request)
            raise OutOfCredit("0.1 credits are missing.")

        worker.books.hold = refuse
        async with anthropic.AsyncAnthropic(
            base_url=worker.origin, api_key=worker.secret, max_retries=2
        ) as client:
            with pytest.raises(anthropic.APIStatusError, match="credits are missing") as caught:
                await client.messages.create(**REQUEST)
        assert (caught.value.status_code, len(asked)) == (402, 1)


async def test_a_stream_that_breaks_off_raises(worker, client):
    """Nobody takes half an answer for a whole one."""
    will_stream(worker, "Hel", UpstreamFailed("It broke off.", reason="reset"))
    async with client.messages.stream(**REQUEST) as stream:
        assert await anext(stream.text_stream) == "Hel"
        with pytest.raises(anthropic.APIStatusError, match="It broke off"):
            await stream.get_final_message()
