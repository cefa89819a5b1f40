"""Background responses of a real gateway: several workers, its end, and workers that die."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.config import keys, write_config
from tests.e2e.serving import Serving, events, until
from tests.fakes.upstream import FakeUpstream

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
SCRIPT = f"say: one two three four\nusage: {json.dumps(USAGE)}"
CHARGE_NANOCREDITS = 10 * 2500 + 5 * 10000
_ENDLESS = """
[[models]]
id = "test-endless"
max_output = 4000
channels = [{ channel = "deepseek", model = "endless" }]
price = { input = "2.5", output = "10" }

[[models]]
id = "test-chatty"
max_output = 4000
channels = [{ channel = "deepseek", model = "deepseek-v4-pro" }]
price = { input = "2.5", output = "10" }
"""


@contextmanager
def serving(upstream: FakeUpstream, folder: Path, **environ: str) -> Iterator[Serving]:
    """A gateway with two workers and a store that a later one in the same folder finds again."""
    config = write_config(folder / "farebox.toml", upstream, _ENDLESS)
    where = ("--config", str(config), "--data-dir", str(folder / "data"), "--workers", "2")
    with Serving(folder, (*where, "--no-local"), {**keys(upstream), **environ}) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def gateway(
    fake_upstream_server: FakeUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serving]:
    """One for the tests that leave it serving."""
    with serving(fake_upstream_server, tmp_path_factory.mktemp("background")) as shared:
        yield shared


def start(gateway: Serving, model: str) -> str:
    """The id of a new background response."""
    body = json.dumps({"model": model, "input": SCRIPT, "background": True}).encode()
    answer = gateway.request("POST", "/v1/responses", body)
    assert answer.status == 200, answer
    assert answer.json["status"] == "queued"
    return answer.json["id"]


def shown(gateway: Serving, response_id: str) -> dict[str, Any]:
    """The response as it is now."""
    answer = gateway.get(f"/v1/responses/{response_id}")
    assert answer.status == 200, answer
    return answer.json


def wait_for(gateway: Serving, response_id: str, status: str) -> dict[str, Any]:
    """The response once it has that status."""
    until(lambda: shown(gateway, response_id)["status"] == status, 15, f"{response_id} {status}")
    return shown(gateway, response_id)


def test_responses_are_followed_and_cancelled_from_any_worker(
    gateway: Serving, fake_upstream: FakeUpstream
) -> None:
    """Whichever process a request comes to: the same events, the same end, one charge each."""
    before = gateway.money()["balance_nanocredits"]
    others = fake_upstream.open_sockets  # of gateways that other tests share
    for _ in range(4):  # by chance, some are asked of the process that does not run them
        response_id = start(gateway, "test-chatty")
        followed = gateway.get(f"/v1/responses/{response_id}?stream=true")
        told = events(followed.body)
        assert told[-1]["type"] == "response.completed"
        assert told[-1]["response"] == shown(gateway, response_id)
        assert gateway.get(f"/v1/receipts/{response_id}").json["charge_nanocredits"] == 75_000
    assert before - gateway.money()["balance_nanocredits"] == 4 * CHARGE_NANOCREDITS
    for _ in range(4):
        response_id = start(gateway, "test-endless")
        wait_for(gateway, response_id, "in_progress")
        answer = gateway.request("POST", f"/v1/responses/{response_id}/cancel")
        assert (answer.status, answer.json["status"]) == (200, "cancelled")
        assert wait_for(gateway, response_id, "cancelled")["error"] is None
        receipt = gateway.get(f"/v1/receipts/{response_id}").json
        assert receipt["outcome"] == "client_gone"
        assert receipt["charge_nanocredits"] > 0
    gateway.money(timeout_s=5)
    until(lambda: fake_upstream.open_sockets <= others + 4, 5, "the cancelled calls are dropped")


def test_a_gateway_that_ends_waits_for_them_and_says_which_it_could_not(
    fake_upstream: FakeUpstream, tmp_path: Path
) -> None:
    """SIGTERM: one ends well in the drain's time, one fails and is charged; the next gateway on
    this store shows both.
    """
    with serving(fake_upstream, tmp_path, FAREBOX_DRAIN_TIMEOUT_S="2") as gateway:
        key = gateway.key
        endless = start(gateway, "test-endless")
        wait_for(gateway, endless, "in_progress")
        short = start(gateway, "test-chatty")
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(30) == 0
    with serving(fake_upstream, tmp_path) as later:
        later.said["key"] = key
        assert shown(later, short)["status"] == "completed"
        failed = shown(later, endless)
        assert failed["status"] == "failed"
        assert "shutting down" in failed["error"]["message"]
        receipt = later.get(f"/v1/receipts/{endless}").json
        assert receipt["charge_nanocredits"] > 0
        later.money()


def test_those_of_a_worker_that_was_killed_have_failed(gateway: Serving) -> None:
    """kill -9 of both: an error instead of waiting for ever, and nothing held or charged."""
    before = gateway.money()["balance_nanocredits"]
    response_id = start(gateway, "test-endless")
    wait_for(gateway, response_id, "in_progress")
    children = Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children")
    for pid in children.read_text(encoding="utf-8").split():
        os.kill(int(pid), signal.SIGKILL)
    until(lambda: gateway.get("/healthz", "").status == 200, 15, "workers are replaced")
    failed = wait_for(gateway, response_id, "failed")
    assert failed["error"]["code"] == "server_error"
    told = events(gateway.get(f"/v1/responses/{response_id}?stream=true").body)
    assert told[-1] == {
        "type": "response.failed",
        "sequence_number": told[-1]["sequence_number"],
        "response": failed,
    }
    assert gateway.money()["balance_nanocredits"] == before
