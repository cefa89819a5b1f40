"""POST /v1/responses, from the socket to the gateway's seams and the store."""

import asyncio
import json

import openai
import pytest

from farebox.errors import OutOfCredit
from tests.server.asking import REQUEST, create, events_in, get, post, will_say, will_stream
from tests.server.worker import BOTH_WAYS

pytestmark = [pytest.mark.anyio, BOTH_WAYS]


async def test_a_response_is_answered_charged_and_kept(worker):
    """The answer's id is the request's; GET gives the very same object at once."""
    response = await create(worker)
    (settlement,) = worker.books.settlements
    assert response["id"] == "resp_" + settlement.request_id.removeprefix("req_")
    assert (settlement.dialect, settlement.outcome) == ("responses", "complete")
    assert settlement.due_nanocredits == 10 * 1000 + 5 * 2000
    assert (response["status"], response["store"]) == ("completed", True)
    kept = await get(worker, response["id"])
    assert (kept.status, kept.headers["cache-control"]) == (200, "no-store")
    assert kept.json == response


async def test_a_streamed_response_is_kept_before_its_end_leaves(worker):
    """What the terminal event holds is what GET gives."""
    will_stream(worker, "Hel", "lo!")
    answer = await post(worker, **REQUEST, stream=True)
    events = events_in(answer.body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["type"] == "response.completed"
    response = events[-1]["response"]
    assert (await get(worker, response["id"])).json == response


async def test_a_response_is_kept_also_when_its_client_has_gone(worker):
    """The upstream is read on for the usage, and so the answer is whole."""
    gate = asyncio.Event()
    will_stream(worker, "Hel", gate, "lo!")
    body = json.dumps({**REQUEST, "stream": True}).encode()
    reader, writer = await worker.send("POST", "/v1/responses", None, body, worker.secret)
    seen = b""
    while b"response.output_text.delta" not in seen:
        seen += await reader.read(65536)
    writer.close()
    await asyncio.sleep(0.05)
    gate.set()
    while not worker.books.settlements:
        await asyncio.sleep(0.01)
    (settlement,) = worker.books.settlements
    assert settlement.outcome == "client_gone"
    response_id = "resp_" + settlement.request_id.removeprefix("req_")
    async with asyncio.timeout(20):
        while (kept := await get(worker, response_id)).status == 404:
            await asyncio.sleep(0.02)
    assert kept.json["output"][0]["content"][0]["text"] == "Hello!"


async def test_errors_before_the_answer_are_as_in_chat(worker):
    """OpenAI's shape: a stranger, an unknown model, an empty balance."""
    assert (await post(worker, **REQUEST, secret="sk-fb-x")).status == 401
    answer = await post(worker, **{**REQUEST, "model": "mm"})
    assert (answer.status, answer.json["error"]["code"]) == (404, "model_not_found")
    worker.books.refuse = OutOfCredit("0.1 credits are missing.")
    answer = await post(worker, **REQUEST, stream=True)
    assert (answer.status, answer.json["error"]["type"]) == (429, "insufficient_quota")


async def test_a_query_is_ignored(worker):
    """SDKs add ?beta=true."""
    will_say(worker, "Hello!")
    assert (await post(worker, "?beta=true", **REQUEST)).status == 200


async def test_the_official_client_keeps_and_finds(worker):
    """openai-python: create, retrieve, go on, list the input, delete."""
    base_url = worker.origin + "/v1/"
    async with openai.AsyncOpenAI(
        base_url=base_url, api_key=worker.secret, max_retries=0
    ) as client:
        will_say(worker, "Hello!")
        made = await client.responses.create(model="m", input="Hi")
        assert made.output_text == "Hello!"
        assert (await client.responses.retrieve(made.id)).output_text == "Hello!"
        items = await client.responses.input_items.list(made.id)
        assert [item.type async for item in items] == ["message"]
        will_stream(worker, "Good", " day")
        async with client.responses.stream(
            model="m", input="more", previous_response_id=made.id
        ) as stream:
            final = await stream.get_final_response()
        assert final.output_text == "Good day"
        assert (await client.responses.retrieve(final.id)).previous_response_id == made.id
        await client.responses.delete(made.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(made.id)
        with pytest.raises(openai.BadRequestError, match="not kept any more"):
            await client.responses.create(model="m", input="x", previous_response_id=final.id)


async def test_a_failure_of_the_upstream_is_kept_as_such(worker):
    """A stream that broke off ends with response.failed, which GET shows too."""
    exchange = will_stream(worker, "Hel")
    del exchange.script[-2:]
    answer = await post(worker, **REQUEST, stream=True)
    last = events_in(answer.body)[-1]
    assert last["type"] == "response.failed"
    kept = await get(worker, last["response"]["id"])
    assert kept.json == last["response"]
    assert kept.json["error"]["code"] == "server_error"
