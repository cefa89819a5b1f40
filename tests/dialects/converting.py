"""Chats for tests of their way to the Responses API, and what becomes of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from farebox.core.call import Call
from farebox.dialects import chat
from farebox.dialects.chat_to_responses import chat_to_responses
from farebox.dialects.interpreter import Outgoing
from farebox.errors import BadRequest
from tests.fakes.personas import PERSONAS
from tests.fakes.responses_rules import refuses, violations

HI = {"role": "user", "content": "Hi"}


def call_for(*messages: Any, **fields: Any) -> Call:
    """A call of chat."""
    body = {"model": "m", "messages": list(messages) or [HI], **fields}
    return chat.parse(json.dumps(body).encode(), "req_1")


def outgoing(*messages: Any, **fields: Any) -> Outgoing:
    """The same on its way to an upstream that speaks Responses."""
    return chat_to_responses(call_for(*messages, **fields))


def body_for(*messages: Any, **fields: Any) -> dict[str, Any]:
    """The request as it would be sent, accepted by an upstream as strict as OpenAI."""
    sent = outgoing(*messages, **fields).call.fields
    body = {name: json.loads(bytes(raw)) for name, raw in sent.items()}
    assert refuses(PERSONAS["openai"], body) is None
    assert violations(body) == []
    return body


def refused(*messages: Any, **fields: Any) -> BadRequest:
    """Why it cannot go there."""
    with pytest.raises(BadRequest) as caught:
        outgoing(*messages, **fields)
    return caught.value
