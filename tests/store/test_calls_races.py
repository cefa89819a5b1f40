"""Threads and processes that want the same credits at the same time, and one that is killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from farebox.errors import OutOfCredit
from farebox.store import Store, open_store
from farebox.store.accounts import StoredAccount
from tests.store.bookkeeping import broken_invariants, hold_request, settlement

ROOT = Path(__file__).parents[2]

# Holds 300 and settles, again and again until there is no more; prints how often it won.
SPENDER = """
import sys
from pathlib import Path
from farebox.core import ids
from farebox.errors import OutOfCredit
from farebox.store import open_store
from tests.store.bookkeeping import hold_request, settlement

path = Path(sys.argv[1])
store = open_store(f"sqlite:///{path}", path.parent)
print("ready", flush=True)
won = 0
try:
    while True:
        request_id = ids.new_request_id(0)
        held = store.hold(hold_request(request_id, 1, 300, 300), sys.argv[2])
        store.settle(settlement(request_id, 1, 300, held))
        won += 1
except OutOfCredit:
    print(won)
"""


def spender(store: Store, owner: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", SPENDER, str(store.path), owner],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def test_of_threads_that_race_for_the_last_credits_one_wins(
    store: Store, account: StoredAccount
) -> None:
    """Eight threads want 600 of 1000 at once: one holds it, seven are refused."""
    start = threading.Barrier(8)

    def want(number: int) -> bool:
        start.wait()
        try:
            return store.hold(hold_request(f"req_{number}", 1, 600, 600), "w1") == 600
        except OutOfCredit:
            return False

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(want, range(8))) == 1
    assert broken_invariants(store.path) == {}


def test_one_request_settled_by_many_threads_is_charged_once(
    store: Store, account: StoredAccount
) -> None:
    """Eight settlements of one call at once: all get the one answer, one charge is booked."""
    store.hold(hold_request(most=500), "w1")
    with ThreadPoolExecutor(8) as threads:
        answers = set(threads.map(lambda due: store.settle(settlement(due=due)), range(100, 108)))
    assert len(answers) == 1
    after = store.account_by_id(1)
    assert after is not None
    assert after.spent_nanocredits == answers.pop().charge_nanocredits
    assert broken_invariants(store.path) == {}


def test_processes_spend_an_account_together_and_not_below_its_floor(store: Store) -> None:
    """Three processes spend 300 at a time of 30_100: exactly 100 calls are paid, 100 is left."""
    store.create_account("ann", credits_nanocredits=30_100)
    racers = [spender(store, f"w{number}") for number in range(3)]
    outputs = [racer.communicate(timeout=60)[0].split() for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0]
    assert sum(int(won) for _, won in outputs) == 100
    after = store.account_by_id(1)
    assert after is not None
    assert (after.available_nanocredits, after.spent_nanocredits) == (100, 30_000)
    assert broken_invariants(store.path) == {}


def test_a_killed_process_leaves_the_books_consistent(store: Store) -> None:
    """After a kill -9 amid calls nothing is half done, and giving back its holds makes it whole."""
    store.create_account("ann", credits_nanocredits=10**15)
    for number in range(3):
        victim = spender(store, f"w{number}")
        assert victim.stdout is not None
        assert victim.stdout.readline() == "ready\n"
        time.sleep(0.15)
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
        assert broken_invariants(store.path) == {}
        assert store.release_holds(f"w{number}") <= 1
    store.close()
    again = open_store(f"sqlite:///{store.path}", store.path.parent)
    after = again.account_by_id(1)
    again.close()
    assert after is not None
    assert (after.held_nanocredits, after.spent_nanocredits % 300) == (0, 0)
    assert after.spent_nanocredits > 0
    assert broken_invariants(store.path) == {}
