"""Requests of the Responses API for upstreams that speak it: what goes out, and what does not."""

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
from farebox.dialects.recall import Recall
from farebox.dialects.responses import parse
from farebox.dialects.responses_native import to_native
from farebox.dialects.seal import Seal
from farebox.errors import BadRequest
from tests.fakes.responses_rules import violations

SEAL = Seal(b"s" * 32)
AROUND = Circumstances(1, 1_790_000_000, SEAL, Recall(), lambda: 1_790_000_009)
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}}
SEARCH = {"type": "web_search_preview", "search_context_size": "low"}
GROWN = {"type": "code_interpreter", "container": {"type": "auto"}}
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "7"}
MESSAGE = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Hi.", "annotations": [], "logprobs": []}],
}


def call_for(input: Any = "hi", hosted: tuple[str, ...] = (), **fields: Any) -> Call:
    """A call as admission leaves it: with those hosted tools that have a price."""
    body = {"model": "m", "input": input, **fields}
    return replace(parse(json.dumps(body).encode(), "req_1"), hosted_tools=hosted)


def native(input: Any = "hi", hosted: tuple[str, ...] = (), **fields: Any) -> Outgoing:
    """What goes out for it."""
    return to_native(call_for(input, hosted, **fields), AROUND)


def body_of(outgoing: Outgoing) -> dict[str, Any]:
    """The body, decoded."""
    return {name: msgspec.json.decode(raw) for name, raw in outgoing.call.fields.items()}


def sent(input: Any = "hi", hosted: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    """Both."""
    return body_of(native(input, hosted, **fields))


def refused(*items: Any) -> BadRequest:
    """Why these items are refused."""
    with pytest.raises(BadRequest) as caught:
        native(list(items))
    return caught.value


def test_fields_pass_as_the_bytes_that_came() -> None:
    """Known and unknown ones, in their order; only `store` is ours."""
    raw = (
        b'{"model":"m" , "zz":{"b" : [1.50, 1e3,"\\u00e9" ]},"input":[ {"role":"user","content":'
        b'"a\\u00e9"} , {"type":"x_new", "id":"n_1"}],"temperature":0.70,"store":true}'
    )
    outgoing = to_native(parse(raw, "req_1"), AROUND)
    came = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    assert {n: bytes(v) for n, v in outgoing.call.fields.items()} == {
        **{n: bytes(v) for n, v in came.items()},
        "store": b"false",
    }
    assert list(outgoing.call.fields) == list(came)
    assert outgoing.adjusted == ()
    assert outgoing.call.dialect == "responses"


def test_state_stays_here() -> None:
    """Nothing is stored, looked up, labelled or run in the background at the vendor."""
    outgoing = native(
        previous_response_id="resp_1",
        background=True,
        background_options={},
        conversation=None,
        prompt=None,
        metadata={"a": "b"},
        store=True,
    )
    assert body_of(outgoing) == {"model": "m", "input": "hi", "store": False}
    assert violations(body_of(outgoing)) == []
    assert outgoing.adjusted == ()  # the client still has all of it


def test_a_text_as_input_passes() -> None:
    """Also one that looks like items."""
    for text in ("hi", "[]", '[{"type":"item_reference"}]'):
        assert sent(text)["input"] == text


def test_a_reasoning_item_of_the_vendor_passes_untouched() -> None:
    """Its blob and its id are the vendor's."""
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAAx"}
    outgoing = native([item, MESSAGE])
    came = call_for([item, MESSAGE]).fields["input"]
    assert bytes(outgoing.call.fields["input"]) == bytes(came)


@pytest.mark.parametrize("content", [None, []])
def test_reasoning_that_the_vendor_would_have_to_look_up_is_dropped(content: Any) -> None:
    """It kept nothing, and answers 404 to the id."""
    item = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "s"}],
        "content": content,
        "encrypted_content": None,
    }
    outgoing = native([item, MESSAGE])
    assert body_of(outgoing)["input"] == [MESSAGE]
    assert outgoing.adjusted == ("input.reasoning=dropped",)


def test_reasoning_in_plain_text_goes_back_without_its_id() -> None:
    """Servers of open models give it so, and want it so."""
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"text": "t"}]}
    del (bare := dict(item))["id"]
    assert sent([item])["input"] == [bare]


def test_reasoning_sealed_here_is_dropped() -> None:
    """Another model's thoughts, in a blob that the vendor cannot read."""
    blob = SEAL.seal(1, "reasoning", "thoughts")
    outgoing = native([{"type": "reasoning", "summary": [], "encrypted_content": blob}, CALL])
    assert body_of(outgoing)["input"] == [CALL]
    assert outgoing.adjusted == ("input.reasoning=dropped",)


@pytest.mark.parametrize("kind", ["compaction", "compaction_summary"])
def test_a_summary_sealed_here_goes_out_as_text(kind: str) -> None:
    """As a message of the user's; a vendor's own compaction passes."""
    ours = {"type": kind, "encrypted_content": SEAL.seal(1, "compaction", "We spoke.")}
    theirs = {"type": kind, "id": "cmp_1", "encrypted_content": "gAAAAsummary"}
    message, passed = sent([ours, theirs])["input"]
    assert (message["type"], message["role"]) == ("message", "user")
    assert message["content"][0]["text"].endswith("\n\nWe spoke.")
    assert passed == theirs


@pytest.mark.parametrize("kind", ["reasoning", "compaction"])
@pytest.mark.parametrize(
    "blob",
    [
        "fb1.",
        "fb1.AAAA",
        pytest.param(SEAL.seal(2, "reasoning", "another account's"), id="thoughts"),
        pytest.param(SEAL.seal(2, "compaction", "another account's"), id="summary"),
        pytest.param(Seal(b"t" * 32).seal(1, "compaction", "another gateway's"), id="foreign"),
    ],
)
def test_what_was_sealed_for_another_account_is_refused(kind: str, blob: str) -> None:
    """In both kinds of items; also what was cut or made up."""
    error = refused({"type": kind, "summary": [], "encrypted_content": blob})
    assert (error.status, error.code, error.param) == (400, "invalid_encrypted_content", "input")


def test_a_blob_of_one_purpose_does_not_serve_another() -> None:
    """Thoughts are not shown as a summary."""
    blob = SEAL.seal(1, "reasoning", "thoughts")
    assert refused({"type": "compaction", "encrypted_content": blob}).code == (
        "invalid_encrypted_content"
    )


@pytest.mark.parametrize("item", [{"type": "item_reference", "id": "msg_1"}, {"id": "msg_1"}])
def test_a_reference_that_is_left_is_refused(item: Any) -> None:
    """Nothing was stored at the vendor that it could name."""
    error = refused(MESSAGE, item)
    assert (error.status, error.code, error.param) == (400, "unsupported_value", "input[1]")


@pytest.mark.parametrize("item", ["text", 7, None, [], {"type": 7}, {"encrypted_content": {}}])
def test_what_is_no_item_is_refused(item: Any) -> None:
    """With its place."""
    assert refused(MESSAGE, item).param == "input[1]"


def test_calls_lose_their_ids_and_messages_keep_them() -> None:
    """A call's id is optional, and held against reasoning that is not there; a message's is not."""
    items = [
        MESSAGE,
        {**CALL, "id": "fc_1", "status": "completed"},
        {**OUTPUT, "id": "fco_1"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {}},
    ]
    assert sent(items)["input"] == [MESSAGE, {**CALL, "status": "completed"}, OUTPUT, items[3]]


def test_what_codex_adds_for_its_own_backend_is_stripped() -> None:
    """OpenAI's API refuses it."""
    item = {"role": "user", "content": "x", "internal_chat_message_metadata_passthrough": {"a": 1}}
    assert sent([item])["input"] == [{"role": "user", "content": "x"}]


def test_hosted_tools_without_a_price_are_dropped_and_named() -> None:
    """Whatever their version is called; the others stay the bytes that came."""
    outgoing = native(tools=[SEARCH, FUNCTION, GROWN], hosted=("code_interpreter",))
    assert body_of(outgoing)["tools"] == [FUNCTION, GROWN]
    assert outgoing.adjusted == ("tools.web_search=dropped",)
    came = call_for(tools=[SEARCH, FUNCTION]).fields["tools"]
    kept = native(tools=[SEARCH, FUNCTION], hosted=("web_search",))
    assert bytes(kept.call.fields["tools"]) == bytes(came)
    assert "tools" not in sent(tools=[SEARCH])


@pytest.mark.parametrize("kind", ["additional_tools", "tool_search_output"])
def test_hosted_tools_in_items_need_a_price_too(kind: str) -> None:
    """Or nobody would have to declare them openly."""
    item = {"type": kind, "role": "developer", "tools": [FUNCTION, SEARCH]}
    outgoing = native([item])
    assert body_of(outgoing)["input"] == [{**item, "tools": [FUNCTION]}]
    assert outgoing.adjusted == ("tools.web_search=dropped",)


def test_hosted_tools_in_namespaces_need_a_price_too() -> None:
    """What stands there beside them stays."""
    outgoing = native(
        tools=[{"type": "namespace", "name": "n", "tools": [SEARCH, FUNCTION]}, FUNCTION]
    )
    assert body_of(outgoing)["tools"] == [
        {"type": "namespace", "name": "n", "tools": [FUNCTION]},
        FUNCTION,
    ]
    assert outgoing.adjusted == ("tools.web_search=dropped",)


def test_a_shell_in_a_container_runs_at_the_vendor() -> None:
    """And one at the client does not."""
    local = [{"type": "shell"}, {"type": "shell", "environment": {"type": "local"}}]
    hosted = [{"type": "shell", "environment": {"type": "container_auto"}}]
    outgoing = native(tools=[*local, *hosted])
    assert body_of(outgoing)["tools"] == local
    assert outgoing.adjusted == ("tools.shell=dropped",)


@pytest.mark.parametrize(
    ("allowed", "choice"),
    [
        ([SEARCH, FUNCTION], {"type": "allowed_tools", "mode": "auto", "tools": [FUNCTION]}),
        ([FUNCTION], {"type": "allowed_tools", "mode": "auto", "tools": [FUNCTION]}),
        ([SEARCH], "none"),
    ],
)
def test_what_is_dropped_cannot_be_chosen(allowed: list[Any], choice: Any) -> None:
    """Of the allowed tools those stay that there are."""
    given = {"type": "allowed_tools", "mode": "auto", "tools": allowed}
    body = sent(tools=[SEARCH, FUNCTION], tool_choice=given)
    assert body["tool_choice"] == choice


@pytest.mark.parametrize(
    ("fields", "include"),
    [
        ({"store": True, "reasoning": {"effort": "low"}}, ["reasoning.encrypted_content"]),
        (
            {"store": True, "reasoning": {"effort": "low"}, "include": ["a"]},
            ["a", "reasoning.encrypted_content"],
        ),
        (
            {
                "store": True,
                "reasoning": {"effort": "low"},
                "include": ["reasoning.encrypted_content"],
            },
            ["reasoning.encrypted_content"],
        ),
        ({"store": False, "reasoning": {"effort": "low"}}, None),
        ({"store": True, "reasoning": {"summary": "auto"}}, None),
        ({"store": True}, None),
    ],
)
def test_thoughts_of_a_response_that_is_kept_can_be_given_back(
    fields: dict[str, Any], include: Any
) -> None:
    """The vendor keeps nothing, so they must come sealed, where the model surely has some."""
    assert sent(**fields).get("include") == include


_NAMES = """
type id role content tools encrypted_content message reasoning compaction function_call
item_reference additional_tools namespace web_search function fb1.AAAA gAAAA name
"""
_WORDS = st.sampled_from(_NAMES.split())
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=5),
    max_leaves=20,
)


@given(st.lists(_JSON, max_size=4))
def test_any_items_go_out_or_are_refused(items: list[Any]) -> None:
    """No crash, nothing of ours or of no price in what goes out, and a second time changes
    nothing.
    """
    try:
        outgoing = native(items)
    except BadRequest:
        return
    body = body_of(outgoing)
    assert not any("fb1." in str(i.get("encrypted_content")) for i in body["input"])
    again = to_native(replace(outgoing.call, hosted_tools=()), AROUND)
    assert again.call.fields == outgoing.call.fields
    assert again.adjusted == ()
