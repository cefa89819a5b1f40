"""Requests of the Responses API for each vendor: address, cap, what is dropped, what is kept apart.

What other requests share with these (headers, refusals, an operator's options) is contract.py's.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core.channel import ChannelOptions
from farebox.core.ports import UpstreamHead
from farebox.errors import BadRequest
from farebox.vendors import registry
from farebox.vendors.base import Vendor
from tests.fakes.responses_rules import violations
from tests.fakes.upstream import FakeUpstream
from tests.values import worded_values
from tests.vendors.contract import CAP, HOP, KEY, UNKNOWN, channel_of
from tests.vendors.preparing import EVERY, VENDORS, Preparing

INPUT = b'"input":[{"role" : "user","content":"hello"}]'
HELLO: dict[str, Any] = {"input": "hello"}
API = Preparing("responses")
prepared, sent = API.prepared, API.sent


@EVERY
def test_a_plain_call_changes_only_model_and_cap(vendor: Vendor) -> None:
    """Unknown fields and the input stay the bytes that came; nothing is stored there."""
    result = prepared(vendor, b'{"model":"x",' + INPUT + b"," + UNKNOWN + b',"store":false}')
    unknown = UNKNOWN.replace(b'": ', b'":')  # between key and value there is no white space
    assert result.request.body == (
        b'{"model":"up-1",%b,%b,"store":false,"max_output_tokens":%d}' % (INPUT, unknown, CAP)
    )
    assert result.adjusted == ()
    headers = dict(result.request.headers)
    assert headers[b"authorization"] == b"Bearer " + KEY.encode()
    assert headers[b"accept"] == b"application/json"


@EVERY
def test_the_path_comes_once(vendor: Vendor) -> None:
    """Whatever the operator pasted, for either API."""
    for base in ("https://h/v1", "https://h/v1/", "https://h/v1/responses",
                 "https://h/v1/chat/completions"):  # fmt: skip
        channel = channel_of(vendor, base_url=base)
        assert prepared(vendor, HELLO, channel).request.url == "https://h/v1/responses"
        assert vendor.chat_url(channel) == "https://h/v1/chat/completions"


@EVERY
def test_the_cap_is_the_one_that_was_held_for(vendor: Vendor) -> None:
    """By one name, whatever the caller or the operator says; never under the least there is."""
    for name in ("max_output_tokens", "max_tokens", "max_completion_tokens", "n"):
        body = sent(vendor, {**HELLO, name: 99_999})
        assert body["max_output_tokens"] == CAP
        assert 99_999 not in body.values()
    options = ChannelOptions(
        drop=("max_output_tokens",), rename=(("max_output_tokens", "cap"),), max_tokens_field="x"
    )
    channel = channel_of(vendor, options=options)
    body = msgspec.json.decode(prepared(vendor, {**HELLO, "cap": 99_999}, channel).request.body)
    assert body["cap"] == CAP
    small = vendor.prepare(channel_of(vendor), "m", API.call(HELLO), 5, HOP, "alice")
    assert msgspec.json.decode(small.request.body)["max_output_tokens"] == 16


@EVERY
def test_the_answer_is_of_the_kind_that_the_client_wants(vendor: Vendor) -> None:
    """A socket's call is a stream without saying so; usage need not be asked for."""
    options = {"include_obfuscation": False}
    body = sent(vendor, {**HELLO, "stream_options": options}, stream=True)
    assert (body["stream"], body["stream_options"]) == (True, options)
    whole = sent(vendor, {**HELLO, "stream": True, "stream_options": options}, stream=False)
    assert not {"stream", "stream_options"} & set(whole)
    assert "stream_options" not in sent(vendor, {**HELLO, "stream": True})


@EVERY
def test_what_an_operator_says_of_a_channel_counts(vendor: Vendor) -> None:
    """Fields are dropped and renamed, and named."""
    options = ChannelOptions(drop=("zz_gone",), rename=(("zz_here", "zz_there"),))
    result = prepared(
        vendor, {**HELLO, "zz_gone": 1, "zz_here": 2}, channel_of(vendor, options=options)
    )
    body = msgspec.json.decode(result.request.body)
    assert ("zz_gone" in body, "zz_here" in body, body["zz_there"]) == (False, False, 2)
    assert set(result.adjusted) == {"zz_gone=dropped", "zz_here=renamed"}


SCHEMA = {"type": "json_schema", "name": "x", "strict": True, "schema": {"type": "object"}}


def test_a_schema_becomes_words_where_there_are_none() -> None:
    """At the end of the instructions; other settings of the text stay."""
    mimo, body = registry.find("mimo"), {**HELLO, "text": {"format": SCHEMA, "verbosity": "low"}}
    for instructions in (None, "Be brief."):
        result = prepared(mimo, {**body, "instructions": instructions})
        made = msgspec.json.decode(result.request.body)
        assert made["text"] == {"format": {"type": "json_object"}, "verbosity": "low"}
        assert made["instructions"].endswith('{"type": "object"}')
        assert made["instructions"].startswith(instructions or "Answer with one JSON object")
        assert result.adjusted == ("text.format=json_object",)
    assert sent(registry.find("openai"), body)["text"] == body["text"]
    plain = {**HELLO, "text": {"format": {"type": "text"}}}
    assert prepared(mimo, plain).adjusted == ()


def test_deepseek_has_efforts_of_its_own() -> None:
    """As over chat; what stands beside the effort stays."""
    deepseek = registry.find("deepseek")
    result = prepared(deepseek, {**HELLO, "reasoning": {"effort": "medium", "summary": "auto"}})
    body = msgspec.json.decode(result.request.body)
    assert body["reasoning"] == {"effort": "high", "summary": "auto"}
    assert result.adjusted == ("reasoning.effort=high",)
    for reasoning in (None, {"effort": None}, {"effort": "low"}, {"summary": "auto"}, "x"):
        assert prepared(deepseek, {**HELLO, "reasoning": reasoning}).adjusted == ()


FILE = {"type": "input_file", "file_id": "file-1"}
USER = {"type": "message", "role": "user"}
KEPT_THERE: tuple[tuple[str, Any], ...] = (
    ("input", [{**USER, "content": [FILE]}]),
    ("input", [{**USER, "content": [{"type": "input_image", "file_id": "file-1"}]}]),
    ("input", [{"type": "function_call_output", "call_id": "c", "output": [FILE]}]),
    ("input", [{"type": "custom_tool_call_output", "call_id": "c", "output": [FILE]}]),
    ("input", [{"type": "computer_call_output", "call_id": "c", "output": {"file_id": "f"}}]),
    ("input", [{"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1"}]),
    ("input", [{"type": "shell_call", "environment": {"container_id": "cntr_1"}}]),
    ("input", [{"type": "image_generation_call", "id": "ig_1"}]),
    ("input", [{"type": "image_generation_call", "id": "ig_1", "result": None}]),
    ("input", [{"type": "additional_tools", "tools": [{"type": "file_search",
                                                       "vector_store_ids": ["vs_1"]}]}]),
    ("input", [{"type": "tool_search_output", "tools": [{"type": "namespace", "tools": [
        {"type": "code_interpreter", "container": "cntr_1"}]}]}]),
    ("tools", [{"type": "file_search", "vector_store_ids": ["vs_1"]}]),
    ("tools", [{"type": "code_interpreter", "container": "cntr_1"}]),
    ("tools", [{"type": "code_interpreter", "container": {"file_ids": ["file-1"]}}]),
    ("tools", [{"type": "image_generation", "input_image_mask": {"file_id": "file-1"}}]),
    ("tools", [{"type": "shell", "environment": {"type": "container_reference",
                                                 "container_id": "cntr_1"}}]),
    ("tools", [{"type": "shell", "environment": {"skills": [{"skill_id": "skill_1"}]}}]),
    ("image", {"input_image_mask": {"file_id": "file-1"}}),
    ("prompt", {"id": "pmpt_1"}),
    ("conversation", "conv_1"),
    ("previous_response_id", "resp_1"),
)  # fmt: skip
PROPERTIES = {"type": "object", "properties": {"file_id": {}, "container": {"type": "string"}}}
FUNCTION = {"type": "function", "name": "f", "parameters": PROPERTIES}
HARMLESS: tuple[tuple[str, Any], ...] = (
    ("input", 'a text: [{"file_id":"file-1"}]'),
    ("input", [{**USER, "content": [{"type": "input_file", "file_id": None, "file_data": "x"}]}]),
    ("input", [{**USER, "content": '{"file_id":"file-1","container":"docker"}'}]),
    ("input", [{"type": "function_call", "arguments": '{"file_id":"file-1"}', "id": "fc_1"}]),
    ("input", [{"type": "additional_tools", "tools": [FUNCTION, {"type": "namespace",
                                                                 "tools": [FUNCTION]}]}]),
    ("input", [{"type": "mcp_list_tools", "tools": [{"input_schema": PROPERTIES}]}]),
    ("input", [{"type": "image_generation_call", "id": "ig_1", "result": "iVBORw0KGgo="}]),
    ("tools", [FUNCTION, {"type": "namespace", "name": "n", "tools": [FUNCTION]}]),
    ("tools", [{"type": "code_interpreter", "container": {"type": "auto"}}]),
    ("tools", [{"type": "mcp", "server_url": "https://x", "connector_id": "connector_gmail"}]),
)  # fmt: skip


@EVERY
@pytest.mark.parametrize(("field", "value"), KEPT_THERE)
def test_what_lies_at_a_shared_vendor_is_not_named(vendor: Vendor, field: str, value: Any) -> None:
    """It may be another caller's. Only the account that owns the channel may name it."""
    API.check_is_kept_apart(vendor, {**HELLO, field: value}, field)


@pytest.mark.parametrize(
    ("field", "value"),
    [each for each in KEPT_THERE if "_id" in str(each[1]) or "'cntr_1'" in str(each[1])],
)
def test_escapes_do_not_hide_a_name(field: str, value: Any) -> None:
    """However its letters are written."""
    raw = json.dumps({**HELLO, field: value}).replace("_id", "_\\u0069d")
    raw = raw.replace("container", "contain\\u0065r")
    with pytest.raises(BadRequest):
        prepared(registry.find("openai"), raw.encode())


@pytest.mark.parametrize(
    "tool",
    [
        b'{"type":"file_search","vector_store_ids":["vs_1"],"type":"function"}',
        b'{"vector_store_ids":["vs_1"],"vector_store_ids":null,"type":"file_search"}',
    ],
)
def test_a_name_that_comes_twice_is_seen(tool: bytes) -> None:
    """Parsers differ on which one counts."""
    for body in (b'{"tools":[%b]}', b'{"input":[{"type":"additional_tools","tools":[%b]}]}'):
        with pytest.raises(BadRequest):
            prepared(registry.find("openai"), body % tool)


@EVERY
@pytest.mark.parametrize(("field", "value"), HARMLESS)
def test_what_only_looks_like_it_is_sent(vendor: Vendor, field: str, value: Any) -> None:
    """Schemas, texts, arguments, data instead of an id."""
    assert sent(vendor, {**HELLO, field: value})[field] == value


def test_a_prompt_too_long_has_one_code() -> None:
    """And names the field of its API."""
    openai = registry.find("openai")
    told = b'{"error":{"message":"Too long.","param":"input","code":"context_length_exceeded"}}'
    error = openai.refused(channel_of(openai), UpstreamHead(400, {}), told)
    assert (error.code, error.param) == ("context_length_exceeded", "input")


@EVERY
@pytest.mark.parametrize(
    ("code", "status", "shown"),
    [
        ("invalid_prompt", 400, "invalid_prompt"),
        ("context_length_exceeded", 400, "context_length_exceeded"),
        ("cyber_policy", 400, "cyber_policy"),
        ("invalid_image_url", 400, "invalid_image_url"),
        ("rate_limit_exceeded", 429, "rate_limit_exceeded"),
        ("insufficient_quota", 503, "server_is_overloaded"),
        ("vector_store_timeout", 504, None),
        ("server_error", 502, None),
        (None, 502, None),
    ],
)
def test_a_failed_responses_code_tells_whose_fault_it_is(
    vendor: Vendor, code: str | None, status: int, shown: str | None
) -> None:
    """There is neither a status nor a type beside it; our account's trouble is not told."""
    error = {"code": code, "message": f"Quota of {KEY}"}
    found = vendor.error_event(channel_of(vendor), error)
    assert (found.status, found.code) == (status, shown)
    assert KEY not in found.message
    assert ("Quota" in found.message) == (status == 400)


HARD: dict[str, Any] = {
    "input": [
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "noon"},
        {"role": "user", "content": "say: done"},
    ],
    "stream": True,
    "store": False,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "include": ["reasoning.encrypted_content"],
    "tools": [{"type": "function", "name": "f", "strict": True, "parameters": {"type": "object"}}],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "text": {"format": SCHEMA, "verbosity": "low"},
    "prompt_cache_key": "k",
    "client_metadata": {"a": "b"},
    "truncation": "disabled",
}
SPEAKING = ("openai", "mimo", "openai_compatible")


@pytest.mark.parametrize("name", SPEAKING)
def test_what_codex_sends_is_accepted_by_every_vendor_that_speaks_it(
    fake_upstream: FakeUpstream, name: str
) -> None:
    """Though each refuses what it does not know."""
    status, body = API.posted(fake_upstream, name, HARD)
    assert (status, b"response.completed" in body) == (200, True), body
    assert violations(fake_upstream.last.body) == []


_NAMES = """
input tools tool_choice text reasoning stream stream_options store instructions metadata image
max_output_tokens max_tokens n prompt client_metadata x
"""
_WORDS = r"""
type tools function namespace additional_tools file_id container image_generation_call result
json_schema schema format effort medium é \u0066 " \
"""
JSON = worded_values(_WORDS)


@given(
    st.sampled_from(VENDORS), st.dictionaries(st.sampled_from(_NAMES.split()), JSON), st.booleans()
)
def test_any_body_is_prepared_or_refused(
    vendor: Vendor, body: dict[str, Any], stream: bool
) -> None:
    """No shape of any field crashes a vendor, and a second time changes nothing."""
    made = API.prepared_again(vendor, body, stream=stream)
    if made is None:
        return
    assert (made["model"], made["max_output_tokens"]) == ("up-1", CAP)
    assert made["store"] is False
