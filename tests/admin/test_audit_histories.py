"""The proof of the books after whatever a ledger process and an operator may have done."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given, settings
from hypothesis import strategies as st

from farebox.admin import accounts
from farebox.admin.audit import audit
from farebox.billing.entry import entry_of
from farebox.billing.jobs import Grant, Granted, Job, Post, Return
from farebox.core import clock
from farebox.core.account import Key
from farebox.store import Store
from farebox.store.reports import HOUR_US
from tests.charging import books_of, priced, settle, stock, used


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    """What a ledger process and an operator may do, one after the other."""
    kinds = st.sampled_from(
        ("grant", "post", "again", "short", "give back", "close", "top up", "undo")
    )
    return draw(st.lists(st.tuples(kinds, st.integers(1, 2), st.integers(1, 60_000)), max_size=12))


class History:
    """Two accounts of a store that others use too, and what is done to them."""

    def __init__(self, store: Store, number: int) -> None:
        self.store, self.number, self.calls = store, number, 0
        names = [f"a{number}", f"b{number}"]
        for name in names:
            accounts.create(store, name, credits="0.0001")
        self.ids = [account.id for account in store.accounts() if account.name in names]
        self.books = books_of(store)
        self.leases: dict[int, int] = {}
        self.jobs: list[Job] = []

    def do(self, kind: str, which: int, amount: int) -> None:
        """One step; what cannot be done is a step too."""
        account_id = self.ids[which - 1]
        lease_id = self.leases.get(account_id)
        steps: dict[str, Callable[[], None]] = {
            "grant": lambda: self._grant(account_id, amount),
            "post": lambda: self._post(account_id, lease_id, amount, absorb=0),
            "short": lambda: self._post(account_id, lease_id, amount, absorb=3),
            "again": self._again,
            "give back": lambda: self._back(account_id, lease_id, amount, close=False),
            "close": lambda: self._back(account_id, lease_id, amount, close=True),
            "undo": lambda: self._undo(account_id, amount),
            "top up": lambda: self._top_up(account_id, amount),
        }
        steps[kind]()

    def _grant(self, account_id: int, amount: int) -> None:
        (found,) = self.books.do(
            [Grant(account_id, self.leases.get(account_id), 1, amount, 2 * amount, 1)]
        )
        assert isinstance(found, Granted)
        if found.lease_id is not None:
            self.leases[account_id] = found.lease_id

    def _post(self, account_id: int, lease_id: int | None, hours: int, absorb: int) -> None:
        if lease_id is None:
            return
        self.calls += 1
        call = priced(
            request_id=f"req_{self.number}_{self.calls}",
            account_id=account_id,
            key_id="key_1" if account_id == 1 else f"key_{account_id}",
            created_us=clock.now_us() - hours % 7 * HOUR_US,
            usage=used(hours),
        )
        due = call.due_nanocredits
        self.jobs = [Post(entry_of(call), lease_id, due - absorb, absorb)]
        self.books.do(self.jobs)

    def _again(self) -> None:
        self.books.do(self.jobs)

    def _back(self, account_id: int, lease_id: int | None, amount: int, *, close: bool) -> None:
        if lease_id is not None:
            self.books.do([Return(lease_id, account_id, amount, close=close)])

    def _top_up(self, account_id: int, amount: int) -> None:
        self.store.credit(account_id, amount, "more")
        self.store.debit(account_id, amount, "less")

    def _undo(self, account_id: int, amount: int) -> None:
        self.store.refund(account_id, amount, "sorry")
        last = self.store.transfers(account_id, 1)[0]
        self.store.correct(last.id, "not sorry")


NUMBERS = iter(range(1, 1_000_000))


def test_all_holds_after_any_history(either: Store) -> None:
    """Grants, charges, the same again, what cannot be paid, returns and top-ups in any order."""
    stock(either, ())

    @settings(max_examples=40)  # each has an audit of all that those before it left
    @given(histories())
    def holds(steps: list[tuple[str, int, int]]) -> None:
        history = History(either, next(NUMBERS))
        _give_keys(either, history.ids)
        for step in steps:
            history.do(*step)
        found = audit(either, full=True)
        assert [each for each in found["invariants"] if not each["ok"]] == []

    holds()


def _give_keys(store: Store, account_ids: list[int]) -> None:
    for account_id in account_ids:
        digest = account_id.to_bytes(32, "big")
        store.create_key(Key(f"key_{account_id}", account_id, digest), "sk-fb-…")


def test_there_are_no_false_alarms_beside_a_writer(either: Store) -> None:
    """Audits while calls are charged, some of them in hours that are being sealed."""
    stock(either)
    now_us = clock.now_us()

    def charge() -> None:
        for n in range(60):
            created_us = now_us - n % 4 * HOUR_US
            settle(either, priced(request_id=f"req_{n}", created_us=created_us, usage=used(n)))

    audits = 0
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(charge)
        while not writing.done() or not audits:
            found = audit(either, full=audits % 2 == 1)
            assert [each for each in found["invariants"] if not each["ok"]] == []
            audits += 1
        writing.result()
    assert audit(either, full=True)["calls"] == 60
