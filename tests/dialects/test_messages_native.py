"""Calls of the Messages API for upstreams that speak it: what goes out, and what does not."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from farebox.core.call import Call
from farebox.dialects.interpreter import Circumstances, Outgoing
from farebox.dialects.messages import parse
from farebox.dialects.messages_native import to_native_messages
from farebox.dialects.recall import Recall
from farebox.dialects.seal import Seal
from farebox.errors import BadRequest
from tests.fakes.messages_rules import refuses
from tests.fakes.personas import ANTHROPIC

SEAL = Seal(b"s" * 32)
AROUND = Circumstances(1, 1_790_000_000, SEAL, Recall(), lambda: 1_790_000_009)
BETAS = {"anthropic-beta": "context-management-2025-06-27"}
TOOL = {"name": "f", "input_schema": {"type": "object"}}
SEARCH = {"type": "web_search_20260318", "name": "web_search"}
MANUAL = {"type": "enabled", "budget_tokens": 2048}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "7"}
THEIRS = {"type": "thinking", "thinking": "hm", "signature": "EqQBx"}
REDACTED = {"type": "redacted_thinking", "data": "EqQBy"}
TEXT = {"type": "text", "text": "hello"}


def ours(text: str = "hm", account_id: int = 1) -> dict[str, Any]:
    """A thinking block whose signature was sealed here."""
    blob = SEAL.seal(account_id, "reasoning", text)
    return {"type": "thinking", "thinking": text, "signature": blob}


def turns(*contents: Any) -> list[dict[str, Any]]:
    """Messages of user and assistant in turn."""
    return [{"role": ("user", "assistant")[at % 2], "content": c} for at, c in enumerate(contents)]


def call_for(messages: Any = None, hosted: tuple[str, ...] = (), **fields: Any) -> Call:
    """A call as admission leaves it: with those hosted tools that have a price."""
    body = {"model": "m", "max_tokens": 4096, "messages": messages or turns("hi"), **fields}
    return replace(parse(json.dumps(body).encode(), "req_1"), hosted_tools=hosted)


def native(messages: Any = None, hosted: tuple[str, ...] = (), **fields: Any) -> Outgoing:
    """What goes out for it."""
    return to_native_messages(call_for(messages, hosted, **fields), AROUND)


def body_of(outgoing: Outgoing) -> dict[str, Any]:
    """The body, decoded; one that Anthropic takes."""
    body = {name: msgspec.json.decode(raw) for name, raw in outgoing.call.fields.items()}
    assert refuses(ANTHROPIC, body, BETAS) is None
    return body


def test_everything_passes_as_the_bytes_that_came() -> None:
    """Known and unknown fields, blocks and members, in their order."""
    raw = (
        b'{"model":"m" , "zz":{"b" : [1.50, 1e3,"\\u00e9" ]},"max_tokens": 9,"messages":[ {"role":'
        b'"user","content":"a\\u00e9"} , {"role":"user", "content":[{"type":"x_new","n":1.0}]}],'
        b'"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}],'
        b'"context_management":{"edits":[]},"temperature":0.70,"tools":[ {"name":"f"} ]}'
    )
    outgoing = to_native_messages(parse(raw, "req_1"), AROUND)
    came = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    sent = outgoing.call.fields
    assert {n: bytes(v) for n, v in sent.items()} == {n: bytes(v) for n, v in came.items()}
    assert list(sent) == list(came)
    assert (outgoing.adjusted, outgoing.call.dialect) == ((), "messages")


def test_diagnostics_stay_here() -> None:
    """They name an answer by an id that is ours."""
    outgoing = native(diagnostics={"previous_message_id": "msg_1"})
    assert "diagnostics" not in body_of(outgoing)
    assert outgoing.adjusted == ("diagnostics=dropped",)
    assert native(diagnostics=None).adjusted == ()


def test_tools_of_the_clients_own_pass() -> None:
    """With and without a type, and those that Anthropic has defined."""
    tools: list[dict[str, Any]] = [TOOL, {**TOOL, "name": "g", "type": "custom"}]
    tools += [{"type": kind, "name": kind} for kind in ("bash_20250124", "memory_20250818")]
    assert body_of(native(tools=tools))["tools"] == tools


def test_a_hosted_tool_without_a_price_is_left_out() -> None:
    """And named once by the name that a price would have; with one it passes."""
    tools = [SEARCH, TOOL, {**SEARCH, "name": "again"}]
    outgoing = native(tools=tools, tool_choice={"type": "auto"})
    assert body_of(outgoing)["tools"] == [TOOL]
    assert outgoing.adjusted == ("tools.web_search=dropped",)
    priced = native(hosted=("web_search",), tools=tools)
    assert body_of(priced)["tools"] == tools
    assert priced.adjusted == ()


def test_a_choice_of_tools_goes_with_the_last_of_them() -> None:
    """Anthropic refuses it alone."""
    body = body_of(native(tools=[SEARCH], tool_choice={"type": "auto"}))
    assert body.keys() == {"model", "max_tokens", "messages"}


def test_servers_of_tools_go_with_their_tools() -> None:
    """Each server must have its toolset."""
    toolset = {"type": "mcp_toolset", "mcp_server_name": "s"}
    servers = [{"type": "url", "url": "https://example.com", "name": "s"}]
    outgoing = native(tools=[toolset, TOOL], mcp_servers=servers)
    body = body_of(outgoing)
    assert (body["tools"], "mcp_servers" in body) == ([TOOL], False)
    assert outgoing.adjusted == ("tools.mcp_toolset=dropped",)
    priced = native(hosted=("mcp_toolset",), tools=[toolset], mcp_servers=servers)
    assert body_of(priced)["mcp_servers"] == servers


def test_a_hosted_tool_that_is_added_on_the_way_needs_a_price_too() -> None:
    """Else one could have it without."""
    added = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": SEARCH}}
    own = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": TOOL}}
    known = {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "f"}}
    messages = [*turns("hi"), {"role": "system", "content": [added, own, known]}]
    outgoing = native(messages, tools=[TOOL])
    assert body_of(outgoing)["messages"][1]["content"] == [own, known]
    assert outgoing.adjusted == ("tools.web_search=dropped",)
    assert native(messages, hosted=("web_search",), tools=[TOOL]).adjusted == ()


def test_thoughts_of_the_vendors_own_pass_untouched() -> None:
    """Their signatures are the vendor's to read."""
    messages = turns("a", [THEIRS, REDACTED, CALL], [RESULT])
    outgoing = native(messages, tools=[TOOL], thinking=MANUAL)
    came = call_for(messages).fields["messages"]
    assert bytes(outgoing.call.fields["messages"]) == bytes(came)
    assert outgoing.adjusted == ()


def test_thoughts_that_were_sealed_here_are_left_out_and_named() -> None:
    """Nobody there could read them. Messages without them stay the bytes that came."""
    messages = turns("a", [ours(), TEXT], "b", [ours(), THEIRS, TEXT], "c")
    outgoing = native(messages)
    assert body_of(outgoing)["messages"] == turns("a", [TEXT], "b", [THEIRS, TEXT], "c")
    assert outgoing.adjusted == ("messages.thinking=dropped",)


def test_a_message_of_nothing_else_goes_too() -> None:
    """Anthropic refuses one without content, and takes two turns of one side."""
    outgoing = native(turns("a", [ours()], "b"))
    assert body_of(outgoing)["messages"] == [*turns("a"), *turns("b")]


@pytest.mark.parametrize(
    "written", ["fb1.", "\\u0066b1.", "f\\u0062\\u0031.", "fb1\\u002e", "fb1\\u002E"]
)
def test_escapes_do_not_hide_a_blob(written: str) -> None:
    """However its letters are written."""
    body = json.dumps({"model": "m", "max_tokens": 9, "messages": turns("a", [ours(), TEXT], "b")})
    raw = body.replace("fb1.", written).encode()
    outgoing = to_native_messages(parse(raw, "req_1"), AROUND)
    assert outgoing.adjusted == ("messages.thinking=dropped",)


def test_a_thread_is_refused_since_its_messages_have_ids_of_ours() -> None:
    """Whoever owns the channel: the vendor would not know the message that is gone on from."""
    for thread in ({"type": "create"}, {"type": "continue", "previous_message_id": "msg_1"}):
        with pytest.raises(BadRequest) as refused:
            native(thread=thread)
        assert (refused.value.param, refused.value.code) == ("thread", "unsupported_value")
    assert native(thread=None).adjusted == ()


def test_a_blob_of_another_account_is_refused() -> None:
    """As it is everywhere, with its place."""
    with pytest.raises(BadRequest) as caught:
        native(turns("a", [TEXT, ours(account_id=2)], "b"))
    assert (caught.value.param, caught.value.code) == (
        "messages[1].content[1]",
        "invalid_encrypted_content",
    )


def test_a_turn_that_lost_its_thoughts_goes_on_without_thinking() -> None:
    """With a budget of thinking Anthropic insists on thoughts in front of calls."""
    messages = turns("a", [ours(), CALL], [RESULT], [CALL], [RESULT])
    edits = [{"type": "clear_thinking_20251015", "keep": "all"}, {"type": "compact_20260112"}]
    outgoing = native(
        messages, tools=[TOOL], thinking=MANUAL, context_management={"edits": edits, "x": 1}
    )
    body = body_of(outgoing)
    assert body["thinking"] == {"type": "disabled"}
    assert body["context_management"] == {"edits": edits[1:], "x": 1}
    assert outgoing.adjusted == ("messages.thinking=dropped", "thinking=disabled")
    reminded = [*messages[:3], {"role": "system", "content": "Soon."}]
    assert body_of(native(reminded, tools=[TOOL], thinking=MANUAL))["thinking"] == body["thinking"]


@pytest.mark.parametrize(
    ("contents", "thinking"),
    [
        (("a", [ours(), CALL], [RESULT]), {"type": "adaptive"}),
        (("a", [ours(), CALL], [RESULT]), None),
        (("a", [ours(), CALL], [RESULT], [TEXT], "b"), MANUAL),
        (("a", [ours(), TEXT], "b"), MANUAL),
        (("a", [ours(), THEIRS, CALL], [RESULT]), MANUAL),
        (("a", [ours(), TEXT], "b", [THEIRS, CALL], [RESULT]), MANUAL),
    ],
)
def test_thinking_stays_wherever_it_can(contents: tuple[Any, ...], thinking: Any) -> None:
    """Without a budget, in turns that are over, beside thoughts of the vendor's own."""
    asked = {} if thinking is None else {"thinking": thinking}
    body = body_of(native(turns(*contents), tools=[TOOL], **asked))
    assert body.get("thinking") == thinking


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (b'["\\u0066"]', "messages[1]"),
        (b'{"role":1,"content":"\\u0066"}', "messages[1]"),
        (b'{"role":"user","content":[1,"\\u0066"]}', "messages[1].content[0]"),
        (b'{"role":"user","content":[{"type":"\\u0066","signature":1}]}', "messages[1].content[0]"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(message: bytes, param: str) -> None:
    """Where escapes say that it must be looked at; else it is the vendor's to refuse."""
    head = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"a"},'
    with pytest.raises(BadRequest) as caught:
        to_native_messages(parse(head + message + b"]}", "req_1"), AROUND)
    assert (caught.value.param, caught.value.code) == (param, "invalid_value")
    plain = parse(head + message.replace(b"\\u0066", b"x") + b"]}", "req_1")
    assert to_native_messages(plain, AROUND).call == plain


def test_a_message_that_is_none_among_others_is_the_vendors_to_refuse() -> None:
    """Looking for a turn's beginning does not stumble over it."""
    for odd in ({"role": 1, "content": []}, {"role": "user", "content": [1, {"type": 2}]}, "x"):
        messages = [*turns("a"), odd, *turns("a", [ours(), CALL], [RESULT])[1:]]
        outgoing = to_native_messages(call_for(messages, thinking=MANUAL), AROUND)
        assert outgoing.adjusted == ("messages.thinking=dropped", "thinking=disabled")


BLOCKS = st.sampled_from([TEXT, CALL, RESULT, THEIRS, REDACTED, ours(), {"type": "x"}, {}, 1])
CONTENTS = st.text() | st.lists(BLOCKS, max_size=4) | st.none()
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system"]), "content": CONTENTS}
    ),
    min_size=1,
    max_size=6,
)


@given(MESSAGES, st.sampled_from([None, MANUAL, {"type": "adaptive"}]))
def test_nothing_is_lost_but_blobs(messages: list[dict[str, Any]], thinking: Any) -> None:
    """Every other block goes out, in its order; and what went out once goes out unchanged."""
    asked = {} if thinking is None else {"thinking": thinking}
    try:
        outgoing = native(messages, **asked)
    except BadRequest:
        assert any(not isinstance(b, dict) for m in messages for b in m["content"] or ())
        return
    sent = msgspec.json.decode(outgoing.call.fields["messages"])
    assert [b for m in sent for b in m["content"] or ()] == [
        b for m in messages for b in m["content"] or () if not _is_sealed(b)
    ]
    again = to_native_messages(outgoing.call, AROUND)
    assert (dict(again.call.fields), again.adjusted) == (dict(outgoing.call.fields), ())


def _is_sealed(block: Any) -> bool:
    return isinstance(block, dict) and str(block.get("signature", "")).startswith("fb1.")
