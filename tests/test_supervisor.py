"""The supervisor as a real process over real children, and what follows when one is killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from farebox.children import Backoff

SERVE = Path(__file__).parent / "fakes" / "standin_serve.py"
LIMIT_S = 20.0


def until(holds: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> Any:
    """Wait until it gives something true, and return that."""
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        if got := holds():
            return got
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {limit_s} s")


def alive(pid: int) -> bool:
    """Whether the process runs: not gone, and no zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Serve:
    """One running `serve` of stand-ins."""

    def __init__(self, process: subprocess.Popen[str], data_dir: Path, errors: Path) -> None:
        self.process = process
        self.data_dir = data_dir
        self._errors = errors
        self.port = 0

    def get(self, path: str = "/") -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=LIMIT_S) as got:
            return json.load(got)

    def errors(self) -> str:
        return self._errors.read_text()

    def ledgers(self) -> list[tuple[int, int]]:
        """The ledger processes so far: who, and how many workers it was told of."""
        lines = (self.data_dir / "ledgers").read_text().splitlines()
        return [(int(pid), int(workers)) for pid, workers in map(str.split, lines)]

    def failed(self) -> list[str]:
        return (self.data_dir / "failed").read_text().split()

    def wait(self) -> int:
        return self.process.wait(LIMIT_S)


@contextmanager
def launched(
    tmp_path: Path,
    *,
    port: int = 0,
    workers: int = 1,
    drain_s: float = 5,
    local: bool = False,
    vice: str = "",
    name: str = "a",
) -> Iterator[Serve]:
    """A `serve` that may or may not come up; killed with its children at the end."""
    data_dir, errors = tmp_path / f"data-{name}", tmp_path / f"stderr-{name}"
    data_dir.mkdir(exist_ok=True)
    command = [sys.executable, str(SERVE), str(data_dir), str(port), str(workers), str(drain_s)]
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            command + ["local"] * local,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**os.environ, "STANDIN": vice},
        )
    try:
        yield Serve(process, data_dir, errors)
    finally:
        process.kill()  # its children end by themselves: a test below shows it
        process.communicate()


@contextmanager
def serving(tmp_path: Path, **options: Any) -> Iterator[Serve]:
    """A `serve` that has come up."""
    with launched(tmp_path, **options) as serve:
        assert serve.process.stdout is not None
        line = serve.process.stdout.readline()
        assert line, serve.errors()
        serve.port = json.loads(line)["port"]
        yield serve


def test_a_worker_is_told_who_it_is_and_what_it_runs_with(tmp_path: Path) -> None:
    """Start gives slot, owner, instance and settings, with the real port where 0 was asked for."""
    with serving(tmp_path, workers=2) as serve:
        told = {one["slot"]: one for one in (serve.get() for _ in range(40))}
        assert sorted(told) == [0, 1]
        assert {one["port"] for one in told.values()} == {serve.port}
        assert len({one["instance"] for one in told.values()}) == 1
        assert [told[slot]["owner"].startswith(f"w{slot}-") for slot in (0, 1)] == [True, True]
        assert told[0]["local"] is None
        assert told[0]["metrics"] == str(serve.data_dir / "run" / "metrics")
        assert told[0]["trim_bytes"] == str(32 * 2**20)  # what its calls had is kept for the next


def test_a_change_in_the_store_reaches_every_worker(tmp_path: Path) -> None:
    """A new revision is told within a second, and an unchanged one is not told at all."""
    with serving(tmp_path) as serve:
        assert serve.get()["changes"] == []
        (serve.data_dir / "revisions").write_text("3 7")
        until(lambda: serve.get()["changes"] == [[3, 7]], "told of the change", 3)
        time.sleep(0.7)
        assert serve.get()["changes"] == [[3, 7]]


def test_a_broken_store_is_told_once_and_followed_when_it_works_again(tmp_path: Path) -> None:
    """While the store cannot be read everything goes on; the next change is told all the same."""
    with serving(tmp_path) as serve:
        (serve.data_dir / "broken").touch()
        until(lambda: "the store is broken" in serve.errors(), "a word on standard error")
        time.sleep(0.7)
        assert serve.errors().count("the store is broken") == 1
        (serve.data_dir / "revisions").write_text("1 1")
        (serve.data_dir / "broken").unlink()
        until(lambda: serve.get()["changes"] == [[1, 1]], "told of the change", 3)


def test_a_killed_worker_is_replaced_and_no_connection_is_refused(tmp_path: Path) -> None:
    """After kill -9 the port goes on accepting, a new worker answers, the old one's gauges go."""
    with serving(tmp_path) as serve:
        before = serve.get()
        live = serve.data_dir / "run" / "metrics" / f"gauge_livesum_{before['pid']}.db"
        live.touch()
        os.kill(before["pid"], signal.SIGKILL)
        after = serve.get()  # at once: it waits in the queue of the socket that was kept
        assert after["slot"] == before["slot"]
        assert after["pid"] != before["pid"]
        assert after["owner"] != before["owner"]
        assert after["instance"] == before["instance"]
        until(lambda: not live.exists(), "the gauges are gone", 3)
        assert "Worker 0 was ended by SIGKILL." in serve.errors()


def test_responses_of_a_dead_worker_fail(tmp_path: Path) -> None:
    """At the start all that ran fail, after kill -9 those of that worker, however often it takes
    until the store works.
    """
    with serving(tmp_path) as serve:
        assert serve.failed() == ["*"]
        before = serve.get()
        (serve.data_dir / "broken").touch()
        os.kill(before["pid"], signal.SIGKILL)
        serve.get()
        time.sleep(0.5)
        assert serve.failed() == ["*"]
        (serve.data_dir / "broken").unlink()
        until(lambda: serve.failed() == ["*", before["owner"]], "its responses fail", 3)


def test_sigterm_lets_calls_in_flight_end(tmp_path: Path) -> None:
    """A call that takes a second is answered whole, new ones are refused, the exit code is 0."""
    with serving(tmp_path) as serve:
        url = f"http://127.0.0.1:{serve.port}/slow"
        with subprocess.Popen(
            [sys.executable, "-c", f"import urllib.request as u; u.urlopen({url!r}).read()"]
        ) as slow:
            time.sleep(0.6)
            serve.process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            with pytest.raises(urllib.error.URLError):
                serve.get()
            assert serve.wait() == 0
            assert slow.wait(LIMIT_S) == 0
        assert serve.errors() == ""


def test_a_worker_that_does_not_drain_is_killed(tmp_path: Path) -> None:
    """After the drain limit and a little grace the straggler is killed, and said so; exit 0."""
    with serving(tmp_path, vice="deaf", drain_s=0.1) as serve:
        pid = serve.get()["pid"]
        serve.process.send_signal(signal.SIGINT)
        assert serve.wait() == 0
        assert not alive(pid)
        assert "Worker 0 did not end in time" in serve.errors()


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    """It does not wait for the drain; the children are gone and the exit code is 1."""
    with serving(tmp_path, vice="deaf", drain_s=60) as serve:
        pid = serve.get()["pid"]
        serve.process.send_signal(signal.SIGTERM)
        said = "Calls in flight have 60 s to end; a second Ctrl-C or SIGTERM ends them now."
        until(lambda: said in serve.errors(), "why it takes so long", 3)
        assert serve.process.poll() is None
        serve.process.send_signal(signal.SIGTERM)
        assert serve.process.wait(3) == 1
        assert not alive(pid)


def test_the_children_of_a_killed_supervisor_end(tmp_path: Path) -> None:
    """After kill -9 of the parent the children see it and end; the port is free."""
    with serving(tmp_path) as serve:
        pid = serve.get()["pid"]
        ((ledger, _),) = serve.ledgers()
        serve.process.kill()
        serve.wait()
        until(lambda: not alive(pid), "the worker ends")
        until(lambda: not alive(ledger), "the ledger process ends")
        with serving(tmp_path, port=serve.port) as again:
            assert again.get()["pid"] != pid


def test_a_worker_that_cannot_start_ends_the_start(tmp_path: Path) -> None:
    """It is not tried for ever: exit 1 with a sentence, and nothing is announced."""
    with launched(tmp_path, vice="fail") as serve:
        assert serve.wait() == 1
        assert serve.errors() == (
            "Worker 0 ended with exit code 3 before it could serve; the lines above say why.\n"
        )
        assert serve.process.stdout is not None
        assert serve.process.stdout.read() == ""


def test_a_second_serve_on_one_folder_is_refused(tmp_path: Path) -> None:
    """Exit 5 with a sentence that names the folder and the process that has it."""
    with serving(tmp_path) as serve, launched(tmp_path) as second:
        assert second.wait() == 5
        (sentence,) = second._errors.read_text().splitlines()
        assert str(serve.data_dir) in sentence
        assert f"(process {serve.process.pid})" in sentence
        assert serve.failed() == ["*"]


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    """Exit 5, also towards another gateway of the same user, whose sockets allow sharing."""
    with serving(tmp_path) as first, launched(tmp_path, port=first.port, name="b") as second:
        assert second.wait() == 5
        assert f"127.0.0.1:{first.port} is in use" in second.errors()
        assert "--port" in second.errors()


def test_the_ledger_process_is_there_before_the_workers_and_ends_after_them(tmp_path: Path) -> None:
    """Workers and commands are told where it listens; after a drain it is gone, and its socket."""
    with serving(tmp_path) as serve:
        ((pid, workers),) = serve.ledgers()
        assert workers == 0
        told = serve.get()["ledger"]
        assert (serve.data_dir / "run" / "ledger").read_text() == f"{told}\n"
        assert Path(told).is_socket()
        serve.process.send_signal(signal.SIGTERM)
        assert serve.wait() == 0
        assert not alive(pid)
        assert not Path(told).exists()
        assert serve.errors() == ""


def test_a_killed_ledger_process_is_replaced(tmp_path: Path) -> None:
    """Who connects meanwhile waits in the queue of the socket that was kept; the next one is told
    how many workers there are.
    """
    with serving(tmp_path, workers=2) as serve:
        ((pid, _),) = serve.ledgers()
        path = serve.get()["ledger"]
        live = serve.data_dir / "run" / "metrics" / f"gauge_livesum_{pid}.db"
        live.touch()
        os.kill(pid, signal.SIGKILL)
        with socket.socket(socket.AF_UNIX) as caller:
            caller.settimeout(LIMIT_S)
            caller.connect(path)
            caller.sendall(b"here")
            assert caller.recv(4) == b"here"
        (_, (second, workers)) = serve.ledgers()
        assert second != pid
        assert workers == 2
        assert not live.exists()
        assert "The ledger process was ended by SIGKILL. Starting it again in 0.1 s." in (
            serve.errors()
        )


def test_a_ledger_process_that_cannot_start_ends_the_start(tmp_path: Path) -> None:
    """Without one no call could be charged: exit 1 with a sentence."""
    with launched(tmp_path, vice="no-ledger") as serve:
        assert serve.wait() == 1
        assert serve.errors() == (
            "The ledger process ended with exit code 4 before it could serve; the lines above say "
            "why.\n"
        )


def test_the_local_model_comes_back_on_its_port(tmp_path: Path) -> None:
    """It loads before the announcement, is replaced after kill -9, and ends with the gateway."""
    with serving(tmp_path, local=True) as serve:
        told = serve.get()
        children = Path(f"/proc/{serve.process.pid}/task/{serve.process.pid}/children")
        (model,) = (
            int(pid)
            for pid in children.read_text().split()
            if "farebox.local.server" in Path(f"/proc/{pid}/cmdline").read_text()
        )

        def healthy() -> bool:
            try:
                urllib.request.urlopen(told["local"].removesuffix("/v1") + "/health", timeout=5)
            except OSError:
                return False
            return True

        assert healthy()
        assert serve.errors().startswith("Loading the local model … ready in ")
        os.kill(model, signal.SIGKILL)
        until(lambda: not alive(model), "the model dies")
        until(healthy, "the model is back")
        assert "The local model was ended by SIGKILL." in serve.errors()
        assert serve.get() == told
        serve.process.send_signal(signal.SIGTERM)
        assert serve.wait() == 0
        assert not healthy()


def test_backoff_doubles_and_starts_anew_after_a_long_life() -> None:
    """0.1 s doubling to 5 s; a child that lived for 30 s has earned a quick successor."""
    backoff = Backoff()
    assert [backoff.after(1) for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert [backoff.after(31), backoff.after(1)] == [0.1, 0.2]
