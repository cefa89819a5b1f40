"""POST /v1/responses/compact."""

import json

import openai
import pytest

from farebox.errors import OutOfCredit
from tests.server.asking import create, get, post, sent_messages, speaking, will_say
from tests.server.worker import BOTH_WAYS, JSON_HEAD

pytestmark = [pytest.mark.anyio, BOTH_WAYS]

PATH = "/compact"
INPUT = [
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": [{"type": "input_text", "text": "three"}]},
]


async def test_a_conversation_becomes_its_users_words_and_a_summary(worker):
    """OpenAI's shape; charged as a call; nothing of it is kept."""
    will_say(worker, "They counted.")
    answer = await post(worker, PATH, model="m", input=INPUT, instructions="Be brief.")
    assert answer.status == 200, answer.body
    assert int(answer.headers["content-length"]) == len(answer.body)
    body = answer.json
    assert set(body) == {"id", "object", "created_at", "output", "usage"}
    (settlement,) = worker.books.settlements
    assert body["id"] == "resp_" + settlement.request_id.removeprefix("req_")
    assert body["object"] == "response.compaction"
    assert (settlement.due_nanocredits, settlement.dialect) == (20_000, "responses")
    assert body["usage"]["total_tokens"] == 15
    *told, summary = body["output"]
    assert [item["content"][0]["text"] for item in told] == ["one", "three"]
    assert {item["role"] for item in told} == {"user"}
    assert len({item["id"] for item in body["output"]}) == 3
    assert summary["type"] == "compaction"
    assert summary["encrypted_content"].startswith("fb1.")
    assert b"They counted" not in answer.body
    assert (await get(worker, body["id"])).status == 404


async def test_a_compaction_is_gone_on_from(worker):
    """Its output is the input of the next call, which is given the summary."""
    will_say(worker, "They counted.")
    output = (await post(worker, PATH, model="m", input=INPUT)).json["output"]
    await create(worker, input=[*output, {"role": "user", "content": "four"}])
    told = json.dumps(sent_messages(worker))
    assert "They counted." in told
    assert "four" in told


async def test_an_upstream_that_speaks_responses_is_asked_in_words(worker):
    """Not every one knows OpenAI's trigger; tools are of no use to a summary."""
    speaking(worker, "responses")
    will_say(worker, "They counted.")
    tools = [{"type": "function", "name": "f"}, {"type": "web_search"}]
    answer = await post(worker, PATH, model="m", input=INPUT, tools=tools, tool_choice="required")
    assert answer.json["output"][-1]["encrypted_content"].startswith("fb1.")
    sent = json.loads(worker.upstream.requests[-1].body)
    assert "tools" not in sent
    assert "compaction_trigger" not in json.dumps(sent)


@pytest.mark.parametrize("wire", ["chat", "responses"])
async def test_no_summary_is_an_error_that_is_not_tried_again(worker, wire):
    """What the model wrote was charged; an SDK that asked again would pay again."""
    speaking(worker, wire)
    will_say(worker, " ")
    answer = await post(worker, PATH, model="m", input=INPUT)
    assert (answer.status, answer.headers["x-should-retry"]) == (502, "false")
    assert "no summary" in answer.json["error"]["message"]


async def test_a_kept_conversation_is_compacted(worker):
    """By previous_response_id, with or without more input; an unknown one is 400."""
    made = await create(worker, "two", input="one")
    will_say(worker, "They counted.")
    answer = await post(worker, PATH, model="m", previous_response_id=made["id"])
    assert [item["type"] for item in answer.json["output"]] == ["message", "compaction"]
    answer = await post(worker, PATH, model="m", previous_response_id="resp_none")
    assert answer.json["error"]["code"] == "previous_response_not_found"


async def test_what_a_body_says_of_streams_and_keeping_is_not_asked(worker):
    """One JSON answer, never kept, never in the background."""
    will_say(worker, "They counted.")
    fields = {"stream": True, "store": True, "background": True}
    answer = await post(worker, PATH, model="m", input=INPUT, **fields)
    assert answer.json["object"] == "response.compaction"
    assert (await get(worker, answer.json["id"])).status == 404


async def test_a_refusal_is_an_error_as_elsewhere(worker):
    """Out of credit, an unknown model, no input; an upstream that fails."""
    worker.books.refuse = OutOfCredit("0.1 credits are missing.")
    assert (await post(worker, PATH, model="m", input=INPUT)).status == 429
    worker.books.refuse = None
    assert (await post(worker, PATH, model="nowhere", input=INPUT)).status == 404
    assert (await post(worker, PATH, model="m")).status == 400
    worker.will_answer(JSON_HEAD, b"rubbish")
    assert (await post(worker, PATH, model="m", input=INPUT)).status == 502


async def test_the_official_client_compacts(worker):
    """openai-python reads it as its own type."""
    base_url = worker.origin + "/v1/"
    async with openai.AsyncOpenAI(
        base_url=base_url, api_key=worker.secret, max_retries=0
    ) as client:
        will_say(worker, "They counted.")
        compacted = await client.responses.compact(model="m", input="one")
        assert compacted.output[-1].type == "compaction"
