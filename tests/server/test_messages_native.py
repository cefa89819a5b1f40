"""POST /v1/messages where the upstream speaks it too: what is passed on, and what is not."""

import json

import anthropic
import pytest

from farebox.core.ports import UpstreamHead
from farebox.errors import UpstreamFailed
from tests.server import asking
from tests.server.asking import events_in, speaking
from tests.server.messaging import HEADERS, REQUEST, native, native_stream, post, sent
from tests.server.worker import BOTH_WAYS, JSON_HEAD, SSE_HEAD, make_worker, running

pytestmark = [pytest.mark.anyio, BOTH_WAYS]

CACHE = {"cache_read_input_tokens": 4, "cache_creation_input_tokens": 3}
DUE = 10 * 1000 + 4 * 100 + 3 * 1250 + 5 * 2000


@pytest.fixture
async def upstream(anyio_backend):
    """A worker whose upstream speaks Messages and nothing else."""
    async with running(speaking(make_worker(), "messages")) as started:
        yield started


def own_id(answer):
    return "msg_" + answer.headers["request-id"].removeprefix("req_")


async def test_a_message_is_passed_on_and_charged_with_its_cache(upstream):
    """The answer under our id and the client's model; each class of tokens at its own price."""
    upstream.will_answer(JSON_HEAD, json.dumps(native("Hello!", **CACHE)).encode())
    betas = {"anthropic-beta": "a-2025-01-01, b-2025-02-02"}
    answer = await post(upstream, headers=betas, top_k=5, unheard_of={"a": 1})
    assert answer.status == 200
    assert {**answer.json, "usage": None} == {
        **native("Hello!"),
        "id": own_id(answer),
        "model": "m",
        "usage": None,
    }
    assert answer.json["usage"] == {**answer.json["usage"], **CACHE, "input_tokens": 10}
    assert [each.due_nanocredits for each in upstream.books.settlements] == [DUE]
    (request,) = upstream.upstream.requests
    headers = dict(request.headers)
    assert request.url == "http://vendor.invalid/v1/messages"
    assert headers[b"anthropic-version"] == HEADERS["anthropic-version"].encode()
    assert headers[b"anthropic-beta"] == b"a-2025-01-01, b-2025-02-02"
    assert sent(upstream) == {**REQUEST, "model": "upstream-m", "top_k": 5, "unheard_of": {"a": 1}}


async def test_a_stream_is_passed_on_as_it_came(upstream):
    """But for the id, the model, and the usage at its end."""
    upstream.will_answer(SSE_HEAD, *native_stream("Hello!", **CACHE))
    answer = await post(upstream, stream=True)
    events = events_in(answer.body)
    assert [event["type"] for event in events] == [
        event["type"] for event in events_in(b"".join(native_stream("Hello!")))
    ]
    assert (events[0]["message"]["id"], events[0]["message"]["model"]) == (own_id(answer), "m")
    assert [each.due_nanocredits for each in upstream.books.settlements] == [DUE]


async def test_two_headers_of_betas_are_one(upstream):
    """They are joined as HTTP says, and empty ones are none."""
    upstream.will_answer(JSON_HEAD, json.dumps(native("Hello!")).encode())
    body = json.dumps(REQUEST).encode()
    lines = "anthropic-beta: a\r\nanthropic-beta:\r\nAnthropic-Beta: b, c"
    key = f"x-api-key: {upstream.secret}"
    headers = {"x-first": f"x\r\n{lines}\r\n{key}"}
    assert (await upstream.ask("POST", "/v1/messages", headers, body)).status == 200
    headers = dict(upstream.upstream.requests[0].headers)
    assert headers[b"anthropic-beta"] == b"a,b, c"


@pytest.mark.parametrize("path", ["messages", "responses"])
async def test_words_of_the_clients_do_not_make_a_header(anyio_backend, path):
    """Kinds of tools are named there: line ends and thousands of them would cost the client an
    answer that it has paid for.
    """
    async with running(speaking(make_worker(), path)) as worker:
        body = native("Hello!") if path == "messages" else asking.native("Hello!")
        worker.will_answer(JSON_HEAD, json.dumps(body).encode())
        request = REQUEST if path == "messages" else asking.REQUEST
        kinds = ["x\r\nset-cookie: a=b", *(f"kind_{n}" for n in range(5000))]
        tools: list[dict[str, object]] = [{"type": kind} for kind in kinds]
        if path == "messages":
            tools.append({"name": "f", "input_schema": {"type": "object"}})
        data = json.dumps({**request, "tools": tools}).encode()
        key = {"authorization": f"Bearer {worker.secret}"}
        answer = await worker.ask("POST", f"/v1/{path}", key, data)
        assert answer.status == 200
        adjusted = answer.headers["x-farebox-adjusted"]
        assert adjusted.startswith("tools.x__set-cookie: a=b=dropped, tools.kind_0=dropped, ")
        assert adjusted.endswith("=dropped, ...")
        assert len(adjusted) < 5000


@pytest.mark.parametrize(
    ("status", "answered", "kind"),
    [
        (400, 400, "invalid_request_error"),
        (401, 502, "api_error"),
        (402, 529, "overloaded_error"),
        (429, 429, "rate_limit_error"),
        (529, 529, "overloaded_error"),
    ],
)
async def test_an_upstreams_error_is_told_as_ours(upstream, status, answered, kind):
    """What is wrong between gateway and vendor is not the client's business."""
    error = {"type": "error", "error": {"type": "some_error", "message": "Too spicy."}}
    head = UpstreamHead(status, {b"content-type": b"application/json"})
    upstream.will_answer(head, json.dumps(error).encode())
    answer = await post(upstream)
    assert (answer.status, answer.json["error"]["type"]) == (answered, kind)
    assert ("Too spicy." in answer.json["error"]["message"]) == (status == 400)
    assert answer.json["request_id"] == answer.headers["request-id"]
    assert [each.due_nanocredits for each in upstream.books.settlements] == [0]


@pytest.mark.parametrize(
    "end",
    [
        b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"x"}}\n\n',
        UpstreamFailed("It broke off.", reason="reset"),
        b"",
    ],
)
async def test_a_stream_that_fails_ends_in_an_error_event(upstream, end):
    """Whether the upstream says so, breaks off or just stops; there is no message_stop."""
    upstream.will_answer(SSE_HEAD, *native_stream("Hello!")[:3], end)
    events = events_in((await post(upstream, stream=True)).body)
    kinds = [event["type"] for event in events]
    assert kinds == ["message_start", "content_block_start", "content_block_delta", "error"]
    (settlement,) = upstream.books.settlements
    assert settlement.outcome == "upstream_failed"


async def test_an_input_that_is_only_told_at_the_end_is_not_free_before_it(upstream):
    """Some upstreams tell nought at the beginning: what breaks off then is charged as what tells
    nothing.
    """
    due = []
    for usage in ({"input_tokens": 0}, {"input_tokens": None}):
        upstream.will_answer(SSE_HEAD, *native_stream("Hello!", **usage)[:3])
        await post(upstream, stream=True)
        due.append(upstream.books.settlements[-1])
    assert due[0].usage == due[1].usage
    assert due[0].usage.input_total > 0
    assert due[0].flags == ("estimated",)


async def talk(client):
    """A whole message, and the same as a stream."""
    made = await client.messages.create(**REQUEST)
    async with client.messages.stream(**REQUEST) as stream:
        return made, await stream.get_final_message()


async def test_anthropics_client_works_over_it(upstream):
    """What it makes of a stream is what it makes of a whole message."""
    upstream.will_answer(JSON_HEAD, json.dumps(native("Hello!")).encode())
    upstream.will_answer(SSE_HEAD, *native_stream("Hello!"))
    async with anthropic.AsyncAnthropic(
        base_url=upstream.origin, api_key=upstream.secret, max_retries=0
    ) as client:
        told = await talk(client)
    assert [each.content[0].text for each in told] == ["Hello!", "Hello!"]
    assert [(each.usage.input_tokens, each.usage.output_tokens) for each in told] == [(10, 5)] * 2
