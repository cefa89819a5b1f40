"""A whole chat completion as a response object: one piece for the machine that streams feed."""

from __future__ import annotations

import msgspec

from farebox.core.usage import Usage
from farebox.dialects.chat_answer import Answer, read_answer
from farebox.dialects.chat_mend import NOTHING, Choice, Chunk, Delta, Mender
from farebox.dialects.interpreter import Circumstances, Endings
from farebox.dialects.responses_from_chat import Maker, reasoning_tokens
from farebox.dialects.responses_shell import Shell, usage_object
from farebox.dialects.responses_to_chat import ToChat
from farebox.errors import UpstreamFailed


class _Choice(msgspec.Struct):
    message: Delta | None = None
    finish_reason: str | None = None
    logprobs: msgspec.Raw = NOTHING


class _Completion(msgspec.Struct):
    choices: list[_Choice]


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
        answer = read_answer(body, sent.call, endings.standard, endings.failing)
        self._shell = shell
        self._usage = answer.usage
        self._maker = Maker(shell, sent, around)
        self.answer = Answer(
            b"", answer.usage, answer.service_tier, answer.text_bytes, answer.error, ()
        )
        shell.service_tier = answer.service_tier
        if answer.error is not None:
            return
        try:
            self._take(answer.body, sent, endings)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise UpstreamFailed(
                "The upstream's answer is no chat completion.", reason="bad_answer"
            ) from error

    def _take(self, body: bytes, sent: ToChat, endings: Endings) -> None:
        choices = msgspec.json.decode(body, type=_Completion).choices
        for choice in choices[:1]:
            message = choice.message or Delta()
            for n, call in enumerate(message.tool_calls or ()):
                call.index = n  # each is whole, also where two have one id
            whole = Choice(0, message, choice.finish_reason, choice.logprobs)
            mender = Mender(sent.call.request_id, endings.standard, endings.failing)
            mender.judge(Chunk(choices=[whole]))
            piece = self._maker.read(whole)
            if piece is not None:
                self._maker.put(piece)
        self._maker.check()

    def tail(self, usage: Usage) -> bytes:
        """The response object."""
        _, status, more = self._maker.close()
        told = usage_object(usage, reasoning_tokens(self._usage))
        return msgspec.json.encode(self._shell.object(status, usage=told, **more))
