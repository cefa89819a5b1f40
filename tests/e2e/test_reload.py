"""SIGHUP to a real gateway: all of its processes are new, and no client has noticed."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests import postgres as postgresql
from tests.e2e.chaos import CREDITS, check, children, new_account
from tests.e2e.config import keys, write_config
from tests.e2e.hosts import on_store
from tests.e2e.rolling import Kept, Rolling, body
from tests.e2e.serving import Serving, until
from tests.e2e.test_background import start, wait_for
from tests.e2e.test_lifecycle import Caller
from tests.fakes.upstream import FakeUpstream

LIMIT_S = 60.0  # on a busy machine a reload takes a while: four processes are started
DONE = "Reloaded in "
_ENDLESS = """
[[models]]
id = "test-endless"
max_output = 4000
channels = [{ channel = "openai", model = "endless" }]
price = { input = "%s", output = "10" }
"""


def _said(gateway: Serving, what: str, times: int = 1) -> None:
    until(lambda: gateway.log.read_text().count(what) == times, LIMIT_S, what)


def _reload(gateway: Serving, done: int) -> None:
    """One more, so that so many are done."""
    gateway.process.send_signal(signal.SIGHUP)
    _said(gateway, DONE, done)


def _processes(gateway: Serving) -> set[int]:
    return {pid for kind in ("worker", "ledger") for pid in children(gateway, kind)}


def _has_uvloop(pid: int) -> bool:
    return "uvloop/loop." in Path(f"/proc/{pid}/maps").read_text()


def _press(gateway: Serving, database: str, reloads: int) -> None:
    """Under load, so often: nobody notices, and the books are right."""
    key = new_account(gateway, "rolled", CREDITS)
    idle = Kept(gateway, key)
    assert idle.ask("GET", "/v1/models")[0].status == 200
    with Rolling(gateway, key) as rolling:
        for number in range(reloads):
            before = _processes(gateway)
            streams = rolling.seen.streams
            _reload(gateway, number + 1)
            until(lambda: len(children(gateway, "worker")) >= 2, LIMIT_S, "two workers")
            serving = set(children(gateway, "worker")) - before
            assert len(serving) == 2
            assert children(gateway, "ledger at work")[0] not in before
            assert all(map(_has_uvloop, serving))
            until(lambda: rolling.seen.streams >= streams + 3, LIMIT_S, "streams end")  # noqa: B023
        # It was idle all the time, and was left to be: its next answer is the last one on it.
        answer, _ = idle.ask("GET", "/v1/models")
        assert (answer.status, answer.headers["connection"]) == (200, "close")
    idle.close()
    seen = rolling.seen
    assert seen.wrong == []
    assert min(len(seen.whole) - seen.streams, seen.probes) > 3 * reloads
    until(lambda: len(children(gateway, "worker")) == 2, LIMIT_S, "the former workers end")
    assert check([gateway], database, key, seen.whole, CREDITS) == []
    # What former workers counted is in the sums, once.
    assert _counted(gateway) == len(seen.whole)


def _counted(gateway: Serving) -> int:
    text = gateway.get("/metrics").body.decode()
    line = r'farebox_requests_total\{route="/v1/chat/completions",status="2xx"\} ([\d.]+)'
    found = re.search(line, text)
    assert found is not None
    return int(float(found[1]))


def test_three_reloads_under_load_are_noticed_by_nobody(
    fake_upstream: FakeUpstream, tmp_path: Path
) -> None:
    """Not a call fails of clients that try nothing twice, streams are whole, the gateway is ready
    all the time, every answer is charged once, and all processes are new.
    """
    database = f"sqlite:///{tmp_path}/farebox.db"
    with on_store(tmp_path, fake_upstream, database) as gateway:
        _press(gateway, database, 3)


def test_a_reload_with_postgresql_is_noticed_by_nobody(
    fake_upstream: FakeUpstream, postgres: postgresql.Server, tmp_path: Path
) -> None:
    """The same with the other store."""
    database = postgres.fresh_database()
    with on_store(tmp_path, fake_upstream, database) as gateway:
        _press(gateway, database, 1)
    postgres.drop(database)


@contextmanager
def _serving(upstream: FakeUpstream, folder: Path, settings: str) -> Iterator[Serving]:
    config = _write(upstream, folder, settings)
    where = ("--config", str(config), "--data-dir", str(folder / "data"), "--no-local")
    with Serving(folder, where, keys(upstream)) as gateway:
        yield gateway


def _write(upstream: FakeUpstream, folder: Path, settings: str, price: str = "2.5") -> Path:
    path = write_config(folder / "farebox.toml", upstream, _ENDLESS % price)
    path.write_text(f"[server]\n{settings}\n{path.read_text()}")
    return path


def test_a_reload_takes_what_the_file_says_now_or_changes_nothing(
    fake_upstream: FakeUpstream, tmp_path: Path
) -> None:
    """A wrong file is told of and changes nothing. Of a right one settings and prices count; what
    needs a restart is named. A call that outlives the limit for former workers ends in an error,
    a WebSocket on which nothing happens with the code that makes clients connect again. A
    background response in a former worker can be cancelled.
    """
    with _serving(fake_upstream, tmp_path, "max_body_bytes = 100000") as gateway:
        before = _processes(gateway)
        _write(fake_upstream, tmp_path, 'max_body_bytes = "many"', price="dear")
        gateway.process.send_signal(signal.SIGHUP)
        _said(gateway, "nothing was changed")
        wrong = (
            "farebox.toml: [server] max_body_bytes must be a whole number, 1 or more, not 'many'."
        )
        assert wrong in gateway.log.read_text()
        assert _processes(gateway) >= before
        large = body("gpt-5.6", 1000, stream=False)
        assert gateway.request("POST", "/v1/chat/completions", large).status == 200
        caller = Caller(gateway, "test-endless")
        caller.read_until(b"data:")
        socket = connect(
            f"ws{gateway.base_url.removeprefix('http')}/responses",
            additional_headers={"Authorization": f"Bearer {gateway.key}"},
        )
        background = start(gateway, "test-endless")
        settings = "max_body_bytes = 2000\nworkers = 2\nreload_drain_timeout_s = 3"
        _write(fake_upstream, tmp_path, settings, price="5")
        gateway.process.send_signal(signal.SIGHUP)
        _said(gateway, "Worker 0 is replaced")
        gateway.request("POST", f"/v1/responses/{background}/cancel", b"{}")
        wait_for(gateway, background, "cancelled")
        _said(gateway, DONE)
        kept = "[server] workers cannot change while the gateway runs, and stays as before."
        assert kept in gateway.log.read_text()
        assert gateway.request("POST", "/v1/chat/completions", large).status == 413
        until(lambda: _price(gateway) == "5", 2, "the new price")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=LIMIT_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        ended = caller.read_all()
        assert b"server_shutdown" in ended
        assert b"[DONE]" not in ended
        until(lambda: len(children(gateway, "worker")) == 1, LIMIT_S, "the former worker ends")
        gateway.money()


def _price(gateway: Serving) -> str:
    return gateway.get("/v1/models/test-endless").json["price"]["input"]


def test_a_gateway_that_is_told_to_end_during_a_reload_ends_its_streams(
    fake_upstream: FakeUpstream, tmp_path: Path
) -> None:
    """One in a worker that was replaced, one in a worker that serves: both are whole, and the exit
    code is 0.
    """
    database = f"sqlite:///{tmp_path}/farebox.db"
    with on_store(tmp_path, fake_upstream, database) as gateway:
        first = Caller(gateway, "test-slow", f"say: {'word ' * 40}")
        first.read_until(b"word")
        gateway.process.send_signal(signal.SIGHUP)
        _said(gateway, "Worker 0 is replaced")
        second = Caller(gateway, "test-slow", f"say: {'word ' * 10}")
        second.read_until(b"word")
        gateway.process.send_signal(signal.SIGTERM)
        assert b"data: [DONE]" in first.read_all()
        assert b"data: [DONE]" in second.read_all()
        assert gateway.process.wait(LIMIT_S) == 0
    assert DONE not in gateway.log.read_text()
