"""What of a chat body counts, and how much stands around it."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.counting.rules import rule_for
from farebox.counting.tally import FILE_TOKENS, Tally, tally, tally_loosely
from farebox.dialects.body import decode_fields
from tests.counting.test_images import png, url

GPT, DEEPSEEK = rule_for(["gpt-4o"]), rule_for(["deepseek-chat"])
USER = {"role": "user", "content": "Hi"}
SCHEMA = {
    "type": "object",
    "properties": {
        "unit": {"type": "string", "description": "A unit.", "enum": ["c", "f"]},
        "at": {"type": "array", "items": {"type": "object", "properties": {"x": {}}}},
    },
}
TOOL = {
    "type": "function",
    "function": {"name": "look", "description": "Look around.", "parameters": SCHEMA},
}


def counted(rule=GPT, **body) -> Tally:
    return tally(decode_fields(json.dumps(body).encode()), rule)


def content(*parts, rule=GPT) -> Tally:
    return counted(rule, messages=[{"role": "user", "content": list(parts)}])


def test_a_plain_chat_is_exact_for_openai() -> None:
    """Three tokens a message, a name and one for it, three that lead to the answer."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "name": "ann", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": [{"type": "text", "text": "Go"}, {"type": "text", "text": ""}]},
    ]
    assert counted(messages=messages) == Tally(
        ("Be brief.", "ann", "Hi", "Yes?", "Go", "system", "user", "assistant", "user"),
        3 * 4 + 1 + 3,
        exact=True,
    )


def test_a_plain_chat_is_exact_for_deepseek() -> None:
    """Special tokens: the beginning, user, assistant with or without thinking, the end."""
    system, reply = {"role": "system", "content": "S"}, {"role": "assistant", "content": "A"}
    cases = [
        ([USER], 1 + 1 + 2),
        ([system, USER], 1 + 1 + 2),
        ([USER, reply, USER], 1 + 3 + 1 + 3),
        ([USER, USER], 1 + 1 + 1 + 2),
        ([USER, reply], 1 + 3 + 1),
        ([{"role": "developer", "content": "D"}, USER], 1 + 1 + 1 + 2),
    ]
    for messages, fixed in cases:
        texts = tuple(message["content"] for message in messages)
        assert counted(DEEPSEEK, messages=messages) == Tally(texts, fixed, exact=True)


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [USER], "tools": [TOOL]},
        {"messages": [USER], "response_format": {"type": "json_object"}},
        {"messages": [USER, {"role": "assistant", "content": "a", "reasoning_content": "b"}]},
        {"messages": [USER, {"role": "tool", "tool_call_id": "c", "content": "r"}]},
        {"messages": [USER, {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]},
        {"messages": [USER, {"role": "assistant", "refusal": "No."}]},
        {"messages": ["Hi"]},
    ],
)
def test_what_vendors_do_not_tell_exactly_is_an_estimate(body) -> None:
    """Tools, formats, thinking, and what is unknown."""
    for rule in (GPT, DEEPSEEK):
        assert not counted(rule, **body).exact


def test_what_changes_nothing_leaves_a_count_exact() -> None:
    """A text format, no tools, an effort that adds no words."""
    body = {"messages": [USER], "response_format": {"type": "text"}, "tools": []}
    assert counted(**body, reasoning_effort="high").exact
    assert counted(DEEPSEEK, **body, reasoning_effort="none").exact
    assert not counted(DEEPSEEK, **body, reasoning_effort="high").exact


def test_functions_count_as_openais_cookbook_says() -> None:
    """Seven a function, three for its properties and each of them, three a choice less three,
    twelve for all.
    """
    got = counted(messages=[USER], tools=[TOOL, {"type": "web_search"}])
    assert got.fixed_tokens - counted(messages=[USER]).fixed_tokens == (
        12 + 7 + (3 + 3 + 3) + (-3 + 2 * 3) + (3 + 3) + 7
    )
    assert got.texts[:5] == ("Hi", "user", "look:Look around", "unit:string:A unit", "c")
    assert got.texts[-1] == '{"type": "web_search"}'


def test_functions_are_json_for_deepseek() -> None:
    """One a line, under a text of its own."""
    got = counted(DEEPSEEK, messages=[USER], tools=[TOOL])
    assert got.texts == ("Hi", json.dumps(TOOL["function"]) + "\n")
    assert got.fixed_tokens > 200


def test_calls_and_results_of_tools_count() -> None:
    """Name and arguments, and what stands around them; ids are shown to nobody."""
    call = {"id": "c" * 90, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    result = {"role": "tool", "tool_call_id": "c" * 90, "content": "sunny"}
    got = counted(messages=[{"role": "assistant", "tool_calls": [call]}, result])
    assert got.texts == ("f", "{}", "sunny", "assistant", "tool")
    assert got.fixed_tokens == 3 * 2 + 3 + 8


def test_thinking_that_is_sent_back_counts_as_text() -> None:
    """Vendors drop some of it, so it is an estimate."""
    said = {"role": "assistant", "content": "a", "reasoning_content": "because"}
    assert "because" in counted(DEEPSEEK, messages=[USER, said]).texts


def test_an_image_counts_by_its_size() -> None:
    """Not by its base64; by address it has the usual size."""
    bare = content({"type": "text", "text": "See"}).fixed_tokens
    for address, tokens in ((url(png(512, 512)), 255), ("https://example.com/i", 765)):
        image = {"type": "image_url", "image_url": {"url": address}}
        got = content({"type": "text", "text": "See"}, image)
        assert got == Tally(("See", "user"), bare + tokens, exact=False)


def test_files_and_sounds_count_by_their_size() -> None:
    """A file that is only named is a document of a few pages."""
    bare = content().fixed_tokens
    data = base64.b64encode(b"x" * 75_000).decode()
    file, named = {"file": {"file_data": data}}, {"file": {"file_id": "f"}}
    assert content({"type": "file", **file}) == Tally(("user",), bare + 4000, exact=False)
    assert content({"type": "file", **named}).fixed_tokens == bare + FILE_TOKENS
    sound = {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
    assert content(sound) == Tally(("user",), bare + 25, exact=False)


def test_what_has_no_chat_form_is_read_loosely() -> None:
    """All texts in their order; what is long and no text by its size."""
    image = {"type": "input_image", "image_url": url(png(512, 512))}
    body = {
        "model": "m",
        "input": [
            {"type": "message", "role": "user", "content": [{"text": "one"}, image]},
            {"type": "reasoning", "id": "rs_1", "encrypted_content": "x" * 400},
        ],
        "instructions": "two",
    }
    fields = decode_fields(json.dumps(body).encode())
    got = tally_loosely(fields, ("input", "instructions", "tools"), GPT)
    assert got == Tally(("one", "two"), 255 + 100, exact=False)


def test_without_a_vocabulary_there_is_an_estimate() -> None:
    """Of the texts by their kind, and what stands around them as it is."""
    assert Tally(("hello world", "hello world"), 10, exact=True).estimate() == 15


NAMES = """
type text role content image_url url file file_data data input_audio function parameters properties
enum items anyOf
"""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES.split()), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(messages=JSON, tools=JSON, form=JSON)
def test_no_shape_is_a_defect(messages, tools, form) -> None:
    """Whatever stands where a message, a part, a tool should."""
    for rule in (GPT, DEEPSEEK, rule_for(["claude-x"])):
        got = counted(rule, messages=messages, tools=tools, response_format=form)
        assert got.estimate() >= 0
        parts = counted(rule, messages=[{"role": "user", "content": messages}], functions=tools)
        assert parts.estimate() >= 0
