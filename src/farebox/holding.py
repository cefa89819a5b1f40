"""What is held for one call: at first, and more of it while its answer grows. Nothing is sent from
here.

A stream whose client named no cap may become as long as the model's longest answer, and mostly
does not. So where all that its upstream writes is seen in the stream, only a part is held at first,
and more is asked for in the background as the answer comes; if there is no more, the answer ends.
Every byte of text is taken for a token, which no byte-level vocabulary exceeds, so that what an
answer costs is always held before it leaves for the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from farebox.admission import Admitted
from farebox.core.ports import Books, HoldRequest
from farebox.dialects.interpreter import Stream
from farebox.dialects.usage import read_usage
from farebox.errors import (
    BillingUnavailable,
    BudgetExceeded,
    FareboxError,
    OutOfCredit,
    Unauthorized,
)
from farebox.vendors.base import Vendor

PART_TOKENS = 4096  # of each choice, at first and each time
NOT_COVERED = (OutOfCredit, BudgetExceeded, Unauthorized, BillingUnavailable)
_CHAT = frozenset(("chat",))
UNSEEN_TOKENS = 512  # marks around thoughts, tool calls and the end, which are no text


class Holding(msgspec.Struct, eq=False):
    """A call's hold. `output_cap` is in tokens a choice, and what upstreams are sent."""

    books: Books
    admitted: Admitted
    nanocredits: int
    output_cap: int
    grows: bool = False
    covered_bytes: int = 0  # of text, that what is held covers for sure; only if it grows
    _tokens: int = 0  # that are held, of all choices; only if it grows
    _asking: asyncio.Task[int] | None = None
    _was_refused: bool = False
    fell_short: bool = False  # no more was to be had

    @property
    def most_output_tokens(self) -> int:
        """What may be charged for an answer that nobody counted: what was held, at most."""
        most = self.output_cap * self.admitted.call.choices
        return min(most, self._tokens) if self.grows else most

    async def cover(self, stream: Stream) -> None:
        """See to it that more is held than has come. It waits only if that is not so. Raises
        one of NOT_COVERED when no more is to be had; then what came last is not to leave.
        """
        if self.grows and not self.covers(stream):
            await self._grow(stream, stream.text_bytes + UNSEEN_TOKENS)
            self.covered_bytes = stream.text_bytes

    def covers(self, stream: Stream) -> bool:
        """Whether a hold that grows is so much more than has come that cover() need not be called
        yet.
        """
        come = stream.text_bytes + UNSEEN_TOKENS
        if come * 5 > self._tokens * 4 and not self._is_full:  # four fifths
            return False
        self.covered_bytes = stream.text_bytes
        return True

    def close(self) -> None:
        """The call is over: what is being asked for is not wanted any more."""
        asking, self._asking = self._asking, None
        if asking is not None and not asking.cancel() and not asking.cancelled():
            asking.exception()  # whatever it was

    async def _grow(self, stream: Stream, come: int) -> None:
        if self._asking is not None and self._asking.done():
            self._was_refused = self._take_answer() is not None
        if self._is_full:
            return
        if come <= self._tokens:
            if self._asking is None and not self._was_refused:
                self._ask(come)
            return
        if stream.whole and stream.usage is not None:  # then it need not be guessed
            told = read_usage(stream.usage, self.admitted.model.context).usage
            come = come if told is None else told.output + told.audio_output
        while come > self._tokens and not self._is_full:
            asking = self._asking or self._ask(come)
            await asyncio.wait({asking})
            refusal = self._take_answer()
            if refusal is not None:
                self.fell_short = True
                raise refusal

    @property
    def _is_full(self) -> bool:
        """Whether no answer within the cap can cost more."""
        return self._tokens >= self.output_cap * self.admitted.call.choices

    def _ask(self, come: int) -> asyncio.Task[int]:
        choices = self.admitted.call.choices
        short = max(PART_TOKENS, -(-(come - self._tokens) // choices))
        cap = min(self.output_cap, self._tokens // choices + short)
        more = self.admitted.bound.nanocredits(cap) - self.nanocredits
        extending = self.books.extend(self.admitted.call.request_id, max(0, more))
        self._asking = asyncio.ensure_future(extending)
        return self._asking

    def _take_answer(self) -> FareboxError | None:
        """More is held now, or why not."""
        asking, self._asking = self._asking, None
        assert asking is not None
        try:
            self.nanocredits = asking.result()
        except OutOfCredit as error:
            return OutOfCredit(
                "The answer was ended here: more of it than has come is not covered by the balance."
                " Add credits, or ask for a shorter answer with a cap on its tokens.",
                status=error.status,
            )
        except FareboxError as error:
            return error
        self._tokens = _tokens(self.admitted, self.nanocredits)
        return None


def first_tokens(admitted: Admitted, find_vendor: Callable[[str], Vendor]) -> int:
    """Of each choice, how many to hold for before a call is sent: the cap, or a part of it."""
    cap = admitted.output_cap
    if admitted.call.stream and cap > PART_TOKENS and _may_grow(admitted, find_vendor):
        return PART_TOKENS
    return cap


def held(
    books: Books, admitted: Admitted, tokens: int, wanted: HoldRequest, nanocredits: int
) -> Holding:
    """So much was held of what was wanted for as many `tokens` as first_tokens() says."""
    if nanocredits < wanted.most_nanocredits:
        # There is no more to be had: the answer is to end by itself.
        return Holding(books, admitted, nanocredits, admitted.cap_for(nanocredits))
    cap = admitted.output_cap
    if tokens == cap:
        return Holding(books, admitted, nanocredits, cap)
    return Holding(books, admitted, nanocredits, cap, True, 0, _tokens(admitted, nanocredits))


def _may_grow(admitted: Admitted, find_vendor: Callable[[str], Vendor]) -> bool:
    """Whether it shows as it comes what a stream costs: it is text, and none of it is hidden."""
    call = admitted.call
    return (
        call.output_cap is None
        and admitted.bound.per_token_exact > 0
        and not (call.audio_output or call.hosted_tools)
        and admitted.wires == _CHAT
        and all(find_vendor(each.channel.vendor).shows_all_output for each in admitted.channels)
    )


def _tokens(admitted: Admitted, nanocredits: int) -> int:
    affordable = admitted.bound.affordable_tokens(nanocredits)
    assert affordable is not None  # what costs nothing does not grow
    return affordable * admitted.call.choices
