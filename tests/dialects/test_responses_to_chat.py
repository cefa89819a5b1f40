"""A call of the Responses API becomes a chat completion: its fields, what passes and what not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from farebox.dialects import responses
from farebox.dialects.responses_to_chat import COMPACT, ToChat, to_chat
from farebox.errors import BadRequest
from tests.dialects.translating import (
    PNG,
    around,
    body,
    call,
    called,
    function,
    messages,
    result,
    sent,
    user,
)

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


def test_a_plain_text_is_a_users_message() -> None:
    """And nothing else is added."""
    assert body("Hi") == {"model": "m", "messages": [user("Hi")]}


def test_the_call_is_the_same_but_for_dialect_fields_and_hosted_tools() -> None:
    """What billing and routing know stays."""
    raw = json.dumps(
        {
            "model": "m",
            "input": "Hi",
            "stream": True,
            "max_output_tokens": 99,
            "service_tier": "flex",
            "tools": [{"type": "web_search"}],
        }
    ).encode()
    asked = responses.parse(raw, "req_1", ("hop",))
    outgoing = to_chat(asked, around()).call
    assert outgoing == replace(asked, dialect="chat", fields=outgoing.fields, hosted_tools=())
    assert asked.hosted_tools == ("web_search",)
    assert (outgoing.output_cap, outgoing.stream) == (99, True)


def test_a_codex_request_becomes_chat() -> None:
    """The base prompt is a developer message, the tools lie in an item, the web is left out."""
    to = sent(
        [
            {
                "type": "additional_tools",
                "role": "developer",
                "tools": [function("wait"), {"type": "web_search"}],
            },
            {"type": "message", "role": "developer", "content": [_text("You are Codex.")]},
            {"type": "message", "role": "developer", "content": [_text("Sandboxed.")]},
            {"type": "message", "role": "user", "content": [_text("Rules."), _text("Env.")]},
            {
                "type": "message",
                "role": "user",
                "content": [_text("Go on.")],
                "internal_chat_message_metadata_passthrough": {"turn": 1},
            },
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [],
                "encrypted_content": "gAAAAABfake",
            },
            call("call_1", "wait", "{}", id="fc_1", status="completed"),
            {"type": "function_call_output", "call_id": "call_1", "output": "waited"},
        ],
        stream=True,
        store=False,
        tool_choice="auto",
        parallel_tool_calls=False,
        include=["reasoning.encrypted_content"],
        reasoning={"effort": "high", "summary": "auto", "context": "all_turns"},
        prompt_cache_key="thread",
        client_metadata={"a": "b"},
        text={"verbosity": "low"},
    )
    assert to.adjusted == ("tools.web_search=dropped",)
    assert _decoded(to.call.fields) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "You are Codex.\n\nSandboxed."},
            user("Rules.\n\nEnv."),
            user("Go on."),
            called(("call_1", "wait", "{}")),
            result("call_1", "waited"),
        ],
        "tools": [
            {
                "type": "function",
                "function": {"name": "wait", "parameters": {"type": "object", "properties": {}}},
            }
        ],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning_effort": "high",
        "stream": True,
    }


def _text(text: str) -> dict[str, str]:
    return {"type": "input_text", "text": text}


def _decoded(fields: Any) -> dict[str, Any]:
    return {name: json.loads(bytes(raw)) for name, raw in fields.items()}


@pytest.mark.parametrize(
    ("fields", "more"),
    [
        ({"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}),
        ({"presence_penalty": 1, "frequency_penalty": 2}, None),
        ({"temperature": None, "top_p": None, "reasoning": None, "text": None}, {}),
        ({"reasoning": {"effort": "none"}}, {"reasoning_effort": "none"}),
        ({"reasoning": {"effort": None, "summary": "auto"}}, {}),
        ({"top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"top_logprobs": 0}, {}),
        ({"include": ["message.output_text.logprobs"]}, {"logprobs": True}),
        ({"text": {"format": {"type": "text"}, "verbosity": "low"}}, {}),
        (
            {"text": {"format": {"type": "json_object"}}},
            {"response_format": {"type": "json_object"}},
        ),
        ({"parallel_tool_calls": False}, {}),
        ({"tool_choice": "required"}, {}),
        ({"max_output_tokens": 16, "metadata": {"a": "b"}, "user": "u", "store": True}, {}),
        ({"truncation": "auto", "service_tier": "flex", "max_tool_calls": 3}, {}),
        ({"prompt_cache_key": "k", "safety_identifier": "s", "background": False}, {}),
        ({"stream": False, "stream_options": {"include_obfuscation": False}}, {}),
        ({"stream": True}, None),
        ({"thinking": {"type": "disabled"}, "top_k": 3, "stop": ["x"], "seed": 1}, None),
    ],
)
def test_fields_mean_the_same_or_are_the_gateways(
    fields: dict[str, Any], more: dict[str, Any] | None
) -> None:
    """None: they pass as they are. What vendors know beyond OpenAI's API passes too."""
    to = sent("Hi", **fields)
    expected = {"model": "m", "messages": [user("Hi")], **(fields if more is None else more)}
    assert _decoded(to.call.fields) == expected
    assert to.adjusted == ()


def test_a_schema_for_the_answer_is_a_response_format() -> None:
    """Name, description and schema; `strict` only where it says something."""
    form = {"type": "json_schema", "name": "n", "schema": SCHEMA}
    plain = {"name": "n", "schema": SCHEMA}
    assert _format({**form, "strict": None, "description": None}) == plain
    assert _format({**form, "strict": False}) == plain
    full = _format({**form, "strict": True, "description": "d"})
    assert full == {**plain, "strict": True, "description": "d"}


def _format(form: dict[str, Any]) -> dict[str, Any]:
    wanted = body("Hi", text={"format": form})["response_format"]
    assert wanted.keys() == {"type", "json_schema"}
    return wanted["json_schema"]


@pytest.mark.parametrize(
    "name",
    [
        "n",
        "N",
        "messages",
        "max_tokens",
        "MAX_COMPLETION_TOKENS",
        "functions",
        "response_format",
        "modalities",
        "audio",
        "web_search_options",
        "reasoning_effort",
        "Temperature",
        "\u017ftream_options",
    ],
)
def test_what_is_priced_is_what_is_sent(name: str) -> None:
    """Chat's own fields and names in another case would reach the upstream unread: they are left
    out, and named.
    """
    fields: dict[str, Any] = {name: 5}
    to = sent("Hi", **fields)
    assert _decoded(to.call.fields) == {"model": "m", "messages": [user("Hi")]}
    assert to.adjusted == (f"{name.replace(chr(0x17F), '_')}=dropped",)


def test_an_update_of_the_configuration_counts() -> None:
    """The last one that names an effort, over the request's own."""
    update = {"type": "configuration_update", "reasoning": {"effort": "low"}}
    last = {"type": "configuration_update", "text": {"verbosity": "low"}}
    sent_body = body([user(), update, last], reasoning={"effort": "high"})
    assert sent_body["reasoning_effort"] == "low"
    assert sent_body["messages"] == [user()]


def test_instructions_and_what_the_system_says_first_are_one_message() -> None:
    """Several would be refused by some models' templates, and spoil vendors' caches."""
    said = messages(
        {"role": "developer", "content": "B"},
        {"type": "additional_tools", "role": "developer", "tools": []},
        {"type": "message", "role": "system", "content": [_text("C"), _text("D")]},
        user(),
        {"role": "developer", "content": "later"},
        instructions="A",
    )
    assert said == [
        {"role": "system", "content": "A\n\nB\n\nC\n\nD"},
        user(),
        {"role": "system", "content": "later"},
    ]


@pytest.mark.parametrize("instructions", [None, ""])
def test_without_instructions_there_is_no_system_message(instructions: str | None) -> None:
    """Nor for empty ones."""
    assert body("Hi", instructions=instructions)["messages"] == [user("Hi")]


def test_a_compaction_asks_for_a_summary_and_for_nothing_else() -> None:
    """No tools, no form; open calls are answered as ever; whoever reads the answer knows."""
    to = sent(
        [user(), call("c1"), {"type": "compaction_trigger"}],
        tools=[function("f"), {"type": "web_search"}],
        tool_choice={"type": "web_search"},
        parallel_tool_calls=False,
        text={"format": {"type": "json_object"}},
        reasoning={"effort": "low"},
    )
    assert to.compacts
    assert _decoded(to.call.fields) == {
        "model": "m",
        "messages": [
            user(),
            called(("c1", "f", '{"a":1}')),
            result("c1", "aborted"),
            user(COMPACT),
        ],
        "reasoning_effort": "low",
    }
    assert not sent("Hi").compacts


def test_the_summary_is_asked_for_in_full() -> None:
    """What an agent needs to go on."""
    for word in ("Goal", "Decisions", "Files", "State", "Next steps"):
        assert f"- {word}:" in COMPACT


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": None, "instructions": 5}, "instructions"),
        ({"input": [{"type": "compaction_trigger"}, user()]}, "input[0]"),
        ({"tools": [function("f"), {"type": "custom", "name": 5}]}, "tools[1].name"),
        ({"tool_choice": "always"}, "tool_choice"),
        ({"reasoning": "high"}, "reasoning"),
        ({"reasoning": {"effort": 5}}, "reasoning.effort"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"text": {"format": {"type": ["json_object"]}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"),
        ({"text": []}, "text"),
    ],
)
def test_what_is_malformed_is_named(fields: dict[str, Any], param: str) -> None:
    """By its place."""
    with pytest.raises(BadRequest) as raised:
        sent(**{"input": "Hi", **fields})
    assert raised.value.param == param
    assert param in raised.value.message


def _nested(levels: int) -> ToChat:
    deep = b'{"items":' * levels + b"{}" + b"}" * levels
    raw = b'{"model":"m","input":"Hi","tools":[{"type":"function","name":"f","parameters":%b}]}'
    return to_chat(responses.parse(raw % deep, "req_1"), around())


def test_what_is_nested_too_deep_is_refused() -> None:
    """Rather than an error of ours."""
    assert _nested(200).call.fields["tools"]
    with pytest.raises(BadRequest) as raised:
        _nested(970)
    assert "nested" in raised.value.message


def test_large_images_take_little_time() -> None:
    """They are decoded once and encoded once."""
    url = PNG + "A" * (32 * 1024 * 1024)
    image = {"type": "input_image", "image_url": url}
    said = messages({"role": "user", "content": [_text("Look"), image]})
    assert said[0]["content"][1]["image_url"]["url"] == url
