"""Calls in flight while something changes: hang-ups, new prices, signals, dead workers."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from farebox import app
from farebox.server import background
from farebox.supervisor import Commands
from tests.e2e.config import keys, write_config
from tests.e2e.serving import Answer, Serving, events, until
from tests.fakes.upstream import FakeUpstream

KILLS = 6
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
SCRIPT = f"say: one two three four five six seven eight\nusage: {json.dumps(USAGE)}"


class Caller:
    """A stream read from a bare socket, so that it can be left at any moment."""

    def __init__(self, gateway: Serving, model: str, text: str = SCRIPT) -> None:
        host, _, port = gateway.origin.removeprefix("http://").partition(":")
        body = json.dumps(
            {"model": model, "stream": True, "messages": [{"role": "user", "content": text}]}
        ).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
            f"Authorization: Bearer {gateway.key}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        try:
            self.socket.sendall(head.encode() + body)
        except OSError:
            self.socket.close()
            raise
        self.received = b""

    def read_until(self, mark: bytes) -> bytes:
        while mark not in self.received:
            data = self.socket.recv(65536)
            if not data:
                break
            self.received += data
        return self.received

    def read_all(self) -> bytes:
        with self.socket:
            while data := self.socket.recv(65536):
                self.received += data
        return self.received

    def leave(self) -> None:
        self.socket.close()

    @property
    def request_id(self) -> str:
        head = self.received.partition(b"\r\n\r\n")[0].decode().lower()
        line = next(line for line in head.splitlines() if line.startswith("x-request-id"))
        start = self.received.lower().index(line.encode())
        return self.received[start : start + len(line)].decode().partition(":")[2].strip()


@contextmanager
def _serving(
    upstream: FakeUpstream, folder: Path, workers: int, **environ: str
) -> Iterator[Serving]:
    config = write_config(folder / "farebox.toml", upstream, _ENDLESS)
    where = ("--config", str(config), "--data-dir", str(folder / "data"), "--no-local")
    args = (*where, "--workers", str(workers))
    with Serving(folder, args, {**keys(upstream), **environ}) as gateway:
        yield gateway


_ENDLESS = """
[[models]]
id = "test-endless"
max_output = 4000
channels = [{ channel = "openai", model = "endless" }]
price = { input = "2.5", output = "10" }
"""
_PRICED = """
[[models]]
id = "test-priced"
channels = [{ channel = "openai", model = "slow" }]
price = { input = "%s", output = "10" }
"""


def _receipt(gateway: Serving, request_id: str) -> dict[str, Any]:
    answers: list[Answer] = []

    def is_settled() -> bool:
        answers.append(gateway.get(f"/v1/receipts/{request_id}"))
        return answers[-1].status == 200

    until(is_settled, 10, "the call is settled")
    return answers[-1].json


def test_a_client_that_hangs_up_pays_the_exact_usage(gateway: Serving) -> None:
    """The upstream is drained: outcome client_gone, the charge of the usage that it reported."""
    caller = Caller(gateway, "test-slow")
    caller.read_until(b"two")
    caller.leave()
    receipt = _receipt(gateway, caller.request_id)
    assert (receipt["outcome"], receipt["flags"]) == ("client_gone", [])
    assert receipt["charge_nanocredits"] == 10 * 2500 + 5 * 10000
    gateway.money()


def test_a_call_keeps_the_price_that_it_was_admitted_under(
    gateway: Serving, fake_upstream_server: FakeUpstream, tmp_path: Path
) -> None:
    """A price that doubles in the middle of a stream counts from the next call on."""

    def apply(price: str) -> None:
        config = write_config(tmp_path / "farebox.toml", fake_upstream_server, _PRICED % price)
        gateway.cli("apply", str(config))
        until(lambda: _prices(gateway) == {price}, 2, "the new price")

    apply("2.5")
    caller = Caller(gateway, "test-priced")
    caller.read_until(b"one")
    apply("5")
    caller.read_all()
    old = _receipt(gateway, caller.request_id)
    later = Caller(gateway, "test-priced")
    later.read_all()
    new = _receipt(gateway, later.request_id)
    assert old["charge_nanocredits"] == 10 * 2500 + 5 * 10000
    assert new["charge_nanocredits"] == 10 * 5000 + 5 * 10000
    assert new["price_version"] > old["price_version"]


def _prices(gateway: Serving) -> set[str | None]:
    """What it costs by each of the two workers, as ten calls find them."""
    shown = [gateway.get("/v1/models/test-priced") for _ in range(10)]
    return {each.json["price"]["input"] if each.status == 200 else None for each in shown}


def test_a_terminated_gateway_ends_its_streams_and_leaves_with_0(
    fake_upstream: FakeUpstream, tmp_path: Path
) -> None:
    """SIGTERM: a stream that ends in time ends well; new connections are refused; exit code 0."""
    with _serving(fake_upstream, tmp_path, 2) as gateway:
        gateway.money()
        caller = Caller(gateway, "test-slow")
        caller.read_until(b"one")
        gateway.process.send_signal(signal.SIGTERM)
        body = caller.read_all().partition(b"\r\n\r\n")[2]
        assert b"data: [DONE]" in body
        assert gateway.process.wait(30) == 0


def test_a_stream_that_outlives_the_drain_ends_in_an_error_and_is_charged(
    fake_upstream: FakeUpstream, tmp_path: Path
) -> None:
    """After `drain_timeout_s` the client is told that this was not all; what came is paid for."""
    with _serving(fake_upstream, tmp_path, 1, FAREBOX_DRAIN_TIMEOUT_S="1") as gateway:
        before = gateway.money()["balance_nanocredits"]
        caller = Caller(gateway, "test-endless")
        caller.read_until(b"data:")
        gateway.process.send_signal(signal.SIGTERM)
        body = caller.read_all()
        assert b"server_shutdown" in body
        assert b"[DONE]" not in body
        assert gateway.process.wait(30) == 0
        receipt = gateway.cli("receipts", "show", caller.request_id)
        shown = gateway.cli("accounts", "show", "tester")
    assert receipt["charge_nanocredits"] > 0
    assert shown["held_nanocredits"] == 0
    assert shown["balance_nanocredits"] == before - receipt["charge_nanocredits"]


def test_a_worker_has_the_time_to_end_that_it_gives_its_last_calls() -> None:
    """What the drain cuts off is settled, told and written before the worker is killed as late."""
    assert Commands().exit_limit_s >= app._AFTER_DRAIN_S + background._AFTER_END_S


def test_workers_killed_under_load_lose_and_double_nothing(
    fake_upstream: FakeUpstream, tmp_path: Path
) -> None:
    """kill -9 again and again: every whole answer is charged once, and nothing stays held."""
    with _serving(fake_upstream, tmp_path, 2) as gateway:
        start = gateway.money()["balance_nanocredits"]
        whole: list[str] = []
        ends = threading.Event()

        def call_on() -> None:
            while not ends.is_set():
                try:
                    caller = Caller(gateway, "test-slow", f"say: hi\nusage: {json.dumps(USAGE)}")
                    body = caller.read_all()
                except OSError:
                    continue
                if b"[DONE]" in body and events(body):
                    whole.append(caller.request_id)

        threads = [threading.Thread(target=call_on) for _ in range(8)]
        for thread in threads:
            thread.start()
        children = Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children")
        try:
            for kills in range(KILLS):
                seen = len(whole)
                until(lambda seen=seen: len(whole) > seen + 4, 30, "calls are answered again")
                pids = [int(pid) for pid in children.read_text(encoding="utf-8").split()]
                os.kill(pids[kills % len(pids)], signal.SIGKILL)
        finally:
            ends.set()
            for thread in threads:
                thread.join()
        shown = gateway.money()
        receipts = [_receipt(gateway, each) for each in whole]
        total = gateway.cli("usage")["total"]
    assert len(whole) > 4 * KILLS
    assert len(set(whole)) == len(whole)
    assert {receipt["charge_nanocredits"] for receipt in receipts} == {75_000}
    assert start - shown["balance_nanocredits"] == shown["spent_nanocredits"]
    assert total["charge_nanocredits"] == shown["spent_nanocredits"]
    # What was committed when its worker died, before the tail left, is charged and undelivered.
    assert len(whole) * 75_000 <= shown["spent_nanocredits"] <= (len(whole) + 8 * KILLS) * 75_000
