"""The store against an oracle of plain dictionaries, over sequences that Hypothesis makes up."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from farebox.core.ports import Settled
from farebox.errors import OutOfCredit
from farebox.store import open_store
from tests.store.bookkeeping import broken_invariants, hold_request, settlement

AMOUNTS = st.integers(0, 60)
OWNERS = st.sampled_from(["w1", "w2"])


@dataclass
class Payer:
    """What the oracle knows of an account."""

    limit: int
    available: int
    spent: int = 0
    holds: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])

    @property
    def room(self) -> int:
        return self.available + self.limit


class Ledger(RuleBasedStateMachine):
    """Accounts with calls in flight; after each step the store says what the oracle says."""

    payers = Bundle("payers")
    requests = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = open_store(f"sqlite:///{self.folder.name}/f.db", Path(self.folder.name))
        self.oracle: dict[int, Payer] = {}
        self.settled: dict[str, Settled] = {}
        self.count = 0

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    @rule(target=payers, credits=AMOUNTS, limit=st.integers(0, 20))
    def open_account(self, credits: int, limit: int) -> int:
        self.count += 1
        made = self.store.create_account(
            f"a{self.count}", credits_nanocredits=credits, credit_limit_nanocredits=limit
        )
        self.oracle[made.id] = Payer(limit, credits)
        return made.id

    @rule(target=requests, payer=payers, least=AMOUNTS, more=AMOUNTS, owner=OWNERS)
    def hold(self, payer: int, least: int, more: int, owner: str) -> tuple[str, int]:
        self.count += 1
        request_id = f"req_{self.count}"
        known = self.oracle[payer]

        def act() -> int:
            return self.store.hold(hold_request(request_id, payer, least, least + more), owner)

        held = min(least + more, known.room)
        if self.expect_out_of_credit(act, refused=held < least, result=held):
            known.available -= held
            known.holds[request_id] = (owner, held)
        return request_id, payer

    @rule(request=requests, due=AMOUNTS)
    def settle(self, request: tuple[str, int], due: int) -> None:
        request_id, payer = request
        known = self.oracle[payer]
        if request_id not in self.settled:
            known.available += known.holds.pop(request_id, ("", 0))[1]
            charge = min(due, known.room)
            known.available -= charge
            known.spent += charge
            self.settled[request_id] = Settled(charge, due - charge)
        assert self.store.settle(settlement(request_id, payer, due)) == self.settled[request_id]

    @rule(payer=payers, amount=st.integers(1, 60))
    def credit(self, payer: int, amount: int) -> None:
        self.store.credit(payer, amount, "more")
        self.oracle[payer].available += amount

    @rule(payer=payers, amount=st.integers(1, 60))
    def debit(self, payer: int, amount: int) -> None:
        known = self.oracle[payer]

        def act() -> None:
            self.store.debit(payer, amount, "less")

        if self.expect_out_of_credit(act, refused=amount > known.room, result=None):
            known.available -= amount

    @rule(owner=OWNERS)
    def release(self, owner: str) -> None:
        released = 0
        for known in self.oracle.values():
            for request_id, (holder, amount) in list(known.holds.items()):
                if holder == owner:
                    known.available += amount
                    del known.holds[request_id]
                    released += 1
        assert self.store.release_holds(owner) == released

    @invariant()
    def the_store_says_what_the_oracle_says(self) -> None:
        for account in self.store.accounts():
            known = self.oracle[account.id]
            held = sum(amount for _, amount in known.holds.values())
            assert (
                account.available_nanocredits,
                account.held_nanocredits,
                account.spent_nanocredits,
            ) == (known.available, held, known.spent)

    @invariant()
    def the_books_add_up(self) -> None:
        assert broken_invariants(self.store.path) == {}

    @staticmethod
    def expect_out_of_credit(act: Callable[[], object], *, refused: bool, result: object) -> bool:
        """Whether it was done, as it should have been, with this result."""
        if refused:
            with pytest.raises(OutOfCredit):
                act()
            return False
        assert act() == result
        return True


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=20, stateful_step_count=40)
