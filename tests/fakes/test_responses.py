"""The fake's Responses API: the real SDK takes what it says, and it refuses what vendors refuse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.fakes.personas import ALL_PERSONAS
from tests.fakes.responses_asking import events, post, request
from tests.fakes.upstream import FakeUpstream

SPEAKING = [name for name, persona in ALL_PERSONAS.items() if "responses" in persona.speaks]
ENCRYPTED = "reasoning.encrypted_content"
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}}
CUSTOM = {"type": "custom", "name": "patch", "format": {"type": "text"}}
NAMESPACE = {"type": "namespace", "name": "ns", "description": "", "tools": [FUNCTION, CUSTOM]}
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "7"}
SAY = {"role": "user", "content": "say: ok"}


@pytest.fixture
def client(fake_upstream: FakeUpstream) -> Iterator[openai.OpenAI]:
    """The SDK, pointed at the persona `openai`."""
    with openai.OpenAI(
        base_url=fake_upstream.base_url("openai"),
        api_key=fake_upstream.key("openai"),
        max_retries=0,
    ) as found:
        yield found


def refusal(upstream: FakeUpstream, body: dict[str, Any]) -> tuple[int, str, str | None]:
    status, raw = post(upstream, body)
    error = json.loads(raw)["error"]
    return status, error["code"], error["param"]


@pytest.mark.parametrize("persona", SPEAKING)
def test_every_persona_that_speaks_it_answers_in_both_forms(
    fake_upstream: FakeUpstream, persona: str
):
    """The plain answer and the terminal event hold the same text; nothing was a violation."""
    _, raw = post(fake_upstream, request("say: one two"), persona)
    assert json.loads(raw)["output"][-1]["content"][0]["text"] == "one two"
    _, raw = post(fake_upstream, request("say: one two", stream=True), persona)
    assert b"[DONE]" not in raw
    assert raw.count(b"event: response.completed\n") == 1
    assert fake_upstream.violations == []


def test_personas_answer_only_what_they_speak(fake_upstream: FakeUpstream):
    """A path that a vendor does not have is 404, and a wrong key is 401."""
    assert post(fake_upstream, request(), "deepseek")[0] == 404
    assert post(fake_upstream, request(), "openai", key="wrong")[0] == 401
    with openai.OpenAI(
        base_url=fake_upstream.base_url("responses_only"),
        api_key=fake_upstream.key("responses_only"),
        max_retries=0,
    ) as only:
        with pytest.raises(openai.NotFoundError):
            only.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
        assert only.responses.create(**request()).output_text == "Hello from responses_only."


def test_the_sdk_reads_text_reasoning_and_usage(client: openai.OpenAI):
    """`create` gives text, the blob that was asked for, and all five counts."""
    whole = client.responses.create(
        **request("think: hm so\nsay: one two", include=[ENCRYPTED], instructions="Be brief.")
    )
    thoughts = whole.output[0]
    assert whole.output_text == "one two"
    assert thoughts.type == "reasoning"
    assert thoughts.summary[0].text == "hm so"
    assert (thoughts.encrypted_content or "").startswith("gAAAA")
    assert whole.usage is not None
    assert (whole.usage.output_tokens, whole.usage.output_tokens_details.reasoning_tokens) == (4, 2)
    assert whole.usage.input_tokens_details.cache_write_tokens == 0
    assert (
        "encrypted_content"
        not in client.responses.create(**request("think: hm")).output[0].to_dict()
    )


def test_the_sdks_stream_helper_builds_the_same_response(client: openai.OpenAI):
    """`.stream()`, which checks the order of events, ends with what the plain answer holds."""
    script = "think: hm\nsearch: buses\nsay: two words"
    tools = [{"type": "web_search"}, FUNCTION]
    with client.responses.stream(**request(script, tools=tools)) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert [item.type for item in final.output] == ["reasoning", "web_search_call", "message"]
    assert final.output_text == "two words"
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert "response.output_text.annotation.added" in kinds
    assert kinds[-1] == "response.completed"


def test_tools_come_back_in_the_kind_in_which_they_were_declared(client: openai.OpenAI):
    """Functions, custom tools and both inside a namespace, one call each, in one turn."""
    extra = {"type": "additional_tools", "role": "developer", "tools": [NAMESPACE]}
    items = [extra, {"role": "user", "content": "tools\ntokens: 9 4 8 0"}]
    with client.responses.stream(**request(items, tools=[FUNCTION, CUSTOM])) as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    calls: list[Any] = list(final.output)
    assert [(call.type, call.name, call.namespace) for call in calls] == [
        ("function_call", "f", None),
        ("custom_tool_call", "patch", None),
        ("function_call", "f", "ns"),
        ("custom_tool_call", "patch", "ns"),
    ]
    assert len({call.call_id for call in calls}) == 4
    assert final.usage is not None
    assert final.usage.input_tokens_details.cached_tokens == 4


def test_after_the_tools_have_answered_the_text_is_said(client: openai.OpenAI):
    """A turn that gives back the items of the turn before it, as a client without a store does."""
    first = client.responses.create(
        **request("tools\nthink: hm\nsay: done", tools=[FUNCTION], include=[ENCRYPTED])
    )
    history: list[Any] = [{"role": "user", "content": "tools\nsay: done"}]
    history += [item.to_dict() for item in first.output]
    answered = {"type": "function_call_output", "call_id": history[-1]["call_id"], "output": "7"}
    history.append(answered)
    assert client.responses.create(**request(history, tools=[FUNCTION])).output_text == "done"


def test_sequence_numbers_and_items_fit_together(fake_upstream: FakeUpstream):
    """Numbers from 0 without a gap; the terminal response holds the items that were done."""
    script = "think: hm\nsay: a b"
    for kind in ("", "\ntools"):
        found = events(fake_upstream, request(script + kind, tools=[FUNCTION, NAMESPACE]))
        assert [e["sequence_number"] for e in found] == list(range(len(found)))
        done = [e for e in found if e["type"] == "response.output_item.done"]
        assert [e["output_index"] for e in done] == list(range(len(done)))
        assert found[-1]["response"]["output"] == [e["item"] for e in done]


@pytest.mark.parametrize(
    ("finish", "status", "details"),
    [
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", {"reason": "content_filter"}),
        ("error", "failed", None),
        ("error rate_limit_exceeded", "failed", None),
    ],
)
def test_an_answer_can_end_badly(
    fake_upstream: FakeUpstream, finish: str, status: str, details: dict[str, str] | None
):
    """The terminal event says how, with the usage and with the text that came before."""
    script = f"say: a b c d\nfinish: {finish}"
    last = events(fake_upstream, request(script))[-1]
    plain = json.loads(post(fake_upstream, request(script))[1])
    for response in (last["response"], plain):
        assert (response["status"], response["incomplete_details"]) == (status, details)
        assert response["usage"]["output_tokens"] == 4
        assert response["output"][0]["status"] == "incomplete"
    code = finish.partition(" ")[2] or "server_error"
    assert last["type"] == f"response.{status}"
    assert (last["response"]["error"] or {}).get("code") == (code if status == "failed" else None)


def test_a_cap_ends_the_answer_as_incomplete(fake_upstream: FakeUpstream):
    """A word is a token, as in chat."""
    said = " ".join(str(n) for n in range(30))
    plain = json.loads(post(fake_upstream, request(f"say: {said}", max_output_tokens=16))[1])
    assert plain["output"][0]["content"][0]["text"] == " ".join(said.split()[:16]) + " "
    assert plain["incomplete_details"] == {"reason": "max_output_tokens"}
    assert plain["usage"]["output_tokens"] == 16


def test_compaction_gives_one_item_that_is_taken_back(client: openai.OpenAI):
    """The last item of the input asks for it; its blob is this vendor's."""
    items: list[Any] = [SAY, {"type": "compaction_trigger"}]
    done = client.responses.create(**request(items)).output
    assert [item.type for item in done] == ["compaction"]
    again = client.responses.create(**request([done[0].to_dict(), SAY]))
    assert again.output_text == "ok"


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"messages": []}, "unknown_parameter", "messages"),
        ({"stream_options": {"include_usage": True}}, None, "stream_options"),
        ({"max_output_tokens": 5}, "integer_below_min_value", "max_output_tokens"),
        ({"metadata": {str(n): "" for n in range(17)}}, "object_above_max_properties", "metadata"),
        ({"include": ["everything"]}, "invalid_value", "include[0]"),
        ({"reasoning": {"effort": "huge"}}, "invalid_value", "reasoning.effort"),
        ({"text": "short"}, "invalid_type", "text"),
        ({"tools": {}}, "invalid_type", "tools"),
        ({"input": []}, "missing_required_parameter", "input"),
        ({"input": [{"type": "mystery"}]}, "invalid_value", "input[0].type"),
        ({"input": [OUTPUT]}, None, "input"),
        ({"input": [CALL]}, None, "input"),
        ({"input": [{**CALL, "arguments": {}}, OUTPUT]}, "invalid_type", "input[0].arguments"),
        ({"input": [{**SAY, "name": "me"}]}, "unknown_parameter", "input[0].name"),
        ({"input": [{**SAY, "role": "tool"}]}, "invalid_value", "input[0].role"),
        (
            {"input": [{"role": "assistant", "content": [{"type": "input_text", "text": "a"}]}]},
            "invalid_value",
            "input[0].content[0]",
        ),
        (
            {"input": [{"type": "reasoning", "summary": [], "encrypted_content": "fb1.x"}]},
            "invalid_encrypted_content",
            "input[0].encrypted_content",
        ),
        ({"input": [{**CALL, "id": "call_1"}, OUTPUT]}, "invalid_value", "input[0].id"),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            "missing_required_parameter",
            "tools[0].name",
        ),
        ({"tools": [{"type": "mystery"}]}, "invalid_value", "tools[0].type"),
        ({"tool_choice": "required"}, "invalid_value", "tool_choice"),
        (
            {"tools": [FUNCTION], "tool_choice": {"type": "function", "function": {"name": "f"}}},
            "missing_required_parameter",
            "tool_choice.name",
        ),
        (
            {"text": {"format": {"type": "json_schema", "json_schema": {}}}},
            "missing_required_parameter",
            "text.format.name",
        ),
    ],
)
def test_what_openai_refuses_is_refused(
    fake_upstream: FakeUpstream, change: dict[str, Any], code: str | None, param: str
):
    """The documented error, with the place of what is wrong; none of it a violation."""
    assert refusal(fake_upstream, request(SAY["content"]) | change) == (400, code, param)
    assert fake_upstream.violations == []


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"background": True}, "background"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}, SAY]}, "input[0]"),
        ({"input": [{"id": "msg_1"}, SAY]}, "input[0]"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]},
            "input[0].content[0].file_id",
        ),
        (
            {"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]},
            "tools[0].vector_store_ids",
        ),
        ({"tools": [{"type": "code_interpreter", "container": "cntr_1"}]}, "tools[0].container"),
    ],
)
def test_what_would_lie_at_the_vendor_is_recorded_and_refused(
    fake_upstream: FakeUpstream, change: dict[str, Any], place: str
):
    """Tests of the gateway see it, whatever the gateway makes of the refusal."""
    status, _ = post(fake_upstream, request() | change)
    assert status in (400, 404)
    assert fake_upstream.violations == [place]


def test_a_request_to_store_is_recorded(fake_upstream: FakeUpstream):
    """It is answered as a vendor would; only `store: false` is no violation."""
    for stored in ({"store": True}, {"store": None}, {}):
        body = {"model": "m", "input": "hello", **stored}
        assert post(fake_upstream, body)[0] == 200
    assert fake_upstream.violations == ["store: True", "store: None", "store: absent"]


def test_an_argument_named_like_an_object_is_no_violation(fake_upstream: FakeUpstream):
    """The caller's own schemas may have a `file_id`."""
    schema = {"type": "object", "properties": {"file_id": {"type": "string"}}}
    assert post(fake_upstream, request(tools=[{**FUNCTION, "parameters": schema}]))[0] == 200
    assert fake_upstream.violations == []


@pytest.mark.parametrize(
    "name", ["previous_response_id", "background", "context_management", "conversation"]
)
def test_mimo_has_nothing_that_needs_a_store(fake_upstream: FakeUpstream, name: str):
    """Even a false value is refused, in its own shape."""
    status, raw = post(fake_upstream, request() | {name: False}, "mimo")
    assert status == 400
    assert json.loads(raw.removeprefix(b"data:"))["error"]["param"] == f"`{name}` is not supported"


def test_reasoning_without_its_blob_is_not_found(fake_upstream: FakeUpstream):
    """With nothing stored, an id alone leads nowhere."""
    thoughts = {"type": "reasoning", "id": "rs_1", "summary": []}
    assert refusal(fake_upstream, request([thoughts, SAY])) == (404, None, "input")
