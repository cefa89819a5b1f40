"""What becomes of any request whatever: a chat as the strictest upstream takes it, or a refusal
that says where to look; and in how much time.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from farebox.errors import BadRequest
from tests.dialects.asking import (
    MARK,
    assistant,
    body,
    body_of,
    document,
    image,
    result,
    sent,
    text,
    tool,
    use,
    user,
)
from tests.dialects.translating import ACCOUNT, SEAL
from tests.values import typed_values

_LIKELY = typed_values(
    types="""
    text image document search_result tool_use tool_result thinking redacted_thinking compaction
    server_tool_use web_search_tool_result container_upload tool_reference browser_state fallback
    tool_addition tool_removal tool_definition base64 url file content ephemeral 1h custom
    bash_20250124 memory_20250818 computer_20250124 web_search_20250305 mcp_toolset auto any tool
    none enabled disabled adaptive omitted json_schema user assistant system toolu_1 low max
    """,
    names="""
    type role content text source data media_type url file_id title context citations id name input
    tool_use_id is_error thinking signature cache_control ttl tool definition tabs tool_name
    input_schema description strict disable_parallel_tool_use budget_tokens display effort format
    schema output_config clear_at
    """,
)
_BLOCK = st.sampled_from(
    [
        text("a"),
        text("b", cache_control=MARK),
        image(),
        document(),
        document({"type": "content", "content": [text("c"), image()]}, title="T"),
        result("t1"),
        result("t1", [text("r", cache_control=MARK), image()], is_error=True),
        result("t2", None),
        use("t1"),
        use("t2", "g" * 70),
        {"type": "thinking", "thinking": "", "signature": SEAL.seal(ACCOUNT, "reasoning", "Hm.")},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}},
        {"type": "compaction", "content": "All."},
    ]
)
_ANY_MESSAGE = st.builds(
    lambda role, content: {"role": role, "content": content},
    st.sampled_from(["user", "assistant", "system"]),
    st.lists(_BLOCK | _LIKELY, max_size=4) | st.text(max_size=3),
) | _LIKELY.filter(lambda value: isinstance(value, dict))


@st.composite
def _conversations(draw: st.DrawFn) -> list[Any]:
    """What both sides might say, with results for all uses of tools, and now and then a block
    that cannot be.
    """
    messages: list[Any] = []
    for _ in range(draw(st.integers(1, 3))):
        said = draw(st.lists(_BLOCK, max_size=4))
        said = [b for b in said if b["type"] not in ("image", "document", "tool_result")]
        ids = [b["id"] for b in said if b["type"] == "tool_use"]
        results = [result(i, draw(st.sampled_from(["r", None, [image()]]))) for i in ids]
        heard = draw(st.lists(_BLOCK, max_size=2))
        heard = [b for b in heard if b["type"] in ("text", "image", "document")]
        messages += [assistant(*said), user(*draw(st.permutations(results + heard)))]
        messages += draw(st.lists(st.just({"role": "system", "content": [text("s")]}), max_size=1))
    if draw(st.integers(0, 9)) == 0:
        messages.insert(draw(st.integers(0, len(messages))), draw(_ANY_MESSAGE))
    return messages


def _refusal(*messages: Any, marks: bool = False, **fields: Any) -> BadRequest | None:
    """Why it is refused; else what is sent is checked to be what can be."""
    try:
        to = sent(*messages, marks=marks, **fields)
    except BadRequest as error:
        return error
    _check_chat(body_of(to)["messages"], marks=marks)
    assert all(" " not in note and note.endswith("=dropped") for note in to.adjusted)
    return None


def _check_chat(messages: list[Any], *, marks: bool) -> None:
    """Each call has its result right behind it, and contents are what their roles may hold."""
    waiting: list[str] = []
    end: dict[str, Any] = {"role": "end"}
    for message, after in pairwise([*messages, end]):
        role, content = message["role"], message["content"]
        kinds = {part["type"] for part in content} if isinstance(content, list) else set[str]()
        marked = [p for p in content if "cache_control" in p] if kinds else []
        assert role == "user" or kinds <= {"text"}
        assert marks or not marked
        assert marked or role == "user" or not kinds
        if role == "tool":
            assert message["tool_call_id"] == waiting.pop(0)
        waiting += [call["id"] for call in message.get("tool_calls", [])]
        assert (after["role"] == "tool") == bool(waiting)


@given(st.lists(_ANY_MESSAGE, min_size=1, max_size=4) | _conversations(), st.booleans())
def test_any_messages_are_sent_or_refused(messages: list[Any], marks: bool) -> None:
    """Nothing else comes of them, and a refusal says where to look."""
    refusal = _refusal(*messages, marks=marks)
    assert refusal is None or (refusal.param or "").startswith("messages")


@given(_LIKELY | st.lists(_BLOCK | _LIKELY, max_size=4))
def test_any_system_is_sent_or_refused(system: Any) -> None:
    """As its messages are."""
    refusal = _refusal(system=system)
    assert refusal is None or (refusal.param or "").startswith("system")


@given(st.lists(_LIKELY, max_size=4), _LIKELY)
def test_any_tools_are_sent_or_refused(tools: list[Any], choice: Any) -> None:
    """With any choice of them."""
    refusal = _refusal(tools=tools, tool_choice=choice)
    assert refusal is None or (refusal.param or "").startswith("tool")


@given(
    st.dictionaries(
        st.sampled_from(
            ["thinking", "output_config", "output_format", "stop_sequences", "top_p", "metadata",
             "cache_control", "context_management", "container", "mcp_servers", "stream"]
        )
        | st.text(max_size=4),
        _LIKELY,
        max_size=4,
    )
)  # fmt: skip
def test_any_fields_are_sent_or_refused(fields: dict[str, Any]) -> None:
    """Of whatever names."""
    refusal = _refusal(**fields)
    assert refusal is None or refusal.message


def test_a_long_conversation_takes_linear_time() -> None:
    """Also where ids and names are the same again and again: about a second for this one, and
    minutes if each message were compared with all others.
    """
    turns = 5000
    blob = SEAL.seal(ACCOUNT, "reasoning", "Hm.")
    thought = {"type": "thinking", "thinking": "Hm.", "signature": blob}
    messages = [
        message
        for n in range(turns)
        for message in (
            user(result("c"), result(f"c{n}", [text("x"), image()])) if n else user(),
            {"role": "system", "content": "x", "clear_at": "next_user_message"},
            assistant(thought, text("a"), use("c"), use(f"c{n + 1}", name="g" * 70 + str(n))),
        )
    ]
    uses = [use(f"d{n}") for n in range(turns)]
    results = [result(f"d{n}") for n in range(turns)]
    wide = {"type": "object", "properties": {f"p{n}": {} for n in range(turns)}}
    wide |= {"required": list(wide["properties"]), "additionalProperties": False}
    tools = [tool(f"a.{n}") for n in range(turns)] + [tool("a_" + "b" * 70)] * turns
    began_s = time.process_time()
    body(
        *messages,
        user(result("c"), result(f"c{turns}")),
        assistant(*uses),
        user(*results),
        tools=[*tools, tool(input_schema=wide, strict=True)],
    )
    assert time.process_time() - began_s < 20
