"""POST /v1/chat/completions from the socket to the gateway's seams."""

import asyncio
import gzip
import io
import json
import logging
import re

import openai
import pytest
import structlog
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from farebox.errors import BudgetExceeded, OutOfCredit, UpstreamFailed
from farebox.telemetry import logs
from tests.server.worker import (
    BOTH_WAYS,
    CHANNEL_SECRET,
    JSON_HEAD,
    SSE_HEAD,
    make_worker,
    parse,
    running,
)
from tests.values import json_values

pytestmark = [pytest.mark.anyio, BOTH_WAYS]

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "words of a user"}]}
BODY = json.dumps(REQUEST).encode()
STREAM_BODY = json.dumps({**REQUEST, "stream": True}).encode()
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "upstream-m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello!"},
            "finish_reason": "stop",
        }
    ],
    "usage": USAGE,
}
RAW_ANSWER = json.dumps(ANSWER).encode()


def chunk(delta, finish_reason=None, **more):
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    data = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "upstream-m",
        "choices": [choice],
        **more,
    }
    return b"data: " + json.dumps(data).encode() + b"\n\n"


STREAM = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "Hel"}),
    chunk({"content": "lo!"}),
    chunk({}, "stop"),
    chunk({}, usage=USAGE).replace(b'[{"index": 0, "delta": {}, "finish_reason": null}]', b"[]"),
    b"data: [DONE]\n\n",
]


async def test_a_call_is_answered_and_settled(worker):
    """The upstream's answer comes back under the client's model name, and is charged once."""
    worker.will_answer(JSON_HEAD, RAW_ANSWER)
    answer = await worker.call(BODY)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json["model"] == "m"
    assert answer.json["choices"][0]["message"]["content"] == "Hello!"
    (settlement,) = worker.books.settlements
    assert settlement.request_id == answer.headers["x-request-id"]
    assert (settlement.outcome, settlement.account_id) == ("complete", 1)
    assert settlement.due_nanocredits == 10 * 1000 + 5 * 2000
    (request,) = worker.upstream.requests
    assert request.url == "http://vendor.invalid/v1/chat/completions"
    assert dict(request.headers)[b"x-farebox-hop"] == b"inst_here"


async def test_a_stream_reaches_the_client_as_it_is_written(worker):
    """Each chunk is there before the upstream writes the next one."""
    gates = [asyncio.Event() for _ in STREAM]
    script = [step for pair in zip(gates, STREAM, strict=True) for step in pair]
    worker.will_answer(SSE_HEAD, *script)
    reader, writer = await worker.send(
        "POST", "/v1/chat/completions", None, STREAM_BODY, worker.secret
    )
    async with asyncio.timeout(20):
        for gate, text in ((0, b'"role"'), (1, b"Hel"), (2, b"lo!")):
            gates[gate].set()
            seen = b""
            while text not in seen:
                seen += await reader.read(65536)
        for gate in gates:
            gate.set()
        rest = await reader.read()
    writer.close()
    assert b'"finish_reason":"stop"' in rest.replace(b" ", b"")
    assert rest.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert worker.books.settlements[0].outcome == "complete"


async def test_a_stranger_is_refused_before_the_body_is_read(worker):
    """Without a valid key the answer comes at once, and `100 Continue` is never said."""
    for secret in (None, "sk-fb-wrong"):
        headers = {"content-length": "1000000", "expect": "100-continue"}
        reader, writer = await worker.send("POST", "/v1/chat/completions", headers, None, secret)
        async with asyncio.timeout(20):
            head = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        assert head.startswith(b"HTTP/1.1 401 ")
        assert b"www-authenticate: Bearer" in head
    assert worker.upstream.requests == []


async def test_our_own_request_coming_back_is_508(worker):
    """A hop header with our own id stops the loop, uncharged; other gateways' ids are passed on."""
    answer = await worker.call(BODY, headers={"x-farebox-hop": "inst_a, inst_here"})
    assert (answer.status, answer.json["error"]["code"]) == (508, "loop_detected")
    assert (worker.upstream.requests, worker.books.settlements) == ([], [])
    worker.will_answer(JSON_HEAD, RAW_ANSWER)
    assert (await worker.call(BODY, headers={"x-farebox-hop": "inst_a"})).status == 200
    sent = dict(worker.upstream.requests[0].headers)[b"x-farebox-hop"]
    assert b"inst_a" in sent
    assert b"inst_here" in sent


@pytest.mark.parametrize("hops", [", ".join(f"inst_{n}" for n in range(9)), "x" * 65])
async def test_a_header_of_hops_that_no_chain_writes_is_508(worker, hops):
    """What is sent on is bounded: nobody runs nine gateways in a row, and ids are short."""
    answer = await worker.call(BODY, headers={"x-farebox-hop": hops})
    assert (answer.status, answer.json["error"]["code"]) == (508, "loop_detected")
    assert worker.upstream.requests == []


@pytest.mark.parametrize(
    ("refusal", "code"),
    [(OutOfCredit, "credit_balance_exhausted"), (BudgetExceeded, "key_budget_exceeded")],
)
async def test_out_of_credit_or_budget_tells_clients_not_to_retry(worker, refusal, code):
    """429 insufficient_quota without Retry-After and with x-should-retry: false."""
    worker.books.refuse = refusal("0.1 credits are missing.")
    answer = await worker.call(BODY)
    assert answer.status == 429
    assert answer.json["error"]["type"] == "insufficient_quota"
    assert answer.json["error"]["code"] == code
    assert answer.headers["x-should-retry"] == "false"
    assert "retry-after" not in answer.headers
    assert worker.upstream.requests == []


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"", 400, None),
        (b"{", 400, None),
        (b"[]", 400, None),
        (b"{}", 400, "model"),
        (b'{"model":"m"}', 400, "messages"),
        (b'{"model":1,"messages":[{}]}', 400, "model"),
        (b'{"model":"nope","messages":[{}]}', 404, "model"),
        (b'{"model":"secret-m","messages":[{}]}', 404, "model"),
        (b'{"model":"free-by-mistake","messages":[{}]}', 404, "model"),
        (b'{"model":"m","model":"n","messages":[{}]}', 400, "model"),
        (b'{"a":' + b"[" * 100_000, 400, None),
    ],
)
async def test_a_bad_body_is_the_clients_error(worker, body, status, param):
    """What cannot be used is named with its parameter; nothing is sent or charged."""
    answer = await worker.call(body)
    assert answer.status == status
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert answer.json["error"]["param"] == param
    assert answer.headers["x-request-id"].startswith("req_")
    assert (worker.upstream.requests, worker.books.settlements) == ([], [])


async def test_a_body_above_the_limit_is_413():
    """Too large by its length or while it comes: the same answer, which reaches the client."""
    async with running(make_worker(max_body_bytes=100_000)) as worker:
        big = b"x" * 3_000_000
        answer = await worker.call(big)
        assert (answer.status, answer.json["error"]["code"]) == (413, "request_too_large")
        piece = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
        headers = {"transfer-encoding": "chunked"}
        reader, writer = await worker.send(
            "POST", "/v1/chat/completions", headers, None, worker.secret
        )
        writer.write(piece * 20 + b"0\r\n\r\n")
        async with asyncio.timeout(20):
            answer = parse(await reader.read())
        writer.close()
        assert (answer.status, answer.json["error"]["code"]) == (413, "request_too_large")


async def test_a_whole_body_that_is_refused_is_answered_at_once(worker):
    """Nobody waits for more of a body that has come to its end, be it too large once unpacked."""
    answers = asyncio.gather(
        worker.call(b"not gzip", headers={"content-encoding": "gzip"}),
        worker.call(gzip.compress(b" " * 70_000_000), headers={"content-encoding": "gzip"}),
    )
    started_s = asyncio.get_running_loop().time()
    assert [answer.status for answer in await answers] == [400, 413]
    assert asyncio.get_running_loop().time() - started_s < 1.5


async def test_a_body_that_stops_is_408_and_the_connection_ends():
    """A client that sends half a body gets an answer in time, and its connection is closed."""
    async with running(make_worker(body_timeout_s=0.2)) as worker:
        headers = {"content-length": "1000", "connection": "keep-alive"}
        answer = await worker.ask(
            "POST", "/v1/chat/completions", headers, b'{"model"', worker.secret
        )
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert answer.json["error"]["type"] == "invalid_request_error"


async def test_a_hang_up_before_the_head_drops_the_upstream(worker):
    """Nobody waits for the answer any more: the upstream is aborted, nothing is due."""
    exchange = worker.will_answer(JSON_HEAD)
    exchange.head = never(exchange)
    _, writer = await worker.send("POST", "/v1/chat/completions", None, BODY, worker.secret)
    await until(lambda: worker.upstream.requests)
    writer.close()
    await until(lambda: worker.books.settlements)
    (settlement,) = worker.books.settlements
    assert exchange.aborted.is_set()
    assert (settlement.outcome, settlement.due_nanocredits) == ("client_gone", 0)


async def test_a_hang_up_within_a_stream_is_read_on_for_its_usage(worker):
    """The rest is read for the usage, and the call is charged as what it was."""
    gate = asyncio.Event()
    worker.will_answer(SSE_HEAD, *STREAM[:2], gate, *STREAM[2:])
    reader, writer = await worker.send(
        "POST", "/v1/chat/completions", None, STREAM_BODY, worker.secret
    )
    await reader.readuntil(b"Hel")
    writer.close()
    await asyncio.sleep(0.05)
    gate.set()
    await until(lambda: worker.books.settlements)
    (settlement,) = worker.books.settlements
    assert (settlement.outcome, settlement.due_nanocredits) == ("client_gone", 20_000)


async def test_a_hang_up_while_sending_costs_nothing(worker):
    """A client that leaves within its own body is nobody's error."""
    _, writer = await worker.send(
        "POST", "/v1/chat/completions", {"content-length": "1000"}, b'{"mod', worker.secret
    )
    await asyncio.sleep(0.05)
    writer.close()
    await asyncio.sleep(0.05)
    assert worker.books.settlements == []
    text = worker.state.metrics.exposition().decode()
    assert 'farebox_requests_total{route="/v1/chat/completions",status="gone"} 1.0' in text


async def test_an_upstream_that_breaks_mid_stream_ends_in_an_error_event(worker):
    """After the head there is no status to change: an error event, and no [DONE]."""
    worker.will_answer(SSE_HEAD, *STREAM[:2], UpstreamFailed("It broke off.", reason="reset"))
    answer = await worker.call(STREAM_BODY)
    assert (answer.status, answer.complete) == (200, True)
    assert b'data: {"error":{"message":"It broke off."' in answer.body
    assert b"[DONE]" not in answer.body


async def test_the_official_client_works(worker):
    """openai-python: a plain call, a stream, the request id, and an error as its own class."""
    base_url = worker.origin + "/v1/"
    async with openai.AsyncOpenAI(
        base_url=base_url, api_key=worker.secret, max_retries=0
    ) as client:
        calls = client.chat.completions
        worker.will_answer(JSON_HEAD, RAW_ANSWER)
        done = await calls.create(**REQUEST)
        assert done.choices[0].message.content == "Hello!"
        assert done._request_id == worker.books.settlements[0].request_id
        worker.will_answer(SSE_HEAD, *STREAM)
        stream = await calls.create(**REQUEST, stream=True, stream_options={"include_usage": True})
        chunks = [each async for each in stream]
        text = "".join(each.choices[0].delta.content or "" for each in chunks if each.choices)
        assert text == "Hello!"
        usage = chunks[-1].usage
        assert usage is not None
        assert usage.total_tokens == 15
        with pytest.raises(openai.NotFoundError, match=r"xiaomi/mimo-v2\.6-pro") as caught:
            await calls.create(**{**REQUEST, "model": "xiaomi/mimo-v2.6-prx"})
        assert caught.value.code == "model_not_found"
    async with openai.AsyncOpenAI(base_url=base_url, api_key="sk-fb-x", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.chat.completions.create(**REQUEST)


async def test_no_secret_and_no_word_of_a_user_is_logged(worker):
    """After good calls, refusals and defects the log holds neither keys nor bodies."""
    output = io.StringIO()
    handlers, level = logging.getLogger().handlers, logging.getLogger().level
    before = structlog.get_config()
    logs.configure("debug", logs.Redactor([CHANNEL_SECRET]), output)
    try:
        worker.will_answer(JSON_HEAD, RAW_ANSWER)
        await worker.call(BODY)
        worker.will_answer(SSE_HEAD, *STREAM)
        await worker.call(STREAM_BODY)
        worker.will_answer(JSON_HEAD, RuntimeError(f"with {CHANNEL_SECRET} and {worker.secret}"))
        assert (await worker.call(BODY)).status == 500
        await worker.call(BODY, secret="sk-fb-not-a-key-of-ours")
        await worker.call(BODY + b"}")
        await worker.ask("GET", "/v1/nowhere?key=" + worker.secret)
    finally:
        logging.getLogger().handlers = handlers
        logging.getLogger().setLevel(level)
        structlog.configure(**before)
    written = output.getvalue()
    lines = [json.loads(line) for line in written.splitlines()]
    requests = [line for line in lines if line["event"] == "request"]
    assert len(requests) == 6
    assert (requests[0]["outcome"], requests[0]["model"]) == ("complete", "m")
    assert (requests[0]["charge_nanocredits"], requests[0]["status"]) == (20_000, 200)
    assert [line.get("account") for line in requests] == ["alice"] * 3 + [None, "alice", None]
    assert requests[3]["error"] == "invalid_api_key"
    assert requests[4]["error"] == "invalid_request_error"
    assert "Traceback" in written
    told = re.sub(r"req_\w{22}", "", written)  # which has three letters in a row by chance
    for canary in (CHANNEL_SECRET, worker.secret, "not-a-key-of-ours", "words of", "Hello", "Hel"):
        assert canary not in told


JSON = json_values(8, floats=st.floats())
NAMES = """model messages stream stream_options n max_tokens max_completion_tokens service_tier
    tools modalities web_search_options response_format temperature stop user metadata store"""


@given(
    st.dictionaries(st.sampled_from(NAMES.split()), JSON, max_size=6)
    | JSON
    | st.binary(max_size=60)
)
@hypothesis_settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_no_body_is_a_defect_of_ours(elsewhere, body):
    """Whatever is posted, the answer is a client's error or a good one, never a 5xx."""
    if not isinstance(body, bytes):
        if isinstance(body, dict):
            body = {**REQUEST, **body}
        body = json.dumps(body).encode()
    elsewhere.upstream.exchanges.clear()
    elsewhere.will_answer(JSON_HEAD, RAW_ANSWER)
    answer = asyncio.run(elsewhere.call(body))
    assert answer.status in (200, 400, 404, 502), (body, answer)
    if answer.status == 502:  # it asked for a stream, and this upstream gives none
        assert b'"stream"' in body
    if answer.status != 200:
        assert set(answer.json["error"]) == {"message", "type", "param", "code"}


def never(exchange):
    """A head() that waits until it is aborted."""

    async def head(patience_s):
        await exchange.aborted.wait()
        raise UpstreamFailed("Aborted.", reason="aborted")

    return head


async def until(holds):
    """Wait for something that must come soon."""
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.005)
