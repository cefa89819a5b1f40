"""Counting tokens on a real gateway: in a process of its own, started when somebody counts."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.e2e.config import write_config
from tests.e2e.serving import Answer, Serving, until
from tests.fakes.upstream import FakeUpstream

LIBRARIES = ("tiktoken", "tokenizers")
SPACES = " " * 500_000
SPACES_TOKENS = 3907  # by tiktoken itself
_COUNTED = """
[[models]]
id = "test-counted"
channels = [{ channel = "openai", model = "gpt-5.5" }]
price = { input = "2.5", output = "10" }
"""


def count(gateway: Serving, text: str) -> Answer:
    """POST /v1/messages/count_tokens with one message."""
    body = {"model": "test-counted", "messages": [{"role": "user", "content": text}]}
    return gateway.request("POST", "/v1/messages/count_tokens", json.dumps(body).encode())


def processes(gateway: Serving) -> dict[str, list[int]]:
    """The gateway's children by the module that they run."""
    found: dict[str, list[int]] = {"farebox.app": [], "farebox.counting.process": []}
    parent = gateway.process.pid
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    for pid in map(int, children):
        command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        for module, pids in found.items():
            if module in command:
                pids.append(pid)
    return found


def libraries_of(pid: int) -> set[str]:
    """Which of the two libraries a process has loaded."""
    mapped = Path(f"/proc/{pid}/maps").read_text()
    return {name for name in LIBRARIES if f"/{name}/" in mapped}


def test_tokens_are_counted_beside_the_workers(fake_upstream: FakeUpstream, tmp_path: Path) -> None:
    """No worker loads a vocabulary, so none stands still for it: other calls are answered while
    half a megabyte of spaces is counted. Nothing is charged, and a process that was killed comes
    back.
    """
    config = write_config(tmp_path / "farebox.toml", fake_upstream, _COUNTED)
    keys = {f"FAKE_{name.upper()}_KEY": "k" for name in ("openai", "deepseek", "zhipu", "zai")}
    keys |= {"FAKE_MIMO_KEY": "k", "FAKE_OPENAI_COMPATIBLE_KEY": "k"}
    where = ("--config", str(config), "--data-dir", str(tmp_path / "data"), "--no-local")
    with Serving(tmp_path, (*where, "--workers", "2"), keys) as gateway:
        before = gateway.money()
        assert processes(gateway)["farebox.counting.process"] == []
        with ThreadPoolExecutor(4) as threads:
            counts = [threads.submit(count, gateway, SPACES) for _ in range(4)]
            assert gateway.get("/healthz", "").status == 200
            for each in counts:
                answer = each.result()
                assert answer.json == {"input_tokens": SPACES_TOKENS + 1 + 3 + 3}
                assert "x-token-count" not in answer.headers
        running = processes(gateway)
        (counting,) = running["farebox.counting.process"]
        assert libraries_of(counting) == {"tiktoken"}
        assert [libraries_of(pid) for pid in running["farebox.app"]] == [set(), set()]
        os.kill(counting, signal.SIGKILL)
        until(
            lambda: "x-token-count" not in count(gateway, "Hi").headers, 15, "exact counts are back"
        )
        assert gateway.money() == before
        assert gateway.cli("usage")["total"]["calls"] == 0
    assert not Path(f"/proc/{counting}").exists()
