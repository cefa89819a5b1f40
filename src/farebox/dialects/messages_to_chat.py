"""A call of the Messages API as the chat completion that says the same: the request's direction.

This file maps the fields; tools, content and turns are in the files that begin with its name. What
an upstream answers is read by messages_from_chat.py. Sources: Anthropic's SDK for Python,
`MessageCreateParams` with and without its betas; OpenAI's OpenAPI document,
`CreateChatCompletionRequest`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from farebox.core.call import Call
from farebox.dialects.chat_tools import Tool

__all__ = ["MessagesToChat", "Tool"]


@dataclass(frozen=True, slots=True)
class MessagesToChat:
    """What is sent in a call's place. `tools` are the client's by the names that the upstream
    knows them by. Who does not see thinking gets no blocks of it; who omits it gets their
    signatures alone.
    """

    call: Call
    adjusted: tuple[str, ...]  # what the client would miss, such as `tools.web_search=dropped`
    tools: Mapping[str, Tool]
    shows_thinking: bool
    omits_thinking: bool
    stop_sequences: tuple[str, ...]
