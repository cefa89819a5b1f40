"""Chunks that break the rules of the SDKs' stream helpers are mended, and only those.

What comes of a stream is judged by the SDK's own accumulator.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dialects.streaming import (
    DONE,
    accumulated,
    body_of,
    choice,
    chunk,
    event,
    finished,
    run,
    said,
)

ARGUMENTS = '{"city":"München"}'


def piece(arguments: Any = None, **more: Any) -> dict[str, Any]:
    """A piece of a tool call; with a name if it is given one."""
    function = {} if arguments is None else {"arguments": arguments}
    if "name" in more:
        function = {"name": more.pop("name"), **function}
    return {**more, "function": function}


def call_chunk(*pieces: dict[str, Any], role: str | None = None) -> dict[str, Any]:
    """A chunk of pieces of tool calls."""
    delta: dict[str, Any] = {"role": role} if role else {}
    return chunk(choice({**delta, "tool_calls": list(pieces)}))


def calls_of(*chunks: Any) -> list[tuple[str, str | None, str, str]]:
    """Id, type, name and arguments of each call that the SDK's helper ends up with."""
    message = accumulated(*chunks, finished("tool_calls")).choices[0].message
    found: list[tuple[str, str | None, str, str]] = []
    for call in message.tool_calls or ():
        assert call.type == "function"
        found.append((call.id, call.type, call.function.name, call.function.arguments))
    return found


TWO = [
    ("call_a", "function", "weather", ARGUMENTS),
    ("call_b", "function", "time", "{}"),
]
BEGIN_A = {"id": "call_a", "type": "function", "name": "weather"}
BEGIN_B = {"id": "call_b", "type": "function", "name": "time"}
STREAMS: dict[str, list[dict[str, Any]]] = {
    "as it should be": [
        call_chunk(piece("", index=0, **BEGIN_A), role="assistant"),
        call_chunk(piece(ARGUMENTS[:5], index=0)),
        call_chunk(piece(ARGUMENTS[5:], index=0)),
        call_chunk(piece("", index=1, **BEGIN_B)),
        call_chunk(piece("{}", index=1)),
    ],
    "both in one chunk": [
        call_chunk(
            piece(ARGUMENTS, index=0, **BEGIN_A),
            piece("{}", index=1, **BEGIN_B),
            role="assistant",
        ),
    ],
    "pieces of both in one chunk": [
        call_chunk(piece("", index=0, **BEGIN_A), piece("", index=1, **BEGIN_B), role="assistant"),
        call_chunk(piece(ARGUMENTS[:5], index=0), piece("{", index=1)),
        call_chunk(piece("}", index=1), piece(ARGUMENTS[5:], index=0)),
    ],
    "index from one": [
        call_chunk(piece("", index=1, **BEGIN_A), role="assistant"),
        call_chunk(piece(ARGUMENTS, index=1)),
        call_chunk(piece("{}", index=2, **BEGIN_B)),
    ],
    "index with gaps": [
        call_chunk(piece(ARGUMENTS, index=7, **BEGIN_A), role="assistant"),
        call_chunk(piece("{}", index=3, **BEGIN_B)),
    ],
    "no index": [
        call_chunk(piece("", **BEGIN_A), role="assistant"),
        call_chunk(piece(ARGUMENTS)),
        call_chunk(piece("{", **BEGIN_B)),
        call_chunk(piece("}", id="call_b")),
    ],
    "index null": [
        call_chunk(piece(ARGUMENTS, index=None, **BEGIN_A), role="assistant"),
        call_chunk(piece("{}", index=None, **BEGIN_B)),
    ],
    "an index at first, then none": [
        call_chunk(piece(ARGUMENTS[:5], index=0, **BEGIN_A), role="assistant"),
        call_chunk(piece("{", index=1, **BEGIN_B)),
        call_chunk(piece(ARGUMENTS[5:], id="call_a"), piece("}", id="call_b")),
    ],
    "one index for both": [
        call_chunk(piece(ARGUMENTS, index=0, **BEGIN_A), role="assistant"),
        call_chunk(piece("{", index=0, **BEGIN_B)),
        call_chunk(piece("}", index=0)),
    ],
    "everything repeated": [
        call_chunk(piece("", index=0, **BEGIN_A), role="assistant"),
        call_chunk(piece(ARGUMENTS[:5], index=0, **BEGIN_A), role="assistant"),
        call_chunk(piece(ARGUMENTS[5:], index=0, **BEGIN_A), role="assistant"),
        call_chunk(piece("{", index=1, **BEGIN_B), role="assistant"),
        call_chunk(piece("}", index=1, **BEGIN_B), role="assistant"),
    ],
    "nulls in later pieces": [
        call_chunk(piece("", index=0, **BEGIN_A), role="assistant"),
        call_chunk(piece(ARGUMENTS, index=0, id=None, type=None, name=None)),
        call_chunk(piece("{}", index=1, **BEGIN_B)),
    ],
    "empty texts in later pieces": [
        call_chunk(piece("", index=0, **BEGIN_A), role="assistant"),
        call_chunk(piece(ARGUMENTS, index=0, id="", type="function", name="")),
        call_chunk(piece("{}", index=1, **BEGIN_B)),
    ],
    "the name comes later": [
        call_chunk({"index": 0, "id": "call_a", "type": "function"}, role="assistant"),
        call_chunk(piece(ARGUMENTS, index=0, name="weather")),
        call_chunk(piece("{}", index=1, **BEGIN_B)),
    ],
    "no type": [
        call_chunk(piece(ARGUMENTS, index=0, id="call_a", name="weather"), role="assistant"),
        call_chunk(piece("{}", index=1, id="call_b", name="time", type=None)),
    ],
    "arguments as JSON": [
        call_chunk(piece({"city": "München"}, index=0, **BEGIN_A), role="assistant"),
        call_chunk(piece({}, index=1, **BEGIN_B)),
    ],
    "no arguments at first": [
        call_chunk(piece(None, index=0, **BEGIN_A), role="assistant"),
        call_chunk(piece(ARGUMENTS, index=0)),
        call_chunk(piece(None, index=1, **BEGIN_B)),
        call_chunk({"index": 1, "function": None}),
        call_chunk(piece("{}", index=1)),
    ],
}


@pytest.mark.parametrize("chunks", STREAMS.values(), ids=list(STREAMS))
def test_two_calls_are_two_calls_for_the_sdk(chunks: list[dict[str, Any]]) -> None:
    """However an upstream numbers, repeats or leaves out."""
    assert calls_of(*chunks) == TWO


@pytest.mark.parametrize(
    "name", ["as it should be", "both in one chunk", "pieces of both in one chunk"]
)
def test_calls_that_are_right_leave_as_the_bytes_that_came(name: str) -> None:
    """Mending is for what is broken."""
    body = body_of(*STREAMS[name], finished("tool_calls"), DONE)
    passed = run([body])
    assert passed.sent + passed.tail == body


def test_a_call_without_an_id_gets_one_of_its_own() -> None:
    """Clients name it with the result; an id that comes late is not appended to it."""
    chunks = [
        call_chunk(piece("", index=0, type="function", name="weather"), role="assistant"),
        call_chunk(piece(ARGUMENTS, index=0, id="call_late")),
        call_chunk(piece("{}", index=1, type="function", name="time", id="")),
    ]
    assert calls_of(*chunks) == [
        ("call_Abc_0", "function", "weather", ARGUMENTS),
        ("call_Abc_1", "function", "time", "{}"),
    ]


def test_calls_of_two_choices_are_numbered_apart() -> None:
    """Each choice counts from 0."""

    def begun(index: int) -> dict[str, Any]:
        calls = [piece("{}", index=5, id=f"call_{index}", type="function", name="f")]
        return chunk(choice({"role": "assistant", "tool_calls": calls}, index=index))

    chunks = [begun(0), begun(1), finished("tool_calls"), finished("tool_calls", 1)]
    completion = accumulated(*chunks)
    ids = [[call.id for call in each.message.tool_calls or ()] for each in completion.choices]
    assert ids == [["call_0"], ["call_1"]]


def test_custom_calls_pass() -> None:
    """They have no function and need none."""
    custom = {"index": 0, "id": "c", "type": "custom", "custom": {"name": "shell", "input": ""}}
    body = body_of(call_chunk(custom, role="assistant"), finished("tool_calls"), DONE)
    passed = run([body])
    assert passed.sent + passed.tail == body


# Messages


def _first_message(*chunks: Any) -> dict[str, Any]:
    return accumulated(*chunks).choices[0].message.model_dump(exclude_none=True)


TEXTS: dict[str, list[dict[str, Any]]] = {
    "role repeated": [
        chunk(choice({"role": "assistant", "content": text})) for text in ("Hel", "lo", "")
    ],
    "role null": [said("Hel"), chunk(choice({"role": None, "content": "lo"}))],
    "delta null": [said("Hel"), chunk({"index": 0, "delta": None}), said("lo")],
    "delta absent": [said("Hel"), said("lo"), chunk({"index": 0, "finish_reason": "stop"})],
    "choice without an index": [
        chunk({"delta": {"role": "assistant", "content": "Hel"}}),
        chunk({"delta": {"content": "lo"}, "index": None}),
    ],
    "other ids": [said("Hel"), said("lo", id="chatcmpl-2"), said("", id=None)],
    "ids empty": [said("Hel", id=""), said("lo", id="")],
    "another object": [said("Hel", object="chat.completion"), said("lo", object="")],
    "choices null": [said("Hel"), chunk(choices=None), said("lo")],
    "choices absent": [said("Hel"), {"id": "chatcmpl-1", "model": "up"}, said("lo")],
    "no choices": [chunk(prompt_filter_results=[]), said("Hel"), said("lo")],
}


@pytest.mark.parametrize("chunks", TEXTS.values(), ids=list(TEXTS))
def test_a_message_is_one_message_for_the_sdk(chunks: list[dict[str, Any]]) -> None:
    """One role, one text, one id on all its chunks, and a delta in every choice."""
    assert _first_message(*chunks, finished()) == {"role": "assistant", "content": "Hello"}
    events = run([body_of(*chunks, finished(), DONE)]).events[:-1]
    assert len({data["id"] for data in events}) == 1
    assert {data["object"] for data in events} == {"chat.completion.chunk"}


def test_an_answer_without_an_id_has_ours() -> None:
    """It can be found in our logs by it."""
    chunks = [said("A"), said("b")]
    for each in chunks:
        del each["id"]
    events = run([body_of(*chunks)]).events[:-1]
    assert [data["id"] for data in events] == ["chatcmpl-Abc"] * 2


def test_choices_without_an_index_are_numbered_by_their_place() -> None:
    """Both in each chunk."""
    both = [{"delta": {"role": "assistant", "content": text}} for text in "AB"]
    ends = [{"delta": {}, "finish_reason": "stop"}] * 2
    completion = accumulated(chunk(*both), chunk(*ends))
    assert [each.message.content for each in completion.choices] == ["A", "B"]


def test_mending_leaves_the_rest_as_it_is() -> None:
    """Fields that nobody knows, and numbers as they were written, at the top."""
    broken = event(said("b", id="other", seed=1, x={"y": [1]})).replace(b'"seed":1', b'"seed":1.50')
    passed = run([event(said("A")) + broken + DONE])
    mended = passed.sent.split(b"\n\n")[1]
    assert b'"seed":1.50' in mended
    assert json.loads(mended[6:]) == said("b", seed=1.5, x={"y": [1]})


# Finish reasons


@pytest.mark.parametrize(
    ("reason", "standard"),
    [
        ("stop", "stop"),
        ("tool_calls", "tool_calls"),
        ("eos_token", "stop"),
        ("sensitive", "content_filter"),
        ("of_its_own", "of_its_own"),
    ],
)
def test_finish_reasons_are_said_in_the_standard_words(reason: str, standard: str) -> None:
    """Where the vendor's are known; others pass."""
    *_, last, done = run([body_of(said("Hi"), finished(reason), DONE)]).events
    assert (last["choices"][0]["finish_reason"], done) == (standard, "[DONE]")


def test_an_empty_finish_reason_is_none_yet() -> None:
    """Some vendors write "" in every chunk."""
    chunks = [chunk(choice({"role": "assistant", "content": "Hi"}, "")), finished("")]
    passed = run([body_of(*chunks)])
    assert not passed.ending
    assert [data["choices"][0]["finish_reason"] for data in passed.events[:-1]] == [None, None]


# Everything at once


@st.composite
def spoilt_streams(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[tuple[str, str, str]]]:
    """A stream of tool calls as a careless upstream may send it, and the calls meant."""
    count = draw(st.integers(1, 3))
    from_index = draw(st.integers(0, 2))
    with_index = draw(st.booleans())
    repeats = draw(st.booleans())
    interleaved = with_index and draw(st.booleans())
    meant: list[tuple[str, str, str]] = []
    pieces: list[list[dict[str, Any]]] = []
    for n in range(count):
        texts = draw(st.lists(st.sampled_from(['{"a"', ":1}", "", "é"]), min_size=1, max_size=3))
        meant.append((f"call_{n}", f"tool_{n}", "".join(texts)))
        of_call: list[dict[str, Any]] = []
        for at, text in enumerate(texts):
            number = {"index": n + from_index} if with_index else {}
            names = {"id": f"call_{n}", "type": "function", "name": f"tool_{n}"}
            shown = {**names, **number} if repeats or at == 0 else number
            of_call.append(piece(text, **shown))
        pieces.append(of_call)
    rows = [each for of_call in pieces for each in of_call]
    if interleaved:
        longest = max(map(len, pieces))
        rows = [of_call[at] for at in range(longest) for of_call in pieces if at < len(of_call)]
    return [call_chunk(each, role="assistant" if repeats else None) for each in rows], meant


@given(spoilt_streams())
def test_whatever_was_meant_is_what_the_sdk_gets(
    spoilt: tuple[list[dict[str, Any]], list[tuple[str, str, str]]],
) -> None:
    """Numbered from anywhere or not at all, repeated, interleaved."""
    chunks, meant = spoilt
    assert [(call[0], call[2], call[3]) for call in calls_of(*chunks)] == meant
