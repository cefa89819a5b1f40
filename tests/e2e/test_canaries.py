"""What must never be written down: after a working day, everything that was written is searched."""

from __future__ import annotations

import stat
from pathlib import Path

from tests.e2e.config import VENDORS, keys, write_config
from tests.e2e.serving import Serving
from tests.fakes.upstream import FakeUpstream

PROMPT = "canary-of-a-prompt"
ANSWER = "canary-of-an-answer"
FAULTS = (
    "fail-401",
    "leak-400",
    "leak-500",
    "error-event",
    "error-200",
    "garbage-event",
    "bad-usage",
)
_MODELS = "".join(
    f"""
[[models]]
id = "canary-{fault}"
max_output = 100
channels = [{{ channel = "openai", model = "{fault}" }}]
price = {{ input = "1", output = "2" }}
"""
    for fault in FAULTS
)


def _work(gateway: Serving, key: str) -> bytes:
    """Good calls, failures and refusals of all kinds; everything that was answered."""
    messages = [{"role": "user", "content": f"{PROMPT}\nsay: {ANSWER}"}]
    answers = [
        gateway.chat(key, model=model, messages=messages, stream=stream)
        for model in ("gpt-5.6", "over", *(f"canary-{fault}" for fault in FAULTS))
        for stream in (False, True)
    ]
    assert answers[0].status == 200
    assert ANSWER.encode() in answers[1].body
    answers += [
        gateway.chat(key, model=PROMPT, messages=messages),
        gateway.chat(key, model="gpt-5.6", messages=PROMPT),
        gateway.chat(key, model="gpt-5.6", messages=messages, max_tokens=PROMPT),
        gateway.chat("sk-fb-" + "canaryofakey" * 5, model="gpt-5.6", messages=messages),
        gateway.request("POST", "/v1/chat/completions", PROMPT.encode(), key=key),
        gateway.get(f"/v1/models/{PROMPT}?key={key}", key),
        gateway.get(f"/{key}/{PROMPT}"),
        gateway.get("/v1/models", key, x_farebox_hop=PROMPT),
    ]
    return b"".join(answer.body for answer in answers)


def _written(gateway: Serving, folder: Path) -> dict[str, bytes]:
    """Every file of the gateway, what it shows to anybody, and what the command line prints."""
    texts = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for path in ("/metrics", "/pricing", "/pricing.json", "/readyz"):
        texts[path] = gateway.get(path).body
    for verb in (["export"], ["usage"], ["accounts", "list"], ["keys", "list"], ["doctor"]):
        done = gateway.run(*verb)
        texts[" ".join(verb)] = (done.stdout + done.stderr).encode()
    return texts


def test_no_key_and_no_word_of_a_call_is_written_down(
    fake_upstream: FakeUpstream, tmp_path: Path
) -> None:
    """Not in the store, the log, the metrics or any listing; and no vendor's key is ever answered.
    What the gateway writes is for its owner's eyes alone.
    """
    config = write_config(tmp_path / "farebox.toml", fake_upstream, _MODELS)
    data = tmp_path / "data"
    args = ("--config", str(config), "--data-dir", str(data), "--no-local")
    with Serving(tmp_path, args, {**keys(fake_upstream), "FAREBOX_LOG_LEVEL": "debug"}) as gateway:
        key = gateway.key
        answered = _work(gateway, key)
        written = _written(gateway, tmp_path)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data.iterdir()}
    written["log at its end"] = gateway.log.read_bytes()
    assert "secret" in modes
    assert {name for name, mode in modes.items() if mode & 0o077 and name != "run"} == set()
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    secrets = [fake_upstream.key(name).encode() for name in VENDORS]
    canaries = [PROMPT.encode(), ANSWER.encode(), b"canaryofakey", key.encode(), key[6:].encode()]
    found = {
        (where, canary)
        for where, text in written.items()
        for canary in (*secrets, *canaries)
        if canary in text
    }
    assert found == set()
    assert [secret for secret in secrets if secret in answered] == []
