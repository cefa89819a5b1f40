"""What a caller says reaches the vendor as it was said, through the real server."""

from __future__ import annotations

import msgspec

from tests.e2e.serving import Serving
from tests.fakes.upstream import FakeUpstream

# A value for every parameter of OpenAI's `CreateChatCompletionRequest`, written as nobody's
# encoder would write it.
PARAMETERS: dict[str, bytes] = {
    "messages": b'[ {"role":"developer", "content":"Be\\u0020brief."},'
    b' {"content":[{"type":"text","text":"say: hi","x":1E0}],"role":"user","name":"ann"} ]',
    "temperature": b"1.50",
    "top_p": b"1e0",
    "frequency_penalty": b"0.10",
    "presence_penalty": b"-0.10",
    "logit_bias": b'{ "50256": -100 }',
    "logprobs": b"true",
    "top_logprobs": b"2",
    "n": b"1",
    "seed": b"12345678901234567890123",
    "stop": b'["END" , "\\u003c/s>"]',
    "user": b'"ann\\/1"',
    "safety_identifier": b'"a-hash"',
    "prompt_cache_key": b'"k"',
    "prompt_cache_retention": b'"24h"',
    "store": b"false",
    "modalities": b'[ "text" ]',
    "audio": b"null",
    "prediction": b'{"type":"content", "content":"x"}',
    "reasoning_effort": b'"xhigh"',
    "verbosity": b'"low"',
    "response_format": b'{"type": "json_schema", "json_schema": {"name":"x","schema":{ }}}',
    "service_tier": b'"auto"',
    "parallel_tool_calls": b"false",
    "tool_choice": b'{"type":"function" ,"function":{"name":"f"}}',
    "tools": b'[ {"type":"function","function":{"name":"f","strict":true}} ]',
    "functions": b"[ ]",
    "function_call": b'"none"',
}
# What OpenAI refuses (labels only beside `store`) and other servers may take.
ELSEWHERE: dict[str, bytes] = {
    "metadata": b'{ "a" : "b" }',
    "an_unheard_of_field": b'{"deep": [1.0, 2.50, 1e400, {"a":1, "a":2}]}',
    "\xe9": b'"\\ud83d\\ude00"',
}


def _body(**more: bytes) -> bytes:
    pairs = {"model": b'"gpt-5.6"', **PARAMETERS, **more}
    fields = (msgspec.json.encode(name) + b" : " + value for name, value in pairs.items())
    return b"{" + b" ,\n ".join(fields) + b"}"


def _sent(upstream: FakeUpstream) -> dict[str, bytes]:
    raw = msgspec.json.decode(upstream.last.raw, type=dict[str, msgspec.Raw])
    return {name: bytes(value) for name, value in raw.items()}


def test_every_parameter_reaches_the_vendor_byte_for_byte(
    gateway: Serving, fake_upstream: FakeUpstream
) -> None:
    """Only the model's name and the output cap are ours."""
    answer = gateway.request("POST", "/v1/chat/completions", _body(max_completion_tokens=b"20"))
    assert answer.status == 200, answer.body
    sent = _sent(fake_upstream)
    assert {name: sent.pop(name) for name in ("model", "max_completion_tokens")} == {
        "model": b'"gpt-5.6"',
        "max_completion_tokens": b"20",
    }
    assert sent == PARAMETERS
    assert "x-farebox-adjusted" not in answer.headers


def test_what_nobody_knows_reaches_the_vendor_too(
    gateway: Serving, fake_upstream: FakeUpstream
) -> None:
    """Servers have parameters of their own, and OpenAI will have new ones; the vendor judges."""
    messages = b'[{"role": "user", "content": "say: hi"}]'
    body = _body(model=b'"my-own-model"', messages=messages, **ELSEWHERE)
    assert gateway.request("POST", "/v1/chat/completions", body).status == 200
    sent = _sent(fake_upstream)
    assert {name: sent[name] for name in ELSEWHERE} == ELSEWHERE
    refused = gateway.request("POST", "/v1/chat/completions", _body(**ELSEWHERE))
    assert (refused.status, refused.json["error"]["type"]) == (400, "invalid_request_error")


def test_a_stream_differs_in_its_options_only(
    gateway: Serving, fake_upstream: FakeUpstream
) -> None:
    """Usage is asked for; the other options of the caller stay."""
    options = b'{"include_obfuscation": false}'
    body = _body(stream=b"true", stream_options=options, max_tokens=b"20")
    answer = gateway.request("POST", "/v1/chat/completions", body)
    assert answer.status == 200, answer.body
    sent = _sent(fake_upstream)
    assert msgspec.json.decode(sent.pop("stream_options")) == {
        "include_obfuscation": False,
        "include_usage": True,
    }
    assert sent.pop("max_completion_tokens") == b"20"
    assert sent.pop("stream") == b"true"
    assert sent == {"model": b'"gpt-5.6"', **PARAMETERS}
    assert answer.headers["x-farebox-adjusted"] == "max_tokens=renamed"


def test_without_a_cap_the_vendor_gets_the_one_that_is_held(
    gateway: Serving, fake_upstream: FakeUpstream
) -> None:
    """The model's longest answer, for this account can pay it."""
    assert gateway.request("POST", "/v1/chat/completions", _body()).status == 200
    assert _sent(fake_upstream)["max_completion_tokens"] == b"4000"
