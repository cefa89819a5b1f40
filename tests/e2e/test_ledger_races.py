"""Many calls for little credit, at workers and hosts at once; a ledger process that dies again and
again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests import postgres
from tests.e2e.chaos import Misfortunes, audit, new_account, press, rows
from tests.e2e.hosts import on_store
from tests.e2e.serving import Answer, Serving
from tests.fakes.upstream import FakeUpstream

CALLS = 64
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
DUE = 10 * 4_000 + 5 * 20_000  # of gpt-5.6, in nano-credits
MESSAGES = [{"role": "user", "content": f"usage: {json.dumps(USAGE)}"}]


def _call(gateway: Serving, key: str, **more: Any) -> Answer:
    return gateway.chat(key, model="gpt-5.6", messages=MESSAGES, max_tokens=16, **more)


def _race(gateways: list[Serving], database: str) -> None:
    """What one call is held for is measured; then there is credit for some 20 calls, and 64 want
    it at once.
    """
    rich = new_account(gateways[0], "rich", 1)
    hold = gateways[0].receipt(_call(gateways[0], rich), rich)["hold_nanocredits"]
    whole = 20 * DUE + hold
    key = new_account(gateways[0], "poor", whole / 10**9)
    with ThreadPoolExecutor(CALLS) as pool:
        chosen = [gateways[n % len(gateways)] for n in range(CALLS)]
        answers = list(pool.map(lambda gateway: _call(gateway, key), chosen))
    statuses = {answer.status for answer in answers}
    assert statuses <= {200, 429}, [each for each in answers if each.status not in {200, 429}]
    charged = [answer for answer in answers if answer.status == 200]
    money = gateways[0].money(key)
    assert money["spent_nanocredits"] == len(charged) * DUE
    assert money["balance_nanocredits"] == whole - len(charged) * DUE >= 0
    # What is left is spent to the last call that it can be held for, by each host in turn.
    left = money["balance_nanocredits"]
    for turn in range(CALLS):
        answer = _call(gateways[turn % len(gateways)], key)
        assert answer.status == (200 if left >= hold else 429), (left, hold, answer)
        if answer.status == 429:
            break
        left -= DUE
    assert left < hold
    assert gateways[0].money(key)["balance_nanocredits"] == left
    books = rows(database)
    assert sum(absorbed for _, absorbed, _, _ in books.values()) == 0
    assert audit(gateways[0]) == []


def test_the_last_credit_of_an_account_is_spent_once_by_four_workers(
    fake_upstream: FakeUpstream, tmp_path: Path
) -> None:
    """64 calls at once on SQLite: never below the floor, and no call refused that can be paid."""
    database = f"sqlite:///{tmp_path}/farebox.db"
    with on_store(tmp_path, fake_upstream, database, workers=4) as gateway:
        _race([gateway], database)


@pytest.fixture
def hosts(
    fake_upstream: FakeUpstream, postgres: postgres.Server, tmp_path: Path
) -> Iterator[tuple[list[Serving], str]]:
    """Two gateways over one PostgreSQL, whose idle leases stay for some seconds; and its URL."""
    database = postgres.fresh_database()
    with ExitStack() as stack:
        gateways = [
            stack.enter_context(
                on_store(
                    tmp_path / name, fake_upstream, database, environ={"FAREBOX_LEASE_IDLE_S": "4"}
                )
            )
            for name in ("one", "two")
        ]
        yield gateways, database
    postgres.drop(database)


def test_the_last_credit_of_an_account_is_spent_once_by_two_hosts(
    fake_upstream: FakeUpstream, postgres: postgres.Server, tmp_path: Path
) -> None:
    """The same 64 calls at two gateways over one PostgreSQL."""
    database = postgres.fresh_database()
    with ExitStack() as stack:
        gateways = [
            stack.enter_context(on_store(tmp_path / name, fake_upstream, database))
            for name in ("one", "two")
        ]
        _race(gateways, database)


def test_an_idle_lease_of_another_host_pays(hosts: tuple[list[Serving], str]) -> None:
    """All that an account has lies in one host's idle lease, and the other's call is answered; then
    the operator takes what is left by a debit. A host is asked for half a second; where a machine
    is busier than that, the caller asks again.
    """
    (one, two), _ = hosts
    rich = new_account(one, "rich", 1)
    hold = one.receipt(_call(one, rich), rich)["hold_nanocredits"]
    key = new_account(one, "poor", (hold + 2 * DUE) / 10**9)
    for gateway, left in ((one, hold + DUE), (two, hold), (one, hold - DUE)):
        for _ in range(3):
            answer = _call(gateway, key)
            if answer.status == 200:
                break
        assert answer.status == 200, answer
        shown = gateway.account(key)
        assert shown["balance_nanocredits"] == left
        assert shown["held_nanocredits"] > 0, "it is idle, and not given back yet"
    assert _call(two, key).status == 429
    one.cli("accounts", "debit", "poor", _credits(hold - DUE), "--reason", "closed")
    assert one.account(key)["balance_nanocredits"] == 0


def _credits(nanocredits: int) -> str:
    return f"{nanocredits // 10**9}.{nanocredits % 10**9:09}"


def test_100_calls_at_once_without_a_cap_absorb_nothing(
    fake_upstream: FakeUpstream, tmp_path: Path
) -> None:
    """However long an answer may become, what it costs was held for: nobody pays what the account
    cannot.
    """
    database = f"sqlite:///{tmp_path}/farebox.db"
    text = "say: " + "four words are said " * 20
    messages = [{"role": "user", "content": text}]
    with on_store(tmp_path, fake_upstream, database, workers=2) as gateway:
        key = new_account(gateway, "many", 0.5)

        def call(number: int) -> int:
            stream = number % 2 == 0
            return gateway.chat(key, model="gpt-5.6", messages=messages, stream=stream).status

        with ThreadPoolExecutor(50) as pool:
            statuses = list(pool.map(call, range(100)))
        money = gateway.money(key)
        books = rows(database)
        assert audit(gateway) == []
    assert {*statuses} <= {200, 429}
    assert statuses.count(200) >= 5
    assert sum(absorbed for _, absorbed, _, _ in books.values()) == 0
    assert money["balance_nanocredits"] >= 0


def test_a_ledger_process_that_dies_again_and_again_only_delays(
    fake_upstream: FakeUpstream, tmp_path: Path
) -> None:
    """No call fails, nothing is doubled, and none waits for longer than a new process takes; its
    spare is killed as often.
    """
    database = f"sqlite:///{tmp_path}/farebox.db"
    with on_store(tmp_path, fake_upstream, database) as gateway:
        report = press([gateway], database, 10, Misfortunes(kinds=("ledger",)))
    assert report.violations == [], report
    assert dict(report.not_whole) == {}, report
    assert report.kills["ledger"] >= 5
    assert report.undelivered == 0
    # The others were spares, which only keep the next one from being there at once.
    assert gateway.log.read_text().count("The ledger process was ended by SIGKILL") >= 3
