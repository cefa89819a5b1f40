"""The table of dialects. What is asked of one is interpreter.py's."""

from __future__ import annotations

from collections.abc import Mapping

from farebox.dialects.chat_interpreter import ChatInterpreter
from farebox.dialects.interpreter import Dialect
from farebox.dialects.messages_interpreter import MessagesInterpreter
from farebox.dialects.responses_interpreter import ResponsesInterpreter

DIALECTS: Mapping[str, Dialect] = {
    "chat": ChatInterpreter,
    "messages": MessagesInterpreter,
    "responses": ResponsesInterpreter,
}
