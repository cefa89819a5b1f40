"""The benchmark measures what it says, on short windows. Without nginx, openssl and other gateways:
what depends on them is left out, with the reason."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from bench import compiler, proc
from tests.e2e.serving import until

ROOT = Path(__file__).parents[2]
SHORT = ("--rounds=1", "--starts=1", "--seconds=0.2", "--streams=4", "--memory-streams=4")
SHORT += ("--patience=0",)
needs_compiler = pytest.mark.skipif(
    compiler.compiler() is None,
    reason="there is no C compiler, and upstream and generator are written in C",
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where programs are compiled to: empty at first."""
    return tmp_path_factory.mktemp("cache")


def run(
    folder: Path, cache: Path, *flags: str, has_compiler: bool = True
) -> subprocess.CompletedProcess[str]:
    """The benchmark, with a PATH on which there is the C compiler alone or nothing at all."""
    programs = folder / "bin"
    programs.mkdir()
    for name in ("cc", "as", "ld") if has_compiler else ():
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    environment = {
        name: value for name, value in os.environ.items() if name not in ("CC", "XDG_CACHE_HOME")
    }
    environment |= {"PATH": str(programs), "XDG_CACHE_HOME": str(cache)}
    return subprocess.run(
        [sys.executable, "-m", "bench", *SHORT, "--output", str(folder / "results.json"), *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


@needs_compiler
@pytest.mark.timeout(300)  # five starts of real gateways, and others test beside it
def test_a_short_run_measures_every_case_and_finds_every_call_in_the_books(
    tmp_path: Path, cache: Path
) -> None:
    """It ends well, with a sample for each case, every goal, and what was left out and why."""
    done = run(tmp_path, cache, "--history=1000", "--peers=nobody")
    assert done.returncode == 0, done.stderr
    assert "left out: nginx: it is not on the PATH" in done.stdout
    assert "left out: https upstream: nginx is not on the PATH" in done.stdout
    assert "left out: nobody: there is no gateway of that name" in done.stdout
    assert done.stdout.count(" not measured | ") == 9  # the ratios to nginx, ferrogw and LiteLLM
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["calls_charged"] > 0
    assert sorted(results["rows"]) == [
        "burst-messages",
        "burst-renamed",
        "burst-responses",
        "burst-same",
        "paced-renamed",
        "paced-same",
        "plain-1k",
        "plain-1k beside farebox-history",
        "plain-1k beside farebox-two-workers",
        "plain-400k",
        "plain-400k-messages",
        "plain-400k-responses",
        "plain-50k",
        "steady",
    ]
    samples = [row["samples"]["farebox"] for row in results["rows"].values()]
    assert {len(each) for each in samples} == {1}
    assert sum(sample["cpu_us"] for (sample,) in samples) > 0
    timed = results["rows"]["paced-renamed"]["samples"]
    assert {name for name, (sample,) in timed.items() if sample["first_p50_ms"] > 0} == {
        "direct",
        "farebox",
    }
    # An event is on its way for a while, and the gateway adds to it.
    assert 0 < timed["direct"][0]["delay_p50_ms"] < timed["farebox"][0]["delay_p99_ms"]


@needs_compiler
def test_paced_streams_are_checked_to_the_last_event(tmp_path: Path, cache: Path) -> None:
    """--paced tells of memory before and after, of errors, and that every event came."""
    done = run(tmp_path, cache, "--paced=3", "--seconds=0.5", "--every-ms=50", "--settle-s=0.5")
    assert "streams: 3 complete" in done.stdout, done.stderr
    assert "0 errors." in done.stdout
    processes = re.search(r"resident memory, MB \|([^\n]*)\|", done.stdout)
    assert processes is not None
    assert {name.split()[0] for name in processes[1].split("|")} >= {
        "serve",
        "app",
        "ledger_process",
    }
    assert "books: every stream is in them" in done.stdout


@needs_compiler
def test_a_run_that_is_killed_leaves_nothing_behind(tmp_path: Path, cache: Path) -> None:
    """The gateway under test ends too, with all of its processes."""
    (tmp_path / "tmp").mkdir()
    bench = subprocess.Popen(
        [sys.executable, "-m", "bench", *SHORT],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"TMPDIR": str(tmp_path / "tmp"), "XDG_CACHE_HOME": str(cache)},
    )
    try:
        until(lambda: processes(bench.pid, "farebox.app"), 60, "a worker")
        started = processes(bench.pid, "farebox")
        assert set(started) > set(processes(bench.pid, "farebox serve")) > set()
    finally:
        bench.kill()
        bench.communicate()
    until(lambda: not any(map(is_alive, started)), 30, "the gateway to end")


def processes(bench: int, what: str) -> list[int]:
    """Those below that of the benchmark with this in their command line."""
    found: list[int] = []
    for pid in proc.tree(bench):
        with suppress(OSError):  # it has ended meanwhile
            if what in proc.command_line(pid):
                found.append(pid)
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and whom nobody waited for does not."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # the second if it ends while it is read
        return False


def test_without_a_compiler_it_says_what_to_install(tmp_path: Path, cache: Path) -> None:
    """No traceback, and the package's name."""
    done = run(tmp_path, cache, has_compiler=False)
    assert done.returncode == 1
    assert "apt install gcc" in done.stderr
    assert "Traceback" not in done.stderr


EVENT = 'data: {{"choices":[{{"delta":{{"content":" #{:08}@{:016}"}}}}]}}\n\n'
DONE = "data: [DONE]\n\n"


def answer(*numbers: int, end: str = DONE) -> bytes:
    """A whole HTTP answer with these events, in chunks that do not respect them."""
    text = "".join(EVENT.format(number, 1) for number in numbers) + end
    parts = [text[i : i + 37].encode() for i in range(0, len(text), 37)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


@needs_compiler
@pytest.mark.parametrize(
    ("sent", "failure"),
    [
        (answer(0, 1, 2), ""),
        (answer(0, 2), "event 2 of a stream came where 1 was due"),
        (answer(0, 1, 1, 2), "event 1 of a stream came where 2 was due"),
        (answer(0, 1), "a stream ended after 2 of 3 events, with its last word"),
        (answer(0, 1, 2, end=""), "a stream ended after 3 of 3 events, without its last word"),
        (answer(0, 1, 2).replace(b"200", b"503"), "an answer was not 200"),
        (answer(0, 1, 2)[:-5], "the connection was lost in an answer"),
    ],
    ids=["good", "lost", "doubled", "short", "no last word", "refused", "broken off"],
)
def test_the_generator_takes_only_a_complete_answer_for_good(
    sent: bytes, failure: str, tmp_path: Path
) -> None:
    """A stream in which an event is lost, doubled or out of order is an error that says so."""
    programs = compiler.compile_programs()
    request = tmp_path / "request"
    request.write_bytes(b"GET / HTTP/1.1\r\n\r\n")
    with Scripted(sent) as port:
        done = generate(programs.load, port, f"file={request},conns=1,events=3,last=[DONE],once=1")
    (group,) = json.loads(done.splitlines()[-1])["groups"]
    assert (group["errors"], group["failure"].startswith(failure)) == (bool(failure), True)
    assert group["calls"] == (0 if failure else 1)


def generate(program: Path, port: int, *groups: str) -> str:
    """What the generator says of a window of a tenth of a second."""
    times: Sequence[str] = ("0", "100", "0", "1000")
    return subprocess.run(
        [program, str(port), *times, *groups], capture_output=True, text=True, check=True
    ).stdout


class Scripted:
    """A server that sends the same bytes to the first connection's request, and hangs up."""

    def __init__(self, sent: bytes) -> None:
        self._sent = sent
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> int:
        self._thread.start()
        return self._listener.getsockname()[1]

    def __exit__(self, *exc: object) -> None:
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(self._sent)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1000):
                pass
