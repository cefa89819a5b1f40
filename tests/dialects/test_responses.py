"""Requests of the Responses API as Calls."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core.call import Call
from farebox.dialects.responses import parse, read_items, with_input
from farebox.errors import BadRequest


def read(**fields: Any) -> Call:
    """A Call of a body with a model and an input, and these."""
    return parse(json.dumps({"model": "m", "input": "hi", **fields}).encode(), "req_1")


def refused(**fields: Any) -> BadRequest:
    """Why such a body is refused."""
    with pytest.raises(BadRequest) as caught:
        read(**fields)
    return caught.value


def test_a_call_is_what_the_body_says() -> None:
    """What billing must know; the rest stays raw."""
    call = read(stream=True, max_output_tokens=100, service_tier="flex", top_k=5)
    assert (call.dialect, call.model, call.stream, call.output_cap, call.service_tier) == (
        "responses",
        "m",
        True,
        100,
        "flex",
    )
    assert call.wires == ("responses", "chat")
    assert bytes(call.fields["top_k"]) == b"5"


def test_tools_that_a_vendor_runs_are_known_without_their_versions() -> None:
    """And may be left out as long as no choice forces them."""
    tools = [
        {"type": "web_search_preview_2025_03_11"},
        {"type": "code_interpreter", "container": {"type": "auto"}},
        {"type": "function", "name": "f"},
        {"type": "custom", "name": "g"},
        {"type": "namespace", "name": "n", "tools": []},
        {"type": "computer_use_preview"},
        {"type": "something_new"},
    ]
    call = read(tools=tools)
    assert call.hosted_tools == ("code_interpreter", "something_new", "web_search")
    assert call.may_drop_tools


@pytest.mark.parametrize(
    ("tools", "choice", "may_drop"),
    [
        (["web_search"], "auto", True),
        (["web_search"], "none", True),
        (["web_search"], "required", False),
        (["web_search", "function"], "required", True),
        (["web_search"], {"type": "web_search"}, False),
        (["web_search", "function"], {"type": "function", "name": "f"}, True),
        (
            ["web_search", "function"],
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "web_search"}]},
            False,
        ),
        (
            ["web_search", "function"],
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}]},
            True,
        ),
    ],
)
def test_a_forced_tool_is_not_left_out(tools: list[str], choice: Any, may_drop: bool) -> None:
    """An answer without it is not what was asked for."""
    named = [{"type": kind, "name": "f"} for kind in tools]
    assert read(tools=named, tool_choice=choice).may_drop_tools is may_drop


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"input": None}, "input", "missing_required_parameter"),
        ({"input": 5}, "input", "invalid_value"),
        ({"input": {"role": "user"}}, "input", "invalid_value"),
        ({"max_output_tokens": 15}, "max_output_tokens", "invalid_value"),
        ({"max_output_tokens": 2**40}, "max_output_tokens", "invalid_value"),
        ({"max_output_tokens": "100"}, "max_output_tokens", "invalid_value"),
        ({"Max_Output_Tokens": 100}, "Max_Output_Tokens", "unknown_parameter"),
        ({"conversation": "conv_1"}, "conversation", "unsupported_parameter"),
        ({"conversation": {"id": "c"}}, "conversation", "unsupported_parameter"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt", "unsupported_value"),
        ({"background": True, "store": False}, "background", "invalid_value"),
        ({"previous_response_id": 5}, "previous_response_id", "invalid_value"),
        ({"metadata": {f"k{n}": "v" for n in range(17)}}, "metadata", "invalid_value"),
        ({"metadata": {"k" * 65: "v"}}, "metadata", "invalid_value"),
        ({"metadata": {"k": "v" * 513}}, "metadata", "invalid_value"),
        ({"metadata": {"k": 1}}, "metadata", "invalid_value"),
        ({"top_logprobs": 21}, "top_logprobs", "invalid_value"),
        ({"top_logprobs": -1}, "top_logprobs", "invalid_value"),
        ({"tools": {}}, "tools", "invalid_value"),
        ({"tools": [{"name": "f"}]}, "tools", "invalid_value"),
        ({"include": "all"}, "include", "invalid_value"),
        ({"stream": "yes"}, "stream", "invalid_value"),
        ({"store": 1}, "store", "invalid_value"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, Any], param: str, code: str) -> None:
    """Each with its parameter and OpenAI's code."""
    error = refused(**fields)
    assert (error.status, error.param, error.code) == (400, param, code), error.message


def test_conversation_beside_previous_response_id_is_told_apart() -> None:
    """The sentence says that the two exclude each other."""
    assert "exclude each other" in refused(conversation="c", previous_response_id="r").message


def test_limits_are_reached_without_an_error() -> None:
    """16 tokens, 16 keys of metadata."""
    call = read(max_output_tokens=16, metadata={f"k{n}": "v" * 512 for n in range(16)})
    assert call.output_cap == 16


def test_a_text_is_a_message_of_the_user() -> None:
    """Also for what is stored."""
    assert [msgspec.json.decode(item) for item in read_items(read().fields)] == [
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "hi"}],
        }
    ]


def test_another_input_is_weighed_anew() -> None:
    """What is held for is what is sent."""
    call = read(input="short", store=False)
    longer = with_input(call, [msgspec.Raw(b'{"role":"user","content":"' + b"x" * 1000 + b'"}')])
    assert longer.text_bytes >= call.text_bytes + 980
    assert longer.fields["store"] is call.fields["store"]


def test_pictures_count_by_table() -> None:
    """In messages and in what tools gave."""
    picture = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 10_000}
    text = read(input=[{"role": "user", "content": "x"}])
    shown = read(input=[{"role": "user", "content": [picture]}])
    given_back = read(input=[{"type": "function_call_output", "call_id": "c", "output": [picture]}])
    for call in (shown, given_back):
        assert call.table_tokens > 0
        assert call.text_bytes < text.text_bytes + 200


def test_a_compaction_prefers_chat() -> None:
    """There the summary is ours to make."""
    items = [{"role": "user", "content": "x"}, {"type": "compaction_trigger"}]
    assert read(input=items).wires == ("chat", "responses")
    assert read(input=items[:1]).wires == ("responses", "chat")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
names = st.sampled_from(
    ["model", "input", "tools", "tool_choice", "metadata", "include", "store", "stream",
     "background", "previous_response_id", "max_output_tokens", "top_logprobs", "conversation"]
)  # fmt: skip


@given(st.dictionaries(names, values))
def test_whatever_is_sent_is_a_call_or_a_clear_error(fields: dict[str, Any]) -> None:
    """Never an exception of another kind."""
    with suppress(BadRequest):
        parse(json.dumps(fields).encode(), "req_1")
