"""The Messages API over upstreams of each kind."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farebox.dialects.messages import parse
from farebox.dialects.messages_interpreter import MessagesInterpreter
from farebox.dialects.recall import Recall
from farebox.dialects.registry import DIALECTS
from farebox.errors import BadRequest, Overloaded, UpstreamFailed
from tests.dialects import unfolding
from tests.dialects.accumulating import (
    ENDINGS,
    MIB,
    Passed,
    accumulated,
    circumstances,
    events,
    feed,
    read_by_sdk,
)
from tests.dialects.feeding import cut
from tests.dialects.one_answer import (
    CALL_ID,
    CHARGED,
    COMPLETION,
    MESSAGE,
    RESPONSE,
    chat_stream,
    responses_stream,
)
from tests.dialects.streaming import dump
from tests.dialects.unfolding import (
    events_of,
    function_item,
    message_item,
    refusal_part,
    response_of,
    sse,
    text_part,
    thoughts_item,
)

TOOLS = [{"name": "look", "input_schema": {"type": "object"}}]
ASKED = {
    "model": "m",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hi"}],
    "tools": TOOLS,
    "thinking": {"type": "adaptive"},
}


def asked(recall: Recall | None = None, **fields: Any) -> MessagesInterpreter:
    """The interpreter of a call; a field that is None is left out."""
    body = {name: value for name, value in (ASKED | fields).items() if value is not None}
    return MessagesInterpreter(parse(json.dumps(body).encode(), "req_abc"), circumstances(recall))


def streamed(wire: str, parts: list[bytes], recall: Recall | None = None, **fields: Any) -> Passed:
    """What becomes of a stream of an upstream that speaks `wire`."""
    interpreter = asked(recall, stream=True, **fields)
    interpreter.outgoing(wire)
    return feed(interpreter.stream(ENDINGS, MIB), parts, CHARGED)


def answered(wire: str, answer: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The same of a whole answer."""
    interpreter = asked(**fields)
    interpreter.outgoing(wire)
    assert interpreter.answer(dump(answer), ENDINGS).error is None
    return json.loads(interpreter.tail(CHARGED))


def test_the_relay_finds_it() -> None:
    """By the dialect's name."""
    call = parse(json.dumps(ASKED).encode(), "req_abc")
    assert isinstance(DIALECTS[call.dialect](call, circumstances()), MessagesInterpreter)


@pytest.mark.parametrize("wire", ["messages", "chat", "responses"])
def test_an_upstream_is_asked_in_its_own_dialect(wire: str) -> None:
    """Whichever it is."""
    sent = asked().outgoing(wire).call
    assert (sent.dialect, sent.model, sent.output_cap) == (wire, "m", 100)


def test_what_both_steps_leave_out_is_named() -> None:
    """Once: what chat cannot have, and what a response made of that cannot."""
    search = {"type": "web_search_20250305", "name": "web_search"}
    interpreter = asked(tools=[*TOOLS, search], max_tokens=5)
    assert interpreter.outgoing("chat").adjusted == ("tools.web_search=dropped",)
    assert interpreter.outgoing("responses").adjusted == (
        "tools.web_search=dropped",
        "max_tokens=16",
    )


def test_marks_of_what_to_cache_go_to_those_who_take_them() -> None:
    """The Responses API has none."""
    marked = [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]
    interpreter = asked(messages=[{"role": "user", "content": marked}])
    for wire, takes, holds in (
        ("chat", True, True),
        ("chat", False, False),
        ("responses", True, False),
    ):
        sent = interpreter.outgoing(wire, cache_control=takes)
        fields = b"".join(map(bytes, sent.call.fields.values()))
        assert (b"cache_control" in fields) == holds
        assert ("cache_control=dropped" in sent.adjusted) == (not holds)


def test_what_a_response_cannot_be_asked_for_is_refused() -> None:
    """Another channel may take it."""
    with pytest.raises(BadRequest) as caught:
        asked(stop_sequences=["END"]).outgoing("responses")
    assert caught.value.param == "stop"


@pytest.mark.parametrize(
    ("wire", "stream", "answer"),
    [("chat", chat_stream(), COMPLETION), ("responses", responses_stream(), RESPONSE)],
    ids=["chat", "responses"],
)
def test_one_answer_is_one_message_over_each_wire(
    wire: str, stream: bytes, answer: dict[str, Any]
) -> None:
    """Streamed and whole, as the SDK reads them; and thoughts are remembered."""
    recall = Recall()
    assert accumulated(streamed(wire, [stream], recall)) == MESSAGE
    assert read_by_sdk(answered(wire, answer)) == MESSAGE
    assert recall.find(1, CALL_ID) == "Hm."


def test_a_message_of_an_upstream_that_speaks_messages_passes() -> None:
    """Under our id and the model's name as asked."""
    theirs = {
        **MESSAGE,
        "id": "msg_theirs",
        "model": "up",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 10,
            "cache_creation_input_tokens": 2,
            "cache_read_input_tokens": 8,
            "output_tokens": 9,
        },
    }
    assert read_by_sdk(answered("messages", theirs))["content"] == MESSAGE["content"]
    begun = {**theirs, "content": [], "stop_reason": None}
    text = {"type": "text_delta", "text": "Hi"}
    ends = {"stop_reason": "end_turn", "stop_sequence": None}
    their_events: list[dict[str, Any]] = [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": text},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ends, "usage": theirs["usage"]},
        {"type": "message_stop"},
    ]
    message = accumulated(streamed("messages", [unfolding.body_of(*their_events)]))
    assert (message["id"], message["model"]) == ("msg_abc", "m")
    assert message["content"] == [{"type": "text", "text": "Hi"}]


def test_the_latest_way_out_decides_how_the_answer_is_read() -> None:
    """The first channel may have failed before it wrote anything."""
    interpreter = asked(stream=True)
    for wire in ("messages", "responses", "chat"):
        interpreter.outgoing(wire)
        interpreter.stream(ENDINGS, MIB)
    passed = feed(interpreter.stream(ENDINGS, MIB), [chat_stream()], CHARGED)
    assert accumulated(passed) == MESSAGE


def test_what_comes_with_a_responses_end_leaves_after_the_charge() -> None:
    """Some servers give everything at the end alone."""
    *_, end = events_of(RESPONSE)
    passed = streamed("responses", [sse(end)])
    assert passed.sent == b""
    assert accumulated(passed) == MESSAGE


def test_a_response_knows_what_it_used() -> None:
    """Billing reads it as the upstream gave it."""
    stream = streamed("responses", [responses_stream()]).stream
    assert json.loads(bytes(stream.usage)) == unfolding.USAGE
    assert (stream.service_tier, stream.tool_calls) == ("default", ())
    assert stream.text_bytes == len('Hm.Look.look{"a": 1}')
    assert (stream.started, stream.ending, stream.whole, stream.finished) == (True,) * 4


@pytest.mark.parametrize(
    ("reason", "told"), [("max_output_tokens", "max_tokens"), ("content_filter", "refusal")]
)
def test_a_response_that_was_cut_off_says_why(reason: str, told: str) -> None:
    """In Anthropic's words."""
    cut = response_of(
        message_item(text_part("Hi")), status="incomplete", incomplete_details={"reason": reason}
    )
    assert streamed("responses", [responses_stream(cut)]).ending["stop_reason"] == told
    assert answered("responses", cut)["stop_reason"] == told


@pytest.mark.parametrize(
    ("body", "failure", "error"),
    [
        (unfolding.body_of(*events_of(RESPONSE)[:-1]), None, None),
        (
            sse({"type": "error", "message": "No.", "code": "x"}),
            None,
            {"message": "No.", "code": "x"},
        ),
        (b"data: <html>\n\n", "bad_event", None),
        (responses_stream(response_of(function_item("", "{}", CALL_ID))), "no_tool_name", None),
    ],
    ids=["no end", "an error", "no events", "a tool without a name"],
)
def test_what_has_no_end_is_no_answer(body: bytes, failure: Any, error: Any) -> None:
    """Whichever of the two steps finds it; and it is known before the charge."""
    passed = streamed("responses", [body])
    found = passed.error and {name: passed.error[name] for name in ("message", "code")}
    assert (passed.failure, found, passed.tail) == (failure, error, b"")
    assert b"message_delta" not in passed.sent


def test_a_whole_answer_that_is_none_has_failed() -> None:
    """Or is the error that it holds, before any message is made of it."""
    interpreter = asked()
    interpreter.outgoing("responses")
    with pytest.raises(UpstreamFailed):
        interpreter.answer(b"{}", ENDINGS)
    error = {**RESPONSE, "status": "failed", "error": {"code": "server_error", "message": "No."}}
    assert interpreter.answer(dump(error), ENDINGS).error is not None


def test_between_events_there_are_pings_and_an_error_ends_them() -> None:
    """No `message_stop` follows."""
    interpreter = asked(stream=True)
    last = interpreter.error_event(Overloaded("Wait."), CHARGED)
    assert events(interpreter.ping() + last) == [
        {"type": "ping"},
        {
            "type": "error",
            "error": {"type": "overloaded_error", "message": "Wait."},
            "request_id": "req_abc",
        },
    ]


texts = st.text(st.sampled_from('ab é你🙂"\\\n'), min_size=1, max_size=6)
calls = st.builds(
    function_item,
    st.sampled_from(["look", "unknown"]),
    texts.map(lambda text: json.dumps({text: text})) | st.sampled_from(["", "[]", "raw"]),
    st.sampled_from([CALL_ID, "call_1", "call_bbbbbbbbbbbb"]),
)
# In the order that a completion has them in, which knows no other.
items = st.tuples(
    st.lists(texts.map(thoughts_item), max_size=2),
    st.lists(texts.map(lambda text: message_item(text_part(text))), max_size=2),
    st.lists(texts.map(lambda text: message_item(refusal_part(text))), max_size=1),
    st.lists(calls, max_size=3),
).map(lambda lists: [item for each in lists for item in each])


@settings(max_examples=60)
@given(items, st.data())
def test_wherever_the_reads_cut_the_events_are_the_same(
    written: list[Any], data: st.DataObject
) -> None:
    """Through both steps, byte by byte too; and the whole answer is the same message."""
    response = response_of(*written)
    body = responses_stream(response)
    at_once = streamed("responses", [body])
    assert accumulated(at_once) == read_by_sdk(answered("responses", response))
    for others in (data.draw(cut(body)), [bytes([byte]) for byte in body]):
        passed = streamed("responses", others)
        assert (passed.sent, passed.tail) == (at_once.sent, at_once.tail)


def _gateway(wire: str, request: httpx2.Request) -> httpx2.Response:
    """What the gateway answers, with pings before and between the events."""
    call = parse(request.content, "req_abc")
    interpreter = MessagesInterpreter(call, circumstances())
    interpreter.outgoing(wire)
    if not call.stream:
        answer = COMPLETION if wire == "chat" else RESPONSE
        interpreter.answer(dump(answer), ENDINGS)
        return httpx2.Response(200, content=interpreter.tail(CHARGED))
    stream = interpreter.stream(ENDINGS, MIB)
    sent = interpreter.ping()
    body = chat_stream() if wire == "chat" else responses_stream()
    for at in range(0, len(body), 100):
        sent += stream.feed(body[at : at + 100])
    sent += interpreter.tail(CHARGED)
    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=sent)


@pytest.mark.parametrize("wire", ["chat", "responses"])
def test_the_sdks_client_reads_answers_and_streams(wire: str) -> None:
    """Its helper gives the text as it comes, and the message at the end."""
    transport = httpx2.MockTransport(lambda request: _gateway(wire, request))
    asking: Any = ASKED
    with anthropic.Anthropic(
        api_key="k", max_retries=0, http_client=httpx2.Client(transport=transport)
    ) as client:
        whole = client.messages.create(**asking)
        with client.messages.stream(**asking) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
    assert text == "Look."
    assert [block.type for block in whole.content] == [block.type for block in final.content]
    assert [block.type for block in final.content] == ["thinking", "text", "tool_use"]
    assert (final.stop_reason, final.usage.input_tokens) == ("tool_use", 10)


@pytest.mark.anyio
@pytest.mark.parametrize("wire", ["chat", "responses"])
async def test_so_does_its_asynchronous_client(wire: str) -> None:
    """The same."""
    transport = httpx2.MockTransport(lambda request: _gateway(wire, request))
    asking: Any = ASKED
    async with (
        anthropic.AsyncAnthropic(
            api_key="k", max_retries=0, http_client=httpx2.AsyncClient(transport=transport)
        ) as client,
        client.messages.stream(**asking) as stream,
    ):
        text = "".join([piece async for piece in stream.text_stream])
        final = await stream.get_final_message()
    assert (text, final.stop_reason) == ("Look.", "tool_use")
