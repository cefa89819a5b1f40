"""What chat upstreams may answer, for tests of what other dialects make of it."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.dialects.streaming import body_of, choice, chunk, finished, said

A_CALL = "call_aaaaaaaaaaaa"
B_CALL = "call_bbbbbbbbbbbb"
TEXTS = st.text(st.sampled_from('ab é你🙂"\\\n'), min_size=1, max_size=6)

# Streams that break off or are none, and what is made of them: failure, error.
BROKEN: list[tuple[list[bytes], str | None, Any]] = [
    ([body_of(said("Hi"))], None, None),
    ([body_of(said("Hi"), finished("network_error"))], "finish_network_error", None),
    ([b"data: <html>\n\n"], "bad_event", None),
    ([body_of(said("Hi"), {"error": {"message": "x"}})], None, {"message": "x"}),
    ([b"data: " + b"x" * 2_000_000], "event_too_large", None),
]
NO_COMPLETIONS: list[dict[str, Any]] = [
    {},
    {"choices": None},
    {"choices": [{"message": 5}]},
    {"choices": {}},
]


def thought(text: str) -> dict[str, Any]:
    """A chunk with a piece of reasoning."""
    return chunk(choice({"reasoning_content": text}))


def called(
    n: int = 0, call_id: str | None = None, name: str | None = None, arguments: str = ""
) -> dict[str, Any]:
    """A piece of the tool call `n`."""
    call: dict[str, Any] = {"index": n, "function": {"arguments": arguments}}
    if call_id:
        call |= {"id": call_id, "type": "function"}
    if name:
        call["function"]["name"] = name
    return chunk(choice({"tool_calls": [call]}))


def completion(message: dict[str, Any], finish: str = "stop", **more: Any) -> dict[str, Any]:
    """A chat completion of one choice."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "up",
        "choices": [{"index": 0, "message": message, "finish_reason": finish, **more}],
    }


def pieces(names: list[str], arguments: st.SearchStrategy[str]) -> st.SearchStrategy[list[Any]]:
    """Chunks of every kind in any order, with calls of tools of these names."""
    return st.lists(
        st.one_of(
            TEXTS.map(said),
            TEXTS.map(thought),
            st.builds(
                called,
                st.integers(0, 2),
                st.sampled_from([None, A_CALL, B_CALL, "call_1"]),
                st.sampled_from([None, *names]),
                arguments,
            ),
            TEXTS.map(lambda text: chunk(choice({"refusal": text}))),
            st.just(b": keep-alive\n\n"),
        ),
        max_size=8,
    )


def messages(
    names: list[str], arguments: st.SearchStrategy[str], *, unique_ids: bool = False
) -> st.SearchStrategy[dict[str, Any]]:
    """Messages of whole answers, with calls of tools of these names."""
    calls = st.builds(
        lambda n, name, arguments: {
            "id": f"call_aaaaaaaaaaa{n}",
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        },
        st.integers(0, 9),
        st.sampled_from(names),
        arguments,
    )
    unique_by = (lambda call: call["id"]) if unique_ids else None
    return st.fixed_dictionaries(
        {"role": st.just("assistant"), "content": st.none() | st.text(max_size=5)},
        optional={
            "reasoning_content": st.text(max_size=5),
            "refusal": st.none() | st.text(max_size=5),
            "tool_calls": st.lists(calls, max_size=3, unique_by=unique_by),
        },
    )
