"""A request of the usual shape is read as the general way reads it; every other is left to that."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from farebox.dialects.body import decode_fields
from farebox.dialects.chat_usual import WORDS, Asked, Usual, read_usual
from farebox.dialects.chat_weight import Weight, weigh
from farebox.errors import BadRequest

Pairs = list[tuple[str, Any]]
"""An object's members as they are written, perhaps with a key twice; lists are tuples here."""

texts = st.text(st.sampled_from('ab"\\{}[],:é\n'), max_size=8) | st.sampled_from(
    ["file_id", "developer", '"messages":[{"role":"user"}]', "https://a.example/x_url"]
)
parts = st.builds(
    lambda text, mark: [("type", "text"), ("text", text), *mark],
    texts,
    st.sampled_from([[], [("cache_control", [("type", "ephemeral")])]]),
)
calls = st.builds(
    lambda name, said: [
        ("id", "c"),
        ("type", "function"),
        ("function", [("name", name), ("arguments", said)]),
    ],
    texts,
    texts,
)
usual_members: dict[str, st.SearchStrategy[Any]] = {
    "content": texts | st.none() | st.lists(parts, min_size=1, max_size=2).map(tuple),
    "name": texts,
    "tool_calls": st.lists(calls, max_size=2).map(tuple) | st.none(),
    "tool_call_id": texts,
    "reasoning_content": texts | st.none(),
    "refusal": st.none(),
    "annotations": st.just(()),
    "audio": st.none(),
    "function_call": st.none(),
}
roles = st.sampled_from(["system", "developer", "user", "assistant", "tool"])


@st.composite
def usual_messages(draw: st.DrawFn) -> Pairs:
    """A message, its members in any order."""
    names = draw(st.lists(st.sampled_from(sorted(usual_members)), unique=True, max_size=4))
    members = [("role", draw(roles)), *((name, draw(usual_members[name])) for name in names)]
    return draw(st.permutations(members))


@st.composite
def requests(draw: st.DrawFn) -> Pairs:
    """A request's members, its messages among them."""
    others: Pairs = [
        ("model", "m"),
        ("stream", draw(st.sampled_from([True, False, None]))),
        ("n", draw(st.integers(1, 128) | st.none())),
        ("max_tokens", draw(st.integers(1, 9) | st.none())),
        ("stop", ("a", "]")),
        ("metadata", [("messages", ())]),
        ("messages\\", "messages"),
    ]
    others = others[:1] + draw(st.lists(st.sampled_from(others[1:]), unique_by=lambda m: m[0]))
    messages = tuple(draw(st.lists(usual_messages(), min_size=1, max_size=4)))
    return draw(st.permutations([*others, ("messages", messages)]))


def _text(value: Any, blank: str = "") -> str:
    """A value as JSON, with this between its signs."""
    if isinstance(value, tuple):
        inner = f",{blank}".join(_text(each, blank) for each in value)
        return f"[{inner}]"
    if isinstance(value, list):
        members = (f"{json.dumps(key)}:{blank}{_text(each, blank)}" for key, each in value)
        return "{" + f",{blank}".join(members) + "}"
    return json.dumps(value, ensure_ascii=False)


# What makes a request an unusual one, or none at all: some text in place of some other.
oddities = st.sampled_from(
    [
        "",
        " ",
        "[",
        "]",
        "{",
        "}",
        '"',
        ",",
        "\\",
        "\\u0061",
        "null",
        "1e999",
        '"content":"x",',
        '"content":[{"type":"image_url","image_url":"u"}],',
        '"messages":[],',
        '"messages":[{"role":"user","content":"other"}],',
        '"file_id":"f",',
        '"audio":{"id":"a"},',
        '"x":{"messages":[{"role":"user"}]},',
        ',"a":1}',
        "]}",
        "\udcff",
    ]
)


@st.composite
def odd_bodies(draw: st.DrawFn) -> bytes:
    """A request with something put into it, in place of a few bytes or of none."""
    text = _text(draw(requests()), draw(st.sampled_from(["", "", "", " "])))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(oddities) + text[at + draw(st.integers(0, 2)) :]
    return text.encode(errors="surrogateescape")


def _read(body: bytes) -> Usual | str | None:
    """What was read of it, or why it is refused."""
    try:
        return read_usual(body)
    except BadRequest as error:
        return error.message


def _general(body: bytes) -> tuple[list[tuple[str, bytes]], Weight]:
    fields = decode_fields(body)
    return [(name, bytes(raw)) for name, raw in fields.items()], weigh(body, fields["messages"])


def _words_in(messages: list[Any]) -> set[bytes]:
    """Roles and members of messages, as Python reads them; calls that are none count for none."""
    found = {message["role"] for message in messages}
    for message in messages:
        found |= {name for name in message if name != "tool_calls" or message[name]}
    return {word for word in WORDS if json.loads(word) in found}


def _check_is_the_same(usual: Usual, body: bytes) -> None:
    fields, weight = _general(body)
    assert [(name, bytes(raw)) for name, raw in usual.fields.items()] == fields
    assert weight == Weight(len(body))
    plain: dict[str, Any] = json.loads(body)
    assert usual.words == _words_in(plain["messages"])
    asked = {name: plain.get(name) for name in Asked.__struct_fields__}
    assert {name: getattr(usual.asked, name) for name in asked} == asked


@given(requests())
def test_a_usual_request_is_read_as_any_other(request_: Pairs) -> None:
    """Fields and their order, what was asked for, the weight; and which words there are."""
    body = _text(request_).encode()
    usual = read_usual(body)
    assert usual is not None
    _check_is_the_same(usual, body)


@given(odd_bodies())
@example(b'{"model":"m","messages":[{"role":"user","content":"x","content":"y"}]}')
@example(b'{"x":{"messages":[{"role":"user"}]},"messages":[{"role":"user"}],"model":"m"}')
@example(b'{"x\\"messages":[{"role":"user"}],"messages":[{"role":"user"}],"model":"m"}')
@example(b'{"messages":[{"role":"user"}],"model":"m","messages":[{"role":"user"}]}')
def test_what_is_odd_is_read_as_any_other_or_not_at_all(body: bytes) -> None:
    """Nothing is read otherwise, or from another place, than the general way reads it; what is
    wrong is wrong there too.
    """
    usual = _read(body)
    if isinstance(usual, str):
        with pytest.raises(BadRequest) as caught:
            decode_fields(body)
        assert caught.value.message == usual
    elif usual is not None:
        _check_is_the_same(usual, body)


def _with_message(message: str) -> bytes:
    return f'{{"model":"m","messages":[{{"role":"user","content":"Hi"}},{message}]}}'.encode()


@pytest.mark.parametrize(
    "message",
    [
        '{"role": "user"}',
        '{"role":"user","content":"x","content":"y"}',
        '{"role":"user","content":7}',
        '{"role":"user","content":{"file_id":"f"}}',
        '{"role":"user","content":[{"type":"image_url","image_url":{"url":"u"}}]}',
        '{"role":"user","content":[{"type":"text","text":{"file_id":"f"}}]}',
        '{"role":"user","content":[{"type":"text","text":"a","text":"b"}]}',
        '{"role":"user","content":[{"type":"text", "text":"a"}]}',
        '{"role":"user","content":[{"file_id":"f"}]}',
        '{"role":"user","content":["text"]}',
        '{"role":"user","file_id":"f"}',
        '{"role":"user","name":["f"]}',
        '{"role":"assistant","audio":{"id":"a"}}',
        '{"role":"assistant","reasoning_content":{}}',
        '{"role":"assistant","annotations":[null]}',
        '{"role":"assistant","tool_calls":[{"id":"c","type":"custom"}]}',
        '{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{}}]}',
        '{"role":"critic","content":"x"}',
        '{"\\u0072ole":"user"}',
    ],
)
def test_what_is_no_text_is_left_to_the_general_way(message: str) -> None:
    """Whatever may weigh more than its bytes, name what is kept somewhere, or need an edit that is
    not looked for.
    """
    assert read_usual(_with_message('{"role":"tool","content":"x"}')) is not None
    assert read_usual(_with_message(message)) is None
