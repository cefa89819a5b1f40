"""The store is away, a commit's answer is lost, the disk is full, the clock jumps: calls go on as
far as what was leased reaches, then they are told to come again, and nothing is lost or doubled.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from tests import postgres
from tests.e2e.chaos import Misfortunes, audit, check, new_account, press, rows
from tests.e2e.hosts import on_store
from tests.e2e.outages import Cutter, filled, locked, small_disk
from tests.e2e.pressing import Pressing
from tests.e2e.serving import Answer, Serving, until
from tests.e2e.test_lifecycle import Caller
from tests.fakes.upstream import FakeUpstream

HELLO = [{"role": "user", "content": "Hello"}]
AWAY_S = 10.0
DEFAULT_IDLE = {"FAREBOX_LEASE_IDLE_S": "2"}  # so that a lease outlives the callers' pauses
CUTS = 16
HOUR_S = 3600
MIB = 1024 * 1024


@pytest.fixture
def own_postgres() -> Iterator[postgres.Server]:
    """A server that only this test stops."""
    server = postgres.Server()
    yield server
    server.close()


def test_an_optimised_python_keeps_the_same_books(
    fake_upstream: FakeUpstream, tmp_path: Path
) -> None:
    """PYTHONOPTIMIZE, which leaves asserts out, may be set in an image or by a supervisor."""
    database = f"sqlite:///{tmp_path}/farebox.db"
    environ = {"PYTHONOPTIMIZE": "1"}
    with on_store(tmp_path, fake_upstream, database, environ=environ) as gateway:
        key = new_account(gateway, "swift", 10)
        for _ in range(3):
            assert gateway.chat(key, model="gpt-5.6", messages=HELLO).status == 200
        assert audit(gateway) == []


def _goes_on_from_leases(
    gateway: Serving, database: str, away: Callable[[], Generator[None]], away_s: float
) -> None:
    """Calls are pressed while the store is away. Those of an account with a lease are answered;
    one that needs a grant is told to come again; afterwards all is in the books.
    """
    stranger = new_account(gateway, "stranger", 1)
    assert gateway.chat(stranger, model="gpt-5.6", messages=HELLO).status == 200
    key = new_account(gateway, "pressed", 100)
    with Pressing([gateway], key, callers=4) as pressing:
        gateway.money(stranger)  # its lease has come back
        assert pressing.wait_for_answers(40, 30)
        with contextmanager(away)():
            began_s = time.monotonic()
            # What was committed before has been heard by now: these are answered from the spool.
            refused = gateway.chat(stranger, model="gpt-5.6", messages=HELLO)
            assert (refused.status, refused.json["error"]["code"]) == (503, "billing_unavailable")
            assert refused.headers["retry-after"] == "5"
            assert pressing.wait_for_answers(8, 30)
            threading.Event().wait(max(0.0, began_s + away_s - time.monotonic()))
        until(
            lambda: gateway.chat(stranger, model="gpt-5.6", messages=HELLO).status == 200,
            15,
            "the store is written again",
        )
        assert pressing.wait_for_answers(20, 30)
    gateway.money(stranger)
    assert check([gateway], database, key, pressing.told.whole, given=100) == []
    assert pressing.told.violations == []


def test_a_store_that_is_locked_for_ten_seconds(
    fake_upstream: FakeUpstream, tmp_path: Path
) -> None:
    """Another program is in the middle of writing to the SQLite store."""
    database = f"sqlite:///{tmp_path}/farebox.db"

    def away() -> Generator[None]:
        with locked(tmp_path / "farebox.db"):
            yield

    with on_store(tmp_path, fake_upstream, database, environ=DEFAULT_IDLE) as gateway:
        _goes_on_from_leases(gateway, database, away, AWAY_S)


def test_a_postgresql_that_is_down_for_seconds(
    fake_upstream: FakeUpstream, own_postgres: postgres.Server, tmp_path: Path
) -> None:
    """It is stopped, and started again."""
    database = own_postgres.fresh_database()

    def away() -> Generator[None]:
        own_postgres.stop()
        yield
        own_postgres.start()

    with on_store(tmp_path, fake_upstream, database, environ=DEFAULT_IDLE) as gateway:
        _goes_on_from_leases(gateway, database, away, 3)


def test_a_commit_whose_answer_is_lost_is_not_done_twice(
    fake_upstream: FakeUpstream, postgres: postgres.Server, tmp_path: Path
) -> None:
    """The connection is cut between COMMIT and its answer, again and again."""
    direct = postgres.fresh_database()
    server = next(Path(direct.partition("host=")[2]).glob(".s.PGSQL.*[0-9]"))
    with Cutter(server) as cutter:
        database = f"{direct.partition('host=')[0]}host={cutter.folder}"
        with on_store(tmp_path, fake_upstream, database) as gateway:
            cuts = [("commit unanswered", cutter.cut_next)]
            misfortunes = Misfortunes(kinds=(), others=cuts, often=1.0)
            report = press(
                *([gateway], direct, 60, misfortunes),
                callers=8,
                enough=lambda report: cutter.cuts >= CUTS and report.whole > 50,
            )
    assert report.violations == [], report
    assert cutter.cuts >= CUTS
    assert report.whole > 50
    postgres.drop(direct)


def test_a_disk_that_is_full(fake_upstream: FakeUpstream, tmp_path: Path) -> None:
    """A call in flight is charged thanks to the reserve; new ones are told to come again; when
    there is room once more, they are served.
    """
    try:
        disk = small_disk(tmp_path, 64 * MIB)
        folder = disk.__enter__()
    except OSError as error:
        # A disk must be filled, and nobody's own: root may mount one, containers bring a small one.
        pytest.skip(f"no small disk to fill ({error}): run as root, or in a container")
    try:
        _fill_up(fake_upstream, tmp_path, folder)
    finally:
        disk.__exit__(None, None, None)


def _fill_up(upstream: FakeUpstream, folder: Path, disk: Path) -> None:
    database = f"sqlite:///{disk}/farebox.db"
    with on_store(folder, upstream, database, data=disk / "data") as gateway:
        gateway.money()
        running = Caller(gateway, "test-slow")
        running.read_until(b"one")
        with filled(disk):
            body = running.read_all()
            assert b"data: [DONE]" in body
            # Files have some room of their own, and a full disk is met by the first that has not.
            answers: list[Answer] = []
            until(lambda: _ask(gateway, answers) != 200, 15, "a call is told that the disk is full")
            answer = answers[-1]
            assert (answer.status, answer.json["error"]["code"]) == (503, "billing_unavailable")
        until(
            lambda: gateway.chat(model="gpt-5.6", messages=HELLO).status == 200,
            15,
            "there is room again",
        )
        gateway.money()
        charge, absorbed, due, _ = rows(database)[running.request_id]
        assert (charge, absorbed) == (due, 0)
        assert charge > 0
        assert (disk / "data" / "reserve").stat().st_size >= 8 * MIB
        assert audit(gateway) == []


def _ask(gateway: Serving, answers: list[Answer]) -> int:
    answers.append(gateway.chat(model="gpt-5.6", messages=HELLO))
    return answers[-1].status


def _time_s(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_a_clock_that_jumps_an_hour_either_way(
    fake_upstream: FakeUpstream, database_url: str, tmp_path: Path
) -> None:
    """A stream in flight goes on and is charged, idle leases come back in their time, and every row
    is in an hour that adds up; the audit is clean by each of the clocks.
    """
    jumped = tmp_path / "jumped_s"
    jumped.write_text("0", encoding="utf-8")
    environ = {
        "PYTHONPATH": str(Path(__file__).with_name("jumping")),
        "JUMPED_S_FILE": str(jumped),
    }
    charges: list[int] = []
    with on_store(tmp_path, fake_upstream, database_url, environ=environ) as gateway:
        start = gateway.money()["balance_nanocredits"]
        for jump_s in (HOUR_S, 0, -HOUR_S, 0):
            running = Caller(gateway, "test-slow")
            running.read_until(b"one")
            jumped.write_text(str(jump_s), encoding="utf-8")
            assert b"data: [DONE]" in running.read_all()
            answer = gateway.chat(model="gpt-5.6", messages=HELLO)
            assert answer.status == 200
            money = gateway.money(timeout_s=5)
            charges += [gateway.receipt(answer)["charge_nanocredits"], 10 * 2500 + 5 * 10000]
            assert money["balance_nanocredits"] == start - sum(charges)
            shown_s = _time_s(gateway.receipt(answer)["created_at"])
            assert abs(shown_s - time.time() - jump_s) < 60, "the clock did not jump"
            assert audit(gateway) == []
    assert sum(charge for charge, *_ in rows(database_url).values()) == sum(charges)
