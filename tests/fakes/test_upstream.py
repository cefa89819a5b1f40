"""The fake upstream itself: what other tests may rely on."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest

from tests.fakes import faults
from tests.fakes.asking import CUT, HANGING, exchange
from tests.fakes.personas import PERSONAS
from tests.fakes.upstream import FakeUpstream


def post(
    upstream: FakeUpstream, persona: str, body: dict[str, Any], *, key: str | None = None
) -> tuple[int, bytes]:
    path = PERSONAS[persona].base_path + "/chat/completions"
    headers = {"authorization": f"Bearer {key or upstream.key(persona)}"}
    return exchange(upstream, path, body, headers)


def hello(model: str = "m", text: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


def events(body: bytes) -> list[Any]:
    found = [e for e in body.decode().split("\n\n") if e.startswith("data: ")]
    return [e if e == "data: [DONE]" else json.loads(e[6:]) for e in found]


@pytest.mark.parametrize("persona", PERSONAS)
def test_every_persona_answers_a_plain_call(fake_upstream: FakeUpstream, persona: str):
    """The least request is answered, in JSON and as a stream, and recorded."""
    status, body = post(fake_upstream, persona, hello(text="say: one two"))
    assert status == 200
    assert json.loads(body)["choices"][0]["message"]["content"] == "one two"
    status, body = post(
        fake_upstream,
        persona,
        hello(text="say: one two", stream=True, stream_options={"include_usage": True}),
    )
    streamed = events(body)
    deltas = [c["choices"][0]["delta"] for c in streamed[:-1] if c["choices"]]
    assert "".join(d.get("content", "") for d in deltas) == "one two"
    assert streamed[-1] == "data: [DONE]"
    assert [c["usage"]["total_tokens"] for c in streamed[:-1] if c.get("usage")]
    assert [r.persona for r in fake_upstream.requests] == [persona, persona]


@pytest.mark.parametrize("persona", PERSONAS)
def test_a_wrong_key_is_401_in_the_vendors_own_shape(fake_upstream: FakeUpstream, persona: str):
    """No persona answers a stranger."""
    status, body = post(fake_upstream, persona, hello(), key="sk-wrong")
    assert (status, body) == (401, PERSONAS[persona].error(PERSONAS[persona].unauthorized))


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("openai", {"thinking": {"type": "enabled"}}),
    ("openai", {"metadata": {"a": "b"}}),
    ("openai", {"model": "gpt-5.4", "max_tokens": 5}),
    ("deepseek", {"max_completion_tokens": 5}),
    ("deepseek", {"reasoning_effort": "medium"}),
    ("deepseek", {"messages": [{"role": "developer", "content": "x"}]}),
    ("zai", {"frequency_penalty": 1}),
    ("zai", {"tool_choice": "required"}),
    ("zai", {"model": "glm-5.3", "thinking": {"type": "disabled"}}),
    ("zhipu", {"messages": [{"role": "user", "name": "me", "content": "x"}]}),
    ("zhipu", {"tools": [{"type": "function", "function": {"name": "f", "strict": True}}]}),
    ("mimo", {"max_tokens": 5}),
    ("mimo", {"response_format": {"type": "json_schema"}}),
    ("mimo", {"messages": [{"role": "assistant", "content": "", "tool_calls": [{"id": "a"}]}]}),
    ("openai_compatible", {"max_completion_tokens": 5}),
    ("local", {"messages": []}),
]


@pytest.mark.parametrize(("persona", "fields"), REFUSED)
def test_a_persona_refuses_what_its_vendor_refuses(
    fake_upstream: FakeUpstream, persona: str, fields: dict[str, Any]
):
    """Adapting a request is proved by being accepted here."""
    status, _ = post(fake_upstream, persona, {**hello(), **fields})
    assert status in (400, 422)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", sorted(faults.FAULTS - HANGING))
def test_every_fault_that_ends_ends(fake_upstream: FakeUpstream, fault: str, stream: bool):
    """A fault spoils one answer; the server serves on, and no connection is left."""
    body = hello(f"x/{fault}", "usage: null" if fault == "no-usage" else "hi", stream=stream)
    try:
        status, _ = post(fake_upstream, "openai_compatible", body)
        expected = int(fault[5:8]) if fault.startswith("fail-") and fault[5] in "45" else status
        assert status == expected
    except (http.client.HTTPException, ConnectionError):
        assert fault in CUT
    assert post(fake_upstream, "openai_compatible", hello())[0] == 200
    fake_upstream.wait_for_sockets()


def test_a_silent_fault_notices_that_its_caller_left(fake_upstream: FakeUpstream):
    """Hanging answers end with their connection, so that leaked sockets can be counted."""
    for fault in ("hang-before-head", "hang-mid-stream", "endless"):
        connection = http.client.HTTPConnection("127.0.0.1", fake_upstream.port, timeout=10)
        connection.request(
            "POST",
            "/openai/v1/chat/completions",
            json.dumps(hello(fault, stream=True)),
            {"authorization": f"Bearer {fake_upstream.key('openai')}"},
        )
        fake_upstream.wait_for_requests(1)
        assert fake_upstream.open_sockets == 1
        connection.close()
        fake_upstream.wait_for_sockets()
        assert not fake_upstream.last.finished
        fake_upstream.clear()


def test_every_fault_is_described():
    """The list in the module's docstring is what other tests are written from."""
    described = (faults.__doc__ or "").replace("fail-NNN", "fail-500 fail-401 fail-404")
    assert [name for name in sorted(faults.FAULTS) if name not in described] == []


def test_the_script_sets_usage_text_tools_and_finish(fake_upstream: FakeUpstream):
    """Tests say in the last user message what the answer shall be."""
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    tools = [{"type": "function", "function": {"name": n, "parameters": {}}} for n in "ab"]
    text = f"tools\nusage: {json.dumps(usage)}\nthink: hm"
    _, body = post(fake_upstream, "openai", hello("gpt-4o", text, tools=tools))
    whole = json.loads(body)
    message = whole["choices"][0]["message"]
    assert whole["usage"] == usage
    assert whole["model"] == "gpt-4o-2024-08-06"
    assert whole["choices"][0]["finish_reason"] == "tool_calls"
    assert [c["function"]["name"] for c in message["tool_calls"]] == ["a", "b"]
    assert message["reasoning_content"] == "hm"


def test_an_output_cap_cuts_the_answer(fake_upstream: FakeUpstream):
    """A word is a token, and the cap ends the answer with `length`."""
    _, body = post(fake_upstream, "local", hello(text="say: a b c d e", max_tokens=3))
    whole = json.loads(body)
    assert whole["choices"][0]["message"]["content"] == "a b c "
    assert whole["choices"][0]["finish_reason"] == "length"
    assert whole["usage"]["completion_tokens"] == 3


def test_bytewise_arrives_in_many_pieces(fake_upstream: FakeUpstream):
    """One byte a chunk, and the same bytes in the end."""
    _, plain = post(fake_upstream, "openai", hello("gpt-4o", stream=True))
    _, pieces = post(fake_upstream, "openai", hello("bytewise", stream=True))
    assert pieces.replace(b"bytewise", b"gpt-4o-2024-08-06") == plain


def test_hop_loop_sends_the_request_on_with_its_hops(fake_upstream: FakeUpstream):
    """What came is what arrives at the other end, and the answer comes back."""
    with FakeUpstream() as other:
        fake_upstream.loop_to = other.base_url("openai")
        fake_upstream.loop_key = other.key("openai")
        status, _ = post(fake_upstream, "local", hello("hop-loop"))
        assert status == 200
        assert other.last.raw == fake_upstream.last.raw
        assert "x-farebox-hop" in other.last.headers
