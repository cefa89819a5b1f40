"""The application as a whole: request ids, unknown routes and methods, defects, draining."""

import asyncio
import contextlib

import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from farebox.core.ids import new_key
from farebox.errors import BadRequest
from farebox.server.asgi import application
from tests.server.worker import BOTH_WAYS, make_worker, running

pytestmark = [pytest.mark.anyio, BOTH_WAYS]

POST_CHAT = ("POST", "/v1/chat/completions")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        (*POST_CHAT, 401),
        ("GET", "/v1/models", 401),
        ("GET", "/healthz", 200),
        ("GET", "/", 307),
        ("GET", "/v1/nowhere", 404),
        ("DELETE", "/v1/chat/completions", 405),
        ("OPTIONS", "/v1/models", 204),
        ("HEAD", "/healthz", 200),
        ("GET", "/%ff%00/..%2f", 404),
        ("GET", "/" + "a" * 5000, 404),
    ],
)
async def test_every_answer_has_a_request_id_of_its_own(worker, method, path, status):
    """Good or bad, known or not: each answer names itself, and none names a server or an origin."""
    first = await worker.ask(method, path)
    second = await worker.ask(method, path)
    assert (first.status, first.complete) == (status, True)
    ids = {answer.headers["x-request-id"] for answer in (first, second)}
    assert len(ids) == 2
    assert all(len(each) == 26 and each.startswith("req_") for each in ids)
    assert not [name for name in first.headers if name.startswith("access-control-")]
    if status >= 400:
        assert first.headers["content-type"] == "application/json"
        assert set(first.json["error"]) == {"message", "type", "param", "code"}


async def test_a_clients_own_request_id_is_not_taken(worker):
    """Receipts are kept under the gateway's ids; a client cannot choose one."""
    answer = await worker.ask("GET", "/healthz", {"x-request-id": "req_mine"})
    assert answer.headers["x-request-id"] != "req_mine"


async def test_an_unknown_url_is_named(worker):
    """404 as OpenAI says it, with method and path, which is cut when it is long."""
    answer = await worker.ask("POST", "/v1/x")
    assert answer.json["error"] == {
        "message": "Invalid URL (POST /v1/x)",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
    answer = await worker.ask("POST", "/v1/v1/messages")
    assert answer.json["error"]["message"] == (
        "Invalid URL (POST /v1/v1/messages). Your client adds '/v1' to the base URL by itself: "
        "leave it out there."
    )
    answer = await worker.ask("POST", "/messages")
    assert answer.json["error"]["message"] == (
        "Invalid URL (POST /messages). Your client does not add '/v1' to the base URL: put it "
        "there."
    )
    answer = await worker.ask("GET", "/" + "a" * 5000)
    assert len(answer.json["error"]["message"]) < 300


async def test_a_wrong_method_is_405_with_what_is_allowed(worker):
    """Hot and cold routes alike say which methods they have."""
    answer = await worker.ask("GET", "/v1/chat/completions")
    assert (answer.status, answer.headers["allow"]) == (405, "OPTIONS, POST")
    answer = await worker.ask("POST", "/v1/models", body=b"{}")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    answer = await worker.ask("OPTIONS", "/v1/chat/completions")
    assert (answer.status, answer.headers["allow"], answer.body) == (204, "OPTIONS, POST", b"")


@pytest.mark.parametrize(
    "path",
    ["//v1/chat/completions", "/v1//chat/completions/", "/v1/chat/completions/", "/v1/models//"],
)
async def test_slashes_too_many_are_forgiven(worker, path):
    """Base URLs are often written with a slash at the end, so that paths have two."""
    method = "GET" if "models" in path else "POST"
    assert (await worker.ask(method, path)).status == 401
    assert (await worker.ask("GET", "//")).status == 307


async def test_whoever_asks_whether_somebody_is_there_hears_yes(worker):
    """HEAD of the root, which Claude Code sends first, is answered here; GET leads on."""
    answer = await worker.ask("HEAD", "/")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")
    answer = await worker.ask("GET", "/")
    assert (answer.status, answer.headers["location"]) == (307, "/pricing")


async def test_a_body_to_nowhere_does_not_cost_the_answer(worker):
    """The error reaches a client that is still sending, and the connection can be used again."""
    body = b"x" * 5_000_000
    assert (await worker.ask("POST", "/v1/nowhere", body=body)).status == 404
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    head = f"POST /v1/nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body + b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    async with asyncio.timeout(20):
        await reader.readuntil(b"HTTP/1.1 404 ")
        await reader.readuntil(b"HTTP/1.1 200 ")
    writer.close()


async def fail(_request):
    raise RuntimeError("a secret detail")


async def tear(_request):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("torn")

    return app


async def refuse(_request):
    raise BadRequest("Not like this.", param="p", code="invalid_value")


async def page(_request):
    return PlainTextResponse("a page")


PAGES = [
    Route("/fail", fail),
    Route("/tear", tear),
    Route("/refuse", refuse),
    Route("/page", page),
]


@pytest.fixture
async def with_pages(anyio_backend):
    """A worker that serves routes of another room too."""
    async with running(make_worker(), PAGES) as started:
        yield started


async def test_a_defect_is_500_and_says_nothing_of_itself(with_pages):
    """An unexpected exception is logged; the client gets the shape and the id, no detail."""
    answer = await with_pages.ask("GET", "/fail")
    assert (answer.status, answer.json["error"]["type"]) == (500, "server_error")
    assert b"secret" not in answer.body
    assert b"Traceback" not in answer.body
    assert answer.headers["x-request-id"].startswith("req_")


async def test_a_torn_answer_does_not_look_whole(with_pages):
    """After the head there is nothing to say: the connection ends without the answer's end."""
    answer = await with_pages.ask("GET", "/tear")
    assert (answer.body, answer.complete) == (b"half", False)


async def test_pages_of_other_rooms_are_served_with_the_same_care(with_pages):
    """Their answers carry ids, and what they refuse has the same shape."""
    answer = await with_pages.ask("GET", "/page")
    assert (answer.status, answer.body) == (200, b"a page")
    assert answer.headers["x-request-id"].startswith("req_")
    answer = await with_pages.ask("GET", "/refuse")
    assert (answer.status, answer.json["error"]["param"]) == (400, "p")


async def test_a_draining_worker_closes_connections(worker):
    """Each answer asks the client to connect anew: elsewhere, by then."""
    headers = {"connection": "keep-alive"}
    worker.state.draining = True
    answer = await worker.ask("GET", "/healthz", headers)
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    answer = await worker.ask(*POST_CHAT, headers, b"{}", new_key())
    assert (answer.status, answer.headers["connection"]) == (401, "close")


async def test_a_web_socket_without_a_key_is_refused_in_openais_shape():
    """The handshake is answered like any other request."""
    app, sent = application(make_worker().state), []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    await app({"type": "websocket", "path": "/v1/responses", "headers": []}, receive, send)
    assert (sent[0]["type"], sent[0]["status"]) == ("websocket.http.response.start", 401)
    assert b"invalid_api_key" in sent[1]["body"]


async def test_servers_that_announce_a_lifespan_are_answered():
    """Start and end are acknowledged."""
    app, sent = application(make_worker().state), []
    phases = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive():
        return {"type": next(phases)}

    async def send(message):
        sent.append(message["type"])

    await app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_rubbish_on_the_wire_is_400(worker):
    """What is no HTTP is refused by the server, and the worker goes on."""
    for rubbish in (
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"nonsense\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
        writer.write(rubbish)
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionResetError):
                assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()
    assert (await worker.ask("GET", "/healthz")).status == 200
