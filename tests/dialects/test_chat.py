"""A chat request becomes a Call; what is wrong is named by its parameter; errors look OpenAI's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core.call import Call
from farebox.dialects import chat
from farebox.dialects.chat_usual import KnownEnvelopes
from farebox.errors import BadRequest, FareboxError, NotFound, UpstreamFailed

MESSAGES = [{"role": "user", "content": "Hi"}]


def _parse(**fields: Any) -> Call:
    body = {"model": "m", "messages": MESSAGES, **fields}
    return chat.parse(json.dumps(body).encode(), "req_1", ("hop-1",))


def test_a_plain_request_asks_for_little() -> None:
    """No stream, one choice, no cap; it weighs its bytes, and its messages are usual ones."""
    body = b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}'
    call = chat.parse(body, "req_1", known=KnownEnvelopes(1, 1))
    assert call == Call(
        "req_1",
        "chat",
        "m",
        call.fields,
        text_bytes=len(body),
        wires=("chat", "responses"),
        message_words=frozenset(),
    )


def test_a_full_request_is_read_where_money_depends_on_it() -> None:
    """The rest stays raw."""
    call = _parse(
        stream=True,
        stream_options={"include_usage": True, "include_obfuscation": False},
        max_tokens=100,
        max_completion_tokens=200,
        n=3,
        service_tier="flex",
        modalities=["text", "audio"],
        tools=[{"type": "function", "function": {}}, {"type": "web_search"}, {"type": "custom"}],
        web_search_options={},
    )
    seen = (call.stream, call.include_usage, call.output_cap, call.choices, call.hops)
    assert seen == (True, True, 100, 3, ("hop-1",))
    assert (call.service_tier, call.hosted_tools) == ("flex", ("web_search",))
    assert call.audio_output


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ({"stream": None, "n": None, "max_tokens": None}, "stream", False),
        ({"n": None}, "choices", 1),
        ({"max_tokens": 7}, "output_cap", 7),
        ({"max_completion_tokens": 2**31 - 1}, "output_cap", 2**31 - 1),
        ({"max_tokens": None, "max_completion_tokens": 9}, "output_cap", 9),
        ({"stream_options": {"include_usage": True}}, "include_usage", False),
        ({"stream": True, "stream_options": None}, "include_usage", False),
        ({"stream": True, "stream_options": {"include_usage": None}}, "include_usage", False),
        ({"tools": []}, "hosted_tools", ()),
        ({"tools": None, "web_search_options": None}, "hosted_tools", ()),
        (
            {"tools": [{"type": "web_search"}, {"type": "retrieval"}, {"type": "web_search"}]},
            "hosted_tools",
            ("retrieval", "web_search"),
        ),
        ({"modalities": ["text"]}, "audio_output", False),
        ({"service_tier": None}, "service_tier", None),
    ],
)
def test_null_is_absent_and_the_smaller_cap_counts(
    fields: dict[str, Any], name: str, value: object
) -> None:
    """Each field by itself."""
    assert getattr(_parse(**fields), name) == value


def _error(fields: dict[str, Any]) -> FareboxError:
    with pytest.raises(BadRequest) as caught:
        _parse(**fields)
    return caught.value


@pytest.mark.parametrize(
    ("param", "value", "code", "sentence"),
    [
        ("model", None, "missing_required_parameter", "You must name a model"),
        ("model", "", "missing_required_parameter", "You must name a model"),
        ("model", 5, "invalid_value", "'model' must be a model's id, not 5."),
        ("model", "m" * 257, "invalid_value", "'model' must have at most 256 characters, not 257"),
        ("messages", None, "invalid_value", "'messages' must be a list of at least one message"),
        ("messages", "Hi", "invalid_value", "'messages' must be a list of at least one message"),
        ("messages", [], "invalid_value", "'messages' must be a list of at least one message"),
        ("messages", ["Hi"], "invalid_value", "'messages' must be a list of at least one message"),
        ("messages", {}, "invalid_value", "'messages' must be a list of at least one message"),
        ("stream", "yes", "invalid_value", "'stream' must be true or false, not a string."),
        ("stream", 1, "invalid_value", "'stream' must be true or false, not 1."),
        ("stream_options", True, "invalid_value", "'stream_options' must be an object, not true."),
        (
            "stream_options",
            {"include_usage": 1},
            "invalid_value",
            "'stream_options' must be an object; look at stream_options.include_usage.",
        ),
        ("max_tokens", 0, "invalid_value", "'max_tokens' must be between 1 and 2147483647, not 0"),
        ("max_tokens", -1, "invalid_value", "'max_tokens' must be between 1 and 2147483647, not"),
        ("max_tokens", "9", "invalid_value", "'max_tokens' must be a whole number, not a string."),
        ("max_completion_tokens", 2**31, "invalid_value", "'max_completion_tokens' must be betw"),
        (
            "max_completion_tokens",
            1.5,
            "invalid_value",
            "'max_completion_tokens' must be a whole number",
        ),
        ("n", 129, "invalid_value", "'n' must be between 1 and 128, not 129"),
        ("n", 0, "invalid_value", "'n' must be between 1 and 128, not 0"),
        ("n", True, "invalid_value", "'n' must be a whole number, not true."),
        (
            "modalities",
            "audio",
            "invalid_value",
            "'modalities' must be a list of strings, not a string.",
        ),
        (
            "modalities",
            [5],
            "invalid_value",
            "'modalities' must be a list of strings; look at modalities[0].",
        ),
        ("service_tier", 5, "invalid_value", "'service_tier' must be a string, not 5."),
        (
            "tools",
            {},
            "invalid_value",
            "'tools' must be a list of objects with a type, not an object.",
        ),
        (
            "tools",
            [{}],
            "invalid_value",
            "'tools' must be a list of objects with a type; look at tools[0].",
        ),
        (
            "tools",
            ["x"],
            "invalid_value",
            "'tools' must be a list of objects with a type; look at tools[0].",
        ),
        (
            "web_search_options",
            True,
            "invalid_value",
            "'web_search_options' must be an object, not true.",
        ),
    ],
)
def test_what_is_wrong_is_named_by_its_parameter(
    param: str, value: Any, code: str | None, sentence: str
) -> None:
    """400 in OpenAI's shape, with a sentence that says what would be right."""
    error = _error({param: value})
    assert (error.status, error.type, error.param, error.code) == (
        400,
        "invalid_request_error",
        param,
        code,
    )
    assert error.message.startswith(sentence)


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_what_is_missing_is_named(missing: str) -> None:
    """With an example of it, or where to look."""
    body = {"model": "m", "messages": MESSAGES}
    del body[missing]
    with pytest.raises(BadRequest) as caught:
        chat.parse(json.dumps(body).encode(), "req_1")
    assert (caught.value.param, caught.value.code) == (missing, "missing_required_parameter")


@pytest.mark.parametrize("text", [' [ { "role" : "user" } ] ', '[\n{"x":{"messages":[]}}\n]'])
def test_messages_are_a_list_however_they_are_spaced(text: str) -> None:
    """What is in them is the vendor's to judge."""
    call = chat.parse(f'{{"model":"m", "messages":{text}}}'.encode(), "req_1")
    assert bytes(call.fields["messages"]).strip() == text.strip().encode()


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text().map(lambda name: f"x_{name}"), json_values, max_size=4))
def test_unknown_fields_stay_byte_for_byte(unknown: dict[str, Any]) -> None:
    """They pass to the upstream as they came; vendors have parameters of their own."""
    texts = {name: json.dumps(value, indent=1) for name, value in unknown.items()}
    members = "".join(f", {json.dumps(name)} : {text} " for name, text in texts.items())
    messages = '[ {"role": "user", "content": "Hi \\u00e9"} ]'
    body = f'{{"model": "m", "messages": {messages}{members}}}'
    call = chat.parse(body.encode(), "req_1")
    assert list(call.fields) == ["model", "messages", *texts]
    for name, text in {"messages": messages, **texts}.items():
        assert bytes(call.fields[name]).decode() == text


@given(st.dictionaries(st.sampled_from(["model", "messages", "n", "tools", "stream"]), json_values))
def test_no_request_does_more_than_be_refused(fields: dict[str, Any]) -> None:
    """Whatever the values."""
    try:
        call = chat.parse(json.dumps(fields).encode(), "req_1")
    except BadRequest:
        return
    assert call.model


def test_an_error_is_openais_object() -> None:
    """Message, type, param and code are always there."""
    error = NotFound("No such model.", code="model_not_found", param="model")
    expected = {
        "error": {
            "message": "No such model.",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }
    assert chat.error_object(error) == expected
    assert json.loads(chat.error_body(error)) == expected


def test_an_error_within_a_stream_is_one_event() -> None:
    """No [DONE] follows; the SDKs raise on it."""
    error = UpstreamFailed("The upstream broke off.\nTry again.", reason="reset")
    text = chat.error_event(error)
    assert text.startswith(b"data: {")
    assert text.endswith(b"}\n\n")
    assert text.count(b"\n") == 2
    assert json.loads(text[6:])["error"]["message"] == "The upstream broke off.\nTry again."


def test_a_ping_is_a_comment() -> None:
    """Data would reach user code as a chunk without choices."""
    assert (chat.PING, chat.DONE) == (b": ping\n\n", b"data: [DONE]\n\n")


@pytest.mark.parametrize("name", ["MAX_TOKENS", "N", "Model", "max_to\u212aens", "\u017ftream"])
def test_another_spelling_of_a_counted_key_is_refused(name: str) -> None:
    """An upstream that ignores case would take it instead of ours: more than was held for."""
    with pytest.raises(BadRequest) as caught:
        _parse(**{name: 400})
    assert (caught.value.code, caught.value.param) == ("unknown_parameter", name)
    assert repr(name.casefold()) in caught.value.message


def test_other_keys_may_be_written_as_one_likes() -> None:
    """What nothing hangs on is the upstream's business."""
    assert {"Temperature", "TOP_K"} <= _parse(Temperature=1, TOP_K=2).fields.keys()
