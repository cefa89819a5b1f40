"""What a developer and an operator see with curl and the command line: keys, charges, receipts."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from tests.e2e.config import write_config
from tests.e2e.serving import Serving, until
from tests.fakes.upstream import FakeUpstream

HELLO = [{"role": "user", "content": "Hello"}]


def _account(gateway: Serving, name: str, *args: str) -> str:
    gateway.cli("accounts", "create", name, *args)
    return gateway.cli("keys", "create", "--account", name)["key"]


def _say(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_no_wrong_and_revoked_keys_are_401(gateway: Serving) -> None:
    """All three get OpenAI's 401; a revoked key within five seconds, a new one at once."""
    key = _account(gateway, "leaver", "--credits", "1")
    assert gateway.chat(key, model="gpt-5.6", messages=HELLO).status == 200
    wrong = key[:-1] + ("A" if key[-1] != "A" else "B")
    for bad in ("", wrong, "sk-other"):
        answer = gateway.chat(bad, model="gpt-5.6", messages=HELLO)
        assert (answer.status, answer.json["error"]["code"]) == (401, "invalid_api_key")
        assert answer.headers["x-request-id"].startswith("req_")
    key_id = next(row["id"] for row in gateway.cli("keys", "list") if row["account"] == "leaver")
    gateway.cli("keys", "revoke", key_id)

    def refused_by_both() -> bool:  # each worker has its own memory of keys
        return {gateway.get("/v1/models", key).status for _ in range(10)} == {401}

    until(refused_by_both, 5, "the revoked key is refused")


def test_an_empty_balance_is_429_and_nothing_is_sent(
    gateway: Serving, fake_upstream: FakeUpstream
) -> None:
    """insufficient_quota with the shortfall, no Retry-After, x-should-retry: false."""
    key = _account(gateway, "poor")
    answer = gateway.chat(key, model="gpt-5.6", messages=HELLO)
    error = answer.json["error"]
    assert (answer.status, error["type"]) == (429, "insufficient_quota")
    assert error["code"] == "credit_balance_exhausted"
    assert answer.headers["x-should-retry"] == "false"
    assert "retry-after" not in answer.headers
    assert fake_upstream.requests == []
    receipt = gateway.receipt(answer, key)
    assert (receipt["outcome"], receipt["charge_nanocredits"]) == ("refused", 0)


def test_a_rate_and_a_cached_prompt_give_the_charge_worked_out_by_hand(
    gateway: Serving,
) -> None:
    """Rate 0.8; of 1,000 tokens 600 were read and 300 written; gpt-5.6 at 4 and 20 a million.

    (100 × 4000 + 600 × 400 + 300 × 5000 + 50 × 20000) × 0.8 = 2,512,000 nano-credits
    """
    key = _account(gateway, "discounted", "--credits", "1", "--rate", "0.8")
    details = {"cached_tokens": 600, "cache_write_tokens": 300}
    usage = {
        "prompt_tokens": 1000,
        "prompt_tokens_details": details,
        "completion_tokens": 50,
        "total_tokens": 1050,
    }
    for stream in (False, True):
        before = gateway.money(key)["balance_nanocredits"]
        answer = gateway.chat(
            key, model="gpt-5.6", messages=_say(f"usage: {json.dumps(usage)}"), stream=stream
        )
        assert answer.status == 200
        receipt = gateway.receipt(answer, key)
        assert receipt["charge_nanocredits"] == 2_512_000
        assert receipt["usage"]["cache_write"] == 300
        assert before - gateway.money(key)["balance_nanocredits"] == 2_512_000
        _recompute(receipt)


def _recompute(receipt: dict[str, object]) -> None:
    """A receipt's own figures give its charge: line by line, with pencil and paper."""
    total = Decimal(0)
    for line in receipt["lines"]:  # type: ignore[attr-defined]
        amount = (
            Decimal(line["tokens"])
            * line["price_nanocredits_per_million"]
            * Decimal(line["multiplier"])
            * Decimal(str(receipt["rate"]))
            / 1_000_000
        )
        assert amount == Decimal(line["amount"])
        total += amount
    total += Decimal(str(receipt["rounding"]))
    assert total == receipt["charge_nanocredits"] + receipt["absorbed_nanocredits"]  # type: ignore[operator]


def test_every_account_adds_up(gateway: Serving) -> None:
    """balance = available + held; credited = balance + spent; with nothing in flight held is 0."""
    gateway.chat(model="gpt-5.6", messages=HELLO)

    def nothing_is_held() -> bool:
        return not any(row["held_nanocredits"] for row in gateway.cli("accounts", "list"))

    until(nothing_is_held, 10, "nothing is held")
    for account in gateway.cli("accounts", "list"):
        shown = gateway.cli("accounts", "show", account["name"])
        balance = shown["balance_nanocredits"]
        assert balance == shown["available_nanocredits"] + shown["held_nanocredits"]
        assert shown["credited_nanocredits"] == balance + shown["spent_nanocredits"]
        assert shown["held_nanocredits"] == 0
        assert Decimal(shown["balance"]) * 10**9 == balance


def test_failover_is_one_charge_and_two_attempts(gateway: Serving) -> None:
    """The first channel is dead; the receipt shows both attempts and one charge."""
    before = gateway.money()["balance_nanocredits"]
    answer = gateway.chat(model="over", messages=HELLO)
    assert answer.status == 200
    receipt = gateway.receipt(answer)
    attempts = [(each["channel"], each["error"]) for each in receipt["attempts"]]
    assert attempts == [("dead", "connect"), ("openai", None)]
    assert before - gateway.money()["balance_nanocredits"] == receipt["charge_nanocredits"] > 0
    _recompute(receipt)


def test_another_accounts_receipt_is_404(gateway: Serving) -> None:
    """A receipt is its owner's; for everybody else it does not exist."""
    answer = gateway.chat(model="gpt-5.6", messages=HELLO)
    other = _account(gateway, "nosy")
    path = f"/v1/receipts/{answer.headers['x-request-id']}"
    assert gateway.get(path, other).status == 404
    assert gateway.get(path.replace("req_", "resp_")).json == gateway.get(path).json
    by_cli = gateway.cli("receipts", "show", answer.headers["x-request-id"])
    assert by_cli == gateway.get(path).json


def test_a_failed_call_has_a_receipt_and_costs_nothing(gateway: Serving) -> None:
    """An upstream's 500 and its 400: attempts on the receipt, charge 0, hold released."""
    for model, status, outcome in (
        ("test-fail-500", 502, "upstream_failed"),
        ("test-fail-429", 429, "upstream_failed"),
        ("test-refuse-400", 400, "refused"),
    ):
        answer = gateway.chat(model=model, messages=HELLO)
        assert answer.status == status
        receipt = gateway.receipt(answer)
        assert (receipt["outcome"], receipt["charge_nanocredits"]) == (outcome, 0)
        assert len(receipt["attempts"]) == 1
    gateway.money()


def test_a_groups_rate_and_models_count(gateway: Serving) -> None:
    """An account of `friends` pays half and is not offered what the group leaves out."""
    key = _account(gateway, "friend", "--credits", "1", "--group", "friends")
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    answer = gateway.chat(key, model="gpt-5.6", messages=_say(f"usage: {json.dumps(usage)}"))
    assert gateway.receipt(answer, key)["charge_nanocredits"] == (10 * 4000 + 5 * 20000) // 2
    ids = {model["id"] for model in gateway.get("/v1/models", key).json["data"]}
    assert ids == {"gpt-5.6"}
    answer = gateway.chat(key, model="deepseek-v4-pro", messages=HELLO)
    assert (answer.status, answer.json["error"]["code"]) == (404, "model_not_found")


def test_a_keys_models_are_a_403(gateway: Serving) -> None:
    """What only the key excludes is 403 model_not_allowed; near names come from what it may use."""
    gateway.cli("accounts", "create", "narrow", "--credits", "1")
    made = gateway.cli("keys", "create", "--account", "narrow", "--models", "gpt-*")
    answer = gateway.chat(made["key"], model="deepseek-v4-pro", messages=HELLO)
    assert (answer.status, answer.json["error"]["code"]) == (403, "model_not_allowed")
    answer = gateway.chat(made["key"], model="gpt-5.7", messages=HELLO)
    assert answer.status == 404
    assert "'gpt-5.6'" in answer.json["error"]["message"]


def test_usage_sums_the_calls(gateway: Serving) -> None:
    """The roll-up by model, key and day tells the same total, and it grows by each charge."""
    before = gateway.cli("usage")["total"]["charge_nanocredits"]
    answer = gateway.chat(model="gpt-5.6", messages=HELLO)
    charge = gateway.receipt(answer)["charge_nanocredits"]
    totals = {by: gateway.cli("usage", "--by", by)["total"] for by in ("model", "key", "day")}
    assert {total["charge_nanocredits"] for total in totals.values()} == {before + charge}


@pytest.mark.parametrize("direction", ["dearer", "cheaper"])
def test_apply_is_seen_within_two_seconds(
    gateway: Serving, fake_upstream: FakeUpstream, tmp_path: Path, direction: str
) -> None:
    """A running gateway takes a changed price over; --dry-run says what would change, and no
    more.
    """
    price = {"dearer": "5", "cheaper": "3"}[direction]
    extra = (
        f'\n[[models]]\nid = "new"\nchannels = []\nprice = {{ input = "{price}", output = "9" }}\n'
    )
    changed = write_config(tmp_path / "changed.toml", fake_upstream, extra)
    dry = gateway.run("apply", str(changed), "--dry-run")
    assert dry.returncode == 0
    assert "new" in dry.stdout

    def price_seen() -> str | None:
        rows = gateway.get("/pricing.json").json["models"]
        return next((row["price"]["input"] for row in rows if row["id"] == "new"), None)

    assert price_seen() != price
    gateway.cli("apply", str(changed))
    until(lambda: price_seen() == price, 2, "the new price is shown")


def test_export_is_what_apply_reads(gateway: Serving) -> None:
    """`export | apply --dry-run -` prints no difference."""
    exported = gateway.run("export")
    assert exported.returncode == 0
    assert "sk-fake" not in exported.stdout
    applied = gateway.cli("apply", "--dry-run", "-", stdin=exported.stdout)
    assert applied["changes"] == []


def test_our_own_hop_coming_back_is_508(gateway: Serving, fake_upstream: FakeUpstream) -> None:
    """A channel that leads back to this gateway ends in loop_detected, uncharged."""
    fake_upstream.loop_to, fake_upstream.loop_key = gateway.base_url, gateway.key
    before = gateway.money()
    answer = gateway.chat(model="test-hop-loop", messages=HELLO)
    assert (answer.status, answer.json["error"]["code"]) == (508, "loop_detected")
    receipt = gateway.receipt(answer)
    assert receipt["attempts"][0]["status"] == 508
    assert gateway.money() == before
    assert len(fake_upstream.requests) == 1


def test_bad_requests_say_what_is_wrong(gateway: Serving, fake_upstream: FakeUpstream) -> None:
    """400 and 404 with the parameter; nothing is sent, nothing charged."""
    before = gateway.money()
    for body, status, param in (
        (b"{", 400, None),
        (b"[]", 400, None),
        (b'{"messages":[]}', 400, "model"),
        (b'{"model":"gpt-5.6"}', 400, "messages"),
        (b'{"model":"gpt-5.6","messages":"x"}', 400, "messages"),
        (b'{"model":"gpt-5.6","messages":[{}],"n":0}', 400, "n"),
        (b'{"model":"gpt-5.6","messages":[{}],"stream":1}', 400, "stream"),
        (b'{"model":"gpt-5.6","model":"x","messages":[{}]}', 400, "model"),
        (b'{"model":"gpt-5.66","messages":[{}]}', 404, "model"),
    ):
        answer = gateway.request("POST", "/v1/chat/completions", body)
        assert (answer.status, answer.json["error"]["param"]) == (status, param), body
        assert answer.headers["content-type"] == "application/json"
    assert fake_upstream.requests == []
    assert gateway.money() == before
