"""Whatever comes, what is sent keeps chat's rules, or the request is refused in words."""

from __future__ import annotations

import json
import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from farebox.errors import BadRequest
from tests.dialects.translating import body, call, function, messages, output, sent, user
from tests.values import typed_values

IMAGE = {"type": "input_image", "image_url": "https://x/y.png"}
_IDS = st.sampled_from(["c1", "c2", "c3", "c1_2"])
_TEXT = st.sampled_from(["", "a", "b"])
_OUTPUTS = st.one_of(_TEXT, st.lists(st.sampled_from([IMAGE, {"type": "text", "text": "x"}])))
_ITEMS = st.one_of(
    st.builds(call, _IDS, st.sampled_from(["f", "g"])),
    st.builds(output, _IDS, _OUTPUTS),
    st.builds(
        lambda role, content: {"role": role, "content": content},
        st.sampled_from(["user", "assistant", "system", "developer"]),
        _TEXT,
    ),
    st.builds(
        lambda text: {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}]},
        _TEXT,
    ),
    st.builds(
        lambda call_id, name: {
            "type": "custom_tool_call",
            "call_id": call_id,
            "name": name,
            "input": "x",
        },
        _IDS,
        st.sampled_from(["f", "h"]),
    ),
    st.just({"type": "additional_tools", "tools": [function("g")]}),
    st.just({"type": "web_search_call", "id": "ws_1"}),
)


@given(st.lists(_ITEMS, max_size=14))
def test_messages_keep_chats_rules(items: list[dict[str, Any]]) -> None:
    """Every call has its result, at once and once; the system speaks once first; no answer is
    empty; and no text is lost.
    """
    said = messages(user("!"), *items, instructions="I")
    assert said[0] == {"role": "system", "content": "I"}
    open_ids: list[str] = []
    for message in said:
        if message["role"] == "tool":
            assert message["tool_call_id"] == open_ids.pop(0)
            assert isinstance(message["content"], str)
            continue
        assert open_ids == []
        assert message["role"] in ("system", "user", "assistant")
        if message["role"] == "assistant":
            assert message["content"] or message["tool_calls"]
            open_ids = [tool_call["id"] for tool_call in message.get("tool_calls", [])]
            assert len(set(open_ids)) == len(open_ids)
    assert open_ids == []
    calls = [item for item in items if item.get("type", "").endswith("_call")]
    made = [tool_call for message in said for tool_call in message.get("tool_calls", [])]
    assert len(made) == len([item for item in calls if item["type"] != "web_search_call"])
    told = json.dumps(said)
    assert told.count("image_url") >= (1 if IMAGE["image_url"] in json.dumps(items) else 0)


@given(st.lists(_ITEMS, max_size=8), st.lists(_ITEMS, max_size=4))
def test_what_was_sent_is_sent_again_alike(
    first: list[dict[str, Any]], more: list[dict[str, Any]]
) -> None:
    """A longer conversation begins as the shorter did up to its last answer, so that vendors find
    it in their caches.
    """
    before = messages(user("!"), *first, user("?"))
    after = messages(user("!"), *first, user("?"), *more)
    if any(item.get("type") == "function_call_output" for item in more):
        return  # a result that was missing may have come
    assert after[: len(before)] == before


_LIKELY = typed_values(
    types="""
    message reasoning function_call function_call_output custom_tool_call custom_tool_call_output
    tool_search_call tool_search_output additional_tools compaction compaction_trigger
    context_compaction configuration_update item_reference agent_message web_search_call poem
    input_text output_text refusal input_image input_file input_audio encrypted_content
    function custom namespace tool_search allowed_tools json_schema grammar user assistant system
    """,
    names="""
    type role content text refusal image_url file_id file_data detail call_id name namespace
    arguments input output tools parameters description format definition strict execution
    encrypted_content summary reasoning effort id mode schema
    """,
)


def _refusal(input: Any, **fields: Any) -> BadRequest | None:
    """Why it is refused; else what is sent is checked to be what can be."""
    try:
        to = sent(input, **fields)
    except BadRequest as error:
        return error
    for raw in to.call.fields.values():
        json.loads(bytes(raw))
    assert all(" " not in note and note.endswith("=dropped") for note in to.adjusted)
    return None


@given(st.lists(_LIKELY, max_size=4))
def test_any_items_are_sent_or_refused(items: list[Any]) -> None:
    """Nothing else comes of them, and a refusal says where to look."""
    refusal = _refusal(items)
    assert refusal is None or (refusal.param or "").startswith("input")


@given(st.lists(_LIKELY, max_size=4), _LIKELY)
def test_any_tools_are_sent_or_refused(tools: list[Any], choice: Any) -> None:
    """With any choice of them."""
    refusal = _refusal("Hi", tools=tools, tool_choice=choice)
    assert refusal is None or (refusal.param or "").startswith("tool")


@given(
    st.dictionaries(
        st.sampled_from(["instructions", "reasoning", "text", "top_p", "include", "top_logprobs"])
        | st.text(max_size=4),
        _LIKELY,
        max_size=4,
    )
)
def test_any_fields_are_sent_or_refused(fields: dict[str, Any]) -> None:
    """Of whatever names."""
    refusal = _refusal("Hi", **fields)
    assert refusal is None or refusal.message


def test_a_long_conversation_takes_linear_time() -> None:
    """Also where ids and names are the same again and again: about a second for this one, and
    minutes if each item were compared with all others.
    """
    turns = 5000
    items = [
        item
        for n in range(turns)
        for item in (user(), call("c"), call("c"), output("c"), call(f"c{n}"), output("x"))
    ]
    tools = [function(f"a.{n}") for n in range(turns)] + [function("a_" + "b" * 70)] * turns
    began_s = time.process_time()
    body([*items, *[call("c")] * turns], tools=tools)
    assert time.process_time() - began_s < 20


def test_many_kinds_of_tools_take_linear_time() -> None:
    """None of which chat has: half a second, and half a minute if each were looked for among all
    others.
    """
    began_s = time.process_time()
    body("Hi", tools=[{"type": f"kind_{n}"} for n in range(60_000)])
    assert time.process_time() - began_s < 10
