"""A request of the usual shape is read as the general way reads it; every other is left to that."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given

from farebox.dialects.body import decode_fields
from farebox.dialects.chat_envelope import COUNTED, refuse_near_names
from farebox.dialects.chat_usual import WORDS, KnownEnvelopes, Usual, read_usual
from farebox.dialects.chat_weight import Weight, weigh
from farebox.errors import BadRequest
from tests.dialects.usual_bodies import Pairs, odd_bodies, requests, text_of


def _read(body: bytes) -> Usual | str | None:
    """What was read of it without knowing its envelope, or why it is refused."""
    try:
        return read_usual(body, KnownEnvelopes(1, 1))
    except BadRequest as error:
        return error.message


def _general(body: bytes) -> tuple[list[tuple[str, bytes]], Weight]:
    fields = decode_fields(body)
    refuse_near_names(fields, COUNTED)
    return [(name, bytes(raw)) for name, raw in fields.items()], weigh(body, fields["messages"])


def _words_in(messages: list[Any]) -> set[bytes]:
    """Roles and members of messages, as Python reads them; calls that are none count for none."""
    found = {message["role"] for message in messages}
    for message in messages:
        found |= {name for name in message if name != "tool_calls" or message[name]}
    return {word for word in WORDS if json.loads(word) in found}


def _check_is_the_same(usual: Usual, body: bytes) -> None:
    envelope, fields, words = usual
    general, weight = _general(body)
    assert [(name, bytes(raw)) for name, raw in fields.items()] == general
    assert weight == Weight(len(body))
    plain: dict[str, Any] = json.loads(body)
    assert words == _words_in(plain["messages"])
    assert (envelope.model, envelope.stream) == (plain["model"], plain.get("stream") or False)
    assert (envelope.output_cap, envelope.choices) == (plain.get("max_tokens"), plain.get("n") or 1)


@given(requests())
def test_a_usual_request_is_read_as_any_other(request_: Pairs) -> None:
    """Fields and their order, what was asked for, the weight; and which words there are."""
    body = text_of(request_).encode()
    usual = _read(body)
    assert isinstance(usual, tuple)
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
            _general(body)
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
