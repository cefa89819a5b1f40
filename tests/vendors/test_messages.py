"""Requests of the Messages API for each vendor: address, headers, cap, what is kept apart.

What other requests share with these (hops, refusals, an operator's options) is contract.py's.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core.channel import ChannelOptions
from farebox.errors import BadRequest
from farebox.vendors import registry
from farebox.vendors.base import Vendor
from tests.fakes.upstream import FakeUpstream
from tests.values import worded_values
from tests.vendors.contract import CAP, HOP, KEY, UNKNOWN, call_of, channel_of
from tests.vendors.preparing import EVERY, VENDORS, Preparing

MESSAGES = b'"messages":[{"role" : "user","content":"hello"}]'
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}
BETAS = ((b"anthropic-version", b"2026-10-21"), (b"anthropic-beta", b"a-1,b-2"))
API = Preparing("messages")
prepared, sent = API.prepared, API.sent


@EVERY
def test_a_plain_call_changes_only_model_and_cap(vendor: Vendor) -> None:
    """Unknown fields and the messages stay the bytes that came."""
    result = prepared(vendor, b'{"model":"x","max_tokens":999,%b,%b}' % (MESSAGES, UNKNOWN))
    unknown = UNKNOWN.replace(b'": ', b'":')  # between key and value there is no white space
    assert result.request.body == (
        b'{"model":"up-1","max_tokens":%d,%b,%b}' % (CAP, MESSAGES, unknown)
    )
    assert result.adjusted == ()


@EVERY
def test_a_key_and_a_version_stand_in_the_headers(vendor: Vendor) -> None:
    """Servers look for the key in either of two; Anthropic has one of its own."""
    headers = dict(prepared(vendor, HELLO).request.headers)
    bearer = {} if vendor.name == "anthropic" else {b"authorization": b"Bearer " + KEY.encode()}
    assert headers == {
        **bearer,
        b"x-api-key": KEY.encode(),
        b"content-type": b"application/json",
        b"accept": b"application/json",
        b"user-agent": headers[b"user-agent"],
        b"x-farebox-hop": HOP.encode(),
        b"anthropic-version": b"2023-06-01",
    }
    open_channel = channel_of(vendor, api_key="")
    assert b"x-api-key" not in dict(prepared(vendor, HELLO, open_channel).request.headers)


@EVERY
def test_version_and_betas_of_the_clients_go_on(vendor: Vendor) -> None:
    """To this API alone, and no other header of theirs."""
    passed = (*BETAS, (b"Anthropic-Beta", b"c-3"), (b"x-other", b"1"))
    headers = dict(prepared(vendor, HELLO, passed_headers=passed).request.headers)
    assert headers[b"anthropic-version"] == b"2026-10-21"
    assert headers[b"anthropic-beta"] == b"a-1,b-2,c-3"
    assert b"x-other" not in headers
    for dialect in ("chat", "responses"):
        call = call_of(b"{%b}" % MESSAGES, dialect=dialect, passed_headers=BETAS)
        request = vendor.prepare(channel_of(vendor), "m", call, CAP, HOP, "alice").request
        assert not any(name.startswith(b"anthropic") for name, _ in request.headers)


BESIDE = ("deepseek", "mimo")


@EVERY
def test_the_path_comes_once(vendor: Vendor) -> None:
    """Whatever the operator pasted, for either API. Some have it beside their other APIs."""
    base = "https://h/anthropic/v1" if vendor.name in BESIDE else "https://h/v1"
    for pasted in ("https://h/v1", "https://h/v1/", "https://h/v1/messages",
                   "https://h/v1/chat/completions"):  # fmt: skip
        channel = channel_of(vendor, base_url=pasted)
        assert prepared(vendor, HELLO, channel).request.url == f"{base}/messages"
        assert vendor.chat_url(channel) == "https://h/v1/chat/completions"


@pytest.mark.parametrize(
    ("name", "base_url", "url"),
    [
        ("anthropic", "https://api.anthropic.com", "https://api.anthropic.com/v1/messages"),
        ("anthropic", "https://h/proxy/", "https://h/proxy/v1/messages"),
        ("deepseek", "https://api.deepseek.com", "https://api.deepseek.com/anthropic/v1/messages"),
        ("deepseek", "https://h/anthropic", "https://h/anthropic/v1/messages"),
        ("deepseek", "https://h/anthropic/v1/messages", "https://h/anthropic/v1/messages"),
        ("mimo", "https://api.xiaomimimo.com/v1",
         "https://api.xiaomimimo.com/anthropic/v1/messages"),
    ],
)  # fmt: skip
def test_base_urls_lead_to_the_messages_api(name: str, base_url: str, url: str) -> None:
    """The defaults, and what people have from these vendors' pages."""
    vendor = registry.find(name)
    assert vendor.messages_url(channel_of(vendor, base_url=base_url)) == url


def test_anthropics_chat_is_behind_the_same_version() -> None:
    """With the key where OpenAI's SDKs put it."""
    vendor = registry.find("anthropic")
    channel = channel_of(vendor, base_url=vendor.base_url)
    call = call_of(b"{%b}" % MESSAGES)
    request = vendor.prepare(channel, "m", call, CAP, HOP, "alice").request
    assert request.url == "https://api.anthropic.com/v1/chat/completions"
    assert (b"authorization", b"Bearer " + KEY.encode()) in request.headers
    assert b"x-api-key" not in dict(request.headers)
    with pytest.raises(BadRequest):
        vendor.prepare(channel, "m", call_of(b"{%b}" % MESSAGES, choices=2), CAP, HOP, "alice")


@EVERY
def test_the_cap_is_the_one_that_was_held_for(vendor: Vendor) -> None:
    """By one name, whatever the caller or the operator says; never more than was asked for."""
    others = ("max_completion_tokens", "max_output_tokens", "n", "n_predict", "n_cmpl", "best_of")
    for name in others:
        result = prepared(vendor, {**HELLO, "max_tokens": 99_999, name: 99_999})
        body = msgspec.json.decode(result.request.body)
        assert (body["max_tokens"], 99_999 in body.values()) == (CAP, False)
        assert result.adjusted == (f"{name}=dropped",)
    options = ChannelOptions(drop=("max_tokens",), rename=(("max_tokens", "cap"),))
    channel = channel_of(vendor, options=options)
    body = msgspec.json.decode(prepared(vendor, {**HELLO, "cap": 99_999}, channel).request.body)
    assert body["cap"] == CAP
    assert sent(vendor, {**HELLO, "max_tokens": 0}, output_cap=0)["max_tokens"] == 0


@EVERY
def test_the_answer_is_of_the_kind_that_the_client_wants(vendor: Vendor) -> None:
    """Usage need not be asked for."""
    assert sent(vendor, HELLO, stream=True)["stream"] is True
    assert "stream" not in sent(vendor, {**HELLO, "stream": True}, stream=False)
    assert sent(vendor, {**HELLO, "stream": False}, stream=False)["stream"] is False


@pytest.mark.parametrize(
    ("asked", "budget", "cap", "thinking"),
    [
        (8000, 4000, 8000, {"type": "enabled", "budget_tokens": 4000, "x": 1}),
        (8000, 4000, 4001, {"type": "enabled", "budget_tokens": 4000, "x": 1}),
        (8000, 4000, 4000, {"type": "enabled", "budget_tokens": 2000, "x": 1}),
        (8000, 7000, 1100, {"type": "enabled", "budget_tokens": 1024, "x": 1}),
        (8000, 4000, 1024, {"type": "disabled"}),
        (1000, 4000, 500, {"type": "enabled", "budget_tokens": 4000, "x": 1}),
    ],
)
def test_a_budget_of_thinking_stays_below_a_lower_cap(
    asked: int, budget: int, cap: int, thinking: dict[str, Any]
) -> None:
    """Else the vendor refuses the call. What the caller asked too much of himself stays."""
    vendor = registry.find("anthropic")
    edits = [{"type": "clear_thinking_20251015"}, {"type": "compact_20260112"}]
    given = {"type": "enabled", "budget_tokens": budget, "x": 1}
    call = API.call(
        {**HELLO, "max_tokens": asked, "thinking": given, "context_management": {"edits": edits}}
    )
    result = vendor.prepare(channel_of(vendor), "m", call, cap, HOP, "alice")
    body = msgspec.json.decode(result.request.body)
    assert (body["thinking"], body["max_tokens"]) == (thinking, cap)
    off = thinking["type"] == "disabled"
    assert body["context_management"]["edits"] == (edits[1:] if off else edits)
    told = "thinking=disabled" if off else f"thinking.budget_tokens={thinking['budget_tokens']}"
    assert result.adjusted == (() if thinking == given else (told,))


FILE = {"type": "file", "file_id": "file_1"}
KEPT_THERE: tuple[tuple[str, Any], ...] = (
    ("messages", [{"role": "user", "content": [{"type": "image", "source": FILE}]}]),
    ("messages", [{"role": "user", "content": [{"type": "document", "source": FILE}]}]),
    ("messages", [{"role": "user", "content": [{"type": "tool_result", "content": [
        {"type": "document", "source": FILE}]}]}]),
    ("messages", [{"role": "user", "content": [{"type": "container_upload", "file_id": "f"}]}]),
    ("messages", [{"role": "assistant", "content": [{"type": "tool_use", "input": {"a": 1},
                                                     "file_id": "f"}]}]),
    ("messages", [{"content": [{"input": {"file_id": "x"}}, {"source": FILE}]}]),
    ("system", [{"type": "text", "text": "a", "source": FILE}]),
    ("tools", [{"type": "code_execution_20260521", "file_ids": ["f"]}]),
    ("tools", [{"type": "x_new", "container": "container_1"}]),
    ("container", "container_1"),
    ("container", {"id": "container_1"}),
    ("thread", {"type": "continue", "id": "thread_1"}),
    ("user_profile_id", "uprof_1"),
    ("workspace_id", "wrkspc_1"),
    ("fallback_credit_token", "token"),
    ("billing_policy", {"type": "x"}),
)  # fmt: skip
SCHEMA = {"type": "object", "properties": {"file_id": {}, "container": {"type": "string"}}}
HARMLESS: tuple[tuple[str, Any], ...] = (
    ("messages", [{"role": "user", "content": 'a text: {"file_id":"f"}'}]),
    ("messages", [{"role": "assistant", "content": [
        {"type": "tool_use", "input": {"file_id": "f", "x": [{"container": "docker"}]}},
        {"type": "text", "text": "a"}]}]),
    ("messages", [{"role": "user", "content": [{"type": "image", "source": {"file_id": None}}]}]),
    ("messages", [{"role": "system", "content": [{"type": "tool_addition", "tool": {
        "type": "tool_definition", "definition": {"name": "f", "input_schema": SCHEMA,
                                                  "input_examples": [{"file_id": "f"}]}}}]}]),
    ("tools", [{"name": "f", "input_schema": SCHEMA, "input_examples": [{"file_id": "f"}]}]),
    ("tools", [{"name": "f", "type": "custom", "input_schema": SCHEMA}]),
    ("tools", [{"name": "f", "type": None, "input_schema": SCHEMA}]),
    ("mcp_servers", [{"type": "url", "url": "https://x", "authorization_token": "t"}]),
    ("metadata", {"user_id": "u"}),
    ("container", None),
)  # fmt: skip


@EVERY
@pytest.mark.parametrize(("field", "value"), KEPT_THERE)
def test_what_lies_at_a_shared_vendor_is_not_named(vendor: Vendor, field: str, value: Any) -> None:
    """It may be another caller's. Only the account that owns the channel may name it."""
    API.check_is_kept_apart(vendor, {**HELLO, field: value}, field)


@pytest.mark.parametrize("value", [each[1] for each in KEPT_THERE if "'file_id" in str(each[1])])
def test_escapes_do_not_hide_a_name(value: Any) -> None:
    """However its letters are written."""
    field = "tools" if "code_execution" in str(value) else "messages"
    raw = json.dumps({**HELLO, field: value}).replace("file_id", "f\\u0069le_\\u0069d")
    with pytest.raises(BadRequest):
        prepared(registry.find("anthropic"), raw.encode())


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages":[{"content":[{"source":{"file_id":"f","file_id":null}}]}]}',
        b'{"messages":[{"content":[{"source":{"file_id":"f"},"source":{}}]}]}',
        b'{"messages":[{"content":[{"input":{},"source":{"file_id":"f"},"input":{}}]}]}',
        b'{"messages":[],"tools":[{"type":"x_1","file_ids":["f"],"type":"custom"}]}',
    ],
)
def test_a_name_that_comes_twice_is_seen(body: bytes) -> None:
    """Parsers differ on which one counts."""
    with pytest.raises(BadRequest):
        prepared(registry.find("anthropic"), body)


@EVERY
@pytest.mark.parametrize(("field", "value"), HARMLESS)
def test_what_only_looks_like_it_is_sent(vendor: Vendor, field: str, value: Any) -> None:
    """Schemas, texts, arguments, null."""
    assert sent(vendor, {**HELLO, field: value})[field] == value


HARD: dict[str, Any] = {
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: a"},
        {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
    ],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "a"}]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "EqQBx"},
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"file_id": "f"}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "7", "is_error": True},
        ]},
        {"role": "system", "content": "Now."},
        {"role": "user", "content": "say: done"},
    ],
    "tools": [{"name": "f", "description": "d", "input_schema": SCHEMA}],
    "max_tokens": 32_000,
    "thinking": {"type": "enabled", "budget_tokens": 31_999},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "output_config": {"effort": "high"},
    "metadata": {"user_id": "{}"},
    "stream": True,
}  # fmt: skip
SPEAKING = ("anthropic", "deepseek", "mimo", "openai_compatible")


@pytest.mark.parametrize("name", SPEAKING)
def test_what_claude_code_sends_is_accepted_by_every_vendor_that_speaks_it(
    fake_upstream: FakeUpstream, name: str
) -> None:
    """Though Anthropic refuses what it does not know."""
    status, body = API.posted(fake_upstream, name, HARD, passed_headers=BETAS)
    assert (status, b"message_stop" in body) == (200, True), body
    assert fake_upstream.violations == []


_NAMES = """
messages system tools tool_choice thinking stream max_tokens n container thread metadata x
context_management output_config mcp_servers max_output_tokens
"""
_WORDS = r"""
type tools custom file_id container input input_schema source content budget_tokens enabled edits
clear_thinking_20251015 \u0066 " \
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
    assert (made["model"], made["max_tokens"]) == ("up-1", CAP)
