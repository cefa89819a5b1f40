"""Requests of the Messages API as Calls."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core.call import Call
from farebox.dialects.chat_weight import FILE_TOKENS, IMAGE_TOKENS
from farebox.dialects.messages import parse, parse_count
from farebox.errors import BadRequest
from tests.dialects.asking import call_for, document, image, result, text, user
from tests.values import json_values

LINK = "https://img.example/cat.png"


def _refused(**fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        call_for(**fields)
    return caught.value


def _body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "max_tokens": 9, "messages": [user()], **fields}).encode()


def test_a_call_is_what_the_body_says() -> None:
    """What billing must know; the rest stays raw."""
    raw = _body(stream=True, service_tier="standard_only", top_k=5)
    call = parse(raw, "req_1", ("hop",))
    assert call == Call(
        request_id="req_1",
        dialect="messages",
        model="m",
        fields=call.fields,
        stream=True,
        output_cap=9,
        text_bytes=len(raw),
        service_tier="standard",
        may_drop_tools=True,
        wires=("messages", "chat", "responses"),
        hops=("hop",),
        message_words=frozenset(),
    )
    assert {name: bytes(value) for name, value in call.fields.items()} == {
        name: json.dumps(value).encode() for name, value in json.loads(raw).items()
    }


def test_a_count_needs_no_cap() -> None:
    """And has none, even if one is sent."""
    raw = json.dumps({"model": "m", "messages": [user()], "tools": []}).encode()
    call = parse_count(raw, "req_1")
    assert (call.dialect, call.output_cap, call.text_bytes) == ("messages", None, len(raw))
    assert parse_count(_body(), "req_1").output_cap is None


def test_a_call_for_no_tokens_is_for_a_vendor_that_speaks_messages() -> None:
    """It fills a cache, which chat has no word for."""
    call = call_for(max_tokens=0)
    assert (call.output_cap, call.wires) == (0, ("messages",))


@pytest.mark.parametrize(
    ("fields", "tier"),
    [
        ({}, None),
        ({"service_tier": None, "speed": None}, None),
        ({"service_tier": "auto"}, "auto"),
        ({"service_tier": "standard_only", "speed": "standard"}, "standard"),
        ({"speed": "fast"}, "fast"),
        ({"service_tier": "standard_only", "speed": "fast"}, "fast"),
    ],
)
def test_tiers_are_in_the_words_of_prices(fields: dict[str, Any], tier: str | None) -> None:
    """Speed costs, so it is one of them."""
    assert call_for(**fields).service_tier == tier


def test_tools_that_a_vendor_runs_are_known_without_their_versions() -> None:
    """And may be left out as long as no choice forces them."""
    kinds = """
    custom bash_20250124 text_editor_20250728 memory_20250818 computer_20251124
    computer_toolset_20260801 browser_toolset_20260801 web_search_20250305 web_search_20260318
    web_fetch_20260309 code_execution_20260521 tool_search_tool_bm25_20251119
    tool_search_tool_regex advisor_20260301 mcp_toolset something_20270101
    """
    tools = [{"type": kind, "name": "t"} for kind in kinds.split()]
    call = call_for(tools=[{"name": "f"}, {"type": None, "name": "g"}, *tools])
    assert call.hosted_tools == (
        "advisor",
        "code_execution",
        "mcp_toolset",
        "something",
        "tool_search",
        "web_fetch",
        "web_search",
    )
    assert call.may_drop_tools


def test_servers_of_tools_are_a_vendors_tool() -> None:
    """With or without a toolset that names them."""
    assert call_for(
        mcp_servers=[{"type": "url", "url": "https://x", "name": "x"}]
    ).hosted_tools == ("mcp_toolset",)
    assert call_for(mcp_servers=[]).hosted_tools == ()


SEARCH = {"type": "web_search_20250305", "name": "web_search"}
OWN = {"name": "f", "input_schema": {}}


@pytest.mark.parametrize(
    ("tools", "choice", "may_drop"),
    [
        ([SEARCH], None, False),
        ([SEARCH], {"type": "auto"}, False),
        ([SEARCH], {"type": "none"}, True),
        ([SEARCH, OWN], None, True),
        ([SEARCH, OWN], {"type": "auto"}, True),
        ([SEARCH], {"type": "any"}, False),
        ([SEARCH, OWN], {"type": "any"}, True),
        ([SEARCH, OWN], {"type": "tool", "name": "web_search"}, False),
        ([SEARCH, OWN], {"type": "tool", "name": "f"}, True),
        ([OWN], {"type": "tool", "name": "f"}, True),
    ],
)
def test_a_forced_tool_is_not_left_out(tools: list[Any], choice: Any, may_drop: bool) -> None:
    """An answer without it is not what was asked for; nor is one where nothing else was offered."""
    assert call_for(tools=tools, tool_choice=choice).may_drop_tools is may_drop


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"model": 5}, "model", "invalid_value"),
        ({"messages": None}, "messages", "invalid_value"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": "Hi"}, "messages", "invalid_value"),
        ({"messages": ["Hi"]}, "messages", "invalid_value"),
        ({"max_tokens": None}, "max_tokens", "missing_required_parameter"),
        ({"max_tokens": -1}, "max_tokens", "invalid_value"),
        ({"max_tokens": 2**31}, "max_tokens", "invalid_value"),
        ({"max_tokens": "100"}, "max_tokens", "invalid_value"),
        ({"Max_Tokens": 100}, "Max_Tokens", "unknown_parameter"),
        ({"SPEED": "fast"}, "SPEED", "unknown_parameter"),
        ({"system": 5}, "system", "invalid_value"),
        ({"system": {"type": "text"}}, "system", "invalid_value"),
        ({"stream": "yes"}, "stream", "invalid_value"),
        ({"service_tier": "flex"}, "service_tier", "invalid_value"),
        ({"service_tier": "fast"}, "service_tier", "invalid_value"),
        ({"speed": "faster"}, "speed", "invalid_value"),
        ({"inference_geo": "us"}, "inference_geo", "unsupported_value"),
        ({"fallbacks": [{"model": "n"}]}, "fallbacks", "unsupported_value"),
        ({"fallbacks": "default"}, "fallbacks", "unsupported_value"),
        ({"tools": {}}, "tools", "invalid_value"),
        ({"tools": [5]}, "tools", "invalid_value"),
        ({"tools": [{"type": 5}]}, "tools", "invalid_value"),
        ({"tools": [SEARCH], "tool_choice": "any"}, "tool_choice", "invalid_value"),
        ({"mcp_servers": {}}, "mcp_servers", "invalid_value"),
        ({"metadata": "me"}, "metadata", "invalid_value"),
        ({"metadata": {"user_id": 5}}, "metadata", "invalid_value"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, Any], param: str, code: str) -> None:
    """Each with its parameter and a code."""
    error = _refused(**fields)
    assert (error.status, error.param, error.code) == (400, param, code), error.message


def test_what_must_be_there_is_asked_for() -> None:
    """With an example of it."""
    with pytest.raises(BadRequest) as caught:
        parse(b'{"model":"m","max_tokens":9}', "req_1")
    assert caught.value.message == (
        '\'messages\' is missing: send a list such as [{"role": "user", "content": "…"}].'
    )
    assert _refused(max_tokens=None).message == (
        "'max_tokens' is missing: say how many tokens the answer may have at most, such as 1024."
    )


def test_what_costs_nothing_more_is_no_error() -> None:
    """Said outright, or as nothing."""
    call = call_for(inference_geo="global", fallbacks=[], metadata={"user_id": None}, system=None)
    assert call.output_cap == 100


@pytest.mark.parametrize(
    ("fields", "writes"),
    [
        ({}, False),
        ({"cache_control": {"type": "ephemeral", "ttl": "5m"}}, False),
        ({"cache_control": {"type": "ephemeral", "ttl": "1h"}}, True),
        ({"system": [text("x", cache_control={"type": "ephemeral", "ttl": "1h"})]}, True),
        ({"messages": [user(text("x", cache_control={"ttl": "1h"}))]}, True),
        ({"tools": [{**OWN, "cache_control": {"ttl": "1h"}}]}, True),
    ],
)
def test_marks_for_an_hour_are_seen_wherever_they_are(fields: Any, writes: bool) -> None:
    """They are written at a price of their own, which is held for."""
    assert call_for(**fields).writes_1h is writes


@pytest.mark.parametrize("escaped", [b'"1\\u0068"', b'"\\u0031h"', b'"\\u0031\\u0068"'])
def test_escapes_do_not_hide_a_mark(escaped: bytes) -> None:
    """A text with escapes is the same text."""
    raw = _body(cache_control={"type": "ephemeral", "ttl": "1h"}).replace(b'"1h"', escaped)
    assert parse(raw, "req_1").writes_1h


def _weight(*blocks: Any) -> tuple[int, int]:
    """Text bytes beyond, or below, those of the body; and tokens by table."""
    raw = _body(messages=[user(text("What is this?"), *blocks)])
    call = parse(raw, "req_1")
    return call.text_bytes - len(raw), call.table_tokens


@pytest.mark.parametrize(
    ("block", "less", "tokens"),
    [
        (image(), 12, IMAGE_TOKENS),
        (image(type="url", url=LINK), len(LINK), IMAGE_TOKENS),
        (image(type="file", file_id="file_1"), 0, IMAGE_TOKENS),
        ({"type": "image"}, 0, 0),
        ({"type": "image", "source": LINK}, 0, IMAGE_TOKENS),
        (result(content=[image(), image()]), 24, 2 * IMAGE_TOKENS),
        (document({"type": "content", "content": [image()]}), 12, IMAGE_TOKENS),
        (result(content=[document({"type": "content", "content": [image()]})]), 12, IMAGE_TOKENS),
        (document(), 0, FILE_TOKENS),
        (result(content=[document()]), 0, FILE_TOKENS),
        (document({"type": "text", "media_type": "text/plain", "data": LINK}), 0, 0),
        (document({"type": "url", "url": LINK}), 0, FILE_TOKENS),
        (document({"type": "base64", "media_type": "text/plain", "data": LINK}), 0, FILE_TOKENS),
        (document({"type": "file", "file_id": "file_1"}), 0, FILE_TOKENS),
        (result(content=[document({"type": "url", "url": LINK})]), 0, FILE_TOKENS),
        ({"type": "container_upload", "file_id": "file_1"}, 0, FILE_TOKENS),
        ({"type": "video", "source": {"type": "url", "url": LINK}}, 0, FILE_TOKENS),
        (
            {"type": "search_result", "source": LINK, "title": "t", "content": [text("x")]},
            0,
            0,
        ),
        (text('{"type":"image","source":{"type":"base64","data":"AAAA"}}'), 0, 0),
        ({"type": "tool_use", "id": "t", "name": "f", "input": {"source": {"url": LINK}}}, 0, 0),
    ],
)  # fmt: skip
def test_pictures_and_files_weigh_what_their_table_says(block: Any, less: int, tokens: int) -> None:
    """Wherever they stand, and whether or not they are in the body, whose bytes count too but for
    a picture's: a PDF of two kilobytes has room for a hundred pages.
    """
    assert _weight(block) == (-less, tokens)


def test_escapes_do_not_hide_a_picture() -> None:
    """A key with escapes is the same key."""
    raw = _body(messages=[user(image())]).replace(b'"source"', b'"sourc\\u0065"')
    assert parse(raw, "req_1").table_tokens == IMAGE_TOKENS


def test_blocks_are_weighed_however_deep_they_lie() -> None:
    """As deep as can be decoded at all."""
    block: Any = image()
    for _ in range(300):
        block = result(content=[block])
    assert _weight(block) == (-12, IMAGE_TOKENS)


_VALUES = json_values(most_leaves=8)
_NAMES = st.sampled_from(
    ["model", "messages", "system", "max_tokens", "stream", "service_tier", "speed", "tools",
     "inference_geo", "fallbacks", "tool_choice", "mcp_servers", "metadata", "cache_control"]
)  # fmt: skip


@given(st.dictionaries(_NAMES, _VALUES))
def test_whatever_is_sent_is_a_call_or_a_clear_error(fields: dict[str, Any]) -> None:
    """Never an exception of another kind."""
    for read in (parse, parse_count):
        with suppress(BadRequest):
            read(json.dumps(fields).encode(), "req_1")


@given(st.lists(st.dictionaries(st.sampled_from(["role", "content", "source"]), _VALUES)))
def test_no_message_weighs_less_than_nothing(messages: list[Any]) -> None:
    """Whatever its shape, and never more than its bytes beside the tables."""
    raw = _body(messages=[user(image()), *messages])
    call = parse(raw, "req_1")
    assert 0 <= call.text_bytes <= len(raw)
    assert call.table_tokens >= IMAGE_TOKENS
