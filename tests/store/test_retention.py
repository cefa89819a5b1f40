"""Single calls at the end of their time: dropped by whole hours, after those were proved right."""

import pytest

from farebox.admin import receipts, usage
from farebox.admin.audit import audit
from farebox.core import clock, ids
from farebox.errors import NotFound
from farebox.store import Store
from farebox.store.reports import HOUR_US
from tests.charging import priced, settle, stock, used
from tests.store.bookkeeping import read

CALLS = "SELECT request_id FROM usage ORDER BY created_us, request_id"


@pytest.fixture
def old(either: Store) -> Store:
    """Calls of nine, six and three hours ago, and one of now."""
    stock(either)
    now_us = clock.now_us()
    for n in range(4):
        call = priced(request_id=f"req_{n}", created_us=now_us - (9 - 3 * n) * HOUR_US)
        settle(either, call)
    return either


def drop(store: Store, before_us: int) -> int:
    """As the gateway does it every hour."""
    return sum(store.drop_hour(hour_us, 5) for hour_us in store.hours_to_drop(before_us))


def test_only_sealed_hours_are_dropped(old: Store) -> None:
    """However old they are: who was not proved right is kept."""
    later_us = clock.now_us() + 10 * HOUR_US
    assert drop(old, later_us) == 0
    audit(old)
    assert drop(old, later_us) == 3
    assert read(old, CALLS) == [("req_3",)]
    assert drop(old, later_us) == 0


def test_whole_hours_are_dropped_once_their_last_moment_is_old_enough(old: Store) -> None:
    """The hour that the limit falls into is kept whole."""
    audit(old)
    hour_us = read(old, "SELECT min(hour_us) FROM usage_hours")[0][0]
    assert drop(old, hour_us + HOUR_US - 1) == 0
    assert drop(old, hour_us + HOUR_US) == 1
    assert read(old, "SELECT hour_us FROM sealed_hours WHERE dropped_us = 5") == [(hour_us,)]


def test_sums_money_and_audit_stay_as_they_were(old: Store) -> None:
    """Nothing but single calls is gone."""
    audit(old)
    before = usage.usage(old)
    was, money = (before["rows"], before["total"]), old.accounts()
    assert drop(old, clock.now_us()) == 3
    after = usage.usage(old)
    assert ((after["rows"], after["total"]), old.accounts()) == (was, money)
    for full in (False, True):
        assert audit(old, full=full)["ok"]
    assert audit(old, full=True)["calls"] == 1


def test_a_dropped_hour_is_still_proved_by_its_seal(old: Store) -> None:
    """An edited sum is found without the calls. One that came from a spool since is no defect."""
    audit(old)
    drop(old, clock.now_us())
    hour_us = read(old, "SELECT min(hour_us) FROM usage_hours")[0][0]
    settle(old, priced(request_id="req_late", created_us=hour_us, usage=used(3)))
    assert audit(old, full=True)["ok"]
    old.drive(lambda tables: tables.execute("UPDATE usage_hours SET output = output + 1"), 1000)
    found = audit(old)["invariants"][4]
    assert (found["id"], found["ok"]) == ("I5", False)


def test_a_seal_that_was_taken_away_keeps_the_calls(old: Store) -> None:
    """A late charge came between the look and the drop."""
    audit(old)
    hour_us = old.hours_to_drop(clock.now_us())[0]
    settle(old, priced(request_id="req_late", created_us=hour_us))
    assert old.drop_hour(hour_us, 5) == 0
    assert len(read(old, CALLS)) == 5


def test_the_receipt_of_a_dropped_call_says_how_long_they_are_kept(store: Store) -> None:
    """By the time in its id, so that it tells nothing of whose it was; others are unknown."""
    stock(store)
    then_us = clock.now_us() - 5 * HOUR_US
    request_id = ids.new_request_id(then_us * 1000)
    settle(store, priced(request_id=request_id, created_us=then_us))
    audit(store)
    assert receipts.show(store, request_id)["account"] == "ann"
    drop(store, clock.now_us())
    for asked in (request_id, request_id.replace("req_", "resp_")):
        with pytest.raises(NotFound, match="Single calls are kept for 90 days"):
            receipts.show(store, asked, 2, 90)
    with pytest.raises(NotFound, match="The id is the x-request-id"):
        receipts.show(store, ids.new_request_id(clock.now_ns()))
