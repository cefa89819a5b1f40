"""Charges through whole gateways, on both engines: the worked cases to the nano-credit, and what
must hold for every usage.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import postgres
from tests.billing.test_charge import CASES, PRICES, Case
from tests.e2e.chaos import audit
from tests.e2e.hosts import on_store
from tests.e2e.serving import Answer, Serving
from tests.fakes.upstream import FakeUpstream

_MODEL = """
[[models]]
id = "case-{name}"
context = 1000000
max_output = 4000
channels = [{{ channel = "{channel}", model = "{upstream}" }}]
price = {{ {price} }}
"""
COUNTS = st.integers(0, 3000)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_toml(each)}" for name, each in value.items()) + " }"
    return json.dumps(value)


def _models() -> str:
    channels = {"sonnet": ("anthropic", "claude-sonnet-5-5")}
    parts: list[str] = []
    for name, price in PRICES.items():
        channel, upstream = channels.get(name, ("openai", "gpt-5.6"))
        inner = _toml(price)[2:-2]
        parts.append(_MODEL.format(name=name, channel=channel, upstream=upstream, price=inner))
    return "".join(parts)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def gateway(
    request: pytest.FixtureRequest,
    fake_upstream_server: FakeUpstream,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Serving]:
    """One on each engine, with a model for each price, and an account for each rate."""
    folder = tmp_path_factory.mktemp("cases")
    database = f"sqlite:///{folder}/farebox.db"
    if request.param == "postgresql":
        database = postgres.fresh_database()
    with on_store(folder, fake_upstream_server, database, extra=_models()) as serving:
        yield serving
        assert audit(serving) == []
    if request.param == "postgresql":
        postgres.server().drop(database)


_keys: dict[tuple[str, str], str] = {}


def _key(gateway: Serving, rate: str) -> str:
    made = _keys.get((gateway.origin, rate))
    if made is None:
        gateway.cli("accounts", "create", f"rate-{rate}", "--credits", "100", "--rate", rate)
        made = gateway.cli("keys", "create", "--account", f"rate-{rate}")["key"]
        _keys[gateway.origin, rate] = made
    return made


def _ask(gateway: Serving, key: str, model: str, usage: dict[str, Any], *, stream: bool) -> Answer:
    """In the dialect that has such a usage."""
    text = f"say: one two\nusage: {json.dumps(usage)}"
    body: dict[str, Any] = {"model": f"case-{model}", "stream": stream}
    turns = [{"role": "user", "content": text}]
    if "prompt_tokens" in usage:
        path, body["messages"] = "/v1/chat/completions", turns
    elif "total_tokens" in usage:
        path, body["input"] = "/v1/responses", text
    else:
        path, body["messages"], body["max_tokens"] = "/v1/messages", turns, 1000
    answer = gateway.request("POST", path, json.dumps(body).encode(), key=key)
    assert answer.status == 200, answer
    return answer


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_worked_case_costs_the_same_by_http(gateway: Serving, case: Case, stream: bool) -> None:
    """On the receipt and off the balance: what was worked out by hand, also above the hold."""
    key = _key(gateway, case.rate)
    before = gateway.money(key)["balance_nanocredits"]
    answer = _ask(gateway, key, case.price, case.reported, stream=stream)
    receipt = gateway.receipt(answer, key)
    charged = (receipt["charge_nanocredits"], receipt["absorbed_nanocredits"])
    assert charged == (case.charge_nanocredits, 0)
    tokens = {name: n for name, n in case.usage.as_dict().items() if n}
    assert {name: n for name, n in receipt["usage"].items() if n} == tokens
    assert before - gateway.money(key)["balance_nanocredits"] == case.charge_nanocredits


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(uncached=COUNTS, read=COUNTS, written=COUNTS, output=COUNTS)
def test_every_usage_costs_the_exact_sum_rounded_up_once(
    gateway: Serving, uncached: int, read: int, written: int, output: int
) -> None:
    """Whole or streamed, in the shape of chat or of Responses: ceil(rate · Σ tokens · price)."""
    key = _key(gateway, "1.15")
    total = uncached + read + written
    details = {"cached_tokens": read, "cache_write_tokens": written}
    chat = {"prompt_tokens": total, "prompt_tokens_details": details, "completion_tokens": output}
    responses = {"input_tokens": total, "input_tokens_details": details, "output_tokens": output}
    exact = Fraction(115, 100) * (uncached * 4_000 + read * 400 + written * 5_000 + output * 20_000)
    for usage in (chat, responses):
        usage["total_tokens"] = total + output
        for stream in (False, True):
            answer = _ask(gateway, key, "gpt-5.6", usage, stream=stream)
            receipt = gateway.receipt(answer, key)
            assert receipt["charge_nanocredits"] == ceil(exact)
