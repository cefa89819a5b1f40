"""The embedded model as the process that it is: real answers, and a life bound to its parent's.

The shapes checked here are what the vendor `local` relies on.
"""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from farebox.children import MODEL_COMMAND
from farebox.local.model import MODEL_ID, SLOT_TOKENS

KEY = "a-random-key"
ASK = {"model": MODEL_ID, "max_tokens": 8, "messages": [{"role": "user", "content": "Say hi."}]}


def free_port() -> int:
    """A port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def wait_healthy(port: int, limit_s: float = 60) -> None:
    """Return when /health says 200."""
    end_s = time.monotonic() + limit_s
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
        except OSError:
            assert time.monotonic() < end_s, "the model did not load"
            time.sleep(0.05)
        else:
            return


@dataclass(frozen=True)
class Model:
    """A model's process that answers."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def post(self, body: object, key: str = KEY) -> tuple[int, bytes]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/chat/completions",
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as got:
                return got.status, got.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """One model for this module; the last test ends it."""
    port, log = free_port(), tmp_path_factory.mktemp("model") / "local-model.log"
    with log.open("ab") as stderr:
        process = subprocess.Popen(MODEL_COMMAND, stdin=subprocess.PIPE, stderr=stderr)
    assert process.stdin is not None
    process.stdin.write(json.dumps({"port": port, "api_key": KEY}).encode() + b"\n")
    process.stdin.flush()
    try:
        wait_healthy(port)
        yield Model(process, port, log)
    finally:
        process.kill()
        process.communicate()


def test_it_answers_a_chat_and_counts_its_tokens(model: Model) -> None:
    """A JSON answer has a text, and usage that adds up and stays within the cap."""
    status, body = model.post(ASK)
    answer: dict[str, Any] = json.loads(body)
    usage = answer["usage"]
    assert status == 200
    assert answer["model"] == MODEL_ID
    assert answer["choices"][0]["message"]["content"]
    assert 0 < usage["completion_tokens"] <= 8
    assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]


def test_a_prompt_that_was_just_read_is_counted_as_cached(model: Model) -> None:
    """The second call of one prompt reports all of it but its last token as cached."""
    question = {**ASK, "messages": [{"role": "user", "content": "Name three colours, please."}]}
    model.post(question)
    usage = json.loads(model.post(question)[1])["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"] - 1


def test_it_streams_and_ends_with_usage_and_done(model: Model) -> None:
    """With include_usage the last event before [DONE] has usage and no choices."""
    status, body = model.post({**ASK, "stream": True, "stream_options": {"include_usage": True}})
    events = [line.removeprefix("data: ") for line in body.decode().split("\n\n") if line]
    last = json.loads(events[-2])
    assert status == 200
    assert events[-1] == "[DONE]"
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] > 0
    assert len(events) > 4


def test_a_prompt_over_its_context_is_400(model: Model) -> None:
    """Nothing is cut off silently: the error names the prompt's tokens and the slot's."""
    ask = {**ASK, "messages": [{"role": "user", "content": "word " * (SLOT_TOKENS + 1)}]}
    status, body = model.post(ask)
    error = json.loads(body)["error"]
    assert status == 400
    assert error["type"] == "exceed_context_size_error"
    assert error["n_ctx"] == SLOT_TOKENS


def test_it_wants_its_key(model: Model) -> None:
    """Another process of this machine gets no answer without the random key."""
    assert model.post(ASK, key="guess")[0] == 401


def test_its_log_holds_no_prompt(model: Model) -> None:
    """What was asked stays out of the log, also when it could not be understood."""
    canary = "zebra-canary"
    for content in (canary, {canary: 1}, [{"type": canary}], [{"type": "text", "text": 1}]):
        model.post({**ASK, "messages": [{"role": "user", "content": content}]})
    model.post({**ASK, "max_tokens": canary})
    model.post(canary)
    log = model.log.read_text()
    assert log.startswith(f"Serving {MODEL_ID} on http://127.0.0.1:{model.port}.\n")
    assert canary not in log


def test_it_says_that_it_lives_while_many_calls_wait(model: Model) -> None:
    """Who watches it kills a model that does not answer; one that has much to do is none."""
    body = json.dumps({**ASK, "max_tokens": 2000, "ignore_eos": True}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with ExitStack() as calls:
        for _ in range(40):
            call = calls.enter_context(socket.create_connection(("127.0.0.1", model.port)))
            call.sendall(head.encode() + body)
        time.sleep(0.5)
        urllib.request.urlopen(f"http://127.0.0.1:{model.port}/health", timeout=10).close()


def test_it_ends_when_its_standard_input_ends(model: Model) -> None:
    """A stop asked for in this way is clean: exit code 0."""
    assert model.process.stdin is not None
    model.process.stdin.close()
    assert model.process.wait(10) == 0


def test_it_dies_with_a_parent_that_is_killed() -> None:
    """After kill -9 of its parent the model's port is closed again, also while it still loads."""
    port = free_port()
    parent = (
        "import subprocess, sys; p = subprocess.Popen(sys.argv[1:-1],"
        "stdin=subprocess.PIPE); p.stdin.write(sys.argv[-1].encode() + b'\\n'); p.stdin.flush();"
        "print(p.pid, flush=True); p.wait()"
    )
    wanted = json.dumps({"port": port, "api_key": KEY})
    with subprocess.Popen(
        [sys.executable, "-c", parent, *MODEL_COMMAND, wanted], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    end_s = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists():
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z":
            break
        assert time.monotonic() < end_s, "the model lives on"
        time.sleep(0.05)
