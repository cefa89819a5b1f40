"""Calls in flight while something changes: hang-ups, new prices, signals, dead workers."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.config import keys, write_config
from tests.e2e.serving import Serving, events, until
from tests.fakes.upstream import FakeUpstream

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
        self.socket.sendall(head.encode() + body)
        self.received = b""

    def read_until(self, mark: bytes) -> bytes:
        while mark not in self.received:
            data = self.socket.recv(65536)
            if not data:
                break
            self.received += data
        return self.received

    def read_all(self) -> bytes:
        while data := self.socket.recv(65536):
            self.received += data
        self.socket.close()
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
def _serving(upstream: FakeUpstream, folder: Path, *args: str, **environ: str) -> Iterator[Serving]:
    config = write_config(folder / "farebox.toml", upstream, _ENDLESS)
    where = ("--config", str(config), "--data-dir", str(folder / "data"), *args)
    with Serving(folder, where, {**keys(upstream), **environ}) as gateway:
        yield gateway


_ENDLESS = """
[[models]]
id = "test-endless"
max_output = 4000
channels = [{ channel = "openai", model = "endless" }]
price = { input = "2.5", output = "10" }
"""


def _receipt(gateway: Serving, request_id: str) -> dict[str, Any]:
    path = f"/v1/receipts/{request_id}"
    until(lambda: gateway.get(path).status == 200, 10, "the call is settled")
    return gateway.get(path).json


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
    fake_upstream: FakeUpstream, tmp_path: Path
) -> None:
    """A price that doubles in the middle of a stream counts from the next call on."""
    with _serving(fake_upstream, tmp_path, "--no-local") as gateway:
        gateway.money()
        caller = Caller(gateway, "test-slow")
        caller.read_until(b"one")
        config = tmp_path / "farebox.toml"
        dearer = config.read_text(encoding="utf-8").replace('input = "2.5"', 'input = "5"')
        config.write_text(dearer, encoding="utf-8")
        gateway.cli("apply", str(config))

        def new_price() -> bool:
            row = gateway.get("/v1/models/test-slow").json
            return row["price"]["input"] == "5"

        until(new_price, 2, "the new price")
        caller.read_all()
        old = _receipt(gateway, caller.request_id)
        later = Caller(gateway, "test-slow")
        later.read_all()
        new = _receipt(gateway, later.request_id)
    assert old["charge_nanocredits"] == 10 * 2500 + 5 * 10000
    assert new["charge_nanocredits"] == 10 * 5000 + 5 * 10000
    assert new["price_version"] > old["price_version"]


def test_a_terminated_gateway_ends_its_streams_and_leaves_with_0(
    fake_upstream: FakeUpstream, tmp_path: Path
) -> None:
    """SIGTERM: a stream that ends in time ends well; new connections are refused; exit code 0."""
    with _serving(fake_upstream, tmp_path, "--workers", "2") as gateway:
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
    with _serving(fake_upstream, tmp_path, FAREBOX_DRAIN_TIMEOUT_S="1") as gateway:
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


def test_workers_killed_under_load_lose_and_double_nothing(
    fake_upstream: FakeUpstream, tmp_path: Path
) -> None:
    """kill -9 again and again: every whole answer is charged once, and nothing stays held."""
    with _serving(fake_upstream, tmp_path, "--workers", "2") as gateway:
        start = gateway.money()["balance_nanocredits"]
        whole: list[str] = []
        deadline = time.monotonic() + 6

        def call_on() -> None:
            while time.monotonic() < deadline:
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
        kills = 0
        while time.monotonic() < deadline - 1:
            time.sleep(0.7)
            children = Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children")
            pids = [int(pid) for pid in children.read_text(encoding="utf-8").split()]
            if pids:
                os.kill(pids[kills % len(pids)], signal.SIGKILL)
                kills += 1
        for thread in threads:
            thread.join()
        shown = gateway.money()
        receipts = [_receipt(gateway, each) for each in whole]
        total = gateway.cli("usage")["total"]
    assert kills >= 4
    assert len(whole) > 10
    assert len(set(whole)) == len(whole)
    assert {receipt["charge_nanocredits"] for receipt in receipts} == {75_000}
    assert start - shown["balance_nanocredits"] == shown["spent_nanocredits"]
    assert total["charge_nanocredits"] == shown["spent_nanocredits"]
    # What was committed when its worker died, before the tail left, is charged and undelivered.
    assert len(whole) * 75_000 <= shown["spent_nanocredits"] <= (len(whole) + 8 * kills) * 75_000
