"""Errors of /v1/messages and everything below it: Anthropic's shape, and nothing is charged."""

import pytest

from farebox.core.ports import UpstreamHead
from farebox.errors import BillingUnavailable, OutOfCredit, UpstreamFailed
from tests.server.asking import events_in
from tests.server.messaging import HEADERS, TOOL, VENDORS, of_vendor, post, will_stream
from tests.server.worker import BOTH_WAYS, JSON_HEAD, make_worker, running

pytestmark = [pytest.mark.anyio, BOTH_WAYS]

USED = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "open"}


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


def check(answer, status, kind):
    """The error of an answer, which has this status and type, and both headers with its id."""
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
    request_id = answer.headers["x-request-id"]
    assert answer.headers["request-id"] == request_id
    message = answer.json["error"]["message"]
    assert answer.json == {
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": request_id,
    }
    return message


def check_free(worker):
    """Nothing was asked of an upstream or charged."""
    assert worker.upstream.requests == []
    assert [settlement.due_nanocredits for settlement in worker.books.settlements] in ([], [0])


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [user(None)]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [user([{"type": "poem", "text": "x"}])]}, "messages[0].content[0].type"),
        ({"messages": [user([RESULT])]}, "messages[0].content[0].tool_use_id"),
        ({"messages": [user("a"), assistant([USED]), user("b")]}, "messages[1].content[0].id"),
        ({"system": 7}, "system"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"tools": [TOOL], "tool_choice": {"type": "perhaps"}}, "tool_choice.type"),
        ({"stream": "yes"}, "stream"),
        ({"inference_geo": "us"}, "inference_geo"),
        ({"fallbacks": [{"model": "n"}]}, "fallbacks"),
        ({"container": "container_1"}, "container"),
        ({"max_tokens": 0}, "'max_tokens' is 0, which only fills a cache."),
        ({"speed": "fast"}, "The service tier 'fast' has no price for 'm'."),
    ],
)
async def test_a_request_that_is_wrong_is_400_and_says_where(worker, change, names):
    """With the path of what is wrong."""
    answer = await post(worker, **change)
    assert names in check(answer, 400, "invalid_request_error")
    check_free(worker)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b"null", b'{"a":' + b"[" * 100_000, b"\xff"]
)
async def test_a_body_that_is_no_object_is_400(worker, body):
    """Whatever else it is."""
    check(await post(worker, body), 400, "invalid_request_error")
    check_free(worker)


async def test_a_signature_that_is_nobodys_does_no_harm(worker):
    """It is left out, and named; what was sealed for another account is refused."""
    will_stream(worker, "Hello!")
    thought = {"type": "thinking", "thinking": "A greeting?", "signature": "EqQBCgIYAhIM"}
    turns = [user("a"), assistant([thought, {"type": "text", "text": "b"}]), user("c")]
    answer = await post(worker, messages=turns, stream=True)
    assert answer.status == 200
    assert "thinking" in answer.headers["x-farebox-adjusted"]
    assert b"A greeting?" not in worker.upstream.requests[-1].body


async def test_a_thought_of_another_accounts_is_400(worker):
    """A signature of ours opens for the account that it was sealed for alone."""
    other = worker.keys.add("bob")
    await worker.state.directory.reload()
    thinking = {"type": "enabled", "budget_tokens": 2000}
    will_stream(of_vendor(worker, "deepseek"), {"reasoning_content": "Mine."}, "Hello!")
    events = events_in((await post(worker, stream=True, thinking=thinking)).body)
    (signature,) = [
        event["delta"]["signature"]
        for event in events
        if event.get("delta", {}).get("type") == "signature_delta"
    ]
    thought = {"type": "thinking", "thinking": "Mine.", "signature": signature}
    turns = [user("a"), assistant([thought, {"type": "text", "text": "b"}]), user("c")]
    answer = await post(worker, messages=turns, headers={"x-api-key": other})
    assert "messages[1].content[0]" in check(answer, 400, "invalid_request_error")
    assert len(worker.upstream.requests) == 1


@pytest.mark.parametrize("headers", [{"x-api-key": "sk-fb-wrong"}, {"x-api-key": ""}])
async def test_a_stranger_is_401(worker, headers):
    """Without a key the sentence says both ways of sending one."""
    answer = await post(worker, headers=headers)
    message = check(answer, 401, "authentication_error")
    assert ("'x-api-key: YOUR_KEY'" in message) == (headers["x-api-key"] == "")
    assert answer.headers["www-authenticate"] == "Bearer"
    check_free(worker)


async def test_a_bearer_key_does_as_well(worker):
    """Claude Code sends one where ANTHROPIC_AUTH_TOKEN is set, beside a key for another place."""
    will_stream(worker, "Hello!")
    headers = {"authorization": f"Bearer {worker.secret}", "x-api-key": "sk-ant-elsewhere"}
    assert (await post(worker, headers=headers, stream=True)).status == 200


async def test_an_unknown_model_is_404_with_the_names_that_are_near(worker):
    """As everywhere."""
    answer = await post(worker, model="mimo-prx")
    assert "mimo-pro" in check(answer, 404, "not_found_error")
    check_free(worker)


async def test_a_model_that_the_key_may_not_use_is_403(worker):
    """The account may, this key may not."""
    narrow = worker.keys.add("carol", "all", ("xiaomi/*",))
    await worker.state.directory.reload()
    answer = await post(worker, headers={"x-api-key": narrow})
    check(answer, 403, "permission_error")


@pytest.mark.parametrize("status", [402, 429])
async def test_out_of_credit_is_402_whatever_the_setting_says(status):
    """Anthropic's clients stop at 402, and would try 429 again and again."""
    async with running(make_worker(out_of_credit_status=status)) as worker:
        worker.books.refuse = OutOfCredit("0.1 credits are missing.")
        answer = await post(worker)
        assert check(answer, 402, "billing_error") == "0.1 credits are missing."
        assert answer.headers["x-should-retry"] == "false"
        assert "retry-after" not in answer.headers
        assert worker.upstream.requests == []


async def test_books_that_cannot_be_written_are_529(worker):
    """The clients wait and try again."""
    worker.books.refuse = BillingUnavailable("The books cannot be written.")
    answer = await post(worker)
    check(answer, 529, "overloaded_error")
    assert answer.headers["retry-after"] == "5"


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize(
    ("upstream", "status", "kind"),
    [(429, 429, "rate_limit_error"), (503, 529, "overloaded_error"), (500, 502, "api_error")],
)
async def test_what_an_upstream_refuses_has_its_name(worker, vendor, upstream, status, kind):
    """With the time to wait, where waiting helps; nothing is due."""
    head = UpstreamHead(upstream, {b"retry-after": b"7"})
    of_vendor(worker, vendor).will_answer(head, b'{"error":{"message":"No."}}')
    answer = await post(worker)
    check(answer, status, kind)
    assert answer.headers.get("retry-after") == (None if status == 502 else "7")
    assert [settlement.due_nanocredits for settlement in worker.books.settlements] == [0]


async def test_an_upstream_that_is_silent_is_504(worker):
    """Its fault, and nothing is due."""
    silent = UpstreamFailed("The upstream took too long. Try again.", reason="idle", status=504)
    worker.will_answer(JSON_HEAD, silent)
    check(await post(worker), 504, "timeout_error")
    assert [settlement.due_nanocredits for settlement in worker.books.settlements] == [0]


async def test_a_conversation_that_is_too_long_is_said_in_words_that_clients_know(worker):
    """Claude Code shortens the conversation when it reads them."""
    said = b'{"error":{"message":"This model\'s maximum context length is 8000 tokens."}}'
    worker.will_answer(UpstreamHead(400, {}), said)
    message = check(await post(worker), 400, "invalid_request_error")
    assert message.startswith("prompt is too long: ")


@pytest.mark.parametrize("vendor", VENDORS)
async def test_an_upstream_that_breaks_mid_stream_ends_in_an_error_event(worker, vendor):
    """After the head there is no status to change: no message_stop, which would mean that all is
    there.
    """
    broken = UpstreamFailed("It broke off.", reason="reset")
    will_stream(of_vendor(worker, vendor), "Hel", broken)
    answer = await post(worker, stream=True)
    events = events_in(answer.body)
    assert (answer.status, answer.complete) == (200, True)
    assert events[-1] == {
        "type": "error",
        "error": {"type": "api_error", "message": "It broke off."},
        "request_id": answer.headers["request-id"],
    }
    assert "message_stop" not in [event["type"] for event in events]


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_stream_that_just_stops_is_not_taken_for_whole(worker, vendor):
    """No finish_reason, no [DONE]: the connection's end is not the answer's."""
    exchange = will_stream(of_vendor(worker, vendor), "Hel")
    del exchange.script[2:]
    events = events_in((await post(worker, stream=True)).body)
    assert (events[-1]["type"], events[-1]["error"]["type"]) == ("error", "api_error")


async def test_a_body_above_the_limit_is_413():
    """And the answer reaches the client, which is still sending."""
    async with running(make_worker(max_body_bytes=100_000)) as worker:
        check(await post(worker, b"x" * 3_000_000), 413, "request_too_large")


async def test_a_body_that_stops_is_408():
    """In the same form."""
    async with running(make_worker(body_timeout_s=0.2)) as worker:
        headers = {"content-length": "1000"}
        check(await post(worker, b"{", headers=headers), 408, "invalid_request_error")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "multipart/form-data"}, 415),
        ({"content-encoding": "br"}, 415),
        ({"anthropic-beta": "x" * 5000}, 400),
        ({"anthropic-beta": "bêta"}, 400),
        ({"anthropic-version": "2023\t06\t01"}, 400),
    ],
)
async def test_headers_that_cannot_be_read_are_refused(worker, headers, status):
    """What is passed on to an upstream is bounded, and printable."""
    check(await post(worker, headers=headers), status, "invalid_request_error")
    check_free(worker)


async def test_our_own_request_coming_back_is_508(worker):
    """A loop ends before it costs anything."""
    answer = await post(worker, headers={"x-farebox-hop": "inst_here"})
    check(answer, 508, "api_error")
    check_free(worker)


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("POST", "/v1/messages/batches", 404, "not_found_error"),
        ("GET", "/v1/messages/batches/x/results", 404, "not_found_error"),
        ("GET", "/v1/messages", 405, "invalid_request_error"),
        ("DELETE", "/v1//messages/", 405, "invalid_request_error"),
    ],
)
async def test_routes_that_are_not_there_answer_in_the_same_form(
    worker, method, path, status, kind
):
    """Everything below /v1/messages; a neighbour with a longer name is not below it."""
    check(await worker.ask(method, path, HEADERS), status, kind)
    answer = await worker.ask(method, "/v1/messagesx", HEADERS)
    assert set(answer.json["error"]) == {"message", "type", "param", "code"}


async def test_a_defect_is_500_and_says_nothing_of_itself(worker):
    """An exception within an answer is logged; the client gets the form and the id."""
    worker.will_answer(JSON_HEAD, RuntimeError("a secret detail"))
    answer = await post(worker)
    assert "secret" not in check(answer, 500, "api_error")
    worker.will_answer(JSON_HEAD, b"no json")
    check(await post(worker), 502, "api_error")


async def test_other_routes_keep_openais_form(worker):
    """Whatever headers their clients send."""
    answer = await worker.ask("POST", "/v1/chat/completions", HEADERS, b"{}", worker.secret)
    assert set(answer.json["error"]) == {"message", "type", "param", "code"}
    assert "request-id" not in answer.headers
