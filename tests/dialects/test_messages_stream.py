"""Messages of an upstream that speaks the API: which events pass, and what is mended."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core.usage import Usage
from farebox.dialects.messages_stream import NativeMessageStream
from farebox.dialects.usage import Reading
from tests.dialects.feeding import cut
from tests.dialects.native_messages import (
    CHARGED,
    MIB,
    Event,
    accepted,
    asked,
    bytes_of,
    run,
    upstream,
)
from tests.fakes.messages_events import as_sse


def test_events_leave_as_the_bytes_that_came() -> None:
    """All but the first, which has our id and the model as asked; the vendor's pings go."""
    found = upstream()
    passed = run([bytes_of(found)])
    assert passed.sent.endswith(bytes_of(found[2:-2]))
    assert passed.tail == bytes_of(found[-2:])
    start = {**found[0]["message"], "id": "msg_abc", "model": "m"}
    assert passed.events == [{**found[0], "message": start}, *found[2:]]
    message = accepted(passed)
    kinds = ["thinking", "server_tool_use", "web_search_tool_result", "text"]
    assert [block.type for block in message.content] == kinds
    assert (message.id, message.model, message.usage.output_tokens) == ("msg_abc", "m", 9)


def test_what_is_charged_is_known() -> None:
    """The usage, the tier, how often a tool ran, and about how much was written."""
    passed = run([bytes_of(upstream())])
    words = len("a bone two thr\u00e9e".encode())
    called = len('web_search{"query": "q"}')
    reading = Reading(CHARGED)
    assert passed.known == (
        reading, (("web_search", 1),), words + called, None, None, "standard",
    )  # fmt: skip


def test_the_beginning_waits_for_content() -> None:
    """Until then another channel may answer. A ping is none."""
    found = upstream()
    stream = NativeMessageStream(asked(), MIB)
    assert stream.feed(bytes_of(found[:2])) == b""
    assert not stream.started
    assert stream.feed(bytes_of(found[2:3])).startswith(b"event: message_start\n")
    assert stream.started


def test_from_the_stop_reason_on_everything_is_the_tail() -> None:
    """What follows it ends the reading."""
    found = upstream()
    stream = NativeMessageStream(asked(), MIB)
    stream.feed(bytes_of(found[:-2]))
    assert (stream.ending, stream.whole, stream.finished) == (False, False, False)
    assert stream.feed(bytes_of(found[-2:-1])) == b""
    assert (stream.ending, stream.whole, stream.finished) == (True, True, False)
    assert stream.feed(bytes_of(found[-1:])) == b""
    assert stream.finished


def test_a_message_without_content_has_all_of_it_in_the_tail() -> None:
    """Its beginning too, such as when only the cache was filled."""
    found = upstream("say: \ntokens: 100 40 0 0", thinking=None)
    passed = run([bytes_of(found)], Usage(uncached_input=60, cache_read=40))
    assert passed.sent == b""
    assert passed.types == ["message_start", "message_delta", "message_stop"]


def test_a_stream_that_stops_without_message_stop_gets_one() -> None:
    """The reason why it stops has come."""
    found = upstream()
    assert run([bytes_of(found[:-1])]).events == run([bytes_of(found)]).events


@pytest.mark.parametrize("left_out", [[-2], [-2, -1]])
def test_nothing_ends_without_a_reason(left_out: list[int]) -> None:
    """message_stop alone is no end: the answer broke off."""
    found = upstream()
    kept = [event for event in found if event not in [found[at] for at in left_out]]
    passed = run([bytes_of(kept)])
    assert (passed.stream.ending, passed.tail) == (False, b"")


def test_an_error_event_is_the_error() -> None:
    """As Anthropic tells it, half-way and at once; its request id stays out."""
    error = {"type": "overloaded_error", "message": "Overloaded"}
    event = {"type": "error", "error": error, "request_id": "req_vendor"}
    found = upstream()
    for before in (0, 1, 2, 6):
        passed = run([bytes_of([*found[:before], event])])
        assert (passed.stream.error, passed.stream.started) == (error, before == 6)
        assert b"error" not in passed.sent
    nameless = run([b'data: {"error":{"message":"x"}}\n\n'])
    assert nameless.stream.error == {"message": "x"}


def test_events_without_a_name_get_theirs() -> None:
    """The SDKs pass over those that have none, or another way to write it."""
    found = upstream()
    expected = run([bytes_of(found)])
    for change in (
        lambda raw: raw[raw.index(b"\n") + 1 :],
        lambda raw: raw.replace(b"event: ", b"event:"),
        lambda raw: raw.replace(b"\n", b"\r\n"),
        lambda raw: raw.replace(b",", b",\ndata: ", 1),
        lambda raw: b": ping\n\n" + raw,
    ):  # fmt: skip
        passed = run([change(as_sse(event)) for event in found])
        assert (passed.events, passed.known) == (expected.events, expected.known)


def test_events_that_nobody_knows_pass() -> None:
    """Whatever their members are; `[DONE]` is no event of this API, and ends nothing here."""
    odd: list[Event] = [
        {"type": "x_new", "delta": "text", "usage": [1]},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "new", "text": {"a": 1}}},
        {"type": "content_block_start", "index": 9, "content_block": {"type": "new"}},
    ]
    found = upstream()
    passed = run([bytes_of([*found[:3], *odd, *found[3:]]) + b"data: [DONE]\n\n"])
    assert bytes_of(odd) in passed.sent
    assert passed.reading == Reading(CHARGED)


@pytest.mark.parametrize(
    "raw",
    [
        b"data: {oops\n\n",
        b'data: {"type":"content_block_stop","index":0}\n\n',
        b'event: message_start\ndata: {"type":"message_start"}\n\n',
        b'data: {"index":0}\n\n',
        b'data: {"type":"a\\nb"}\n\n',
        b"data: []\n\n",
    ],
)
def test_what_is_no_message_is_a_failure(raw: bytes) -> None:
    """Also an event in front of the message's beginning; nothing of it has left."""
    passed = run([raw])
    assert passed.known[4] == "bad_event"
    assert (passed.sent, passed.stream.started) == (b"", False)


def test_a_second_beginning_is_a_failure() -> None:
    """No client could read on."""
    found = upstream()
    assert run([bytes_of([*found[:5], *found])]).known[4] == "bad_event"


def test_a_tail_has_its_limit() -> None:
    """Nothing is kept for ever."""
    found = upstream()
    more = [{"type": "x_new", "text": "x" * (MIB // 2)}] * 3
    assert run([bytes_of([*found[:-1], *more])]).known[4] == "tail_too_large"


STREAM = bytes_of(upstream())
EXPECTED = run([STREAM])


def test_byte_by_byte_it_is_the_same() -> None:
    """Wherever the reads cut it."""
    passed = run([STREAM[at : at + 1] for at in range(len(STREAM))])
    assert (passed.sent, passed.tail, passed.known) == (
        EXPECTED.sent,
        EXPECTED.tail,
        EXPECTED.known,
    )


@given(cut(STREAM, 20))
def test_in_any_pieces_it_is_the_same(parts: list[bytes]) -> None:
    """Wherever the reads cut it."""
    passed = run(parts)
    assert (passed.sent, passed.tail, passed.known) == (
        EXPECTED.sent,
        EXPECTED.tail,
        EXPECTED.known,
    )


@given(st.lists(st.sampled_from(upstream()) | st.dictionaries(
    st.sampled_from(["type", "delta", "message", "usage", "error", "content_block"]),
    st.none() | st.integers() | st.text(max_size=3) | st.just({}) | st.just({"usage": {}}),
), max_size=12))  # fmt: skip
def test_any_events_are_passed_or_failed(found: list[Any]) -> None:
    """No order and no shape of events crashes a stream."""
    data = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in found)
    passed = run([data])
    assert passed.events is not None
    if passed.stream.ending and not passed.known[3] and not passed.known[4]:
        assert passed.types[0] == "message_start"
        assert passed.types[-1] == "message_stop"
