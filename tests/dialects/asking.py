"""Requests of the Messages API for tests of how they become chat: parsed, translated, decoded."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from farebox.core.call import Call
from farebox.dialects import messages as dialect
from farebox.dialects.messages_to_chat import MessagesToChat, messages_to_chat
from farebox.dialects.recall import Recall
from farebox.errors import BadRequest
from tests.dialects.translating import around

PNG = "iVBORw0KGgo="
PDF = "JVBERi0xLjQK"
MARK = {"type": "ephemeral"}
ANY = {"type": "object", "properties": {}}  # the schema of a function that takes nothing
# What the least of them are in chat: a use's arguments, a picture's part, a document's file.
F = '{"a":1}'
SEEN = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
FILE = {"file_data": f"data:application/pdf;base64,{PDF}", "filename": "document.pdf"}


def call_for(*messages: Any, **fields: Any) -> Call:
    """A call of these messages and fields."""
    body = {
        "model": "m",
        "max_tokens": 100,
        "messages": list(messages) or [user()],
        **fields,
    }
    return dialect.parse(json.dumps(body).encode(), "req_1")


def sent(
    *messages: Any, marks: bool = False, recall: Recall | None = None, **fields: Any
) -> MessagesToChat:
    """What is sent for them; `marks`: to an upstream that takes cache_control."""
    return messages_to_chat(
        call_for(*messages, **fields), around(recall=recall), cache_control=marks
    )


def body_of(to: MessagesToChat) -> dict[str, Any]:
    """The chat request, decoded."""
    return {name: msgspec.json.decode(raw) for name, raw in to.call.fields.items()}


def body(*messages: Any, **fields: Any) -> dict[str, Any]:
    """The chat request for these messages and fields."""
    return body_of(sent(*messages, **fields))


def chat(*messages: Any, **fields: Any) -> list[dict[str, Any]]:
    """Its messages."""
    return body_of(sent(*messages, **fields))["messages"]


def refused(*messages: Any, **fields: Any) -> BadRequest:
    """Why it cannot be sent."""
    with pytest.raises(BadRequest) as caught:
        sent(*messages, **fields)
    return caught.value


def user(*content: Any) -> dict[str, Any]:
    """A message of the user's: one text or several blocks."""
    return {"role": "user", "content": _content(content)}


def assistant(*content: Any) -> dict[str, Any]:
    """The same of the model's."""
    return {"role": "assistant", "content": _content(content)}


def system(content: Any, **more: Any) -> dict[str, Any]:
    """A message of the system's, also as chat has it."""
    return {"role": "system", "content": content, **more}


def _content(content: tuple[Any, ...]) -> Any:
    if not content:
        return "Hi"
    return content[0] if len(content) == 1 and isinstance(content[0], str) else list(content)


def text(text: str, **more: Any) -> dict[str, Any]:
    """A text block, which is also a text part."""
    return {"type": "text", "text": text, **more}


def use(use_id: str = "toolu_1", name: str = "f", **more: Any) -> dict[str, Any]:
    """A use of a tool."""
    return {"type": "tool_use", "id": use_id, "name": name, "input": {"a": 1}, **more}


def result(use_id: str = "toolu_1", content: Any = "ok", **more: Any) -> dict[str, Any]:
    """What it gave."""
    return {"type": "tool_result", "tool_use_id": use_id, "content": content, **more}


def image(**source: Any) -> dict[str, Any]:
    """A picture, of a PNG's bytes or of this source."""
    default = {"type": "base64", "media_type": "image/png", "data": PNG}
    return {"type": "image", "source": source or default}


def document(source: Any = None, **more: Any) -> dict[str, Any]:
    """A document, a PDF or of this source."""
    default = {"type": "base64", "media_type": "application/pdf", "data": PDF}
    return {"type": "document", "source": source or default, **more}


def tool(name: str = "f", **more: Any) -> dict[str, Any]:
    """A tool of the client's."""
    return {"name": name, "input_schema": {"type": "object", "properties": {}}, **more}


def returned(use_id: str = "toolu_1", content: Any = "ok") -> dict[str, Any]:
    """The chat message of what a call gave."""
    return {"role": "tool", "tool_call_id": use_id, "content": content}


def function(name: str = "f", parameters: Any = None, **more: Any) -> dict[str, Any]:
    """A function as chat declares it."""
    inner = {"name": name, "parameters": ANY if parameters is None else parameters}
    return {"type": "function", "function": {**inner, **more}}
