"""Requests of the Responses API for tests of how they become chat: parsed, translated, decoded."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from farebox.dialects import responses
from farebox.dialects.interpreter import Circumstances
from farebox.dialects.recall import Recall
from farebox.dialects.responses_to_chat import ToChat, to_chat
from farebox.dialects.seal import Seal

ACCOUNT = 7
SEAL = Seal(bytes(range(32)))
PNG = "data:image/png;base64,iVBORw0KGgo="


def around(account_id: int = ACCOUNT, recall: Recall | None = None) -> Circumstances:
    """The circumstances of an account's call."""
    return Circumstances(
        account_id=account_id,
        created_s=1_795_000_000,
        seal=SEAL,
        recall=recall or Recall(),
        now_s=lambda: 1_795_000_001,
    )


def sent(input: Any = "Hi", *, recall: Recall | None = None, **fields: Any) -> ToChat:
    """What is sent for a request of this input and these fields."""
    body = json.dumps({"model": "m", "input": input, **fields}).encode()
    return to_chat(responses.parse(body, "req_1"), around(recall=recall))


def body_of(to: ToChat) -> dict[str, Any]:
    """The chat request, decoded."""
    return {name: msgspec.json.decode(raw) for name, raw in to.call.fields.items()}


def body(input: Any = "Hi", **fields: Any) -> dict[str, Any]:
    """The chat request for a request of this input and these fields."""
    return body_of(sent(input, **fields))


def messages(*items: Any, recall: Recall | None = None, **fields: Any) -> list[dict[str, Any]]:
    """The messages for a request of these items."""
    return body_of(sent(list(items), recall=recall, **fields))["messages"]


def user(content: Any = "Hi") -> dict[str, Any]:
    """A message of the user's, as an item and as a chat message."""
    return {"role": "user", "content": content}


def call(call_id: str, name: str = "f", arguments: str = '{"a":1}', **more: Any) -> dict[str, Any]:
    """A function call, as an item."""
    return {
        "type": "function_call",
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
        **more,
    }


def output(call_id: str, output: Any = "ok") -> dict[str, Any]:
    """The output of a function call, as an item."""
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def called(*calls: tuple[str, str, str], content: Any = "", **more: Any) -> dict[str, Any]:
    """The chat message of calls: id, name, arguments."""
    return {
        "role": "assistant",
        "content": content,
        **more,
        "tool_calls": [
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for call_id, name, arguments in calls
        ],
    }


def result(call_id: str, content: str = "ok") -> dict[str, Any]:
    """The chat message of a call's output."""
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def function(name: str, **more: Any) -> dict[str, Any]:
    """A function as the Responses API declares it."""
    return {"type": "function", "name": name, **more}


def namespace(name: str, *tools: dict[str, Any]) -> dict[str, Any]:
    """A namespace of tools."""
    return {"type": "namespace", "name": name, "description": "Some.", "tools": list(tools)}
