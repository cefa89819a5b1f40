"""Every streamed message has a role, which clients send back with it in the next turn."""

from __future__ import annotations

import json
from typing import Any

import pytest

from farebox.dialects.chat import parse
from farebox.dialects.chat_stream import ChatStream

CALL = b'{"model": "m", "stream": true, "messages": [{"role": "user", "content": "hi"}]}'


def passed_on(*deltas: dict[str, Any]) -> list[dict[str, Any]]:
    """The deltas that leave when an upstream sends these for the choice 0."""
    stream = ChatStream(parse(CALL, "req_1"), {}, frozenset(), 1 << 20)
    sent = b""
    for delta in deltas:
        choice = {"index": 0, "delta": delta, "finish_reason": None}
        chunk = {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}
        sent += stream.feed(b"data: " + json.dumps(chunk).encode() + b"\n\n")
    events = [part for part in sent.split(b"\n\n") if part]
    return [json.loads(part[6:])["choices"][0]["delta"] for part in events]


@pytest.mark.parametrize("first", [{"content": "你"}, {"role": "", "content": "你"}])
def test_a_message_whose_first_delta_has_no_role_is_the_assistants(first: dict[str, Any]):
    """llama.cpp leaves it out when the first token is only a part of a Chinese character."""
    assert passed_on(first, {"content": "好"}) == [
        {"role": "assistant", "content": "你"},
        {"content": "好"},
    ]


def test_a_role_that_comes_late_is_not_repeated():
    assert passed_on({"content": "a"}, {"role": "assistant", "content": "b"}) == [
        {"role": "assistant", "content": "a"},
        {"content": "b"},
    ]


def test_a_role_that_comes_first_passes_as_it_is():
    role = {"role": "assistant", "content": ""}
    assert passed_on(role, {"content": "a"}) == [role, {"content": "a"}]
