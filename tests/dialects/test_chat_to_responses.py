"""A chat as a request of the Responses API: every message in its place, every parameter accounted
for.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core.call import Call
from farebox.dialects import chat
from farebox.dialects.chat_to_responses import chat_to_responses
from farebox.dialects.interpreter import Outgoing
from farebox.errors import BadRequest
from tests.fakes.personas import PERSONAS
from tests.fakes.responses_rules import refuses, violations

HI = {"role": "user", "content": "Hi"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


def _call(*messages: Any, **fields: Any) -> Call:
    body = {"model": "m", "messages": list(messages) or [HI], **fields}
    return chat.parse(json.dumps(body).encode(), "req_1")


def _outgoing(*messages: Any, **fields: Any) -> Outgoing:
    return chat_to_responses(_call(*messages, **fields))


def _body(*messages: Any, **fields: Any) -> dict[str, Any]:
    """The request as it would be sent, accepted by an upstream as strict as OpenAI."""
    sent = _outgoing(*messages, **fields).call.fields
    body = {name: json.loads(bytes(raw)) for name, raw in sent.items()}
    assert refuses(PERSONAS["openai"], body) is None
    assert violations(body) == []
    return body


def _input(*messages: Any) -> list[dict[str, Any]]:
    return _body(*messages)["input"]


def _refused(*messages: Any, **fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        _outgoing(*messages, **fields)
    return caught.value


def _message(role: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": list(parts)}


def _said(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text}


def test_a_plain_chat_is_a_plain_response_that_nobody_keeps() -> None:
    """The call's own facts stay as they were; only its dialect and its fields are others."""
    call = _call(stream=True, stream_options={"include_usage": True})
    sent = chat_to_responses(call).call
    assert {name: json.loads(bytes(raw)) for name, raw in sent.fields.items()} == {
        "model": "m",
        "stream": True,
        "input": [{"type": "message", "role": "user", "content": "Hi"}],
        "store": False,
    }
    assert (sent.dialect, sent.stream, sent.request_id) == ("responses", True, "req_1")


# Messages


@pytest.mark.parametrize("role", ["system", "developer", "user"])
def test_a_text_keeps_its_role_and_its_place(role: str) -> None:
    """System and developer messages too: the instructions stay free."""
    assert _input(HI, {"role": role, "content": 'Be é "brief".'})[1] == {
        "type": "message",
        "role": role,
        "content": 'Be é "brief".',
    }


def test_parts_have_other_names() -> None:
    """Texts, pictures by both spellings, files, and marks of what may be cached."""
    mark = {"mode": "explicit"}
    content = [
        {"type": "text", "text": "Look:", "prompt_cache_breakpoint": mark},
        {"type": "image_url", "image_url": {"url": "https://x.example/1.png", "detail": "low"}},
        {"type": "image_url", "image_url": "data:image/png;base64,AAAA"},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;,A"}},
        {"type": "input_text", "text": "as it is"},
    ]
    assert _input({"role": "user", "content": content}) == [
        _message(
            "user",
            {"type": "input_text", "text": "Look:", "prompt_cache_breakpoint": mark},
            {"type": "input_image", "image_url": "https://x.example/1.png", "detail": "low"},
            {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
            {
                "type": "input_file",
                "filename": "a.pdf",
                "file_data": "data:application/pdf;,A",
            },
            {"type": "input_text", "text": "as it is"},
        )
    ]


def test_a_sound_cannot_be_heard() -> None:
    """Neither the user's nor an earlier one of the model's; the place is named."""
    sound = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    error = _refused(HI, {"role": "user", "content": [sound]})
    assert (error.status, error.code, error.param) == (
        400,
        "unsupported_value",
        "messages[1].content[0]",
    )
    error = _refused(HI, {"role": "assistant", "audio": {"id": "audio_1"}})
    assert (error.code, error.param) == ("unsupported_value", "messages[1].audio")


@pytest.mark.parametrize(
    ("message", "content"),
    [
        ({"content": "Hello"}, [_said("Hello")]),
        ({"content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]}, "AB"),
        ({"content": None, "refusal": "No."}, [{"type": "refusal", "refusal": "No."}]),
        ({"content": [{"type": "refusal", "refusal": "No."}]}, None),
        ({"content": None}, [_said("")]),
        ({"content": "A", "refusal": None, "annotations": [], "tool_calls": None}, [_said("A")]),
    ],
)
def test_what_the_assistant_said_is_output(message: dict[str, Any], content: Any) -> None:
    """Texts and refusals, an empty turn too; what SDKs echo with a message says nothing."""
    if content == "AB":
        content = [_said("A"), _said("B")]
    if content is None:
        content = [{"type": "refusal", "refusal": "No."}]
    outgoing = _outgoing(HI, {"role": "assistant", **message})
    assert _input(HI, {"role": "assistant", **message})[1] == _message("assistant", *content)
    assert outgoing.adjusted == ()


def test_calls_and_their_results_pair_by_id_and_kind() -> None:
    """The text before them, parallel ones, and a custom tool's, whose result is of its kind."""
    weather = {"name": "weather", "arguments": '{"city": "Rome"}'}
    calls = [
        {"id": "c1", "type": "function", "function": weather},
        {"id": "c2", "type": "custom", "custom": {"name": "patch", "input": "*** Begin"}},
        {"id": "c3", "type": "function", "function": {"name": "now", "arguments": {"tz": 1}}},
    ]
    texts = [{"type": "text", "text": "mild"}, {"type": "text", "text": "dry"}]
    found = _input(
        HI,
        {"role": "assistant", "content": "I look.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c2", "content": "done"},
        {"role": "tool", "tool_call_id": "c1", "content": texts},
        {"role": "tool", "tool_call_id": "c3", "content": texts[:1]},
    )
    assert found[1:] == [
        _message("assistant", _said("I look.")),
        {"type": "function_call", "call_id": "c1", **weather},
        {"type": "custom_tool_call", "call_id": "c2", "name": "patch", "input": "*** Begin"},
        {"type": "function_call", "call_id": "c3", "name": "now", "arguments": '{"tz": 1}'},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "done"},
        {
            "type": "function_call_output",
            "call_id": "c1",
            "output": [{"type": "input_text", "text": text} for text in ("mild", "dry")],
        },
        {"type": "function_call_output", "call_id": "c3", "output": "mild"},
    ]


@pytest.mark.parametrize("content", ["", None])
def test_calls_alone_come_without_an_empty_text(content: Any) -> None:
    """Which SDKs write with them."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
    answer = {"role": "tool", "tool_call_id": "c1", "content": None}
    turn = {"role": "assistant", "content": content, "tool_calls": [call]}
    assert _input(HI, turn, answer)[1:] == [
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": ""},
        {"type": "function_call_output", "call_id": "c1", "output": ""},
    ]


def test_calls_of_the_old_form_get_ids_that_pair() -> None:
    """`function_call` and role `function` have none."""
    called = {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}
    result = {"role": "function", "name": "f", "content": "1"}
    found = _input(HI, called, result, called, result)[1:]
    assert [item["type"] for item in found] == ["function_call", "function_call_output"] * 2
    assert found[0]["call_id"] == found[1]["call_id"] != found[2]["call_id"] == found[3]["call_id"]


def test_what_a_message_cannot_say_there_is_named() -> None:
    """Names, reasoning, and what nobody knows; an empty reasoning is none."""
    outgoing = _outgoing(
        {**HI, "name": "Ann"},
        {**HI, "name": "Bob", "cache_control": {"type": "ephemeral"}, "x": None},
        {"role": "assistant", "content": "A", "reasoning_content": "Hm."},
    )
    assert outgoing.adjusted == (
        "messages.name=dropped",
        "messages.other=dropped",
        "messages.reasoning_content=dropped",
    )
    empty = {"role": "assistant", "content": "A", "reasoning_content": ""}
    assert _outgoing(HI, empty).adjusted == ()


_BAD: list[tuple[Any, str, str]] = [
    ({"role": "robot", "content": "x"}, "messages[1].role", "invalid_value"),
    ({"content": "x"}, "messages[1].role", "invalid_value"),
    ({"role": 5}, "messages[1].role", "invalid_value"),
    ({"role": "user", "content": 5}, "messages[1].content", "invalid_value"),
    ({"role": "user", "content": ["x"]}, "messages[1].content", "invalid_value"),
    (
        {"role": "user", "content": [{"type": "image_url", "image_url": 5}]},
        "messages[1].content[0].image_url",
        "invalid_value",
    ),
    (
        {"role": "user", "content": [{"type": "file", "file": "x"}]},
        "messages[1].content[0].file",
        "invalid_value",
    ),
    (
        {"role": "tool", "content": "x"},
        "messages[1].tool_call_id",
        "missing_required_parameter",
    ),
    ({"role": "function", "name": "f", "content": "x"}, "messages[1]", "invalid_value"),
    (
        {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]},
        "messages[1].tool_calls[0].id",
        "missing_required_parameter",
    ),
    (
        {"role": "assistant", "tool_calls": [{"id": "c"}]},
        "messages[1].tool_calls[0].function.name",
        "missing_required_parameter",
    ),
    ({"role": "assistant", "tool_calls": 5}, "messages[1].tool_calls", "invalid_value"),
    ("text", "messages", "invalid_value"),
]


@pytest.mark.parametrize(("message", "param", "code"), _BAD)
def test_a_message_that_cannot_be_read_is_refused_by_its_place(
    message: Any, param: str, code: str
) -> None:
    """With a sentence of ours, since the upstream would name places that the client never sent."""
    error = _refused(HI, message)
    assert (error.status, error.param, error.code) == (400, param, code)
    assert param in error.message


_TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
_TURN = st.one_of(
    st.tuples(st.sampled_from(["system", "developer", "user"]), _TEXT),
    st.tuples(st.just("assistant"), _TEXT, st.integers(0, 3), st.booleans()),
)


@given(st.lists(_TURN, min_size=1, max_size=8))
def test_no_message_is_lost_and_the_order_is_kept(turns: list[Any]) -> None:
    """A model that reads the items reads what the messages say."""
    messages: list[dict[str, Any]] = [HI]
    told: list[tuple[str, ...]] = [("user", "Hi")]
    for n, (role, text, *calls) in enumerate(turns):
        told.append((role, text))
        messages.append({"role": role, "content": text})
        if not calls or not calls[0]:
            continue
        count, custom = calls
        kind, field = ("custom", "input") if custom else ("function", "arguments")
        ids = [f"c{n}_{k}" for k in range(count)]
        messages[-1]["tool_calls"] = [
            {"id": each, "type": kind, kind: {"name": "t", field: text}} for each in ids
        ]
        told += [("call", kind, each, text) for each in ids]
        messages += [{"role": "tool", "tool_call_id": each, "content": text} for each in ids]
        told += [("result", kind, each, text) for each in ids]
    assert [_read_back(item) for item in _input(*messages)] == told


def _read_back(item: dict[str, Any]) -> tuple[str, ...]:
    if item["type"] == "message":
        content = item["content"]
        text = content if isinstance(content, str) else "".join(part["text"] for part in content)
        return (item["role"], text)
    kind = "custom" if item["type"].startswith("custom") else "function"
    if item["type"].endswith("_output"):
        return ("result", kind, item["call_id"], item["output"])
    return ("call", kind, item["call_id"], item["arguments" if kind == "function" else "input"])


# Parameters


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
    body = _body(**same)
    assert {name: body[name] for name in same} == same
    assert bytes(_outgoing(enable_thinking=True).call.fields["enable_thinking"]) == b"true"


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
    assert _body(tools=tools)["tools"] == [
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
    outgoing = _outgoing(tools=tools, tool_choice="auto")
    assert json.loads(bytes(outgoing.call.fields["tools"]))[0]["type"] == "function"


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
    assert _body(tools=tools, tool_choice=given)["tool_choice"] == sent


@pytest.mark.parametrize(
    ("given", "sent"),
    [("auto", "auto"), ({"name": "f"}, {"type": "function", "name": "f"}), (None, None)],
)
def test_functions_of_the_old_form_are_tools(given: Any, sent: Any) -> None:
    """One call at a time, since the old form of the answer has room for one."""
    body = _body(functions=[{"name": "f", "parameters": SCHEMA}], function_call=given)
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
    body = _body(web_search_options=options)
    assert body["tools"] == [
        {
            "type": "web_search",
            "search_context_size": "low",
            "user_location": {"type": "approximate", **near},
        }
    ]
    assert _body(web_search_options={})["tools"] == [{"type": "web_search"}]


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
    body = _body(response_format=given, verbosity="low")
    assert body["text"] == {"format": sent, "verbosity": "low"}
    assert _body(verbosity="high")["text"] == {"verbosity": "high"}


def test_efforts_and_log_probabilities_have_another_place() -> None:
    """Whoever asks for log probabilities gets them by name."""
    body = _body(reasoning_effort="xhigh", logprobs=True, top_logprobs=3)
    assert body["reasoning"] == {"effort": "xhigh"}
    assert (body["include"], body["top_logprobs"]) == (["message.output_text.logprobs"], 3)
    body = _body(reasoning={"summary": "auto"}, reasoning_effort="low", logprobs=False)
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
    outgoing = _outgoing(**fields)
    assert _body(**fields).get("max_output_tokens") == cap
    assert outgoing.adjusted == adjusted
    assert not {"max_tokens", "max_completion_tokens"} & outgoing.call.fields.keys()


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
    outgoing = _outgoing(**_LEANING)
    assert outgoing.adjusted == tuple(f"{name}=dropped" for name in _LEANING)
    assert _body(**_LEANING) == _body()
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
    assert _outgoing(**defaults).adjusted == ()
    assert _body(**defaults) == _body()


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
    error = _refused(**fields)
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
    error = _refused(**fields)
    assert error.status == 400
    assert error.param is not None
    assert error.param.split(".")[0].split("[")[0] in fields


def test_options_of_a_stream_lose_what_only_chat_has() -> None:
    """Usage comes unasked there."""
    options = {"include_usage": True, "include_obfuscation": False}
    body = _body(stream=True, stream_options=options)
    assert body["stream_options"] == {"include_obfuscation": False}
