"""The fake's Messages API: the real SDK takes what it says; it refuses what Anthropic refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.fakes import messages_faults
from tests.fakes.asking import HANGING, check_fault_ends
from tests.fakes.faults import FAULTS
from tests.fakes.messages_asking import VERSION, events, post, request
from tests.fakes.personas import ALL_PERSONAS
from tests.fakes.upstream import FakeUpstream

SPEAKING = [name for name, persona in ALL_PERSONAS.items() if "messages" in persona.speaks]
TOOL: Any = {"name": "f", "input_schema": {"type": "object"}}
SEARCH: Any = {"type": "web_search_20260318", "name": "web_search"}
MANUAL: Any = {"type": "enabled", "budget_tokens": 1024}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "7"}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "EqQBx"}


def turns(*contents: Any) -> list[dict[str, Any]]:
    """Messages of user and assistant in turn."""
    return [{"role": ("user", "assistant")[at % 2], "content": c} for at, c in enumerate(contents)]


@pytest.fixture
def client(fake_upstream: FakeUpstream) -> Iterator[anthropic.Anthropic]:
    """The SDK, pointed at the persona `anthropic`."""
    base_url = fake_upstream.base_url("anthropic").removesuffix("/v1")
    with anthropic.Anthropic(
        base_url=base_url, api_key=fake_upstream.key("anthropic"), max_retries=0
    ) as found:
        yield found


@pytest.mark.parametrize("persona", SPEAKING)
def test_every_persona_that_speaks_it_answers_in_both_forms(
    fake_upstream: FakeUpstream, persona: str
):
    """The plain answer and the stream hold the same text; nothing was a violation."""
    _, raw = post(fake_upstream, request("say: one two"), persona)
    assert json.loads(raw)["content"][-1]["text"] == "one two"
    _, raw = post(fake_upstream, request("say: one two", stream=True), persona)
    assert raw.count(b"event: message_stop\n") == 1
    assert fake_upstream.violations == []


def test_the_sdk_takes_what_is_said(client: anthropic.Anthropic):
    """Thinking, a search, a text and calls, whole and streamed, with the usage of the script."""
    tools = [TOOL, SEARCH]
    script = "think: a b\nsearch: q\nsay: one two\ntokens: 100 40 9 2"
    body: Any = request(script, thinking=MANUAL, tools=tools)
    whole = client.messages.create(**body)
    with client.messages.stream(**body) as stream:
        for _ in stream:
            pass
        streamed = stream.get_final_message()
    for message in (whole, streamed):
        kinds = ["thinking", "server_tool_use", "web_search_tool_result", "text"]
        assert [block.type for block in message.content] == kinds
        usage = message.usage
        assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (
            60,
            40,
            9,
        )
        assert usage.server_tool_use is not None
        assert usage.server_tool_use.web_search_requests == 1
    calling: Any = request("tools", tools=[TOOL])
    called = client.messages.create(**calling)
    assert (called.stop_reason, called.content[0].type) == ("tool_use", "tool_use")


def test_who_does_not_ask_gets_no_thinking(client: anthropic.Anthropic):
    """And who omits it gets a signature alone."""
    body: Any = request("think: a b\nsay: one")
    assert [b.type for b in client.messages.create(**body).content] == ["text"]
    omitted: Any = {"type": "adaptive", "display": "omitted"}
    first = client.messages.create(**body, thinking=omitted).content[0]
    assert isinstance(first, anthropic.types.ThinkingBlock)
    assert (first.thinking, first.signature[:4]) == ("", "EqQB")


def test_a_key_stands_in_either_header_and_a_version_beside_it(fake_upstream: FakeUpstream):
    """Only Anthropic asks for the version; the later one has no sampling."""
    key, later = fake_upstream.key("anthropic"), {"anthropic-version": "2026-10-21"}
    for headers, status in (
        ({"x-api-key": key, **VERSION}, 200),
        ({"authorization": f"Bearer {key}", **VERSION}, 200),
        ({"x-api-key": key}, 400),
        ({"x-api-key": "wrong", **VERSION}, 401),
        ({}, 401),
    ):
        assert post(fake_upstream, request(), headers=headers)[0] == status
    own = {"x-api-key": fake_upstream.key("deepseek")}
    assert post(fake_upstream, request(), "deepseek", headers=own)[0] == 200
    for version, status in ((VERSION, 200), (later, 400)):
        headers = {"x-api-key": key, **version}
        assert post(fake_upstream, request(temperature=1), headers=headers)[0] == status


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_tokens": None}, "max_tokens: Input should be a valid int"),
        ({"messages": []}, "messages: at least one message is required"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "odd"}]}]}, "Input tag 'odd'"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}, "non-empty"),
        ({"messages": turns("a", "", "b")}, "messages.1: all messages"),
        ({"messages": turns("a", [CALL], "b")}, "messages.2: `tool_use` ids"),
        ({"messages": turns("a", "b", [RESULT])}, "messages.2.content.0: unexpected"),
        ({"messages": turns("a", [{**THOUGHT, "signature": "fb1.x"}], "b")}, "Invalid `signature`"),
        ({"extra": 1}, "extra: Extra inputs are not permitted"),
        ({"context_management": {"edits": []}}, "context_management: Extra inputs"),
        ({"tools": [{"name": "f"}]}, "tools.0.custom.input_schema: Field required"),
        ({"tools": [TOOL, TOOL]}, "unique"),
        ({"tool_choice": {"type": "auto"}}, "tool_choice"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1}}, "at least 1024"),
        ({"thinking": MANUAL, "max_tokens": 1024}, "must be greater"),
        ({"thinking": MANUAL, "temperature": 0.5}, "temperature"),
        (
            {"thinking": MANUAL, "messages": turns("a", [CALL], [RESULT]), "tools": [TOOL]},
            "Expected `thinking`",
        ),
    ],
)
def test_what_anthropic_refuses_is_refused(
    fake_upstream: FakeUpstream, change: dict[str, Any], message: str
):
    """In its shape, which has a type and neither code nor param."""
    status, raw = post(fake_upstream, {**request(), **change})
    answer = json.loads(raw)
    assert (status, answer["type"], answer["error"]["type"]) == (
        400,
        "error",
        "invalid_request_error",
    )
    assert message in answer["error"]["message"]


def test_what_is_good_is_taken(fake_upstream: FakeUpstream):
    """Thoughts in front of calls, two turns of one role, a prefill, betas with their header."""
    for change in (
        {
            "thinking": MANUAL,
            "messages": turns("a", [THOUGHT, CALL], [RESULT], [CALL], [RESULT]),
            "tools": [TOOL],
        },
        {"messages": [*turns("a"), *turns("b", "prefilled")]},
        {"max_tokens": 0},
    ):
        assert post(fake_upstream, {**request(), **change})[0] == 200
    body = request(context_management={"edits": []})
    headers = {"x-api-key": fake_upstream.key("anthropic"), **VERSION, "anthropic-beta": "a-1"}
    assert post(fake_upstream, body, headers=headers)[0] == 200


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"container": "container_1"}, "container"),
        (
            {"messages": [{"role": "user", "content": [{"type": "container_upload",
                                                        "file_id": "file_1"}]}]},
            "messages[0].content[0].file_id",
        ),
    ],
)  # fmt: skip
def test_what_would_lie_at_the_vendor_is_recorded(
    fake_upstream: FakeUpstream, change: dict[str, Any], place: str
):
    """Tests of the gateway see it."""
    post(fake_upstream, {**request(), **change})
    assert fake_upstream.violations == [place]


@pytest.mark.parametrize("fault", sorted((FAULTS | messages_faults.FAULTS) - HANGING))
def test_every_fault_ends(fake_upstream: FakeUpstream, fault: str):
    """A fault spoils its own answer and no later one."""
    check_fault_ends(fake_upstream, fault, post, request)


@pytest.mark.parametrize(
    ("fault", "last"),
    [
        ("no-terminal", "content_block_stop"),
        ("no-stop", "message_delta"),
        ("error-event", "error"),
        ("error-first", "error"),
        ("late-usage", "message_stop"),
    ],
)
def test_a_stream_of_a_fault_ends_with_its_event(
    fake_upstream: FakeUpstream, fault: str, last: str
):
    """And begins with message_start, unless there is nothing but the error."""
    found = events(fake_upstream, request("say: a b c d", model=fault))
    assert found[-1]["type"] == last
    assert (found[0]["type"] == "message_start") == (fault != "error-first")


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        ("fail-529", 529, "overloaded_error"),
        ("fail-500", 500, "api_error"),
        ("fail-429", 429, "rate_limit_error"),
        ("fail-402", 402, "billing_error"),
        ("fail-404", 404, "not_found_error"),
        ("credit-400", 400, "invalid_request_error"),
        ("context-400", 400, "invalid_request_error"),
    ],
)
def test_refusals_have_anthropics_types(
    fake_upstream: FakeUpstream, fault: str, status: int, kind: str
):
    """By the status."""
    found, raw = post(fake_upstream, request(model=fault))
    assert (found, json.loads(raw)["error"]["type"]) == (status, kind)
