"""What a worker and its ledger say to each other, as values. How they travel is ledger/'s business.

Amounts are nano-credits. Every request is known by its request id, so that it may be sent again.
"""

from __future__ import annotations

import msgspec

from farebox.billing.entry import Entry


class Hold(msgspec.Struct, array_like=True, tag="h", frozen=True, gc=False):
    """Reserve between `least` and `most`. Answer: Held or Refused.

    `budget` is what the key may be charged from `since_us` on; None: it has no budget.
    """

    request_id: str
    account_id: int
    key_id: str
    least: int
    most: int
    budget: int | None = None
    since_us: int = 0


class Extend(msgspec.Struct, array_like=True, tag="x", frozen=True, gc=False):
    """Hold so much more for a call. Answer: Held with the sum, or Refused; what was held stays."""

    request_id: str
    more: int


class Release(msgspec.Struct, array_like=True, tag="r", frozen=True, gc=False):
    """This call will not be settled. No answer; unknown ids are ignored."""

    request_id: str


class Settle(msgspec.Struct, array_like=True, tag="s", frozen=True, gc=False):
    """The call is over. Answer: Settled or NotSettled."""

    entry: Entry


class Delivered(msgspec.Struct, array_like=True, tag="d", frozen=True, gc=False):
    """The clients have the ends of these answers. No answer."""

    request_ids: list[str]


class OpenHold(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A call in flight that an earlier ledger process held for."""

    request_id: str
    account_id: int
    key_id: str
    amount: int
    budget: int | None
    since_us: int


class Resume(msgspec.Struct, array_like=True, tag="o", frozen=True, gc=False):
    """First on every connection: the calls in flight that have been held for. No answer."""

    holds: list[OpenHold]


class Recall(msgspec.Struct, array_like=True, tag="c", frozen=True, gc=False):
    """Give back what nobody needs of an account; an operator wants it. Answer: Recalled."""

    account_id: int


class Held(msgspec.Struct, array_like=True, tag="H", frozen=True, gc=False):
    """So much is held for the call altogether."""

    request_id: str
    amount: int


class Refused(msgspec.Struct, array_like=True, tag="R", frozen=True, gc=False):
    """Nothing (more) is held, and why.

    `credit`: the account has only `room` beside what calls in flight hold, which is `held`, of a
    balance of `balance`. `budget`: the key has only `room` left of its budget. `closed`: the
    account is disabled. `away`: the books cannot be reached.
    """

    request_id: str
    why: str
    least: int = 0
    room: int = 0
    held: int = 0
    balance: int = 0


class Settled(msgspec.Struct, array_like=True, tag="S", frozen=True, gc=False):
    """Committed: what the account paid, and what it could not."""

    request_id: str
    charge: int
    absorbed: int


class NotSettled(msgspec.Struct, array_like=True, tag="N", frozen=True, gc=False):
    """Not charged, and never will be: it cannot be written."""

    request_id: str
    reason: str


class Recalled(msgspec.Struct, array_like=True, tag="C", frozen=True, gc=False):
    """What could be given back of the account has been."""

    account_id: int


Request = Hold | Extend | Release | Settle | Delivered | Resume | Recall
Answer = Held | Refused | Settled | NotSettled | Recalled
