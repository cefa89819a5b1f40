"""A rolling reload of stand-ins: who replaces whom, what is said of it, and what stops it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from farebox.billing import messages
from farebox.core import bus
from farebox.core.bus import PROTOCOL
from tests.test_supervisor import LIMIT_S, Serve, alive, serving, until

DONE = "Reloaded in "
FOLLOWS = "Another reload follows this one."
STAYS = (
    "The new worker 0 ended with exit code 3 before it could serve; the lines above say why. The "
    "reload ends here: nothing was changed."
)


def reload(serve: Serve, done: int = 1) -> None:
    """One SIGHUP, and wait until so many reloads are done."""
    serve.process.send_signal(signal.SIGHUP)
    until(lambda: serve.errors().count(DONE) == done, "reloaded")


def choose(serve: Serve, **answer: Any) -> None:
    """What a reload finds from now on."""
    (serve.data_dir / "reload").write_text(json.dumps(answer))


def pids(serve: Serve, workers: int) -> set[int]:
    """Who answers."""
    found: dict[int, int] = {}

    def all_answer() -> bool:
        one = serve.get()
        found[one["slot"]] = one["pid"]
        return len(found) == workers

    until(all_answer, "every worker answers")
    return set(found.values())


@contextmanager
def slow_call(serve: Serve) -> Iterator[subprocess.Popen[bytes]]:
    """A call that takes a second, and prints who answered it."""
    url = f"http://127.0.0.1:{serve.port}/slow"
    script = f"import urllib.request as u; print(u.urlopen({url!r}).read().decode())"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as call:
        yield call


def test_every_worker_and_the_ledger_process_are_replaced(tmp_path: Path) -> None:
    """One by one, on the sockets that were there, each step a line; the old ones have ended."""
    with serving(tmp_path, workers=2) as serve:
        before = pids(serve, 2)
        (ledger,) = serve.ledgers()
        choose(serve, settings={"log_level": "debug"}, notes=["A word."], version="9.9.9")
        reload(serve)
        after = pids(serve, 2)
        assert not before & after
        until(lambda: not any(map(alive, before)), "the former workers end")
        second = serve.ledgers()[1][0]
        assert (alive(ledger[0]), alive(second)) == (False, True)
        assert (serve.data_dir / "applied").exists()
        lines = serve.errors().splitlines()
        assert lines[0] == "Reloading: the settings are read again."
        assert lines[1].startswith("Farebox 9.9.9 takes over from ")
        assert lines[2:-1] == [
            "A word.",
            "Worker 0 is replaced (1 of 2).",
            "Worker 1 is replaced (2 of 2).",
            "The ledger process is replaced.",
            "Something is amiss.",
        ]
        assert lines[-1].startswith(DONE)


def test_a_call_in_flight_is_ended_by_the_worker_that_has_it(tmp_path: Path) -> None:
    """It is answered by the former one, while new calls are the new one's."""
    with serving(tmp_path) as serve:
        before = serve.get()
        with slow_call(serve) as call:
            until(lambda: _has_connection(before["pid"]), "the call is there")
            serve.process.send_signal(signal.SIGHUP)
            until(lambda: "is replaced (1 of 1)" in serve.errors(), "replaced")
            after = serve.get()
            assert after["pid"] != before["pid"]
            assert after["instance"] == before["instance"]
            answered, _ = call.communicate(timeout=LIMIT_S)
        assert json.loads(answered)["pid"] == before["pid"]
        assert call.returncode == 0


def _has_connection(pid: int) -> bool:
    """Whether it has a socket more than its listener and its bus."""
    links = Path(f"/proc/{pid}/fd").iterdir()
    return sum("socket:" in str(link.readlink()) for link in links) > 4


def test_signals_meanwhile_are_one_reload_more(tmp_path: Path) -> None:
    """However many; and the next after that is one again."""
    with serving(tmp_path) as serve:
        choose(serve, settings={"vice": "late"})
        serve.process.send_signal(signal.SIGHUP)
        until(lambda: "Reloading" in serve.errors(), "it begins")
        for times in range(1, 4):
            serve.process.send_signal(signal.SIGHUP)
            until(lambda times=times: serve.errors().count(FOLLOWS) == times, "that one follows")
        choose(serve)
        until(lambda: serve.errors().count(DONE) == 2, "both are done")
        reload(serve, 3)
        assert serve.errors().count("Reloading") == 3


def test_a_reload_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    """Whatever is wrong is said; the same workers go on, and the next reload is as any other."""
    with serving(tmp_path) as serve:
        before, ledgers = serve.get(), serve.ledgers()
        choose(serve, problems=["farebox.toml: one thing.", "farebox.toml: another."])
        serve.process.send_signal(signal.SIGHUP)
        until(lambda: "nothing was changed" in serve.errors(), "why not")
        assert serve.errors().splitlines()[1:] == [
            "farebox.toml: one thing.",
            "farebox.toml: another.",
            "There is no reload, and nothing was changed.",
        ]
        choose(serve, protocol=PROTOCOL + 1, version="9.9.9")
        serve.process.send_signal(signal.SIGHUP)
        said = "There is no reload: Farebox 9.9.9, which is installed now, cannot work beside"
        until(lambda: said in serve.errors(), "why not")
        (serve.data_dir / "reload").write_text("no JSON")
        serve.process.send_signal(signal.SIGHUP)
        until(lambda: "The settings could not be read" in serve.errors(), "why not")
        assert serve.get() == before
        assert serve.ledgers() == ledgers
        assert not (serve.data_dir / "applied").exists()
        choose(serve)
        reload(serve)
        assert serve.get()["pid"] != before["pid"]


def test_a_worker_that_cannot_serve_ends_the_reload(tmp_path: Path) -> None:
    """The one before it stays, and so does the ledger process; the reason is said."""
    with serving(tmp_path) as serve:
        before, ledgers = serve.get(), serve.ledgers()
        choose(serve, settings={"vice": "fail"})
        serve.process.send_signal(signal.SIGHUP)
        until(lambda: "The reload ends here" in serve.errors(), "why not")
        assert serve.errors().splitlines()[1:] == [STAYS]
        assert (serve.get(), serve.ledgers()) == (before, ledgers)
        assert not (serve.data_dir / "applied").exists()


def test_a_former_worker_may_take_as_long_as_the_setting_says(tmp_path: Path) -> None:
    """Then it is killed, and nobody takes its place. That it is still there is said."""
    with serving(tmp_path, vice="deaf") as serve:
        before = serve.get()
        choose(serve, settings={"reload_drain_timeout_s": 1.5, "vice": ""})
        reload(serve)
        assert alive(before["pid"])
        assert "Calls in flight in the former workers have 1.5 s to end." in serve.errors()
        until(lambda: not alive(before["pid"]), "the former worker ends")
        until(lambda: "The former worker 0 did not end in time" in serve.errors(), "a word")
        until(lambda: before["owner"] in serve.failed(), "its responses fail")


def test_a_former_worker_hears_of_changes_and_when_it_dies_is_not_replaced(tmp_path: Path) -> None:
    """Clients may still send it calls: a key that was revoked is revoked there too. Its place is
    taken already: its end is one line, and what it ran has failed.
    """
    with serving(tmp_path, vice="deaf") as serve:
        before = serve.get()
        reload(serve)
        (serve.data_dir / "revisions").write_text("3 7")
        told = dict[int, Any]()

        def both_know() -> bool:  # deaf to Drain, the former one still accepts connections
            one = serve.get()
            told[one["pid"]] = one["changes"]
            return len(told) == 2 and all(each == [[3, 7]] for each in told.values())

        until(both_know, "both were told")
        os.kill(before["pid"], signal.SIGKILL)
        said = "The former worker 0 was ended by SIGKILL before it had ended what it had.\n"
        until(lambda: said in serve.errors(), "a word")
        until(lambda: before["owner"] in serve.failed(), "its responses fail")
        assert "Starting it again" not in serve.errors()
        told.pop(before["pid"])
        assert serve.get()["pid"] in told


def test_sigterm_ends_a_reload(tmp_path: Path) -> None:
    """Old and new workers are drained, none is started any more, the exit code is 0."""
    with serving(tmp_path, workers=2) as serve:
        before = pids(serve, 2)
        choose(serve, settings={"vice": "late"})
        with slow_call(serve) as call:
            serve.process.send_signal(signal.SIGHUP)
            until(lambda: "is replaced (1 of 2)" in serve.errors(), "the first")
            serve.process.send_signal(signal.SIGTERM)
            assert serve.wait() == 0
            assert call.wait(LIMIT_S) == 0
        assert not any(map(alive, before))
        assert DONE not in serve.errors()


def test_what_processes_say_to_each_other_has_a_number() -> None:
    """A reload mixes processes of two versions if their numbers are the same. So whenever this
    fails, raise core.bus.PROTOCOL, and note the new shapes here.
    """
    answers = msgspec.json.schema(messages.Answer)
    requests = msgspec.json.schema(messages.Request)
    kinds = [bus.Start, bus.Changed, bus.Drain, bus.Ready, bus.LocalEndpoint]
    shapes = [
        [(part.name, str(get_type_hints(kind)[part.name])) for part in fields(kind)]
        for kind in kinds
    ]
    for schema in (answers, requests):
        _without_words(schema)
    text = json.dumps([answers, requests, shapes], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert (PROTOCOL, digest) == (2, "bcd884fefce0cf8f")


def _without_words(schema: Any) -> None:
    """Without what is said of the shapes in them."""
    if isinstance(schema, dict):
        schema.pop("description", None)
        for value in schema.values():
            _without_words(value)
    elif isinstance(schema, list):
        for value in schema:
            _without_words(value)
