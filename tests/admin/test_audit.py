"""The proof of the books: whole books pass, each defect is found where it is and nowhere else."""

import sqlite3
from contextlib import closing
from typing import Any

import pytest

from farebox.admin import audit, catalogue
from farebox.billing.entry import entry_of
from farebox.billing.jobs import Grant, Granted, Post
from farebox.core import clock
from farebox.core.usage import Usage
from farebox.store import Store
from farebox.store.reports import HOUR_US
from tests.charging import DOCUMENT, books_of, priced, settle, stock, used
from tests.store.bookkeeping import read, write


def report(store: Store, *, full: bool = False) -> dict[str, Any]:
    return audit.audit(store, full=full)


def broken(store: Store, *, full: bool = False) -> dict[str, int]:
    """How many findings each invariant has that does not hold."""
    return {
        each["id"]: len(each["rows"]) + each["more"]
        for each in report(store, full=full)["invariants"]
        if not each["ok"]
    }


def rows_of(store: Store, name: str, *, full: bool = False) -> list[dict[str, Any]]:
    """What it shows of one invariant."""
    return next(
        each["rows"] for each in report(store, full=full)["invariants"] if each["id"] == name
    )


@pytest.fixture
def books(either: Store) -> Store:
    """A store with calls of two accounts, now and of three hours ago; a lease that is half spent;
    and a call that its account could not pay.
    """
    stock(either)
    now_us = clock.now_us()
    for n in range(6):
        account_id = 1 + n % 2
        settle(
            either,
            priced(
                request_id=f"req_{n}",
                account_id=account_id,
                key_id=f"key_{account_id}",
                model=f"m-{1 + n % 2}",
                created_us=now_us - n % 3 * 3 * HOUR_US,
                usage=used(n),
            ),
        )
    ledger = books_of(either)
    (lease,) = ledger.do([Grant(1, None, 1, 1_000_000, 1_000_000, 1)])
    assert isinstance(lease, Granted)
    call = priced(request_id="req_open", created_us=now_us, usage=used(9))
    ledger.do([Post(entry_of(call), lease.lease_id, call.due_nanocredits - 7, 7)])
    return either


def test_whole_books_pass(books: Store) -> None:
    """Every invariant holds; the answer has the contract's shape; calls were priced again."""
    found = report(books)
    assert found["ok"]
    assert [each["id"] for each in found["invariants"]] == [f"I{n}" for n in range(1, 9)]
    assert {(each["ok"], *each["rows"], each["more"]) for each in found["invariants"]} == {
        (True, 0)
    }
    assert found["calls"] == 7
    assert report(books, full=True)["ok"]


def test_an_empty_store_passes(either: Store) -> None:
    """There is nothing to be wrong."""
    assert report(either)["ok"]


OPEN = "(SELECT max(hour_us) FROM usage_hours)"
DEFECTS: dict[str, tuple[str, str]] = {
    "credits from nowhere": ("I1", "UPDATE accounts SET credited = credited + 1 WHERE id = 1"),
    "a top-up without its account": (
        "I1",
        "UPDATE transfers SET credit = 'account:2' WHERE kind = 'top_up' AND account_id = 1",
    ),
    "a transfer between wrong sides": (
        "I1",
        "UPDATE transfers SET debit = 'operator:gifts' WHERE kind = 'top_up' AND account_id = 1",
    ),
    "a floor above the balance": (
        "I2",
        "UPDATE accounts SET credit_limit = -100000000000 WHERE id = 2",
    ),
    "an hour of a lease that is too dear": (
        "I3",
        "UPDATE lease_hours SET charge = charge + 1 WHERE lease_id = 1",
    ),
    "an hour of a lease with a call too many": (
        "I3",
        f"UPDATE lease_hours SET calls = calls + 1 WHERE hour_us = {OPEN}",
    ),
    "a closed lease with something left": (
        "I3",
        "UPDATE leases SET granted = granted + 5 WHERE id = 1",
    ),
    "a call of a lease that never was": (
        "I3",
        "UPDATE usage SET lease_id = 99 WHERE request_id = 'req_0'",
    ),
    "a call that is charged to nothing": (
        "I3",
        "UPDATE usage SET lease_id = NULL WHERE request_id = 'req_0'",
    ),
    "a call that was rejected and written": (
        "I4",
        """INSERT INTO settle_rejected (request_id, entry, error, created_us)
        VALUES ('req_1', '[]', 'bad', 1)""",
    ),
    "a roll-up with a token too many": (
        "I5",
        f"UPDATE usage_hours SET output = output + 1 WHERE hour_us = {OPEN} AND account_id = 1",
    ),
    "a roll-up with a call too few": (
        "I5",
        f"UPDATE usage_hours SET calls = calls - 1 WHERE hour_us = {OPEN} AND account_id = 1",
    ),
    "a roll-up of a key that is not there": ("I5", "DELETE FROM keys WHERE id = 'key_2'"),
    "what was absorbed, too low": (
        "I6",
        "UPDATE transfers SET amount = amount - 1 WHERE kind = 'absorbed'",
    ),
    "a call at another rate than its own": (
        "I8",
        "UPDATE usage SET rate_ppm = 900000 WHERE request_id = 'req_0'",
    ),
    "a call of a version that has no prices": (
        "I8",
        "UPDATE usage SET price_version = 77 WHERE request_id = 'req_0'",
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_breaks_its_own_invariant_alone(books: Store, defect: str) -> None:
    """One row changed past the store: that invariant fails, with a row to show, and no other."""
    name, statement = DEFECTS[defect]
    change = [statement]
    if name in ("I2", "I6") or "lease with something" in defect:
        change = _without_checks(books, statement)
    for each in change:
        write(books, each)
    found = broken(books)
    assert list(found) == [name]
    assert rows_of(books, name)


def _without_checks(store: Store, statement: str) -> list[str]:
    """The change as a defect below the schema would make it: past its checks."""
    if not store.is_postgresql:
        return ["PRAGMA ignore_check_constraints = ON", statement]
    return [
        "ALTER TABLE accounts DROP CONSTRAINT accounts_credit_limit",
        "ALTER TABLE accounts DROP CONSTRAINT accounts_above_floor",
        statement,
    ]


def test_the_findings_name_the_row(books: Store) -> None:
    """A call that was priced otherwise: which, what it paid, what it costs."""
    write(books, "UPDATE usage SET rate_ppm = 2000000 WHERE request_id = 'req_0'")
    (row,) = rows_of(books, "I8")
    paid = priced(usage=used(0)).due_nanocredits
    assert row == {
        "request_id": "req_0",
        "account_id": 1,
        "model": "m-1",
        "created_at": row["created_at"],
        "price_version": 1,
        "paid_nanocredits": paid,
        "costs_nanocredits": 2 * paid,
    }


def test_an_account_that_is_gone_is_missed(store: Store) -> None:
    """The roll-ups refer to no account by the schema, so the audit looks."""
    stock(store)
    settle(store, priced(account_id=2, key_id="key_2", created_us=clock.now_us()))
    write(store, "PRAGMA foreign_keys = OFF")
    write(store, "UPDATE usage_hours SET account_id = 9")
    assert rows_of(store, "I1")[-1]["account_id"] == 9


def test_a_transfer_of_no_account_is_missed(either: Store) -> None:
    """On PostgreSQL the schema would not keep it out, and the pair of lines looks right."""
    stock(either)
    statement = """
        INSERT INTO transfers (account_id, kind, debit, credit, amount, calls, created_us)
        VALUES (9, 'top_up', 'operator:credits', 'account:9', 5, 0, 1)
    """
    if either.is_postgresql:
        write(either, statement)
    else:
        with closing(sqlite3.connect(either.path)) as database, database:
            database.execute(statement)  # which looks at no references unless it is told to
    assert list(broken(either)) == ["I1"]
    (row,) = rows_of(either, "I1")
    assert (row["account_id"], row["transfers"]) == (9, 1)


def test_an_open_lease_of_an_owner_that_has_gone_is_found(either: Store) -> None:
    """With PostgreSQL by its heartbeat; with SQLite no clock is asked. Draining ones are noted."""
    stock(either)
    ledger = books_of(either, "own_gone")
    ledger.do([Grant(1, None, 1, 1000, 1000, 1)])
    assert report(either)["ok"]
    write(either, "UPDATE owners SET heartbeat_us = 1")
    assert broken(either) == ({"I7": 1} if either.is_postgresql else {})
    write(either, "UPDATE leases SET state = 'draining'")
    found = report(either)
    notes = [note for each in found["invariants"] for note in each["notes"]]
    assert (found["ok"], notes) == (
        True,
        [
            {
                "note": "draining",
                "lease_id": 1,
                "account": "ann",
                "owner": "own_gone",
                "unspent_nanocredits": 1000,
            }
        ],
    )


def test_lost_leases_are_accounted_for(either: Store) -> None:
    """What an owner took with it is a transfer of its own, and everything adds up with it."""
    stock(either)
    books_of(either, "own_gone").do([Grant(1, None, 1, 1000, 1000, 1)])
    write(either, "UPDATE owners SET heartbeat_us = 1")
    assert len(either.lose("own_gone", lambda _: True)) == 1
    assert report(either, full=True)["ok"]
    write(either, "UPDATE transfers SET amount = 999 WHERE kind = 'lost'")
    assert set(broken(either)) == {"I1", "I3"}


def test_calls_that_were_let_off_cost_nothing(store: Store) -> None:
    """Nothing is due of a failed call, whatever was counted of it."""
    stock(store)
    settle(
        store,
        priced(created_us=clock.now_us(), due_nanocredits=0, outcome="upstream_failed"),
    )
    assert report(store)["ok"]


def test_calls_are_priced_by_their_own_version(store: Store) -> None:
    """A price that changed since is not theirs."""
    stock(store)
    settle(store, priced(created_us=clock.now_us()))
    model = DOCUMENT["models"][0] | {"price": {"input": "9", "output": "9"}}
    catalogue.apply(store, DOCUMENT | {"models": [model]}, "file", "f.toml")
    assert report(store, full=True)["ok"]


# Sealed hours.


def sealed(store: Store) -> list[tuple[int, int]]:
    return [
        (hour_us, calls)
        for hour_us, calls in read(store, "SELECT hour_us, calls FROM sealed_hours ORDER BY 1")
    ]


def test_hours_that_are_over_are_sealed_once(books: Store) -> None:
    """Two hours after its end an hour is looked at for the last time, unless all are asked for."""
    first = report(books)
    hours = {
        row[0] for row in read(books, "SELECT hour_us FROM usage_hours")
    }  # now, and three and six hours ago
    assert (first["sealed"], first["calls"]) == (2, 7)
    assert [hour_us for hour_us, _ in sealed(books)] == sorted(hours)[:2]
    second = report(books)
    assert (second["ok"], second["sealed"], second["calls"]) == (True, 0, 3)
    assert report(books, full=True)["calls"] == 7


@pytest.mark.parametrize("column", ["cache_read", "charge", "calls"])
def test_a_sealed_roll_up_that_was_edited_is_found(books: Store, column: str) -> None:
    """By the seal alone: the calls of the hour are not read again."""
    assert report(books)["sealed"] == 2
    write(
        books,
        f"UPDATE usage_hours SET {column} = {column} + 1"
        f" WHERE hour_us = (SELECT min(hour_us) FROM usage_hours) AND account_id = 1",
    )
    assert "I5" in broken(books)
    (row,) = rows_of(books, "I5")
    assert row["sealed_hour"].endswith(":00:00.000Z")


def test_a_call_of_a_sealed_hour_that_was_edited_is_found_by_a_full_audit(books: Store) -> None:
    """Its roll-ups are as they were, so only who reads all calls sees it."""
    report(books)
    write(books, "UPDATE usage SET output = output + 1 WHERE request_id = 'req_2'")
    assert broken(books) == {}
    assert set(broken(books, full=True)) == {"I5", "I8"}


def test_a_late_charge_takes_the_seal_away(books: Store) -> None:
    """A call that waited in some spool comes to an hour that was sealed: it is looked at again."""
    report(books)
    before = sealed(books)
    settle(books, priced(request_id="req_late", created_us=before[0][0] + 5))
    assert sealed(books) == before[1:]
    assert (report(books)["sealed"], sealed(books)[0]) == (1, (before[0][0], before[0][1] + 1))
    assert report(books, full=True)["ok"]


def test_a_seal_that_a_clock_made_which_was_ahead_raises_no_alarm(books: Store) -> None:
    """Calls go on coming to the hour; it is sealed when it is over."""
    report(books)
    before, now_us = sealed(books), clock.now_us()
    with books.hour(now_us // HOUR_US * HOUR_US) as hour:
        assert books.seal_hour(hour.seal(), now_us + 5 * HOUR_US)
    settle(books, priced(request_id="req_next", created_us=now_us))
    assert broken(books) == {}
    assert sealed(books) == before


def test_an_hour_that_is_not_right_is_not_sealed(books: Store) -> None:
    """It is looked at until it is."""
    write(books, "UPDATE usage SET rate_ppm = 1 WHERE request_id = 'req_1'")
    assert report(books)["sealed"] == 1
    assert report(books)["sealed"] == 0
    write(books, "UPDATE usage SET rate_ppm = 1000000 WHERE request_id = 'req_1'")
    assert report(books)["sealed"] == 1


def test_calls_that_were_priced_lately_are_priced_once_more_with_their_hour(books: Store) -> None:
    """Who audits all the time need not price them each time, but each hour before its seal."""
    found = audit.audit(books, priced_until_us=clock.now_us() + HOUR_US)
    assert (found["ok"], found["sealed"], found["calls"]) == (True, 2, 4)
    assert audit.audit(books, priced_until_us=1)["calls"] == 3
    assert audit.audit(books, full=True, priced_until_us=clock.now_us() + 1)["calls"] == 7


def test_an_hour_that_changed_meanwhile_is_not_sealed(books: Store) -> None:
    """Between the look and the seal a charge arrived: the next look seals it."""
    hour_us = min(books.hours_to_audit(full=False))
    with books.hour(hour_us) as hour:
        seal = hour.seal()
    settle(books, priced(request_id="req_late", created_us=hour_us))
    assert not books.seal_hour(seal, 1)
    assert sealed(books) == []


# How much is shown, and when it stops.


def test_no_more_than_a_hundred_rows_are_shown(store: Store) -> None:
    """Of more, how many there are beside them."""
    stock(store)
    now_us = clock.now_us()
    for n in range(103):
        settle(store, priced(request_id=f"req_{n}", created_us=now_us, usage=Usage(output=1)))
    write(store, "UPDATE usage SET rate_ppm = 3")
    (found,) = [each for each in report(store)["invariants"] if not each["ok"]]
    assert (found["id"], len(found["rows"]), found["more"]) == ("I8", 100, 3)


def test_an_audit_can_be_stopped(books: Store) -> None:
    """At the next hour, or within a large one."""
    with pytest.raises(audit.AuditStopped):
        audit.audit(books, stopped=lambda: True)
