"""Chat messages as input items: each in its place, with its calls and their results."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dialects.converting import HI, body_for, outgoing, refused


def _input(*messages: Any) -> list[dict[str, Any]]:
    return body_for(*messages)["input"]


def _message(role: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": list(parts)}


def _said(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text}


@pytest.mark.parametrize("role", ["system", "developer", "user"])
def test_a_text_keeps_its_role_and_its_place(role: str) -> None:
    """System and developer messages too: the instructions stay free."""
    assert _input(HI, {"role": role, "content": 'Be é "brief".'})[1] == {
        "type": "message",
        "role": role,
        "content": 'Be é "brief".',
    }


def test_parts_have_other_names() -> None:
    """Texts, pictures by both spellings, files, and marks of what may be cached."""
    mark = {"mode": "explicit"}
    content = [
        {"type": "text", "text": "Look:", "prompt_cache_breakpoint": mark},
        {"type": "image_url", "image_url": {"url": "https://x.example/1.png", "detail": "low"}},
        {"type": "image_url", "image_url": "data:image/png;base64,AAAA"},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;,A"}},
        {"type": "input_text", "text": "as it is"},
    ]
    assert _input({"role": "user", "content": content}) == [
        _message(
            "user",
            {"type": "input_text", "text": "Look:", "prompt_cache_breakpoint": mark},
            {"type": "input_image", "image_url": "https://x.example/1.png", "detail": "low"},
            {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
            {
                "type": "input_file",
                "filename": "a.pdf",
                "file_data": "data:application/pdf;,A",
            },
            {"type": "input_text", "text": "as it is"},
        )
    ]


def test_a_sound_cannot_be_heard() -> None:
    """Neither the user's nor an earlier one of the model's; the place is named."""
    sound = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    error = refused(HI, {"role": "user", "content": [sound]})
    assert (error.status, error.code, error.param) == (
        400,
        "unsupported_value",
        "messages[1].content[0]",
    )
    error = refused(HI, {"role": "assistant", "audio": {"id": "audio_1"}})
    assert (error.code, error.param) == ("unsupported_value", "messages[1].audio")


@pytest.mark.parametrize(
    ("message", "content"),
    [
        ({"content": "Hello"}, [_said("Hello")]),
        ({"content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]}, "AB"),
        ({"content": None, "refusal": "No."}, [{"type": "refusal", "refusal": "No."}]),
        ({"content": [{"type": "refusal", "refusal": "No."}]}, None),
        ({"content": None}, [_said("")]),
        ({"content": "A", "refusal": None, "annotations": [], "tool_calls": None}, [_said("A")]),
    ],
)
def test_what_the_assistant_said_is_output(message: dict[str, Any], content: Any) -> None:
    """Texts and refusals, an empty turn too; what SDKs echo with a message says nothing."""
    if content == "AB":
        content = [_said("A"), _said("B")]
    if content is None:
        content = [{"type": "refusal", "refusal": "No."}]
    sent = outgoing(HI, {"role": "assistant", **message})
    assert _input(HI, {"role": "assistant", **message})[1] == _message("assistant", *content)
    assert sent.adjusted == ()


def test_calls_and_their_results_pair_by_id_and_kind() -> None:
    """The text before them, parallel ones, and a custom tool's, whose result is of its kind."""
    weather = {"name": "weather", "arguments": '{"city": "Rome"}'}
    calls = [
        {"id": "c1", "type": "function", "function": weather},
        {"id": "c2", "type": "custom", "custom": {"name": "patch", "input": "*** Begin"}},
        {"id": "c3", "type": "function", "function": {"name": "now", "arguments": {"tz": 1}}},
    ]
    texts = [{"type": "text", "text": "mild"}, {"type": "text", "text": "dry"}]
    found = _input(
        HI,
        {"role": "assistant", "content": "I look.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c2", "content": "done"},
        {"role": "tool", "tool_call_id": "c1", "content": texts},
        {"role": "tool", "tool_call_id": "c3", "content": texts[:1]},
    )
    assert found[1:] == [
        _message("assistant", _said("I look.")),
        {"type": "function_call", "call_id": "c1", **weather},
        {"type": "custom_tool_call", "call_id": "c2", "name": "patch", "input": "*** Begin"},
        {"type": "function_call", "call_id": "c3", "name": "now", "arguments": '{"tz": 1}'},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "done"},
        {
            "type": "function_call_output",
            "call_id": "c1",
            "output": [{"type": "input_text", "text": text} for text in ("mild", "dry")],
        },
        {"type": "function_call_output", "call_id": "c3", "output": "mild"},
    ]


@pytest.mark.parametrize("content", ["", None])
def test_calls_alone_come_without_an_empty_text(content: Any) -> None:
    """Which SDKs write with them."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
    answer = {"role": "tool", "tool_call_id": "c1", "content": None}
    turn = {"role": "assistant", "content": content, "tool_calls": [call]}
    assert _input(HI, turn, answer)[1:] == [
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": ""},
        {"type": "function_call_output", "call_id": "c1", "output": ""},
    ]


def test_calls_of_the_old_form_get_ids_that_pair() -> None:
    """`function_call` and role `function` have none."""
    called = {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}
    result = {"role": "function", "name": "f", "content": "1"}
    found = _input(HI, called, result, called, result)[1:]
    assert [item["type"] for item in found] == ["function_call", "function_call_output"] * 2
    assert found[0]["call_id"] == found[1]["call_id"] != found[2]["call_id"] == found[3]["call_id"]


def test_what_a_message_cannot_say_there_is_named() -> None:
    """Names, reasoning, and what nobody knows; an empty reasoning is none."""
    sent = outgoing(
        {**HI, "name": "Ann"},
        {**HI, "name": "Bob", "cache_control": {"type": "ephemeral"}, "x": None},
        {"role": "assistant", "content": "A", "reasoning_content": "Hm."},
    )
    assert sent.adjusted == (
        "messages.name=dropped",
        "messages.other=dropped",
        "messages.reasoning_content=dropped",
    )
    empty = {"role": "assistant", "content": "A", "reasoning_content": ""}
    assert outgoing(HI, empty).adjusted == ()


_BAD: list[tuple[Any, str, str]] = [
    ({"role": "robot", "content": "x"}, "messages[1].role", "invalid_value"),
    ({"content": "x"}, "messages[1].role", "invalid_value"),
    ({"role": 5}, "messages[1].role", "invalid_value"),
    ({"role": "user", "content": 5}, "messages[1].content", "invalid_value"),
    ({"role": "user", "content": ["x"]}, "messages[1].content", "invalid_value"),
    (
        {"role": "user", "content": [{"type": "image_url", "image_url": 5}]},
        "messages[1].content[0].image_url",
        "invalid_value",
    ),
    (
        {"role": "user", "content": [{"type": "file", "file": "x"}]},
        "messages[1].content[0].file",
        "invalid_value",
    ),
    (
        {"role": "tool", "content": "x"},
        "messages[1].tool_call_id",
        "missing_required_parameter",
    ),
    ({"role": "function", "name": "f", "content": "x"}, "messages[1]", "invalid_value"),
    (
        {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]},
        "messages[1].tool_calls[0].id",
        "missing_required_parameter",
    ),
    (
        {"role": "assistant", "tool_calls": [{"id": "c"}]},
        "messages[1].tool_calls[0].function.name",
        "missing_required_parameter",
    ),
    ({"role": "assistant", "tool_calls": 5}, "messages[1].tool_calls", "invalid_value"),
    ("text", "messages", "invalid_value"),
]


@pytest.mark.parametrize(("message", "param", "code"), _BAD)
def test_a_message_that_cannot_be_read_is_refused_by_its_place(
    message: Any, param: str, code: str
) -> None:
    """With a sentence of ours, since the upstream would name places that the client never sent."""
    error = refused(HI, message)
    assert (error.status, error.param, error.code) == (400, param, code)
    assert param in error.message


_TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
_TURN = st.one_of(
    st.tuples(st.sampled_from(["system", "developer", "user"]), _TEXT),
    st.tuples(st.just("assistant"), _TEXT, st.integers(0, 3), st.booleans()),
)


@given(st.lists(_TURN, min_size=1, max_size=8))
def test_no_message_is_lost_and_the_order_is_kept(turns: list[Any]) -> None:
    """A model that reads the items reads what the messages say."""
    messages: list[dict[str, Any]] = [HI]
    told: list[tuple[str, ...]] = [("user", "Hi")]
    for n, (role, text, *calls) in enumerate(turns):
        told.append((role, text))
        messages.append({"role": role, "content": text})
        if not calls or not calls[0]:
            continue
        count, custom = calls
        kind, field = ("custom", "input") if custom else ("function", "arguments")
        ids = [f"c{n}_{k}" for k in range(count)]
        messages[-1]["tool_calls"] = [
            {"id": each, "type": kind, kind: {"name": "t", field: text}} for each in ids
        ]
        told += [("call", kind, each, text) for each in ids]
        messages += [{"role": "tool", "tool_call_id": each, "content": text} for each in ids]
        told += [("result", kind, each, text) for each in ids]
    assert [_read_back(item) for item in _input(*messages)] == told


def _read_back(item: dict[str, Any]) -> tuple[str, ...]:
    if item["type"] == "message":
        content = item["content"]
        text = content if isinstance(content, str) else "".join(part["text"] for part in content)
        return (item["role"], text)
    kind = "custom" if item["type"].startswith("custom") else "function"
    if item["type"].endswith("_output"):
        return ("result", kind, item["call_id"], item["output"])
    return ("call", kind, item["call_id"], item["arguments" if kind == "function" else "input"])
