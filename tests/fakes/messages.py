"""A good answer of a fake vendor that speaks the Messages API: the message and its blocks.

What is said is what the same persona says in chat to the same script (answers.py): the request is
put into the form of chat, and the answer out of it. Beside that form's script lines:

    think: TEXT            thinking before the text, where the request asks for it
    search: QUERY          a web search before the text, where the request offers that tool
    finish: REASON         this stop reason; those of chat are put into the words of this API
    usage: {JSON}          in the form of either API; chat's is put into that of Messages

The order of a stream's events is messages_events.py's.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, replace
from typing import Any

from tests.fakes.answers import answer_to, as_json, script_of
from tests.fakes.messages_rules import blocks_of, thinks
from tests.fakes.personas import Body, Persona

Block = dict[str, Any]

# A vendor never gives an id twice; the width is fixed, so that answers of one request differ in
# these digits only.
_numbers = itertools.count(1)
_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


@dataclass(frozen=True)
class Message:
    """A finished message."""

    body: Body
    model: str
    number: str
    content: tuple[Block, ...]
    stop_reason: str | None
    stop_sequence: str | None
    usage: dict[str, Any] | None


def message_to(persona: Persona, body: Body) -> Message:
    """The answer to a request that messages_rules.py has accepted."""
    asked = _as_chat(body)
    whole = as_json(answer_to(replace(persona, thinks=thinks(body)), asked))
    choice = whole["choices"][0]
    number = f"{next(_numbers):06d}"
    query = _query(body, script_of(asked))
    reason = str(choice["finish_reason"])
    stop = (body.get("stop_sequences") or [None])[0] if reason == "stop_sequence" else None
    return Message(
        body,
        whole["model"],
        number,
        tuple(_content(body, number, choice["message"], query)),
        None if reason == "null" else _REASONS.get(reason, reason),
        stop,
        messages_usage(whole.get("usage"), searches=1 if query else 0),
    )


def messages_usage(usage: dict[str, Any] | None, *, searches: int = 0) -> dict[str, Any] | None:
    """Chat's usage in the form of Messages; anything else as it is."""
    if usage is None or "prompt_tokens" not in usage:
        return usage
    given = usage.get("prompt_tokens_details") or {}
    made = usage.get("completion_tokens_details") or {}
    read, written = given.get("cached_tokens") or 0, given.get("cache_write_tokens") or 0
    return {
        "input_tokens": usage["prompt_tokens"] - read - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0},
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"thinking_tokens": made.get("reasoning_tokens") or 0},
        "server_tool_use": {"web_search_requests": searches, "web_fetch_requests": 0},
        "service_tier": "standard",
    }


def message_object(message: Message) -> dict[str, Any]:
    """The message with every key, as it is at its end."""
    return {
        "id": "msg_01" + message.number,
        "type": "message",
        "role": "assistant",
        "model": message.model,
        "content": list(message.content),
        "stop_reason": message.stop_reason,
        "stop_sequence": message.stop_sequence,
        "stop_details": None,
        "usage": message.usage,
    }


def _as_chat(body: Body) -> Body:
    messages: list[dict[str, Any]] = []
    for message in body["messages"]:
        blocks = blocks_of(message)
        if any(block["type"] == "tool_result" for block in blocks):
            messages.append({"role": "tool", "content": json.dumps(message["content"])})
        else:
            parts = [{"text": block.get("text", "")} for block in blocks]
            messages.append({"role": message["role"], "content": parts})
    return {
        "model": body["model"],
        "messages": messages,
        "max_tokens": body["max_tokens"],
        "tools": [
            {"function": {"name": tool["name"]}}
            for tool in body.get("tools") or ()
            if "input_schema" in tool
        ],
        "thinking": {"type": "enabled" if thinks(body) else "disabled"},
    }


def _query(body: Body, script: dict[str, Any]) -> str | None:
    offered = [str(tool.get("type")) for tool in body.get("tools") or ()]
    return script.get("search") if any(t.startswith("web_search") for t in offered) else None


def _content(body: Body, number: str, said: dict[str, Any], query: str | None) -> list[Block]:
    content: list[Block] = []
    if said.get("reasoning_content") and thinks(body):
        content.append(_thinking(body, number, said["reasoning_content"]))
    if query:
        content += _search(number, query)
    if said.get("content"):
        content.append({"type": "text", "text": said["content"]})
    for at, call in enumerate(said.get("tool_calls") or ()):
        function = call["function"]
        content.append(
            {
                "type": "tool_use",
                "id": f"toolu_{number}{at}",
                "name": function["name"],
                "input": json.loads(function["arguments"] or "{}"),
            }
        )
    return content


def _thinking(body: Body, number: str, text: str) -> Block:
    shown = "" if body["thinking"].get("display") == "omitted" else text
    return {"type": "thinking", "thinking": shown, "signature": f"EqQBthoughts{number}"}


def _search(number: str, query: str) -> list[Block]:
    found = {
        "type": "web_search_result",
        "title": "Found",
        "url": "https://example.com/found",
        "encrypted_content": "EqQBfound",
        "page_age": None,
    }
    called = {"name": "web_search", "input": {"query": query}, "caller": {"type": "direct"}}
    return [
        {"type": "server_tool_use", "id": "srvtoolu_" + number, **called},
        {
            "type": "web_search_tool_result",
            "tool_use_id": "srvtoolu_" + number,
            "content": [found],
            "caller": {"type": "direct"},
        },
    ]
