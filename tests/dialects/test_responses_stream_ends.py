"""Responses of an upstream that speaks the API: how they end badly, and those in one piece."""

from __future__ import annotations

import json
from typing import Any, cast

import msgspec
import pytest

from farebox.dialects.responses_stream import NativeAnswer
from farebox.errors import Internal, UpstreamFailed
from tests.dialects.native import MIB, asked, bytes_of, charged, run, upstream
from tests.dialects.responding import events


@pytest.mark.parametrize(
    "error",
    [
        {"type": "error", "code": "server_error", "message": "Died.", "param": None},
        {"type": "error", "error": {"code": "server_error", "message": "Died."}},
        {"error": {"code": "server_error", "message": "Died."}},
    ],
)
def test_an_error_event_ends_the_stream(error: dict[str, Any]) -> None:
    """Flat, nested, or without a type; its own type is not taken for the error's."""
    found = upstream()
    data = b"data: " + json.dumps({**error, "usage": {"input_tokens": 1}}).encode() + b"\n\n"
    passed = run([bytes_of(found[:6]) + data + bytes_of(found[6:])])
    said = cast("dict[str, Any]", passed.stream.error)
    assert said.get("error", said)["message"] == "Died."
    assert said.get("type") is None
    assert passed.stream.usage == msgspec.Raw(b'{"input_tokens": 1}')
    assert not passed.stream.ending
    assert passed.types[-1] == found[5]["type"].removeprefix("response.")


def test_a_failed_response_is_an_error_whose_usage_counts() -> None:
    """The event itself stays here: the relay says what may be said of it."""
    for script in ("say: one two\nfinish: error rate_limit_exceeded", "say: a\nfinish: error"):
        found = upstream(script)
        passed = run([bytes_of(found)])
        assert cast("dict[str, Any]", passed.stream.error)["message"]
        assert passed.stream.usage is not None
        assert b"response.failed" not in passed.sent
        assert not passed.stream.ending


def test_a_failure_of_ours_tells_what_there_was() -> None:
    """The items that were finished, under the next number."""
    found = upstream()
    done = next(n for n, e in enumerate(found) if e["type"] == "response.output_item.done")
    passed = run([bytes_of(found[: done + 1])])
    (failed,) = events(passed.shell.fail(Internal("The gateway failed."), charged(found)))
    assert failed["sequence_number"] == done + 1
    assert failed["response"]["output"] == [found[done]["item"]]
    assert failed["response"]["usage"]["total_tokens"] > 0


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"data: {\n\n", "bad_event"),
        (b"data: []\n\n", "bad_event"),
        (b'data: {"object":"chat.completion.chunk","choices":[]}\n\n', "bad_event"),
        (b'data: {"type":"response.completed"}\n\n', "bad_event"),
        (b'data: {"type":"response.completed","response":7}\n\n', "bad_event"),
        (b'data: {"type":"a\\nb"}\n\n', "bad_event"),
        (b"data: " + b"x" * (MIB + 1), "event_too_large"),
    ],
)
def test_what_is_no_event_of_the_api_breaks_the_stream(data: bytes, reason: str) -> None:
    """What came before it has left."""
    found = upstream()
    passed = run([bytes_of(found[:5]), data, bytes_of(found[5:])])
    assert passed.failure == reason
    assert not passed.stream.ending
    assert passed.sent


def test_done_and_what_follows_the_end_are_nothing() -> None:
    """[DONE] is chat's; an end without the terminal event is none."""
    found = upstream()
    passed = run([bytes_of(found), b"data: [DONE]\n\n", bytes_of(found)])
    assert passed.types.count("completed") == 1
    assert b"[DONE]" not in passed.sent + passed.tail
    cut = run([bytes_of(found[:-1]), b"data: [DONE]\n\n"])
    assert (cut.stream.ending, cut.stream.finished, cut.failure) == (False, True, None)


def test_a_whole_answer_is_the_object_that_was_asked_for() -> None:
    """And knows what the stream of it knows."""
    found = upstream()
    given = found[-1]["response"]
    answering = NativeAnswer(json.dumps(given).encode(), *asked(metadata={"a": "b"}))
    del given["user"]  # null, which OpenAI's document does not allow it to be
    answer, streamed = answering.answer, run([bytes_of([*found[:2], found[-1]])]).stream
    assert json.loads(answering.tail(charged(found))) == {
        **given,
        "id": "resp_abc",
        "model": "m",
        "metadata": {"a": "b"},
        "store": True,
        "max_output_tokens": None,
        "created_at": 1_790_000_000,
        "completed_at": 1_790_000_009,
    }
    assert answer.body == b""
    assert (answer.tool_calls, answer.text_bytes) == (streamed.tool_calls, streamed.text_bytes)
    assert msgspec.json.decode(cast("msgspec.Raw", answer.usage)) == given["usage"]


@pytest.mark.parametrize(
    "given",
    [
        {"status": "failed", "error": {"code": "server_error", "message": "Died."}},
        {"status": "failed", "error": None},
        {"status": "cancelled"},
        {"error": {"message": "No."}},
    ],
)
def test_a_whole_answer_that_failed_is_an_error(given: dict[str, Any]) -> None:
    """With its usage."""
    body = json.dumps({**given, "output": [], "usage": {"input_tokens": 1}}).encode()
    answer = NativeAnswer(body, *asked()).answer
    assert answer.error == (given.get("error") or {})
    assert answer.usage == msgspec.Raw(b'{"input_tokens": 1}')


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"choices":[]}',
        b'{"status":"in_progress","output":[]}',
        b'{"status":"queued","output":[]}',
        b'{"output":7}',
        b'{"output":[7]}',
        b'{"output":[' + b"[" * 2000 + b"]" * 2000 + b"]}",
    ],
)
def test_what_is_no_finished_response_is_no_answer(body: bytes) -> None:
    """Nor is one that the vendor is still at."""
    with pytest.raises(UpstreamFailed) as caught:
        NativeAnswer(body, *asked())
    assert caught.value.reason == "bad_answer"
