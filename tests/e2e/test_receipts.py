"""One answer of an upstream costs the same, whichever API and form it was asked for in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.config import MODELS
from tests.e2e.serving import Answer, Serving, events

SCRIPT = "say: one two three\ntokens: 1000 600 50 20"
OWN = (
    *("request_id", "dialect", "stream", "created_at", "settled_at", "lease_id"),
    *("attempts", "hold_nanocredits"),
    "service_tier",  # what the vendor's own dialect reported, if it reports one
)
USED = {
    "input_tokens": 100,
    "cache_creation_input_tokens": 700,
    "cache_read_input_tokens": 200,
    "cache_creation": {"ephemeral_5m_input_tokens": 300, "ephemeral_1h_input_tokens": 400},
    "output_tokens": 50,
}


def _post(gateway: Serving, path: str, **body: Any) -> Answer:
    return gateway.request("POST", path, json.dumps(body).encode())


def _costs(gateway: Serving, answer: Answer) -> dict[str, Any]:
    """What a receipt says of the money: all that is not the call's own."""
    assert answer.status == 200, answer.body
    receipt = gateway.receipt(answer)
    return {name: value for name, value in receipt.items() if name not in OWN}


def _usage_of(answer: Answer) -> dict[str, Any]:
    """What a message says at its end, whole or streamed."""
    if answer.body.startswith(b"{"):
        return answer.json["usage"]
    (usage,) = [event["usage"] for event in events(answer.body) if event["type"] == "message_delta"]
    return usage


@pytest.mark.parametrize("vendor", MODELS)
def test_one_answer_in_each_dialect_has_equal_receipts(gateway: Serving, vendor: str) -> None:
    """Natively and translated, whole and streamed: the usage, each line, the charge. What each
    dialect shows in its own form adds up to it.
    """
    model = MODELS[vendor]
    turns = {"messages": [{"role": "user", "content": SCRIPT}], "max_tokens": 500}
    asked = {"input": SCRIPT, "max_output_tokens": 500}
    answers = [
        _post(gateway, path, model=model, stream=stream, **body)
        for path, body in (
            ("/v1/chat/completions", turns),
            ("/v1/responses", asked),
            ("/v1/messages", turns),
        )
        for stream in (False, True)
    ]
    first, *others = [_costs(gateway, answer) for answer in answers]
    assert first["charge_nanocredits"] > 0
    assert first["usage"]["cache_read"] == 600
    assert others == [first] * 5
    shown = answers[2].json["usage"]
    assert (shown["input_tokens"], shown["output_tokens"]) == (1000, 50)
    assert shown["input_tokens_details"]["cached_tokens"] == 600
    assert shown["output_tokens_details"]["reasoning_tokens"] in (0, 20)  # not every vendor tells
    for answer in answers[4:]:
        used = _usage_of(answer)
        assert (used["input_tokens"], used["output_tokens"]) == (400, 50)
        assert (used["cache_read_input_tokens"], used["cache_creation_input_tokens"]) == (600, 0)


def test_what_a_cache_took_is_charged_by_how_long_it_keeps_it(gateway: Serving) -> None:
    """Writes for five minutes and for an hour: each has its line, and both are in the usage."""
    script = f"say: one two three\nusage: {json.dumps(USED)}"
    mark = {"type": "ephemeral", "ttl": "1h"}
    system = [{"type": "text", "text": "Be brief.", "cache_control": mark}]
    turns = {"messages": [{"role": "user", "content": script}], "system": system}
    answers = [
        _post(
            gateway,
            "/v1/messages",
            model=MODELS["anthropic"],
            max_tokens=500,
            stream=stream,
            **turns,
        )
        for stream in (False, True)
    ]
    whole, streamed = [_costs(gateway, answer) for answer in answers]
    assert whole == streamed
    assert whole["usage"] == {
        "uncached_input": 100,
        "cache_read": 200,
        "cache_write": 300,
        "cache_write_1h": 400,
        "audio_input": 0,
        "output": 50,
        "audio_output": 0,
    }
    lines = {line["class"]: line["tokens"] for line in whole["lines"] if line["tokens"]}
    assert lines == {name: count for name, count in whole["usage"].items() if count}
    used, at_the_end = [_usage_of(answer) for answer in answers]
    assert {name: used[name] for name in USED} == USED
    # The end of a stream doesn't tell them apart, its beginning does.
    (begun,) = [each["message"] for each in events(answers[1].body) if "message" in each]
    assert begun["usage"]["cache_creation"] == USED["cache_creation"]
    for name in USED.keys() - {"cache_creation"}:
        assert at_the_end[name] == USED[name]
