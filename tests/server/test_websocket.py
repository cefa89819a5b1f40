"""The Responses API over a WebSocket: handshakes, responses in a row, history, rubbish, ends."""

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from farebox.errors import OutOfCredit, UpstreamFailed
from tests.server.worker import SSE_HEAD, make_worker, parse, running

pytestmark = pytest.mark.anyio

FIRST = b'data: {"choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}]}\n\n'
REST = (
    b'data: {"choices":[{"index":0,"delta":{"content":" there"},"finish_reason":"stop"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}\n\n'
    b"data: [DONE]\n\n"
)
HANDSHAKE = (
    b"host: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def message(text, role="user"):
    """One item of input."""
    return {"role": role, "content": text}


@asynccontextmanager
async def socket(worker, secret=None, **options):
    """A socket with the worker's own key, unless told otherwise."""
    key = {"Authorization": f"Bearer {secret or worker.secret}"}
    uri = f"ws://127.0.0.1:{worker.port}/v1/responses"
    options = {"max_size": None, **options}
    async with connect(uri, additional_headers=key, proxy=None, **options) as opened:
        yield opened


async def create(opened, text="Hi", **more):
    """Ask for a response."""
    frame = {
        "type": "response.create",
        "model": "m",
        "input": [message(text)],
        "store": False,
        **more,
    }
    await opened.send(json.dumps(frame))


async def frames(opened):
    """The frames of one response, or the error in its place."""
    found = []
    async with asyncio.timeout(20):
        while not found or found[-1]["type"] not in (
            "response.completed",
            "response.incomplete",
            "response.failed",
            "error",
        ):
            found.append(json.loads(await opened.recv()))
    return found


async def ask(opened, text="Hi", **more):
    """Ask for a response and read it."""
    await create(opened, text, **more)
    return await frames(opened)


async def closing(opened):
    """The code with which the other side closes."""
    async with asyncio.timeout(10):
        with suppress(ConnectionClosed):
            async for _ in opened:
                pass
    return opened.close_code


async def until(holds):
    """Wait for something that must come soon."""
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.005)


async def say(worker, raw):
    """Send these bytes and read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    writer.write(raw)
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    return answer


async def opened_raw(worker):
    """A raw connection on which a handshake has succeeded."""
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port, limit=4096)
    key = b"authorization: Bearer %b\r\n" % worker.secret.encode()
    writer.write(b"GET /v1/responses HTTP/1.1\r\n" + HANDSHAKE + key + b"\r\n")
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


def sent_messages(worker, n):
    """The roles and texts that the upstream was sent for the call of that number."""
    found = json.loads(worker.upstream.requests[n].body)["messages"]
    return [(each["role"], _text(each["content"])) for each in found]


def _text(content):
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


async def test_a_response_is_the_stream_of_a_post_in_frames(worker):
    """The same events, numbered, with the usage that was charged, and one settlement."""
    worker.will_answer(SSE_HEAD, FIRST, REST)
    async with socket(worker) as opened:
        found = await ask(opened)
    assert [each["sequence_number"] for each in found] == list(range(len(found)))
    assert [each["type"] for each in found[:2]] == ["response.created", "response.in_progress"]
    assert "stream_id" not in found[0]
    response = found[-1]["response"]
    assert response["output"][0]["content"][0]["text"] == "Hello there"
    assert (response["usage"]["input_tokens"], response["usage"]["output_tokens"]) == (10, 5)
    settlement = worker.books.settlements[0]
    assert response["id"] == settlement.request_id.replace("req_", "resp_")
    assert (settlement.dialect, settlement.outcome) == ("responses", "complete")
    assert settlement.due_nanocredits == 20_000


async def test_a_stream_id_comes_back_in_every_frame(worker):
    """Also in that of an error."""
    worker.will_answer(SSE_HEAD, FIRST, REST)
    async with socket(worker) as opened:
        found = await ask(opened, stream_id="mine")
        found += await ask(opened, stream_id="mine", model="nowhere")
    assert {each["stream_id"] for each in found} == {"mine"}
    assert found[-1]["error"]["code"] == "model_not_found"


async def test_what_was_changed_is_told_in_the_first_frame(worker):
    """As a header tells it of a POST."""
    worker.will_answer(SSE_HEAD, FIRST, REST)
    async with socket(worker) as opened:
        found = await ask(opened, tools=[{"type": "web_search"}])
    assert "web_search" in found[0]["x-farebox-adjusted"]
    assert not any("x-farebox-adjusted" in each for each in found[1:])


async def test_a_socket_remembers_what_nobody_stores(worker):
    """With `store: false`, the next response needs only what is new."""
    worker.will_answer(SSE_HEAD, FIRST, REST)
    worker.will_answer(SSE_HEAD, FIRST, REST)
    worker.will_answer(SSE_HEAD, FIRST, REST)
    async with socket(worker) as opened:
        last = (await ask(opened, "one"))[-1]["response"]
        for text in ("two", "three"):
            last = (await ask(opened, text, previous_response_id=last["id"]))[-1]["response"]
    assert sent_messages(worker, 2) == [
        ("user", "one"),
        ("assistant", "Hello there"),
        ("user", "two"),
        ("assistant", "Hello there"),
        ("user", "three"),
    ]
    assert last["previous_response_id"] is not None


async def test_a_warm_up_costs_nothing_and_is_remembered(worker):
    """`generate: false`: two events and no output, no upstream, no charge; its id is known."""
    worker.will_answer(SSE_HEAD, FIRST, REST)
    async with socket(worker) as opened:
        warm = await ask(opened, "ahead", generate=False)
        assert (worker.upstream.requests, worker.books.settlements) == ([], [])
        await ask(opened, "now", previous_response_id=warm[-1]["response"]["id"])
    assert warm[0]["type"] == "response.created"
    assert warm[-1]["type"] == "response.completed"
    response = warm[-1]["response"]
    assert (response["output"], response["usage"]["total_tokens"]) == ([], 0)
    assert sent_messages(worker, 0) == [("user", "ahead"), ("user", "now")]
    assert len(worker.books.settlements) == 1


async def test_what_one_socket_remembers_no_other_knows(worker):
    """Not even one of the same key: 400, nothing is charged, and the socket goes on."""
    worker.will_answer(SSE_HEAD, FIRST, REST)
    worker.will_answer(SSE_HEAD, FIRST, REST)
    async with socket(worker) as one, socket(worker) as other:
        last = (await ask(one))[-1]["response"]
        for warm in (True, False):
            refused = await ask(other, previous_response_id=last["id"], generate=warm)
            assert (refused[0]["type"], refused[0]["status"]) == ("error", 400)
            assert refused[0]["error"]["code"] == "previous_response_not_found"
        assert (await ask(other))[-1]["type"] == "response.completed"
    assert len(worker.books.settlements) == 2


async def test_a_response_that_failed_is_not_gone_on_from(worker):
    """The upstream broke off: `response.failed`, and its id is unknown."""
    worker.will_answer(SSE_HEAD, FIRST)
    async with socket(worker) as opened:
        failed = (await ask(opened))[-1]
        assert failed["type"] == "response.failed"
        refused = await ask(opened, previous_response_id=failed["response"]["id"])
    assert refused[0]["error"]["code"] == "previous_response_not_found"


async def test_the_history_of_a_socket_is_bounded():
    """The oldest is forgotten, and the client learns that it must send all again."""
    async with running(make_worker(max_body_bytes=40_000)) as worker, socket(worker) as opened:
        ids = []
        for _ in range(3):
            warm = await ask(opened, "x" * 15_000, generate=False)
            ids.append(warm[-1]["response"]["id"])
        old = await ask(opened, previous_response_id=ids[0], generate=False)
        assert old[0]["error"]["code"] == "previous_response_not_found"
        new = await ask(opened, previous_response_id=ids[2], generate=False)
        assert new[-1]["type"] == "response.completed"
        much = await ask(opened, "x" * 30_000, previous_response_id=ids[2], generate=False)
        assert (much[0]["type"], len(much)) == ("error", 1)


async def test_one_response_at_a_time(worker):
    """A second one is refused at once and not charged; the first ends as if nothing had been."""
    gate = asyncio.Event()
    worker.will_answer(SSE_HEAD, FIRST, gate, REST)
    async with socket(worker) as opened:
        await create(opened)
        while json.loads(await opened.recv())["type"] != "response.output_text.delta":
            pass
        refused = await ask(opened, generate=False)
        assert (refused[-1]["status"], refused[-1]["error"]["code"]) == (
            400,
            "response_in_progress",
        )
        gate.set()
        assert (await frames(opened))[-1]["type"] == "response.completed"
    assert len(worker.books.settlements) == 1


def _nested(depth):
    return '{"type":"response.create","input":' + "[" * depth + "]" * depth + "}"


@pytest.mark.parametrize(
    "rubbish",
    [
        "",
        "not JSON",
        "[]",
        "{}",
        '{"type":1}',
        '{"type":"session.update"}',
        '{"type":"response.steer","previous_response_id":"resp_1","input":[]}',
        '{"type":"response.create"',
        '{"type":"response.create"}',
        '{"type":"response.create","type":"response.create","model":"m","input":"Hi"}',
        '{"type":"response.create","model":"m","input":"Hi","background":true}',
        '{"type":"response.create","model":"m","input":"Hi","generate":"no"}',
        '{"type":"response.create","model":"m","input":"Hi","stream_id":7}',
        '{"type":"response.create","model":"m","input":7}',
        '{"type":"response.create","model":"m","input":[7]}',
        '{"type":"response.create","model":"m","input":"Hi","conversation":"conv_1"}',
        '{"type":"response.create","model":"m","input":"Hi","max_output_tokens":1}',
        '{"type":"response.create","model":"m","input":"\\ud800"}',
        _nested(100_000),
        b'{"type":"response.create","model":"m","input":"Hi"}',
        b"\xff\x00",
    ],
)
async def test_a_frame_of_rubbish_is_answered_with_an_error(worker, rubbish):
    """400 in OpenAI's shape, nothing charged or sent, and the socket goes on."""
    worker.will_answer(SSE_HEAD, FIRST, REST)
    async with socket(worker) as opened:
        await opened.send(rubbish)
        error = (await frames(opened))[-1]
        assert (error["type"], error["status"]) == ("error", 400)
        assert set(error["error"]) == {"message", "type", "param", "code"}
        assert (worker.upstream.requests, worker.books.settlements) == ([], [])
        assert (await ask(opened))[-1]["type"] == "response.completed"


async def test_ten_thousand_frames_of_rubbish_leave_nothing_behind(worker):
    """Each is answered, nothing is charged, and no task is left when the socket has gone."""
    worker.will_answer(SSE_HEAD, FIRST, REST)
    tasks = len(asyncio.all_tasks())
    async with socket(worker) as opened:

        async def flood():
            for n in range(10_000):
                await opened.send(f"rubbish {n}")

        sender = asyncio.create_task(flood())
        for _ in range(10_000):
            assert json.loads(await opened.recv())["status"] == 400
        await sender
        assert (await ask(opened))[-1]["type"] == "response.completed"
    await until(lambda: len(asyncio.all_tasks()) <= tasks)
    assert len(worker.books.settlements) == 1


async def test_a_text_that_is_not_utf_8_closes_the_socket(worker, caplog):
    """With 1007, as RFC 6455 says; nothing is written of a defect."""
    async with socket(worker) as opened:
        await opened.send(b"\xff\xfe", text=True)
        assert await closing(opened) == 1007
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_a_frame_larger_than_a_body_closes_the_socket(compression):
    """With 1009, also when it is small until it is inflated."""
    async with (
        running(make_worker(max_body_bytes=100_000)) as worker,
        socket(worker, compression=compression) as opened,
    ):
        await opened.send("x" * 100_001)
        assert await closing(opened) == 1009
    assert worker.books.settlements == []


async def test_a_message_in_endless_fragments_closes_the_socket(worker):
    """Empty ones have no size that could be too large."""
    reader, writer = await opened_raw(worker)
    writer.write(b"\x01\x80...." + b"\x00\x80...." * 70_000)
    async with asyncio.timeout(5):
        said = await reader.read()
    assert said.startswith(b"\x88")
    assert b"too many fragments" in said
    writer.close()


async def test_a_frame_may_be_as_large_as_a_body(worker):
    """More than servers take by themselves: a conversation with pictures has tens of MB."""
    async with socket(worker) as opened:
        warm = await ask(opened, "x" * 20_000_000, generate=False)
    assert warm[-1]["type"] == "response.completed"


async def test_frames_are_deflated_for_clients_that_can(worker):
    """permessage-deflate is agreed upon."""
    async with socket(worker) as opened:
        assert "permessage-deflate" in opened.response.headers["Sec-WebSocket-Extensions"]
        assert opened.response.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("key", ["", "Bearer sk-fb-nobody", "Basic eA=="])
async def test_a_handshake_needs_a_key(worker, key):
    """401 as a plain answer, in OpenAI's shape."""
    uri = f"ws://127.0.0.1:{worker.port}/v1/responses"
    headers = {"Authorization": key} if key else {}
    with pytest.raises(InvalidStatus) as refused:
        async with connect(uri, additional_headers=headers, proxy=None):
            pass
    response = refused.value.response
    assert response.status_code == 401
    assert json.loads(response.body)["error"]["code"] == "invalid_api_key"
    assert response.headers["x-request-id"].startswith("req_")


async def test_a_handshake_that_went_through_this_gateway_is_a_loop(worker):
    """508 before anything is served."""
    uri = f"ws://127.0.0.1:{worker.port}/v1/responses"
    headers = {"Authorization": f"Bearer {worker.secret}", "x-farebox-hop": "inst_here"}
    with pytest.raises(InvalidStatus) as refused:
        async with connect(uri, additional_headers=headers, proxy=None):
            pass
    assert refused.value.response.status_code == 508


async def test_without_a_handshake_get_is_426_and_head_says_whether_the_key_is_good(worker):
    """426 makes Codex use POST; its doctor asks with HEAD."""
    plain = await worker.ask("GET", "/v1/responses", secret=worker.secret)
    assert (plain.status, plain.headers["upgrade"]) == (426, "websocket")
    assert "POST" in plain.json["error"]["message"]
    good = await worker.ask("HEAD", "/v1/responses", secret=worker.secret)
    bad = await worker.ask("HEAD", "/v1/responses", secret="sk-fb-nobody")
    assert (good.status, good.body, bad.status) == (200, b"", 401)


async def test_where_sockets_are_switched_off_a_handshake_is_426():
    """With a sentence that says so, and the connection goes on."""
    async with running(make_worker(responses_websocket=False)) as worker:
        with pytest.raises(InvalidStatus) as refused:
            async with socket(worker):
                pass
        assert refused.value.response.status_code == 426
        request = b"GET /v1/responses HTTP/1.1\r\n" + HANDSHAKE + b"\r\n"
        last = b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        raw = await say(worker, request + last)
        assert (raw.count(b"HTTP/1.1 426 "), raw.count(b"HTTP/1.1 200 ")) == (1, 1)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ((b"version: 13", b"version: 8"), 426),
        ((b"dGhlIHNhbXBsZSBub25jZQ==", b"c2hvcnQ="), 426),
        ((b"dGhlIHNhbXBsZSBub25jZQ==", b"\xff"), 426),
        ((b"upgrade: websocket", b"upgrade: h2c"), 426),
        ((b"upgrade: websocket", b"upgrade: websocket\r\nupgrade: websocket"), 426),
        ((b"host: a\r\n", b"host: a\r\nauthorization: Bearer " + b"x" * 9_000 + b"\r\n"), 426),
        ((b"host: a\r\n", b"host: a\r\ncontent-length: 0\r\n"), 426),
        ((b"host: a\r\n", b"host: a\r\nhost: b\r\n"), 400),
        ((b"host: a\r\n", b"host: a\r\nauthorization: a\r\nauthorization: b\r\n"), 400),
        ((b"host: a\r\n", b"host: a\r\nx: " + b"y" * 80_000 + b"\r\n"), 431),
        ((b"host: a\r\n", b""), 400),
        ((b"", b""), 401),
    ],
)
async def test_a_handshake_that_is_not_right_is_no_handshake(worker, change, status):
    """It is answered as the request that it is, and what counts for heads counts for it."""
    lines = HANDSHAKE.replace(*change, 1) + b"connection: close\r\n\r\n"
    lines = lines.replace(b"connection: Upgrade\r\n", b"", 1).replace(
        b"connection: close", b"connection: close, Upgrade"
    )
    answer = parse(await say(worker, b"GET /v1/responses HTTP/1.1\r\n" + lines))
    assert answer.status == status


async def test_nothing_may_follow_a_handshake_at_once(worker):
    """It would be read before anybody knows who sent it."""
    raw = await say(worker, b"GET /v1/responses HTTP/1.1\r\n" + HANDSHAKE + b"\r\n\x81\x80....")
    assert parse(raw).status == 400


async def test_other_paths_are_not_upgraded(worker):
    """The handshake is ignored there."""
    request = b"GET /healthz HTTP/1.1\r\n" + HANDSHAKE.replace(b"Upgrade", b"close, Upgrade")
    assert parse(await say(worker, request + b"\r\n")).status == 200


async def test_a_handshake_may_follow_other_requests_on_its_connection(worker):
    """When they have been answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    key = b"authorization: Bearer %b\r\n" % worker.secret.encode()
    async with asyncio.timeout(5):
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
        await reader.readuntil(b'{"ok":true}')
        writer.write(b"GET /v1/responses HTTP/1.1\r\n" + HANDSHAKE + key + b"\r\n")
        assert await reader.readline() == b"HTTP/1.1 101 Switching Protocols\r\n"
    writer.close()


async def test_a_revoked_key_ends_the_socket(worker):
    """It is looked at again for each response: 401, and the socket closes."""
    worker.will_answer(SSE_HEAD, FIRST, REST)
    async with socket(worker) as opened:
        await ask(opened)
        worker.keys.keys[0] = replace(worker.keys.keys[0], revoked_us=1)
        await worker.state.directory.reload()
        error = (await ask(opened))[-1]
        assert (error["status"], error["error"]["code"]) == (401, "invalid_api_key")
        assert await closing(opened) == 1008
    assert len(worker.books.settlements) == 1


async def test_an_empty_account_is_told_and_the_socket_stays(worker):
    """429 of the kind that makes clients stop; after a top-up the same socket serves on."""
    worker.books.refuse = OutOfCredit("Your balance is 0.")
    worker.will_answer(SSE_HEAD, FIRST, REST)
    async with socket(worker) as opened:
        error = (await ask(opened))[-1]
        assert (error["status"], error["error"]["type"]) == (429, "insufficient_quota")
        worker.books.refuse = None
        assert (await ask(opened))[-1]["type"] == "response.completed"


async def test_an_upstream_that_fails_costs_the_response_alone(worker):
    """Before the first event it is an error frame; the socket goes on."""
    worker.will_answer(SSE_HEAD, UpstreamFailed("It broke.", reason="reset"))
    worker.will_answer(SSE_HEAD, FIRST, REST)
    async with socket(worker) as opened:
        error = (await ask(opened))[-1]
        assert (error["type"], error["status"]) == ("error", 502)
        assert (await ask(opened))[-1]["type"] == "response.completed"


async def test_a_socket_is_closed_after_its_time():
    """With the error that tells clients to open another, never within a response."""
    async with running(make_worker(responses_websocket_limit_s=0.3)) as worker:
        gate = asyncio.Event()
        worker.will_answer(SSE_HEAD, FIRST, gate, REST)
        async with socket(worker) as opened:
            await create(opened)
            asyncio.get_running_loop().call_later(0.6, gate.set)
            assert (await frames(opened))[-1]["type"] == "response.completed"
            error = (await frames(opened))[-1]
            assert error["error"]["code"] == "websocket_connection_limit_reached"
            assert await closing(opened) == 1000


async def test_a_worker_that_ends_closes_idle_sockets_at_once():
    """With 1012, on which clients connect again."""
    async with AsyncExitStack() as clients:
        async with running(make_worker()) as worker:
            opened = await clients.enter_async_context(socket(worker))
            ends = asyncio.create_task(closing(opened))
        assert await ends == 1012


async def test_a_worker_that_ends_lets_the_response_end_first():
    """Then it says goodbye."""
    async with AsyncExitStack() as clients:
        gate = asyncio.Event()
        async with running(make_worker()) as worker:
            worker.will_answer(SSE_HEAD, FIRST, gate, REST)
            opened = await clients.enter_async_context(socket(worker))
            await create(opened)
            await opened.recv()
            asyncio.get_running_loop().call_later(0.5, gate.set)
        found = await frames(opened)
        assert found[-1]["type"] == "response.completed"
        assert await closing(opened) == 1012


async def test_a_response_that_does_not_end_in_time_fails_at_the_workers_end():
    """What was delivered is charged, and the client learns that it was not all."""
    async with AsyncExitStack() as clients:
        async with running(make_worker()) as worker:
            worker.will_answer(SSE_HEAD, FIRST, asyncio.Event())
            opened = await clients.enter_async_context(socket(worker))
            await create(opened)
            await opened.recv()
        assert (await frames(opened))[-1]["type"] == "response.failed"
        assert len(worker.books.settlements) == 1
        assert await closing(opened) == 1012


@pytest.mark.parametrize("abruptly", [True, False])
async def test_a_client_that_goes_within_a_response_is_one_that_hung_up(worker, abruptly):
    """The upstream is read on for the usage, and that is charged."""
    gate = asyncio.Event()
    worker.will_answer(SSE_HEAD, FIRST, gate, REST)
    tasks = len(asyncio.all_tasks())
    async with socket(worker) as opened:
        await create(opened)
        await opened.recv()
        if abruptly:
            opened.transport.abort()
            await asyncio.sleep(0.05)  # for the other side to notice
    gate.set()
    await until(lambda: worker.books.settlements)
    settlement = worker.books.settlements[0]
    assert (settlement.outcome, settlement.due_nanocredits) == ("client_gone", 20_000)
    await until(lambda: len(asyncio.all_tasks()) <= tasks)


async def test_a_client_that_takes_nothing_is_gone():
    """After the time that an answer may be silent; its response is settled, its socket dropped."""
    long = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % (b"x" * 100_000)
    async with running(make_worker(idle_timeout_s=0.5, drain_after_hangup_s=0.2)) as worker:
        worker.will_answer(SSE_HEAD, *[long] * 200, asyncio.Event())
        reader, writer = await opened_raw(worker)
        frame = b'{"type":"response.create","model":"m","input":"Hi","store":false}'
        writer.write(b"\x81" + bytes([0x80 | len(frame)]) + bytes(4) + frame)
        await until(lambda: worker.books.settlements)
        assert worker.books.settlements[0].outcome == "client_gone"
        async with asyncio.timeout(5):
            with suppress(ConnectionError):
                while await reader.read(1 << 20):
                    pass
        writer.close()


async def test_a_client_that_answers_no_ping_is_dropped():
    """Idle sockets are asked for a sign of life."""
    async with running(make_worker(keepalive_s=0.1, idle_timeout_s=0.3)) as worker:
        reader, writer = await opened_raw(worker)
        async with asyncio.timeout(5):
            said = await reader.read()
        assert said[0] == 0x89  # a ping
        assert said[-2 - len("keepalive ping timeout") - 2] == 0x88  # a goodbye
        writer.close()


async def test_responses_on_a_socket_are_counted_and_logged_like_requests(worker, capsys):
    """A line for the handshake and one for each response, which has its charge."""
    worker.will_answer(SSE_HEAD, FIRST, REST)
    async with socket(worker) as opened:
        await ask(opened)
        await ask(opened, model="nowhere")
    text = worker.state.metrics.exposition().decode()
    for status in ("1xx", "2xx", "4xx"):
        assert f'farebox_requests_total{{route="/v1/responses",status="{status}"}} 1.0' in text
    assert "farebox_requests_in_flight 0.0" in text
    lines = [line for line in capsys.readouterr().out.splitlines() if "route=" in line]
    assert ["method=WS" in line for line in lines] == [False, True, True]
    assert "charge_nanocredits=20000" in lines[1]
