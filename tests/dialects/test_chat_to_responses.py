"""A chat's parameters as those of the Responses API: every one accounted for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from farebox.dialects.chat_to_responses import chat_to_responses
from tests.dialects.converting import body_for, call_for, outgoing, refused

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


def test_a_plain_chat_is_a_plain_response_that_nobody_keeps() -> None:
    """The call's own facts stay as they were; only its dialect and its fields are others."""
    call = call_for(stream=True, stream_options={"include_usage": True})
    sent = chat_to_responses(call).call
    assert {name: json.loads(bytes(raw)) for name, raw in sent.fields.items()} == {
        "model": "m",
        "stream": True,
        "input": [{"type": "message", "role": "user", "content": "Hi"}],
        "store": False,
    }
    assert (sent.dialect, sent.stream, sent.request_id) == ("responses", True, "req_1")


def test_what_has_the_same_name_passes_as_it_came() -> None:
    """Unknown parameters too: the upstream says what it thinks of them."""
    same = {
        "temperature": 0.5,
        "top_p": 1,
        "parallel_tool_calls": False,
        "service_tier": "flex",
        "user": "u",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "prompt_cache_retention": "24h",
    }
    body = body_for(**same)
    assert {name: body[name] for name in same} == same
    assert bytes(outgoing(enable_thinking=True).call.fields["enable_thinking"]) == b"true"


def test_tools_lose_a_level() -> None:
    """A function without parameters has none to give, and strictness stays off unless asked for:
    its default is the other one there.
    """
    grammar = {"syntax": "lark", "definition": "start: A"}
    tools = [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}},
        {"type": "function", "function": {"name": "g", "strict": True, "parameters": SCHEMA}},
        {"type": "function", "function": {"name": "h", "strict": None}},
        {"type": "custom", "custom": {"name": "p", "format": {"type": "text"}}},
        {
            "type": "custom",
            "custom": {"name": "q", "format": {"type": "grammar", "grammar": grammar}},
        },
        {"type": "web_search"},
    ]
    nothing = {"type": "object", "properties": {}}
    assert body_for(tools=tools)["tools"] == [
        {
            "type": "function",
            "name": "f",
            "description": "d",
            "parameters": SCHEMA,
            "strict": False,
        },
        {"type": "function", "name": "g", "parameters": SCHEMA, "strict": True},
        {"type": "function", "name": "h", "parameters": nothing, "strict": False},
        {"type": "custom", "name": "p", "format": {"type": "text"}},
        {"type": "custom", "name": "q", "format": {"type": "grammar", **grammar}},
        {"type": "web_search"},
    ]


def test_a_function_cannot_turn_into_a_tool_that_costs_money() -> None:
    """What stands inside does not decide what it is."""
    tools = [{"type": "function", "function": {"type": "web_search", "name": "f"}}]
    sent = outgoing(tools=tools, tool_choice="auto")
    assert json.loads(bytes(sent.call.fields["tools"]))[0]["type"] == "function"


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("required", "required"),
        (
            {"type": "function", "function": {"name": "f"}},
            {"type": "function", "name": "f"},
        ),
        ({"type": "custom", "custom": {"name": "p"}}, {"type": "custom", "name": "p"}),
        ({"type": "function", "name": "f"}, {"type": "function", "name": "f"}),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "auto",
                    "tools": [
                        {"type": "function", "function": {"name": "f"}},
                        {"type": "web_search"},
                    ],
                },
            },
            {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "f"}, {"type": "web_search"}],
            },
        ),
    ],
)
def test_a_choice_of_tools_loses_a_level_too(given: Any, sent: Any) -> None:
    """Words stay words."""
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert body_for(tools=tools, tool_choice=given)["tool_choice"] == sent


@pytest.mark.parametrize(
    ("given", "sent"),
    [("auto", "auto"), ({"name": "f"}, {"type": "function", "name": "f"}), (None, None)],
)
def test_functions_of_the_old_form_are_tools(given: Any, sent: Any) -> None:
    """One call at a time, since the old form of the answer has room for one."""
    body = body_for(functions=[{"name": "f", "parameters": SCHEMA}], function_call=given)
    assert body["tools"] == [
        {"type": "function", "name": "f", "parameters": SCHEMA, "strict": False}
    ]
    assert (body.get("tool_choice"), body["parallel_tool_calls"]) == (sent, False)
    assert not {"functions", "function_call"} & body.keys()


def test_a_search_of_the_web_is_a_tool() -> None:
    """With its context size and the place that the caller is in."""
    near = {"city": "Rome", "country": "IT"}
    options = {
        "search_context_size": "low",
        "user_location": {"type": "approximate", "approximate": near},
    }
    body = body_for(web_search_options=options)
    assert body["tools"] == [
        {
            "type": "web_search",
            "search_context_size": "low",
            "user_location": {"type": "approximate", **near},
        }
    ]
    assert body_for(web_search_options={})["tools"] == [{"type": "web_search"}]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"type": "text"}, {"type": "text"}),
        ({"type": "json_object"}, {"type": "json_object"}),
        (
            {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": SCHEMA, "strict": True, "description": "d"},
            },
            {
                "type": "json_schema",
                "name": "n",
                "schema": SCHEMA,
                "strict": True,
                "description": "d",
            },
        ),
    ],
)
def test_the_form_of_the_answer_is_said_under_text(given: Any, sent: Any) -> None:
    """With the verbosity beside it."""
    body = body_for(response_format=given, verbosity="low")
    assert body["text"] == {"format": sent, "verbosity": "low"}
    assert body_for(verbosity="high")["text"] == {"verbosity": "high"}


def test_efforts_and_log_probabilities_have_another_place() -> None:
    """Whoever asks for log probabilities gets them by name."""
    body = body_for(reasoning_effort="xhigh", logprobs=True, top_logprobs=3)
    assert body["reasoning"] == {"effort": "xhigh"}
    assert (body["include"], body["top_logprobs"]) == (["message.output_text.logprobs"], 3)
    body = body_for(reasoning={"summary": "auto"}, reasoning_effort="low", logprobs=False)
    assert body["reasoning"] == {"summary": "auto", "effort": "low"}
    assert "include" not in body


@pytest.mark.parametrize(
    ("fields", "cap", "adjusted"),
    [
        ({"max_tokens": 100}, 100, ()),
        ({"max_completion_tokens": 50, "max_tokens": 100}, 50, ()),
        ({"max_tokens": 1}, 16, ("max_tokens=16",)),
        ({}, None, ()),
    ],
)
def test_the_cap_has_another_name_and_a_floor(
    fields: dict[str, int], cap: int | None, adjusted: tuple[str, ...]
) -> None:
    """Fewer than 16 tokens cannot be asked for there."""
    sent = outgoing(**fields)
    assert body_for(**fields).get("max_output_tokens") == cap
    assert sent.adjusted == adjusted
    assert not {"max_tokens", "max_completion_tokens"} & sent.call.fields.keys()


_LEANING = {
    "frequency_penalty": 0.5,
    "logit_bias": {"50256": -100},
    "metadata": {"a": "b"},
    "prediction": {"type": "content", "content": "x"},
    "presence_penalty": -1,
    "seed": 0,
    "store": True,
}


def test_what_only_leans_on_the_answer_is_left_out_and_named() -> None:
    """Each of them; values that change nothing go without a word."""
    sent = outgoing(**_LEANING)
    assert sent.adjusted == tuple(f"{name}=dropped" for name in _LEANING)
    assert body_for(**_LEANING) == body_for()
    defaults = {
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "logit_bias": {},
        "metadata": {},
        "seed": None,
        "store": False,
        "n": 1,
        "stop": [],
        "modalities": ["text"],
        "functions": None,
        "function_call": None,
        "tool_choice": None,
    }
    assert outgoing(**defaults).adjusted == ()
    assert body_for(**defaults) == body_for()


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"n": 2}, "n", "unsupported_value"),
        ({"modalities": ["text", "audio"]}, "modalities", "unsupported_value"),
        ({"stop": "END"}, "stop", "unsupported_parameter"),
        ({"stop": ["\n"]}, "stop", "unsupported_parameter"),
        ({"previous_response_id": "resp_1"}, "previous_response_id", "unknown_parameter"),
        ({"Background": True}, "Background", "unknown_parameter"),
        ({"input": "x"}, "input", "unknown_parameter"),
        ({"max_output_tokens": 10**6}, "max_output_tokens", "unknown_parameter"),
    ],
)
def test_what_would_change_the_answers_form_is_refused(
    fields: dict[str, Any], param: str, code: str
) -> None:
    """And so is what only the other API knows, however it is written."""
    error = refused(**fields)
    assert (error.status, error.param, error.code) == (400, param, code)


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function", "function": "f"}]},
        {"functions": ["f"]},
        {"tool_choice": {"type": "function", "function": "f"}},
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": "all"}}},
        {"web_search_options": {"user_location": "Rome"}},
        {"response_format": "json"},
        {"response_format": {"type": "json_schema", "json_schema": "x"}},
        {"reasoning_effort": "low", "reasoning": 5},
        {"logprobs": "yes"},
        {"text": []},
    ],
)
def test_a_parameter_that_cannot_be_read_is_refused(fields: dict[str, Any]) -> None:
    """By its name."""
    error = refused(**fields)
    assert error.status == 400
    assert error.param is not None
    assert error.param.split(".")[0].split("[")[0] in fields


def test_options_of_a_stream_lose_what_only_chat_has() -> None:
    """Usage comes unasked there."""
    options = {"include_usage": True, "include_obfuscation": False}
    body = body_for(stream=True, stream_options=options)
    assert body["stream_options"] == {"include_obfuscation": False}
