"""A chat stream on its way: what passes as it came, what is withheld, and where the tail begins."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core.call import Call
from farebox.dialects.chat_stream import ChatStream
from tests.dialects.feeding import cut
from tests.dialects.streaming import (
    DONE,
    USAGE,
    body_of,
    choice,
    chunk,
    dump,
    event,
    finished,
    run,
    said,
    stream_for,
)

BOM = b"\xef\xbb\xbf"
USAGE_CHUNK = chunk(usage=USAGE)
OPENAI = [
    said("Hel", usage=None),
    said("lo.", usage=None),
    finished(usage=None),
    USAGE_CHUNK,
    DONE,
]


def test_events_that_are_right_leave_as_the_bytes_that_came() -> None:
    """Nothing is decoded and encoded again for a client that asked for the upstream's name."""
    passed = run([body_of(*OPENAI)], include_usage=True)
    assert passed.sent == body_of(*OPENAI[:2])
    assert passed.tail == body_of(*OPENAI[2:])


def test_the_tail_begins_with_the_finish() -> None:
    """What is before it leaves at once, read by read."""
    stream = stream_for()
    sent = [stream.feed(event(each)) for each in OPENAI]
    assert sent == [event(OPENAI[0]), event(OPENAI[1]), b"", b"", b""]
    assert (stream.ending, stream.finished) == (True, True)


def _in_other_words(each: dict[str, Any]) -> list[bytes]:
    spaced = json.dumps(each).encode()
    lines = json.dumps(each, indent=1).encode().replace(b"\n", b"\ndata: ")
    last = {**{k: v for k, v in each.items() if k != "model"}, "model": "up"}
    return [
        event(each),
        b"data: " + spaced + b"\n\n",
        b"data:" + spaced + b"\n\n",
        b"data: " + lines + b"\n\n",
        event(each).replace(b"\n", b"\r\n"),
        event(each).replace(b"\n", b"\r"),
        b"id: 7\n: note\nevent: message\n" + event(each),
        event(last),
        event({"model": "up", **each}),
    ]


odd_chunks: list[dict[str, Any]] = [
    said('"model":"up"'),
    said("text", x={"model": "up"}),
    {"x": {"model": "up"}, **said("text")},
    {"x": "model", **said("text")},
    {'"model":"up"': 1, **said("text")},
    said("text", 0, x=12345678901234567890123, y=1e300, z=[{}]),
    said("你好 😀"),
    chunk(choice({"role": "assistant", "content": "Hi"}, x=1), usage=None, x=None),
]


@pytest.mark.parametrize("each", odd_chunks, ids=range(len(odd_chunks)))
@pytest.mark.parametrize("model", ["asked", 'odd"\n\\é', "up"])
def test_only_the_models_name_is_changed(each: dict[str, Any], model: str) -> None:
    """However the chunk is written, and again for the chunks after it."""
    expected = [{**each, "model": model}] * 2
    for written in _in_other_words(each):
        passed = run([written * 2 + DONE], model)
        shown = [_without_roles(data) for data in passed.events[:-1]]
        assert shown == [_without_roles(data) for data in expected]
        assert passed.failure is None


def _without_roles(data: dict[str, Any]) -> dict[str, Any]:
    choices = [
        {**each, "delta": {k: v for k, v in each["delta"].items() if k != "role"}}
        for each in data["choices"]
    ]
    return {**data, "choices": choices}


@pytest.mark.parametrize("spaces", [(",", ":"), (", ", ": ")])
def test_a_renamed_chunk_differs_in_its_name_alone(spaces: tuple[str, str]) -> None:
    """Byte for byte, numbers and escapes included."""
    text = json.dumps(said("Aé", logprob=-0.10), separators=spaces).replace("-0.1", "-1.0E-01")
    other = text.replace("Aé", "b").replace("1790000000", "1790000001").replace("up", "up")
    body = b"".join(b"data: " + each.encode() + b"\n\n" for each in (text, text, other))
    sent = run([body], "asked").sent
    events = sent.split(b"\n\n")
    assert events[0] == b"data: " + text.replace('"up"', '"asked"').encode()
    assert json.loads(events[2][6:])["created"] == 1_790_000_001


@pytest.mark.parametrize("model", [None, "other", 'up"'])
def test_a_name_that_changes_or_is_missing_is_answered_all_the_same(model: str | None) -> None:
    """The client's name on every chunk."""
    chunks = [said("A"), said("b", model=model), said("c")]
    del chunks[2]["model"]
    passed = run([body_of(*chunks, said("d"), DONE)], "asked")
    assert [data["model"] for data in passed.events[:-1]] == ["asked"] * 4


# Usage


@pytest.mark.parametrize("include_usage", [False, True])
def test_the_usage_chunk_is_for_who_asked_for_it(include_usage: bool) -> None:
    """It is read in either case."""
    passed = run([body_of(*OPENAI)], include_usage=include_usage)
    assert passed.usage == USAGE
    assert (event(USAGE_CHUNK) in passed.tail) == include_usage
    assert passed.tail.endswith(DONE)


@pytest.mark.parametrize("include_usage", [False, True])
def test_usage_in_a_chunk_with_choices_passes(include_usage: bool) -> None:
    """DeepSeek and GLM send it with the finish; no second one is made up."""
    last = finished(usage=USAGE)
    passed = run([body_of(said("Hi"), last, DONE)], include_usage=include_usage, usage_chunk=b"{}")
    assert passed.usage == USAGE
    assert passed.tail == event(last) + DONE


def test_the_last_usage_counts_and_null_is_none() -> None:
    """Some upstreams count along in every chunk."""
    growing = [{**USAGE, "completion_tokens": n} for n in (1, 2)]
    chunks = [said("A", usage=growing[0]), said("b", usage=growing[1]), finished(usage=None)]
    assert run([body_of(*chunks)]).usage == growing[1]
    assert run([body_of(said("A", usage=None), finished())]).usage is None


def test_who_asked_for_usage_gets_some_where_the_upstream_gave_none() -> None:
    """Behind the finish, in front of [DONE], under the answer's own id."""
    body = body_of(said("Hi"), finished())
    ours = dump({**USAGE_CHUNK, "id": "chatcmpl-Abc"})
    passed = run([body], include_usage=True, usage_chunk=ours)
    assert passed.tail == body_of(finished(), USAGE_CHUNK, DONE)
    assert run([body], usage_chunk=ours).tail == body_of(finished(), DONE)


def test_the_service_tier_is_the_last_that_was_named() -> None:
    """What the call is priced by."""
    chunks = [said("A", service_tier="auto"), said("b"), finished(service_tier="flex")]
    assert run([body_of(*chunks)]).service_tier == "flex"
    assert run([body_of(said("A", service_tier=None))]).service_tier is None


def test_text_is_counted_for_an_estimate() -> None:
    """Content, reasoning, refusals and tool calls of all choices; null and empty are nothing."""
    deltas: list[tuple[dict[str, Any], int]] = [
        ({"role": "assistant", "content": ""}, 0),
        ({"content": None, "refusal": None, "reasoning_content": None}, 0),
        ({"content": "12345"}, 5),
        ({"reasoning_content": "123"}, 3),
        ({"reasoning": "1234"}, 4),
        ({"reasoning_content": "12", "reasoning": "12"}, 2),
        ({"refusal": "12"}, 2),
        ({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "fn", "arguments": ""}}]}, 2),
        ({"tool_calls": [{"index": 0, "function": {"arguments": "12345678"}}]}, 8),
        ({"tool_calls": [{"index": 1, "id": "d", "custom": {"name": "c", "input": "12"}}]}, 3),
        ({"function_call": {"name": "f", "arguments": "123"}}, 4),
    ]
    body = body_of(*(chunk(choice(delta)) for delta, _ in deltas))
    assert run([body]).text_bytes == sum(size for _, size in deltas)
    assert run([body_of(said("A"), said("bc", 1), said("é"))]).text_bytes == 5
    escaped = body_of(said("你好")).replace("你好".encode(), b"\\u4f60\\u597d")
    assert run([escaped]).text_bytes == run([body_of(said("你好"))]).text_bytes == 6


@pytest.mark.parametrize("name", ["chatcmpl-1", "content"])
@pytest.mark.parametrize("text", [":", ",", "content", '":', '"content":', "}"])
def test_a_text_may_look_like_what_is_around_it(text: str, name: str) -> None:
    """The first that others could be like, too, and whatever else is called as its member."""
    chunks = [said("A", id=name), said(text, id=name), said(text, id=name), finished(id=name)]
    passed = run([body_of(*chunks, DONE)])
    assert (passed.failure, passed.text_bytes) == (None, 1 + 2 * (len(dump(text)) - 2))
    assert passed.sent + passed.tail == body_of(*chunks, DONE)


# Choices


def test_the_tail_begins_when_every_choice_seen_has_finished() -> None:
    """Choices come interleaved."""
    chunks = [said("A"), said("B", 1), finished(index=1), said("c"), finished(), DONE]
    passed = run([body_of(*chunks)])
    assert passed.sent == body_of(*chunks[:4])
    assert passed.tail == body_of(*chunks[4:])


def test_a_choice_that_nobody_had_seen_lets_the_tail_go() -> None:
    """Choices come one after the other: what was kept back leaves, in its order."""
    stream = stream_for()
    first = [said("A"), finished()]
    assert stream.feed(body_of(*first)) == event(first[0])
    assert stream.ending
    assert stream.feed(event(said("B", 1))) == body_of(first[1], said("B", 1))
    assert not stream.ending
    assert stream.feed(event(finished(index=1))) == b""
    assert (stream.ending, stream.tail()) == (True, event(finished(index=1)) + DONE)


def test_an_answer_is_whole_when_every_choice_asked_for_has_finished() -> None:
    """Until then more than usage may follow."""
    call = Call("req_1", "chat", "up", {}, stream=True, choices=2)
    stream = ChatStream(call, {}, frozenset(), 1000)
    seen: list[tuple[bool, bool]] = []
    for each in (said("A"), finished(), said("B", 1), finished(index=1)):
        stream.feed(event(each))
        seen.append((stream.ending, stream.whole))
    assert seen == [(False, False), (True, False), (False, False), (True, True)]


@pytest.mark.parametrize("reason", [None, ""])
def test_a_finished_choice_stays_finished(reason: str | None) -> None:
    """OpenRouter's usage comes with a choice that has no finish reason any more."""
    usage = chunk(choice({"content": ""}, reason), usage=USAGE)
    passed = run([body_of(said("A"), finished(), usage, DONE)], include_usage=True)
    assert passed.ending
    assert passed.usage == USAGE
    assert [data["choices"][0]["finish_reason"] for data in passed.events[:-1]] == [
        None,
        "stop",
        None,
    ]


# Ends


@pytest.mark.parametrize(
    "end",
    [DONE, b"", b"data:[DONE]\n\n", b"data: [DONE]", b"data: [DONE] \r\n\r\n", DONE + b"junk"],
)
def test_a_finished_answer_ends_with_one_done(end: bytes) -> None:
    """The upstream's or ours; what comes behind it is not read."""
    passed = run([body_of(said("A"), finished(), end)])
    assert (passed.failure, passed.ending) == (None, True)
    assert passed.tail == event(finished()) + DONE


def test_an_answer_without_finish_is_not_ending() -> None:
    """[DONE] or not: whoever relays it must not end it cleanly."""
    for end in (DONE, b""):
        passed = run([body_of(said("A"), end)])
        assert (passed.ending, passed.started) == (False, True)


@pytest.mark.parametrize("model", ["up", "asked"])
@pytest.mark.parametrize("cut", [1, 2])
def test_a_last_event_without_its_blank_line_does_not_run_into_the_next(
    model: str, cut: int
) -> None:
    """[DONE] follows as an event of its own."""
    body = body_of(said("A"), finished())[:-cut]
    passed = run([body], model)
    expected = body_of(said("A", model=model), finished(model=model))
    assert passed.sent + passed.tail == expected + DONE


def test_comments_and_empty_events_are_not_passed_on() -> None:
    """They are signs of life for us; the client gets our own."""
    body = b": ping\n\n\n\nevent: keep-alive\n\ndata:\n\ndata: \n\n" + event(said("A"))
    passed = run([BOM + body])
    assert passed.sent == event(said("A"))
    assert not run([b": ping\n\ndata:\n\n"]).started


@pytest.mark.parametrize("error", [{"message": "Died.", "code": 500}, "Died.", ["Died."]])
def test_an_error_ends_the_stream(error: Any) -> None:
    """It is kept for whoever knows the vendor, and nothing behind it is read."""
    passed = run([body_of(said("A"), {"error": error}, said("b"), finished(), DONE)])
    assert (passed.error, passed.ending, passed.failure) == (error, False, None)
    assert passed.sent == event(said("A"))


def test_an_error_that_is_null_is_none() -> None:
    """Some servers always send the field."""
    passed = run([body_of(said("A", error=None), finished(), DONE)])
    assert (passed.error, passed.ending) == (None, True)


BAD_EVENTS = {
    "no JSON": b"data: {oops\n\n",
    "cut off": b'data: {"choices":[{"ind',
    "a list": b"data: [1]\n\n",
    "a number": b"data: 5\n\n",
    "choices that are none": event(chunk(choices="many")),
    "an index that is none": event(chunk({"index": "first", "delta": {}})),
    "a choice too many": event(chunk({"index": 128, "delta": {"content": "b"}})),
    "a choice below the first": event(chunk({"index": -1, "delta": {"content": "b"}})),
    "broken text": event(said("b", id="chatcmpl-2")).replace(b'"b"', b'"\xff"'),
    "an error that is broken text": b'data: {"error":"\xff"}\n\n',
    "a number out of range, mended": event(said("b", id="x")).replace(b":0,", b':0,"x":1e999,'),
    "nested too deeply": b'data: {"choices":' + b"[" * 3000 + b"]" * 3000 + b"}\n\n",
    "half of a character": event(said("b")).replace(b'"b"', b'"\\ud83d"'),
}


@pytest.mark.parametrize("bad", BAD_EVENTS.values(), ids=list(BAD_EVENTS))
def test_an_event_that_is_no_chunk_is_the_upstreams_failure(bad: bytes) -> None:
    """What came before it has left; what comes behind it is not read."""
    for parts in ([event(said("A")) + bad], [event(said("A")), bad]):
        passed = run([*parts, b"\n\n" + event(finished())])
        assert (passed.sent, passed.failure) == (event(said("A")), "bad_event")


def test_tool_calls_without_an_end_are_the_upstreams_failure() -> None:
    """Something is remembered of each, so that there is a limit."""
    calls = [{"index": n, "id": f"c{n}", "type": "function", "function": {}} for n in range(1001)]
    passed = run([event(chunk(choice({"role": "assistant", "tool_calls": calls[:1000]})))])
    assert passed.failure is None
    assert run([event(chunk(choice({"tool_calls": calls})))]).failure == "bad_event"


def test_a_finish_that_means_a_failure_is_one() -> None:
    """The vendor's own word for an answer that broke off."""
    passed = run([body_of(said("A"), finished("network_error"), DONE)])
    assert (passed.sent, passed.failure) == (event(said("A")), "finish_network_error")
    assert not passed.ending


def test_an_event_above_the_limit_is_a_failure() -> None:
    """The client has what came before."""
    stream = stream_for(limit=1000)
    assert stream.feed(event(said("A"))) == event(said("A"))
    assert stream.feed(b"data: " + b"x" * 1000) == b""
    assert stream.failure is not None
    assert stream.failure.reason == "event_too_large"


def test_an_upstream_that_does_not_stop_behind_the_end_is_a_failure() -> None:
    """The tail is kept in memory, so it has a limit too."""
    stream = stream_for(limit=1000)
    stream.feed(body_of(said("A"), finished()))
    for _ in range(10):
        stream.feed(event(said("b")))
    assert stream.failure is not None
    assert stream.failure.reason == "tail_too_large"
    assert stream.finished


# Cuts

_PIECES: list[Any] = [
    *(said("Hello"), said(" wörld"), said("B", 1), finished(), finished("eos_token", 1)),
    *(finished("length"), finished(""), USAGE_CHUNK, said("x", usage=USAGE), said("y", id="other")),
    *(chunk(choice({"role": "assistant"})), chunk(), said("z", model="other"), {"error": "Died."}),
    *(b": ping\n\n", b"data:\n\n", b"data: {oops\n\n", DONE, b"\r\n", b"data: ", BOM),
    *(finished("network_error"), chunk({"delta": {"content": "a"}}), chunk({"index": 0})),
    chunk(choice({"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {}}}]})),
    event(said("crlf")).replace(b"\n", b"\r\n"),
    b'data: {"model":\ndata: "up","choices":[]}\n\n',
]


@st.composite
def cut_streams(draw: st.DrawFn) -> list[bytes]:
    """Any order of good and bad events, in pieces."""
    body = body_of(*draw(st.lists(st.sampled_from(_PIECES), max_size=12)))
    return draw(cut(body, 12))


@given(cut_streams(), st.sampled_from(["up", "asked"]), st.booleans())
def test_cuts_make_no_difference(parts: list[bytes], model: str, include_usage: bool) -> None:
    """Whole, in pieces or byte by byte: the same bytes, tail, usage, error and failure."""
    body = b"".join(parts)
    whole = run([body], model, include_usage=include_usage)
    assert run(parts, model, include_usage=include_usage) == whole
    by_byte = [bytes([byte]) for byte in body]
    assert run(by_byte, model, include_usage=include_usage) == whole
    assert whole.failure is None or whole.failure in ("bad_event", "finish_network_error")
