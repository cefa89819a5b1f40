"""A debit on the command line asks running gateways for what they have in hand, on each engine."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread

import pytest

from farebox.admin import accounts
from farebox.billing import messages
from farebox.billing.jobs import Return
from farebox.ledger import wire
from farebox.store import open_store
from farebox.store.books import OwnedBooks
from farebox.store.recalls import Recalls
from tests.charging import OWNER, books_of
from tests.cli.conftest import Run
from tests.postgres import Server
from tests.store.bookkeeping import granted

IN_HAND = 400_000_000
PATIENCE_S = 20.0


def _give_back(books: OwnedBooks) -> None:
    (lease,) = books.unspent()
    books.do([Return(lease.lease_id, lease.account_id, lease.unspent, close=True)])


@contextmanager
def _leased(url: str, folder: Path) -> Iterator[OwnedBooks]:
    """The account "ann" with 1 credit, of which a gateway that lives has 0.4 in hand."""
    with closing(open_store(url, folder)) as store:
        accounts.create(store, "ann", credits="1")
        books = books_of(store)
        granted(books, IN_HAND)
        yield books


def _debit(run: Run, *where: str) -> tuple[int, str]:
    result = run("accounts", "debit", "ann", "1", "--reason", "r", "--json", *where)
    return result.exit_code, result.stdout or result.stderr


def _nothing_left(debited: tuple[int, str]) -> bool:
    code, text = debited
    shown = json.loads(text)
    return (code, shown["balance"], shown["held_nanocredits"]) == (0, "0", 0)


@contextmanager
def _ledger(path: Path, answer: Callable[[], None]) -> Iterator[list[messages.Request]]:
    """What listens as a ledger process does, to one command; the requests that it was sent."""
    heard: list[messages.Request] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(PATIENCE_S)

        def serve() -> None:
            way, _ = listener.accept()
            with way:
                reader = wire.request_reader()
                while not heard:
                    heard.extend(reader.feed(way.recv(4096)))
                answer()
                way.sendall(wire.frames([messages.Recalled(1)]))

        thread = Thread(target=serve)
        thread.start()
        yield heard
        thread.join()


def test_with_sqlite_it_is_the_ledger_process_that_the_folder_names(
    run: Run, tmp_path: Path
) -> None:
    """Which gives back, and then the debit is done."""
    data = tmp_path / "data"
    url = f"sqlite:///{data}/farebox.db"
    with _leased(url, data) as books:
        (data / "run").mkdir(exist_ok=True)
        (data / "run" / "ledger").write_text(f"{tmp_path}/socket\n")
        with _ledger(tmp_path / "socket", lambda: _give_back(books)) as heard:
            assert _nothing_left(_debit(run))
        assert heard == [messages.Recall(1)]


def test_with_postgresql_it_is_each_host(run: Run, tmp_path: Path, postgres: Server) -> None:
    """By the database's own messages, so that it does not matter where the command runs."""
    url = postgres.fresh_database()
    config = tmp_path / "farebox.toml"
    config.write_text(f"[server]\nsecret_file = '{tmp_path}/secret'\n")
    with _leased(url, tmp_path) as books:
        asked: list[int] = []

        def give_back(account_id: int, token: str) -> None:
            asked.append(account_id)
            _give_back(books)
            recalls.answer(token)

        recalls = Recalls(url, OWNER, give_back, asked.append)
        recalls.start()
        try:
            assert recalls.wait_until_ready(PATIENCE_S)
            assert _nothing_left(_debit(run, "--database", url, "--config", str(config)))
        finally:
            recalls.close()
        assert asked == [1]


@pytest.mark.parametrize("left", [None, "/nowhere/socket\n", "", "\0", "x" * 500])
def test_where_nobody_serves_the_shortfall_is_told(
    run: Run, tmp_path: Path, left: str | None
) -> None:
    """Whatever an earlier gateway left of itself: it is as if nothing could be given back."""
    data = tmp_path / "data"
    url = f"sqlite:///{data}/farebox.db"
    with _leased(url, data):
        if left is not None:
            (data / "run").mkdir(exist_ok=True)
            (data / "run" / "ledger").write_text(left)
        code, text = _debit(run)
    assert code == 1
    assert text == (
        "Account 'ann' has 0.6 credits that can be debited beside 0.4 that are held, 0.4 less than"
        " 1.\n"
    )
