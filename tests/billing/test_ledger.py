"""Rules of the ledger by name: holds, charges, leases, a store that is away. That they hold
together, test_ledger_machine.py shows.
"""

from __future__ import annotations

from farebox.billing import messages as m
from farebox.billing.credit import MOST_BACK
from farebox.billing.jobs import Grant, Return
from tests.billing.ledger_desk import Desk
from tests.billing.ledger_store import entry

# Holds.


def test_a_hold_is_of_a_lease_and_the_next_need_not_ask() -> None:
    """The first call's grant brings as much again, from which the second is held for at once."""
    desk = Desk()
    first = desk.held(10)
    assert desk.answer(first) == m.Held(first, 10)
    asked = len(desk.store.jobs_done)
    second = desk.hold(10)
    assert desk.answer(second) == m.Held(second, 10)
    assert desk.jobs_since(asked) == []


def test_a_hold_takes_what_there_is_between_least_and_most() -> None:
    """A call that would like more than the account has gets all of it, and not less than least."""
    desk = Desk(credits=30)
    request_id = desk.held(10, 50)
    assert desk.answer(request_id) == m.Held(request_id, 30)
    assert desk.store.accounts[1].available == 0


def test_a_refusal_names_what_there_is_and_what_calls_in_flight_hold() -> None:
    """`room` is what is beside the holds, `held` what they hold, `balance` both."""
    desk = Desk(credits=30, limit=5)
    desk.held(20)
    request_id = desk.held(16)
    assert desk.answer(request_id) == m.Refused(
        request_id, "credit", least=16, room=15, held=20, balance=30
    )


def test_a_credit_limit_is_spent_as_credit_and_not_beyond() -> None:
    """An account of 10 with a limit of 5 is held for 15, and the next is refused."""
    desk = Desk(credits=10, limit=5)
    first, second = desk.held(15), desk.held(1)
    assert desk.answer(first) == m.Held(first, 15)
    assert isinstance(desk.answer(second), m.Refused)
    assert desk.store.accounts[1].available == -5


def test_a_disabled_account_is_refused_as_closed() -> None:
    """Nothing more is held for; what is in flight is charged."""
    desk = Desk()
    running = desk.held(10, 10)
    desk.store.accounts[1].is_open = False
    request_id = desk.held(50)
    answer = desk.answer(request_id)
    assert isinstance(answer, m.Refused)
    assert answer.why == "closed"
    assert desk.settled(running, 10) == m.Settled(running, 10, 0)


def test_a_disabled_account_pays_what_a_call_cost_above_its_hold() -> None:
    """It was disabled meanwhile, and has the credit: nothing is absorbed, and no more is leased."""
    desk = Desk()
    running = desk.held(10)
    desk.store.accounts[1].is_open = False
    waiting = desk.hold(5)
    assert desk.settled(running, 90) == m.Settled(running, 90, 0)
    assert isinstance(desk.answer(waiting), m.Held | m.Refused)
    assert isinstance(desk.answer(desk.held(10)), m.Refused)


def test_a_disabled_account_pays_for_a_call_whose_lease_was_lost() -> None:
    """All of it, although what the store grants at first is only what the lost lease had not."""
    desk = Desk(credits=40)
    running = desk.held(0, 1)
    desk.store.lose(1)
    desk.store.accounts[1].is_open = False
    assert desk.settled(running, 3) == m.Settled(running, 3, 0)


def test_a_lease_that_has_less_than_was_thought_is_given_back_and_pays() -> None:
    """A call was written, and nobody heard so: for all that the ledger knows, it was not."""
    desk = Desk()
    desk.host.has_spool = False
    unheard = desk.held(60)
    desk.worker.settle(entry(unheard, 1, 40))
    desk.host.take()
    desk.host.lose_answer()
    desk.host.hear()
    assert desk.answer(unheard) == m.NotSettled(unheard, "away")
    assert desk.settled(desk.held(60), 60) == m.Settled("req_2", 60, 0)
    assert [lease.unspent for lease in desk.store.leases.values()] == [0, 0]


def test_many_leases_that_are_idle_go_back_some_at_a_time() -> None:
    """A call that needs a grant meanwhile need not wait for all of them."""
    desk = Desk()
    accounts = range(1, 2 * MOST_BACK + 2)
    for account_id in accounts:
        desk.store.credit(account_id, 100, 0)
        desk.worker.hold(m.Hold(f"req_of_{account_id}", account_id, "key", 10, 10))
    desk.world.drain()
    for account_id in accounts:
        desk.worker.release(f"req_of_{account_id}")
    gave_back: list[int] = []
    for _ in range(4):
        desk.world.clock.now_s += 5
        desk.ledger.tick(desk.host.now_s)
        gave_back.append(sum(isinstance(job, Return) for job in desk.ledger.jobs))
        desk.world.drain()
    assert gave_back == [MOST_BACK, MOST_BACK, 1, 0]
    assert desk.ledger.is_empty


def test_one_who_came_after_the_question_is_not_refused_by_its_answer() -> None:
    """A grant that brings too little is for those it was asked for; the next asks anew."""
    desk = Desk(credits=10)
    first = desk.hold(20)
    desk.host.take()
    desk.host.commit()
    desk.store.credit(1, 50)
    second = desk.hold(40)
    desk.host.hear()
    assert isinstance(desk.answer(first), m.Refused)
    desk.world.drain()
    assert desk.answer(second) == m.Held(second, 40)


def test_one_who_wants_too_much_does_not_spoil_it_for_the_next() -> None:
    """Of two that were asked for together, the one that the account can pay is held for."""
    desk = Desk(credits=30)
    first, second = desk.hold(50), desk.hold(20)
    desk.world.drain()
    assert isinstance(desk.answer(first), m.Refused)
    assert desk.answer(second) == m.Held(second, 20)


def test_many_holds_at_once_are_one_grant() -> None:
    """What gathers while a grant is on its way is asked for together."""
    desk = Desk(credits=1000)
    desk.hold(10)
    desk.host.take()
    for _ in range(20):
        desk.hold(10)
    desk.world.drain()
    assert sum(isinstance(job, Grant) for job in desk.store.jobs_done) == 2
    assert len(desk.worker.held) == 21


def test_an_extension_is_held_beside_the_rest() -> None:
    """The answer is the sum; what a refused one held stays."""
    desk = Desk(credits=30)
    request_id = desk.held(10)
    desk.worker.extend(m.Extend(request_id, 15))
    desk.world.drain()
    assert desk.answer(request_id) == m.Held(request_id, 25)
    desk.worker.extend(m.Extend(request_id, 15))
    desk.world.drain()
    assert isinstance(desk.answer(request_id), m.Refused)
    assert desk.settled(request_id, 25) == m.Settled(request_id, 25, 0)


def test_a_budget_forgets_what_a_lost_lease_held_when_more_is_held() -> None:
    """Once the call is over, all that it has not cost is there for the key's next call."""
    desk = Desk()
    first, other = desk.held(20, budget=50), desk.held(1)
    desk.store.lose(1)
    desk.settled(other, 0)
    assert desk.settled(desk.held(1), 1) == m.Settled("req_3", 1, 0)
    desk.worker.extend(m.Extend(first, 5))
    desk.world.drain()
    assert desk.answer(first) == m.Held(first, 5)
    assert desk.settled(first, 5) == m.Settled(first, 5, 0)
    assert isinstance(desk.answer(desk.held(40, budget=50)), m.Held)


def test_a_released_hold_is_free_for_those_who_wait() -> None:
    """A call that waits is held for when another is given up, if only that can pay for it."""
    desk = Desk(credits=30)
    first, second = desk.held(30), desk.hold(20)
    desk.worker.release(first)
    desk.world.drain()
    assert desk.answer(second) == m.Held(second, 20)


def test_a_hold_that_is_given_up_while_it_waits_leaves_the_others_waiting_for_nothing() -> None:
    """The first waits for its budget to be read; when it goes, the second is served."""
    desk = Desk()
    first, second = desk.hold(10, budget=50), desk.hold(10)
    desk.worker.release(first)
    desk.world.drain()
    assert desk.answer(second) == m.Held(second, 10)
    assert desk.answer(first) is None


def test_a_halted_ledger_holds_for_nobody_and_charges_what_runs() -> None:
    """New calls are told that the books cannot be reached."""
    desk = Desk()
    running = desk.held(10)
    desk.ledger.halted = True
    request_id = desk.held(1)
    assert desk.answer(request_id) == m.Refused(request_id, "away")
    assert desk.settled(running, 10) == m.Settled(running, 10, 0)


# Charges.


def test_a_call_is_charged_once_however_often_it_is_settled() -> None:
    """Before its commit, between commit and answer, and after it: the same answer."""
    desk = Desk()
    request_id = desk.held(10)
    what = entry(request_id, 1, 7)
    for step in (lambda: None, desk.host.take, desk.host.commit, desk.host.hear):
        desk.worker.settle(what)
        step()
    desk.world.drain()
    assert desk.settled(request_id, 7) == m.Settled(request_id, 7, 0)
    assert desk.store.charged(1) == 7


def test_what_is_due_above_the_hold_is_charged_up_to_what_the_account_has() -> None:
    """The rest is absorbed, and the account is at its floor."""
    desk = Desk(credits=30)
    request_id = desk.held(10)
    assert desk.settled(request_id, 50) == m.Settled(request_id, 30, 20)


def test_a_charge_that_a_grants_answer_finds_waiting_is_not_absorbed_by_it() -> None:
    """The grant was asked for a hold that wants too much; the charge asks for itself."""
    desk = Desk(credits=60)
    running = desk.held(10, 10)
    desk.world.ticks(3)
    hungry = desk.hold(500)
    desk.host.take()
    desk.host.commit()
    desk.worker.settle(entry(running, 1, 40))
    desk.host.hear()
    desk.world.drain()
    assert desk.answer(running) == m.Settled(running, 40, 0)
    assert isinstance(desk.answer(hungry), m.Refused)


def test_a_charge_above_the_hold_waits_for_a_store_that_is_away() -> None:
    """Nothing is absorbed because the account cannot be asked; holds are told at once."""
    desk = Desk(credits=1000)
    running = desk.held(10)
    desk.worker.settle(entry(running, 1, 500))
    waiting = desk.hold(300)
    desk.fail()
    assert desk.answer(waiting) == m.Refused(waiting, "away", 300)
    assert desk.answer(running) == m.Held(running, 10)
    desk.world.ticks(0.5)
    assert desk.answer(running) == m.Settled(running, 500, 0)


def test_a_charge_whose_lease_is_gone_is_charged_to_a_new_one() -> None:
    """The operator wrote the lease off while the call ran."""
    desk = Desk()
    request_id = desk.held(10)
    desk.store.lose(1)
    assert desk.settled(request_id, 7) == m.Settled(request_id, 7, 0)
    assert desk.store.usage[request_id].lease_id == 2


def test_a_call_that_costs_nothing_needs_no_lease() -> None:
    """A failed call is written by itself."""
    desk = Desk(credits=0)
    request_id = desk.held(0)
    assert desk.settled(request_id, 0, "upstream_failed") == m.Settled(request_id, 0, 0)
    assert desk.store.usage[request_id].lease_id is None


def test_a_call_that_cannot_be_written_is_not_charged() -> None:
    """It is told to its worker, and what was taken for it is free again."""
    desk = Desk()
    request_id = desk.held(10)
    desk.store.unwritable.add(request_id)
    assert desk.settled(request_id, 10) == m.NotSettled(request_id, "no")
    desk.world.ticks(1)
    assert desk.store.accounts[1].available == 100


def test_a_call_is_charged_to_the_account_that_it_says_though_it_was_held_of_another() -> None:
    """Two that made the same id by chance: what is held for the first is free again."""
    desk = Desk(credits=10)
    desk.store.credit(2, 100, 0)
    request_id = desk.held(10)
    desk.worker.settle(entry(request_id, 2, 7))
    desk.world.drain()
    assert desk.answer(request_id) == m.Settled(request_id, 7, 0)
    other_id = desk.held(10)
    assert desk.answer(other_id) == m.Held(other_id, 10)


# The store is away.


def test_calls_go_on_from_the_lease_while_the_store_is_away() -> None:
    """Within the lease they are held for and charged into the spool; beyond it refused as away."""
    desk = Desk(credits=1000)
    running = desk.held(10)
    within = desk.hold(10)
    assert desk.answer(within) == m.Held(within, 10)
    desk.worker.settle(entry(running, 1, 10))
    desk.fail()
    assert desk.answer(running) == m.Settled(running, 10, 0)
    beyond = desk.hold(900)
    desk.fail()
    assert desk.answer(beyond) == m.Refused(beyond, "away", 900)
    desk.host.ship()
    assert desk.store.charged(1) == 10


def test_without_a_spool_a_charge_is_told_not_to_be_made() -> None:
    """What was taken for it is free again."""
    desk = Desk()
    desk.host.has_spool = False
    request_id = desk.held(10)
    desk.worker.settle(entry(request_id, 1, 10))
    desk.fail()
    assert desk.answer(request_id) == m.NotSettled(request_id, "away")
    desk.world.ticks(1)
    assert desk.store.accounts[1].available == 100


def test_what_could_not_be_given_back_is_before_the_next_grant() -> None:
    """An idle lease's return failed; a call that needs all that the account has is held for."""
    desk = Desk()
    desk.settled(desk.held(10), 0)
    desk.world.clock.now_s += 1
    desk.ledger.tick(desk.host.now_s)
    desk.fail()
    request_id = desk.held(100)
    assert desk.answer(request_id) == m.Held(request_id, 100)


# Leases.


def test_an_idle_lease_is_given_back_and_closed() -> None:
    """After `idle_s`, all of it."""
    desk = Desk()
    desk.settled(desk.held(10), 4)
    desk.world.ticks(0.4)
    assert desk.store.held(1) > 0
    desk.world.ticks(0.5)
    assert (desk.store.held(1), desk.store.leases[1].state) == (0, "closed")
    assert desk.store.accounts[1].available == 96


def test_a_busy_account_is_topped_up_before_it_runs_out() -> None:
    """No call of a steady row of them has to wait for the store after the first."""
    desk = Desk(credits=100_000)
    desk.held(10)
    for _ in range(100):
        request_id = desk.hold(10)
        assert desk.answer(request_id) == m.Held(request_id, 10)
        desk.settled(request_id, 10)


def test_a_busy_lease_that_grew_too_large_is_cut_down() -> None:
    """One large call took a large block; when it is over, small ones need not keep it."""
    desk = Desk(credits=100_000)
    desk.held(1)
    desk.settled(desk.held(10_000), 0)
    assert desk.store.held(1) > 10_000
    desk.world.ticks(150)
    assert desk.store.held(1) < 1_000
