"""Rules of the ledger by name: workers and ledgers that die, other hosts, budgets of keys."""

from __future__ import annotations

import pytest

from farebox.billing import messages as m
from farebox.billing.jobs import Grant, OpenLease, Return, Spending, Spooled
from farebox.billing.ledger import START_S, Ledger
from tests.billing.ledger_desk import Desk
from tests.billing.ledger_hosts import Worker, World
from tests.billing.ledger_store import entry

# Workers that die, and that come again.


def test_what_a_dead_worker_held_is_free() -> None:
    """Its calls are neither charged nor held for."""
    desk = Desk(credits=10)
    desk.held(10)
    desk.host.kill(desk.worker)
    desk.world.drain()
    desk.worker = desk.host.hire()
    request_id = desk.held(10)
    assert desk.answer(request_id) == m.Held(request_id, 10)


def test_a_charge_that_nobody_took_to_the_store_dies_with_its_worker() -> None:
    """The client cannot have the end of that answer."""
    desk = Desk()
    request_id = desk.held(10)
    desk.worker.settle(entry(request_id, 1, 10))
    desk.host.kill(desk.worker)
    desk.world.drain()
    assert desk.store.usage == {}


@pytest.mark.parametrize(("is_delivered", "outcome"), [(True, "complete"), (False, "undelivered")])
def test_a_dead_workers_last_answers_count_as_undelivered(is_delivered: bool, outcome: str) -> None:
    """A call that was charged, of whose client nobody has said that it has the end."""
    desk = Desk()
    request_id = desk.held(10)
    desk.settled(request_id, 10)
    if is_delivered:
        desk.worker.delivered(request_id)
    desk.host.kill(desk.worker)
    desk.world.drain()
    assert desk.store.usage[request_id].outcome == outcome


@pytest.mark.parametrize("is_away", [False, True])
def test_an_answer_told_again_is_the_last_connections_to_deliver(is_away: bool) -> None:
    """Whenever it is seen that the one before has ended; also if the spool has it as a new call."""
    desk = Desk()
    request_id = desk.held(10)
    desk.settled(request_id, 10)
    desk.host.disconnect(desk.worker)
    desk.worker.connect()
    desk.worker.settle(entry(request_id, 1, 10))
    desk.host.take()
    (desk.host.fail if is_away else desk.host.commit)()
    desk.host.hear()
    assert desk.answer(request_id) == m.Settled(request_id, 10, 0)
    desk.worker.delivered(request_id)
    desk.world.drain()
    assert desk.store.usage[request_id].outcome == "complete"


def test_a_charge_on_its_way_when_the_worker_dies_is_undelivered() -> None:
    """It is committed after the death."""
    desk = Desk()
    request_id = desk.held(10)
    desk.worker.settle(entry(request_id, 1, 10))
    desk.host.take()
    desk.host.kill(desk.worker)
    desk.world.drain()
    assert desk.store.usage[request_id].outcome == "undelivered"


@pytest.mark.parametrize("old_first", [True, False])
def test_a_worker_that_connects_again_keeps_its_calls(old_first: bool) -> None:
    """Whether the end of the old connection is seen before the new one or after it."""
    desk = Desk(credits=60)
    held, waiting, settling = desk.held(10), desk.hold(50), desk.held(0)
    desk.worker.settle(entry(settling, 1, 0))
    desk.host.disconnect(desk.worker)
    if old_first:
        desk.host.see_broken()
    desk.worker.connect()
    desk.host.see_broken()
    desk.world.drain()
    assert desk.answer(held) == m.Held(held, 10)
    assert isinstance(desk.answer(waiting), m.Held)
    assert desk.answer(settling) == m.Settled(settling, 0, 0)
    for request_id in (held, waiting):
        desk.worker.release(request_id)
    desk.world.ticks(1)
    assert desk.store.held(1) == 0


def test_a_settlement_on_its_way_is_not_held_for_again() -> None:
    """A worker that connects again names it among its calls, and settles it once more."""
    desk = Desk()
    request_id = desk.held(10)
    desk.worker.settle(entry(request_id, 1, 10))
    desk.host.take()
    desk.host.disconnect(desk.worker)
    desk.worker.connect()
    desk.world.drain()
    desk.world.ticks(1)
    assert desk.answer(request_id) == m.Settled(request_id, 10, 0)
    assert desk.store.held(1) == 0


# A ledger that is killed.


def test_a_new_ledger_knows_what_was_held_before_it_holds_for_others() -> None:
    """A hold that came first waits until the other worker has said what it had held."""
    desk = Desk(credits=30)
    running = desk.held(20)
    other = desk.host.hire()
    desk.host.die()
    other.connect()
    other.hold(m.Hold("req_other", 1, "key", 20, 20))
    desk.world.drain()
    assert "req_other" not in other.last
    desk.worker.connect()
    desk.world.drain()
    refused = other.last["req_other"]
    assert isinstance(refused, m.Refused)
    assert (refused.why, refused.room) == ("credit", 10)
    assert desk.settled(running, 20) == m.Settled(running, 20, 0)


def test_a_new_ledger_does_not_wait_for_a_worker_that_died() -> None:
    """After START_S, others are held for."""
    desk = Desk()
    desk.host.hire()
    desk.host.die()
    desk.worker.connect()
    request_id = desk.hold(10)
    desk.world.ticks(START_S)
    assert desk.answer(request_id) == m.Held(request_id, 10)


def test_a_hold_that_is_given_up_while_a_new_ledger_begins_is_not_made() -> None:
    """Nobody would ever settle it."""
    desk = Desk(credits=10)
    other = desk.host.hire()
    desk.host.die()
    desk.worker.connect()
    desk.worker.release(desk.hold(10))
    other.connect()
    desk.world.drain()
    request_id = desk.held(10)
    assert desk.answer(request_id) == m.Held(request_id, 10)


def test_what_waits_in_the_spool_is_not_held_or_charged_again() -> None:
    """A new ledger counts it as spent, and answers for it."""
    ledger = Ledger()
    ledger.begin([OpenLease(5, 1, 100)], [Spooled("req_1", 5, 60, 3)], 0, 0.0)
    worker = ledger.come()
    ledger.settle(worker, m.Settle(entry("req_1", 1, 63)), 0.0)
    ledger.hold(worker, m.Hold("req_2", 1, "key", 40, 50), 0.0)
    assert worker.answers == [m.Settled("req_1", 60, 3)]
    assert ledger.jobs == [Grant(1, 5, 0, 10, 20, 1)]


@pytest.mark.parametrize("is_told_again", [True, False])
def test_a_charge_that_is_counted_twice_comes_back_with_its_lease(is_told_again: bool) -> None:
    """It was committed, and nobody heard of it. A new ledger is told of it again, while the store
    is away, or finds it in the spool too.
    """
    desk = Desk()
    request_id = desk.held(10)
    desk.worker.settle(entry(request_id, 1, 10))
    desk.host.take()
    if is_told_again:
        desk.host.commit()
    else:
        desk.host.lose_answer()
    desk.host.die()
    desk.worker.connect()
    if is_told_again:
        desk.fail()
    desk.world.ticks(1)
    assert desk.answer(request_id) == m.Settled(request_id, 10, 0)
    assert {lease.state for lease in desk.store.leases.values()} == {"closed"}
    assert desk.store.accounts[1].available == 90


def test_a_second_lease_of_an_earlier_life_is_given_back() -> None:
    """One lease is enough for an account."""
    ledger = Ledger()
    ledger.begin([OpenLease(5, 1, 100), OpenLease(6, 1, 30)], [], 0, 0.0)
    assert ledger.jobs == [Return(6, 1, 30, close=True)]


# Other hosts.


def _two() -> tuple[World, Worker, Worker]:
    world = World(2)
    world.store.credit(1, 100)
    return world, world.hosts[0].hire(), world.hosts[1].hire()


def test_an_idle_lease_of_another_host_pays() -> None:
    """Before anybody is refused, the others give back what nobody needs."""
    world, one, other = _two()
    one.hold(m.Hold("req_1", 1, "key", 10, 60))
    world.drain()
    one.release("req_1")
    assert world.store.accounts[1].available < 50
    other.hold(m.Hold("req_2", 1, "key", 100, 100))
    world.drain()
    assert other.last["req_2"] == m.Held("req_2", 100)


def test_a_charge_is_absorbed_only_when_the_others_have_given_back() -> None:
    """The idle lease of another host pays for what is due above the hold."""
    world, one, other = _two()
    one.hold(m.Hold("req_1", 1, "key", 10, 60))
    world.drain()
    one.release("req_1")
    other.hold(m.Hold("req_2", 1, "key", 1, 1))
    world.drain()
    other.settle(entry("req_2", 1, 110))
    world.drain()
    assert other.last["req_2"] == m.Settled("req_2", 100, 10)


def test_a_recall_is_answered_when_what_is_given_back_has_arrived() -> None:
    """Also what was on its way before the recall came."""
    world, one, _ = _two()
    one.hold(m.Hold("req_1", 1, "key", 10, 60))
    world.drain()
    one.release("req_1")
    host = world.hosts[0]
    world.clock.now_s += 1
    host.ledger.tick(host.now_s)
    host.take()
    host.ledger.recall(1, "token", host.now_s)
    assert host.ledger.recalled == []
    host.commit()
    assert host.ledger.recalled == []
    host.hear()
    assert host.ledger.recalled == ["token"]
    assert world.store.held(1) == 0


def test_what_was_recalled_is_not_taken_again_before_who_recalled_it_has_had_the_time() -> None:
    """Though a call is in flight and somebody hangs up; a moment later there is credit at hand."""
    desk = Desk()
    desk.held(10)
    passing = desk.host.hire()
    desk.world.drain()
    desk.ledger.recall(1, "token", desk.host.now_s)
    desk.host.take()
    desk.host.commit()
    desk.host.hear()
    assert desk.ledger.recalled == ["token"]
    assert desk.store.held(1) == 10
    desk.ledger.recalled.clear()
    desk.host.disconnect(passing)
    desk.host.see_broken()
    desk.world.drain()
    assert desk.store.held(1) == 10
    desk.world.clock.now_s += 1
    desk.held(1)
    assert desk.store.held(1) > 11


def test_what_is_on_its_way_when_it_is_recalled_is_given_back_when_it_arrives() -> None:
    """Who recalled it hears so only then; what calls have taken of it stays."""
    desk = Desk(1000)
    desk.held(10)
    desk.hold(10)  # of what is at hand, and more is asked for ahead of need
    desk.host.take()
    desk.ledger.recall(1, "token", desk.host.now_s)
    assert desk.ledger.recalled == []
    for _ in range(2):
        desk.host.commit()
        desk.host.hear()
        desk.host.take()
    assert desk.ledger.recalled == ["token"]
    assert desk.store.held(1) == 20


def test_a_host_that_is_recalled_while_a_call_waits_is_not_kept_from_answering_it() -> None:
    """It asks for what is missing, and does not give back what it counts on meanwhile."""
    desk = Desk(60)
    desk.settled(desk.held(25), 0)
    desk.world.drain()
    assert 0 < desk.store.held(1) < 60
    request_id = desk.hold(60)
    desk.host.take()
    desk.ledger.recall(1, "token", desk.host.now_s)
    for _ in range(4):
        desk.host.commit()
        desk.host.hear()
        desk.host.take()
    assert desk.answer(request_id) == m.Held(request_id, 60)
    assert desk.ledger.recalled == ["token"]


def test_a_recall_where_nothing_can_be_given_back_is_answered_at_once() -> None:
    """An account that this host knows nothing of, and a store that is away."""
    desk = Desk()
    desk.settled(desk.held(10), 0)
    desk.ledger.recall(7, "nothing", desk.host.now_s)
    assert desk.ledger.recalled == ["nothing"]
    desk.ledger.recall(1, "away", desk.host.now_s)
    desk.fail()
    assert desk.ledger.recalled == ["nothing", "away"]


def test_a_host_that_was_asked_in_vain_asks_again_for_those_who_came_later() -> None:
    """The second call of an account that has nothing recalls as the first did."""
    world, one, _ = _two()
    for request_id in ("req_1", "req_2"):
        one.hold(m.Hold(request_id, 1, "key", 500, 500))
        world.hosts[0].take()
        world.hosts[0].commit()
        world.hosts[0].hear()
        assert world.hosts[0].ledger.recalls == [1]
        world.drain()
        assert isinstance(one.last[request_id], m.Refused)


# Budgets of keys.


def test_a_budget_is_read_once_and_then_kept_here() -> None:
    """Charged, held and on its way: all of it counts."""
    desk = Desk(credits=1000)
    desk.settled(desk.held(10, budget=50), 10)
    second = desk.held(25, budget=50)
    third = desk.held(16, budget=50)
    assert desk.answer(second) == m.Held(second, 25)
    assert desk.answer(third) == m.Refused(third, "budget", 16, 15)
    assert sum(isinstance(job, Spending) for job in desk.store.jobs_done) == 1


def test_a_budget_binds_extensions() -> None:
    """A stream that is held for part by part stays within it."""
    desk = Desk(credits=1000)
    request_id = desk.held(30, budget=50)
    desk.worker.extend(m.Extend(request_id, 21))
    desk.world.drain()
    assert desk.answer(request_id) == m.Refused(request_id, "budget", 21, 20)


def test_a_budget_that_cannot_be_read_is_away_and_not_exceeded() -> None:
    """The next call asks again."""
    desk = Desk()
    first = desk.hold(10, budget=50)
    desk.fail()
    assert desk.answer(first) == m.Refused(first, "away", 10)
    second = desk.held(10, budget=50)
    assert desk.answer(second) == m.Held(second, 10)


def test_a_budget_is_not_forgotten_while_somebody_waits_for_it() -> None:
    """Not read for a minute, since another was first in the row."""
    desk = Desk()
    first, second = desk.hold(10), desk.hold(10, budget=50)
    desk.world.clock.now_s += 100
    desk.ledger.tick(desk.host.now_s)
    desk.world.drain()
    assert desk.answer(first) == m.Held(first, 10)
    assert desk.answer(second) == m.Held(second, 10)


def test_a_budget_that_others_charge_too_is_read_again() -> None:
    """After a second, with more than one host."""
    world, one, other = _two()
    hold = m.Hold("req_1", 1, "key", 10, 10, 50)
    one.hold(hold)
    world.drain()
    other.hold(_again(hold, "req_2"))
    world.drain()
    other.settle(entry("req_2", 1, 35))
    world.drain()
    world.clock.now_s += 2
    one.hold(_again(hold, "req_3"))
    world.drain()
    one.hold(_again(hold, "req_4"))
    world.drain()
    assert one.last["req_4"] == m.Refused("req_4", "budget", 10, 0)


def _again(hold: m.Hold, request_id: str) -> m.Hold:
    return m.Hold(
        request_id, hold.account_id, hold.key_id, hold.least, hold.most, hold.budget, hold.since_us
    )
