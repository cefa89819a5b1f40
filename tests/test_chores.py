"""What is done beside serving: swept, proved, dropped; said when it fails, and ended at the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from farebox.chores import Chores
from farebox.core import clock
from farebox.core.settings import Settings
from farebox.store import Store, open_store
from farebox.store.reports import HOUR_US
from tests.charging import priced, settle, stock
from tests.postgres import Server
from tests.store.bookkeeping import read, write

LIMIT_S = 60


@dataclass
class Said:
    """What was said on standard error, and a way to wait for it."""

    lines: list[str] = field(default_factory=list[str])
    _heard: threading.Condition = field(default_factory=threading.Condition)

    def __call__(self, text: str) -> None:
        with self._heard:
            self.lines.append(text)
            self._heard.notify_all()

    def wait_for(self, word: str) -> str:
        with self._heard:
            assert self._heard.wait_for(lambda: any(word in line for line in self.lines), LIMIT_S)
            return next(line for line in self.lines if word in line)


@pytest.fixture
def store(tmp_path: Path, database_url: str) -> Iterator[Store]:
    """A store with a call of now and one of five hours ago."""
    store = open_store(database_url, tmp_path)
    stock(store)
    for n in (0, 5):
        created_us = clock.now_us() - n * HOUR_US
        settle(store, priced(request_id=f"req_{n}", created_us=created_us))
    yield store
    store.close()


def chores(store: Store, folder: Path, said: Said, keep_days: int = 90) -> Chores:
    metrics = folder / "metrics"
    metrics.mkdir(exist_ok=True)
    settings = Settings(data_dir=folder, database="", usage_keep_days=keep_days)
    return Chores(store, settings, metrics, said)


def violations(folder: Path) -> dict[str, float]:
    """The gauge as a worker that is asked for /metrics shows it."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder / "metrics"))
    return {
        sample.labels["invariant"]: sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "farebox_audit_violations"
    }


def until(is_so: Callable[[], object]) -> None:
    """Threads are asked again and again; the test's own limit ends it."""
    pause = threading.Event()
    while not is_so():
        pause.wait(0.01)


def test_the_books_are_proved_at_once(store: Store, tmp_path: Path) -> None:
    """What is over is sealed, the gauge shows that all holds, and nothing is said."""
    said = Said()
    with chores(store, tmp_path, said) as ours:
        ours.start()
        until(lambda: violations(tmp_path))
    assert violations(tmp_path) == {f"I{n}": 0.0 for n in range(1, 9)}
    assert read(store, "SELECT count(*) FROM sealed_hours") == [(1,)]
    assert said.lines == []


def test_books_that_do_not_add_up_are_said_and_counted(store: Store, tmp_path: Path) -> None:
    """A line on standard error that names the invariant, and a gauge to alarm by."""
    write(store, "UPDATE accounts SET credited = credited + 1 WHERE id = 2")
    said = Said()
    with chores(store, tmp_path, said) as ours:
        ours.start()
        line = said.wait_for("do not add up")
    assert line.startswith("The books do not add up: I1 (1).")
    assert violations(tmp_path)["I1"] == 1.0


def test_calls_whose_time_is_over_are_dropped(store: Store, tmp_path: Path) -> None:
    """Those of sealed hours; with 0 days, all of them."""
    said = Said()
    with chores(store, tmp_path, said) as first:
        first.start()
        until(lambda: violations(tmp_path))
    forget_turns(store)
    with chores(store, tmp_path, said, keep_days=0) as second:
        second.start()
        until(lambda: read(store, "SELECT count(*) FROM usage") == [(1,)])
    assert said.lines == []


def test_who_finds_it_done_shows_no_figures_of_its_own(postgres: Server, tmp_path: Path) -> None:
    """With PostgreSQL another host may have done it since, and its figures are newer."""
    store = open_store(postgres.fresh_database(), tmp_path)
    for is_done in (False, True):
        with chores(store, tmp_path, Said()) as ours:
            ours.start()
            until(lambda is_done=is_done: bool(violations(tmp_path)) is not is_done)
    store.close()


def test_a_store_that_fails_is_said_once_for_each_chore(store: Store, tmp_path: Path) -> None:
    """Serving goes on; what it was comes with it."""
    write(store, "DROP TABLE settle_rejected")
    said = Said()
    with chores(store, tmp_path, said) as ours:
        ours.start()
        line = said.wait_for("could not be audited")
    assert "settle_rejected" in line
    assert len(said.lines) == 1


def test_chores_that_never_began_end(store: Store, tmp_path: Path) -> None:
    """A gateway that does not come up starts none."""
    with chores(store, tmp_path, Said()):
        pass
    assert violations(tmp_path) == {}


def forget_turns(store: Store) -> None:
    """As if the time of every chore had come."""
    write(store, "DELETE FROM facts WHERE name LIKE 'chore%'")
