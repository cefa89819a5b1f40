"""The openai SDK's responses: every way in which it makes, reads, keeps and counts them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest
from openai import BadRequestError, NotFoundError, OpenAI
from openai.types.responses import Response
from pydantic import BaseModel

from tests.clients.gateway import HANGING, PLAIN, Purse, Tokens, messages_from
from tests.e2e.serving import until
from tests.fakes.upstream import FakeUpstream

TOKENS = "tokens: 1000 200 50 20"
SAY = f"say: one two three\n{TOKENS}"
FARE_OF: Any = {
    "type": "function",
    "name": "fare_of",
    "description": "What a ride on a line costs.",
    "parameters": {
        "type": "object",
        "properties": {"line": {"type": "integer"}},
        "required": ["line"],
        "additionalProperties": False,
    },
    "strict": True,
}


class Fare(BaseModel):
    """What a ride costs."""

    line: int
    price: str


@pytest.fixture
def client(purse: Purse) -> Iterator[OpenAI]:
    with OpenAI(base_url=purse.gateway.base_url, api_key=purse.key, max_retries=0) as sdk:
        yield sdk


def used(response: Response) -> Tokens:
    """What the SDK read of the usage."""
    assert response.usage is not None
    usage = response.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    return Tokens(usage.input_tokens, usage.input_tokens_details.cached_tokens, usage.output_tokens)


def test_create(client: OpenAI, purse: Purse) -> None:
    """A finished response, whose id is that of its receipt."""
    response = client.responses.create(model=PLAIN, input=SAY)
    assert (response.status, response.output_text) == ("completed", "one two three")
    assert response.model == PLAIN
    (receipt,) = purse.receipts()
    assert response.id == receipt["request_id"].replace("req_", "resp_")
    assert used(response) == purse.charged()


def test_create_with_a_stream(client: OpenAI, purse: Purse) -> None:
    """The events are numbered without a gap, and the last one has the usage."""
    events = list(client.responses.create(model=PLAIN, input=SAY, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events][:2] == ["response.created", "response.in_progress"]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert deltas == ["one ", "two ", "three"]
    last = events[-1]
    assert last.type == "response.completed"
    assert used(last.response) == purse.charged()


def test_the_stream_helper(client: OpenAI, purse: Purse) -> None:
    """It puts the events together to the response that the last of them holds."""
    with client.responses.stream(model=PLAIN, input=SAY) as stream:
        snapshots = [e.snapshot for e in stream if e.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert snapshots == ["one ", "one two ", "one two three"]
    assert final.output_text == "one two three"
    assert used(final) == purse.charged()


def test_parse(client: OpenAI, purse: Purse) -> None:
    """A text format comes back as the model that it was made from."""
    said = json.dumps({"line": 7, "price": "4"})
    response = client.responses.parse(model=PLAIN, input=f"say: {said}\n{TOKENS}", text_format=Fare)
    assert response.output_parsed == Fare(line=7, price="4")
    assert used(response) == purse.charged()


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_go_round(
    client: OpenAI, purse: Purse, fake_upstream: FakeUpstream, streamed: bool
) -> None:
    """A call, its output sent back with everything before it, and the answer."""
    history: list[Any] = [
        {"role": "user", "content": f'call: fare_of {{"line": 7}}\nsay: It is four.\n{TOKENS}'}
    ]
    total = Tokens(0, 0, 0)
    for _ in range(2):
        request: dict[str, Any] = {"model": PLAIN, "input": history, "tools": [FARE_OF]}
        if streamed:
            with client.responses.stream(**request, store=False) as stream:
                stream.until_done()
                response = cast("Response", stream.get_final_response())
        else:
            response = client.responses.create(**request, store=False)
        total += used(response)
        history += [item.to_dict(mode="json") for item in response.output]
        for call in [item for item in response.output if item.type == "function_call"]:
            assert (call.name, json.loads(call.arguments)) == ("fare_of", {"line": 7})
            output = {"type": "function_call_output", "call_id": call.call_id, "output": "4"}
            history.append(output)
    assert response.output_text == "It is four."
    assert messages_from(fake_upstream.last, "tool") == ["4"]
    assert total == purse.charged()


def test_a_previous_response_is_remembered(
    client: OpenAI, purse: Purse, fake_upstream: FakeUpstream
) -> None:
    """Its input and output go before the new input, its instructions do not."""
    first = client.responses.create(model=PLAIN, input=SAY, instructions="Speak up.")
    second = client.responses.create(
        model=PLAIN, input=f"say: four\n{TOKENS}", previous_response_id=first.id
    )
    assert (second.output_text, second.previous_response_id) == ("four", first.id)
    assert messages_from(fake_upstream.last, "user") == [SAY, f"say: four\n{TOKENS}"]
    assert messages_from(fake_upstream.last, "assistant") == ["one two three"]
    assert messages_from(fake_upstream.last, "system") == []
    assert used(first) + used(second) == purse.charged()
    with pytest.raises(BadRequestError) as unknown:
        client.responses.create(model=PLAIN, input="x", previous_response_id="resp_unknown")
    assert unknown.value.code == "previous_response_not_found"


def test_a_kept_response_is_retrieved_listed_and_deleted(client: OpenAI) -> None:
    """What create gave is what retrieve gives; after delete it is not found."""
    made = client.responses.create(model=PLAIN, input=SAY)
    assert client.responses.retrieve(made.id).to_dict() == made.to_dict()
    (item,) = client.responses.input_items.list(made.id)
    assert "one two three" in json.dumps(item.to_dict())
    client.responses.delete(made.id)
    with pytest.raises(NotFoundError):
        client.responses.retrieve(made.id)
    forgotten = client.responses.create(model=PLAIN, input=SAY, store=False)
    with pytest.raises(NotFoundError):
        client.responses.retrieve(forgotten.id)


def test_a_background_response_is_polled(client: OpenAI, purse: Purse) -> None:
    """It is queued at once, and found complete later, with the tokens of its receipt."""
    made = client.responses.create(model=PLAIN, input=SAY, background=True)
    assert made.status in ("queued", "in_progress")
    until(lambda: client.responses.retrieve(made.id).status == "completed", 10, "completed")
    done = client.responses.retrieve(made.id)
    assert done.output_text == "one two three"
    assert used(done) == purse.charged()


def test_a_background_stream_is_taken_up_again(client: OpenAI, purse: Purse) -> None:
    """Retrieving with `starting_after` gives the rest of the events, to the end."""
    stream = client.responses.create(model=PLAIN, input=SAY, background=True, stream=True)
    first = next(iter(stream))
    stream.close()
    assert first.type == "response.created"
    rest = list(
        client.responses.retrieve(
            first.response.id, stream=True, starting_after=first.sequence_number
        )
    )
    numbers = [event.sequence_number for event in rest]
    assert numbers == list(range(first.sequence_number + 1, first.sequence_number + 1 + len(rest)))
    last = rest[-1]
    assert last.type == "response.completed"
    assert used(last.response) == purse.charged()


def test_a_background_response_is_cancelled(client: OpenAI) -> None:
    """One that runs becomes `cancelled`, and stays so."""
    made = client.responses.create(model=HANGING, input=SAY, background=True)
    until(lambda: client.responses.retrieve(made.id).status == "in_progress", 10, "in_progress")
    assert client.responses.cancel(made.id).status == "cancelled"
    assert client.responses.retrieve(made.id).status == "cancelled"


def test_input_tokens_are_counted_without_a_call(
    client: OpenAI, purse: Purse, fake_upstream: FakeUpstream
) -> None:
    """Nothing is charged, and nobody upstream hears of it."""
    counted = client.responses.input_tokens.count(model=PLAIN, input="a b c", tools=[FARE_OF])
    assert counted.object == "response.input_tokens"
    assert counted.input_tokens > 3
    assert (purse.receipts(), fake_upstream.requests) == ([], [])


def test_compact(client: OpenAI, purse: Purse, fake_upstream: FakeUpstream) -> None:
    """The output of a compaction is the input of what comes after it."""
    history: list[Any] = [
        {"role": "user", "content": SAY},
        {"role": "assistant", "content": "one two three"},
    ]
    compacted = client.responses.compact(model=PLAIN, input=history)
    assert compacted.object == "response.compaction"
    assert [item.type for item in compacted.output][-1] == "compaction"
    output = [item.to_dict(mode="json", warnings=False) for item in compacted.output]
    after: list[Any] = [*output, {"role": "user", "content": "say: four"}]
    response = client.responses.create(model=PLAIN, input=after)
    assert response.output_text == "four"
    assert len(fake_upstream.last.body["messages"]) > 1
    usage = compacted.usage
    cached = usage.input_tokens_details.cached_tokens
    spent = Tokens(usage.input_tokens, cached, usage.output_tokens)
    assert spent + used(response) == purse.charged()


def test_a_websocket_carries_one_response_after_the_other(
    client: OpenAI, purse: Purse, fake_upstream: FakeUpstream
) -> None:
    """The second knows the first, though neither is kept."""
    done: list[Response] = []
    with client.responses.connect() as connection:
        for text in ("one two three", "four"):
            request: dict[str, Any] = {"previous_response_id": done[-1].id} if done else {}
            connection.response.create(
                model=PLAIN, input=f"say: {text}\n{TOKENS}", store=False, **request
            )
            for event in connection:
                assert event.type not in ("error", "response.failed"), event
                if event.type == "response.completed":
                    done.append(event.response)
                    break
    assert [response.output_text for response in done] == ["one two three", "four"]
    assert messages_from(fake_upstream.last, "assistant") == ["one two three"]
    assert used(done[0]) + used(done[1]) == purse.charged()
