"""What an upstream was told, in whichever dialect it was told it."""

from __future__ import annotations

import json
from typing import Any

from tests.fakes.upstream import Recorded


def turns(recorded: Recorded) -> list[tuple[str, Any]]:
    """The conversation of a chat or of Messages as one list: what was thought, called, returned
    and shown, and under a role's name what was said.
    """
    found: list[tuple[str, Any]] = []
    for message in recorded.body["messages"]:
        content, role = message.get("content"), message["role"]
        if message.get("reasoning_content"):
            found.append(("thought", message["reasoning_content"]))
        if role == "tool":
            found.append(("returned", (message["tool_call_id"], content)))
            continue
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        found += [_turn(role, block) for block in blocks or () if block.get("text") != ""]
        found += [
            ("called", (each["id"], json.loads(each["function"]["arguments"])))
            for each in message.get("tool_calls", ())
        ]
    return found


def _turn(role: str, block: dict[str, Any]) -> tuple[str, Any]:
    match block["type"]:
        case "thinking":
            return "thought", block["thinking"]
        case "tool_use":
            return "called", (block["id"], block["input"])
        case "tool_result":
            return "returned", (block["tool_use_id"], block["content"])
        case "image":
            return "image", block["source"]["data"]
        case "image_url":
            return "image", block["image_url"]["url"].partition(",")[2]
        case _:
            return role, block["text"]


def of(recorded: Recorded, kind: str) -> list[Any]:
    """What there is of one kind."""
    return [what for each, what in turns(recorded) if each == kind]
