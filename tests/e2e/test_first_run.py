"""An empty folder, one command, a real answer from a real model."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from decimal import Decimal
from pathlib import Path

from tests.e2e.serving import Serving, events, until
from tests.fakes.upstream import FakeUpstream

MODEL = "smollm2-135m-instruct"


def _shell(line: str) -> bytes:
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_printed_curl_line_is_answered_by_the_model(local_gateway: Serving) -> None:
    """Pasted into a shell as it stands, the line gives an answer and a charge above zero."""
    before = local_gateway.money()["balance_nanocredits"]
    answer = json.loads(_shell(local_gateway.said["curl"]))
    assert answer["model"] == MODEL
    assert answer["choices"][0]["message"]["content"]
    assert local_gateway.money()["balance_nanocredits"] < before


def test_a_chinese_question_in_one_piece(local_gateway: Serving) -> None:
    """The non-streaming call of the price page, with the base URL and key put in."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "你好,介绍一下你自己"}]}
    answer = local_gateway.chat(**body, max_tokens=24)
    assert answer.status == 200
    assert answer.json["usage"]["completion_tokens"] <= 24
    receipt = local_gateway.receipt(answer)
    assert receipt["outcome"] == "complete"
    _adds_up(receipt)


def test_a_chinese_poem_as_a_stream(local_gateway: Serving) -> None:
    """`curl -N` with include_usage ends in a usage chunk and `data: [DONE]`."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "写一首关于夏天的短诗"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 24,
    }
    line = (
        f"curl -sN {local_gateway.base_url}/chat/completions"
        f" -H 'Authorization: Bearer {local_gateway.key}' -H 'Content-Type: application/json'"
        f" -d {shlex.quote(json.dumps(body, ensure_ascii=False))}"
    )
    raw = _shell(line)
    assert raw.endswith(b"data: [DONE]\n\n")
    *chunks, usage, done = events(raw)
    assert done == "[DONE]"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] > 0
    assert [c["choices"][0]["finish_reason"] for c in chunks].count(None) == len(chunks) - 1
    assert {chunk["model"] for chunk in chunks} == {MODEL}


def _adds_up(receipt: dict[str, object]) -> None:
    amounts = sum((Decimal(line["amount"]) for line in receipt["lines"]), Decimal(0))  # type: ignore[attr-defined]
    assert amounts + Decimal(str(receipt["rounding"])) == receipt["charge_nanocredits"]


def test_the_demo_account_adds_up(local_gateway: Serving) -> None:
    """5 credits = what is left + what was spent, and what was spent is the sum of the calls."""
    shown = local_gateway.cli("accounts", "show", "demo")
    assert shown["credited_nanocredits"] == 5 * 10**9
    assert shown["balance_nanocredits"] == 5 * 10**9 - shown["spent_nanocredits"]
    assert local_gateway.cli("usage")["total"]["charge_nanocredits"] == shown["spent_nanocredits"]


def test_a_second_serve_on_the_same_store_is_refused(local_gateway: Serving) -> None:
    """One sentence and exit code 5, and the first one goes on."""
    done = local_gateway.run("serve", "--port", "0", "--no-local")
    assert done.returncode == 5
    assert "Traceback" not in done.stderr
    assert local_gateway.get("/healthz").status == 200


def test_prices_agree_everywhere(local_gateway: Serving) -> None:
    """The page, its JSON, /v1/models and a receipt show one price object."""
    row = local_gateway.get("/pricing.json", "").json["models"][0]
    listed = local_gateway.get(f"/v1/models/{MODEL}").json
    assert row["price"] == listed["price"]
    assert (row["context"], row["max_output"]) == (listed["context"], listed["max_output"])
    page = local_gateway.get("/pricing", "").body.decode()
    for figure in ("input", "output", "cache_read", "cache_write"):
        assert f">{row['price'][figure]}<" in page.replace(" ", "").replace("\n", "")
    answer = local_gateway.chat(
        model=MODEL, messages=[{"role": "user", "content": "Hi"}], max_tokens=4
    )
    for line in local_gateway.receipt(answer)["lines"]:
        name = "input" if line["class"] == "uncached_input" else line["class"]
        assert Decimal(row["price"][name]) * 10**9 == line["price_nanocredits_per_million"]


def test_metrics_are_the_sum_and_health_is_told(local_gateway: Serving) -> None:
    """/healthz, /readyz and /metrics need no key; the counters name no user."""
    assert local_gateway.get("/healthz", "").status == 200
    assert local_gateway.get("/readyz", "").status == 200
    text = local_gateway.get("/metrics", "").body.decode()
    assert "farebox_calls_total" in text
    assert "demo" not in text


def test_a_dead_worker_is_replaced_and_the_model_too(local_gateway: Serving) -> None:
    """kill -9 of every child: calls are answered again, nothing is held, the books add up."""
    children = _children(local_gateway.process.pid)
    assert len(children) >= 2
    for pid in children:
        os.kill(pid, signal.SIGKILL)

    def answered() -> bool:
        try:
            body = [{"role": "user", "content": "Hi"}]
            return local_gateway.chat(model=MODEL, messages=body, max_tokens=4).status == 200
        except AssertionError:
            return False

    until(answered, 30, "the gateway answers again")
    local_gateway.money()
    assert local_gateway.cli("accounts", "show", "demo")["held_nanocredits"] == 0


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
    return [int(child) for child in text.split()]


def test_the_environments_vendors_and_families(fake_upstream: FakeUpstream, tmp_path: Path) -> None:
    """A key for each vendor: /v1/models lists the four families, and their names resolve."""
    environ: dict[str, str] = {}
    for vendor in ("openai", "deepseek", "zai", "zhipu", "mimo"):
        environ[f"{vendor.upper()}_API_KEY"] = fake_upstream.key(vendor)
        environ[f"{vendor.upper()}_BASE_URL"] = fake_upstream.base_url(vendor)
    with Serving(tmp_path, ("--no-local",), environ) as gateway:
        ids = [model["id"] for model in gateway.get("/v1/models").json["data"]]
        for family in ("gpt-", "deepseek-", "ZHIPU/GLM-", "xiaomi/mimo-"):
            assert [each for each in ids if each.startswith(family)], family
        for name in ("ZHIPU/GLM-5.3", "zhipu/glm-5.3", "glm-5.3"):
            messages = [{"role": "user", "content": "say: hi"}]
            answer = gateway.chat(model=name, messages=messages)
            assert (answer.status, answer.json["model"]) == (200, name)
            assert gateway.receipt(answer)["model"] == "ZHIPU/GLM-5.3"
        for path in ("xiaomi%2Fmimo-v2.6-pro", "xiaomi/mimo-v2.6-pro", "MIMO-V2.6-PRO"):
            assert gateway.get(f"/v1/models/{path}").json["id"] == "xiaomi/mimo-v2.6-pro"
        exported = gateway.run("export").stdout
        assert gateway.cli("apply", "--dry-run", "-", stdin=exported)["changes"] == []


def test_a_shell_that_points_at_this_gateway_does_not_make_a_loop(tmp_path: Path) -> None:
    """OPENAI_BASE_URL and OPENAI_API_KEY of this very gateway are ignored, with a sentence."""
    environ = {"OPENAI_BASE_URL": "http://localhost:8790/v1", "OPENAI_API_KEY": "sk-fb-mine"}
    with Serving(tmp_path, ("--no-local",), environ) as gateway:
        assert gateway.said["channels"] == []
        assert "OPENAI_" in gateway.log.read_text(encoding="utf-8")
        assert gateway.get("/v1/models").json["data"] == []


def test_starts_that_cannot_be_end_in_a_sentence(tmp_path: Path) -> None:
    """Unknown key, unreadable file, unwritable folder, port in use: exit code, no traceback."""
    gateway = Serving(tmp_path)
    (tmp_path / "wrong.toml").write_text("[server]\nprot = 1\n", encoding="utf-8")
    (tmp_path / "file").write_text("", encoding="utf-8")
    cases = (
        (("--config", "wrong.toml"), 2, "prot"),
        (("--config", "missing.toml"), 2, "missing.toml"),
        (("--data-dir", "/proc/nowhere"), 2, "/proc/nowhere"),
        (("--port", "99999"), 2, "99999"),
        (("--database", "postgresql://x/y"), 2, "PostgreSQL"),
    )
    for args, code, named in cases:
        done = gateway.run("serve", *args)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), (args, done.stderr)
        assert named in done.stderr
        assert len(done.stderr.strip().splitlines()) <= 3
