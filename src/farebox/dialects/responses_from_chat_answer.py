"""A whole chat completion as a response object: one piece for the machine that streams feed."""

from __future__ import annotations

import msgspec

from farebox.core.usage import Usage
from farebox.dialects.chat_pieces import put_whole, reasoning_tokens
from farebox.dialects.interpreter import Circumstances, Endings
from farebox.dialects.responses_from_chat import ResponseMaker
from farebox.dialects.responses_shell import Shell, usage_object
from farebox.dialects.responses_to_chat import ToChat


class WholeFromChat:
    """One answer. Raises UpstreamFailed when the body is no chat completion."""

    def __init__(
        self,
        body: bytes,
        shell: Shell,
        sent: ToChat,
        around: Circumstances,
        endings: Endings,
    ) -> None:
        self._shell = shell
        self._maker = ResponseMaker(shell, sent, around)
        self.answer = put_whole(body, sent.call, endings, self._maker)
        shell.service_tier = self.answer.service_tier

    def tail(self, usage: Usage) -> bytes:
        """The response object."""
        _, status, more = self._maker.close()
        told = usage_object(usage, reasoning_tokens(self.answer.usage))
        return msgspec.json.encode(self._shell.object(status, usage=told, **more))
