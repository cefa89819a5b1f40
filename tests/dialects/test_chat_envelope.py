"""A request around whose messages stands what stood there before is read as if it did not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from farebox.core.call import Call
from farebox.dialects import chat
from farebox.dialects.body import LARGE_BYTES
from farebox.dialects.chat_usual import KnownEnvelopes
from farebox.errors import BadRequest
from tests.dialects.usual_bodies import odd_bodies, oddities, requests, text_of, usual_messages

HELLO = b'[{"role":"user","content":"Hi"}]'
BYE = b'[{"role":"user","content":"Bye"},{"role":"user","name":"n"}]'


def _memory() -> KnownEnvelopes:
    return KnownEnvelopes(1000, 1 << 20)


def _read(body: bytes, known: KnownEnvelopes) -> Any:
    """All that a call says but its envelope's number, or the error that it is refused with."""
    try:
        call = chat.parse(body, "req_1", ("hop",), known)
    except BadRequest as error:
        return type(error), error.message, error.param, error.code
    fields = [(name, bytes(raw)) for name, raw in call.fields.items()]
    return replace(call, envelope=None, fields={}), fields


def _check_is_read_as_unknown(body: bytes, known: KnownEnvelopes) -> None:
    for _ in range(3):
        assert _read(body, known) == _read(body, _memory())


others = st.lists(
    st.sampled_from(
        [
            '"temperature":0.70',
            '"temperature":1e999',
            '"seed":123456789012345678901234567890',
            '"seed":NaN',
            '"stop":["messages",{"messages":[{"role":"user"}]}]',
            '"user":"é\\ud800\\u0041"',
            '"user":"\udcff"',
            '"metadata":{"messages":[{"role":"user","content":"Hi"}]}',
            '"mess\\u0061ges":[]',
            '"messages":[{"role":"user","content":"Hi"}]',
            '"messages" : []',
            '"Messages":[]',
            '"MODEL":"m"',
            '"model":"m"',
            '"model":7',
            '"m\\u006fdel":"other"',
            '"n":2',
            '"n":0',
            '"max_tokens":5,"max_completion_tokens":null',
            '"max_tokens":2147483648',
            '"stream":true,"stream_options":{"include_usage":true}',
            '"stream":"yes"',
            '"service_tier":"flex"',
            '"modalities":["audio","text"]',
            '"tools":[{"type":"function","function":{"name":"f"}},{"type":"web_search_preview"}]',
            '"tools":[{}]',
            '"web_search_options":{}',
            '"zz" : {"a" : [1, 2.50]}',
            "",
        ]
    ),
    max_size=3,
).map(",".join)


@st.composite
def envelopes(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """What stands before and behind the messages, good or odd, in any order."""
    before, after = draw(others), draw(others)
    model = draw(st.sampled_from(['"model":"m"', '"model":"m"', '"model" : "m"', ""]))
    if draw(st.booleans()):
        before = ",".join(filter(None, (model, before)))
    else:
        after = ",".join(filter(None, (model, after)))
    start = "{" + (f"{before}," if before else "") + '"messages":'
    end = (f",{after}" if after else "") + "}" + draw(st.sampled_from(["", "", "\n", "}", " x"]))
    return start.encode(errors="surrogateescape"), end.encode(errors="surrogateescape")


@st.composite
def message_lists(draw: st.DrawFn) -> bytes:
    """A list of messages, usual ones or odd somewhere."""
    text = text_of(tuple(draw(st.lists(usual_messages(), min_size=1, max_size=3))))
    if draw(st.booleans()):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(oddities) + text[at + draw(st.integers(0, 2)) :]
    return text.encode(errors="surrogateescape")


@given(st.lists(envelopes(), min_size=1, max_size=2), st.lists(message_lists(), min_size=1))
def test_a_known_envelope_says_what_it_said(
    around: list[tuple[bytes, bytes]], messages: list[bytes]
) -> None:
    """Whatever comes between its ends; what was refused is refused again, with the same words."""
    known = _memory()
    for before, after in around:
        for between in (HELLO, BYE, *messages):
            _check_is_read_as_unknown(before + between + after, known)


@given(requests(), odd_bodies(), odd_bodies())
@example([("messages", ([("role", "user")],)), ("model", "m")], b"", b"")
def test_what_is_known_of_one_request_misleads_in_no_other(
    request_: list[tuple[str, Any]], one: bytes, other: bytes
) -> None:
    """Requests in any order, each of them several times."""
    known = _memory()
    body = text_of(request_).encode()
    for each in (body, one, other, body, body[:-1] + b',"messages":[]}', one + other, body):
        _check_is_read_as_unknown(each, known)


@pytest.mark.parametrize(
    ("body", "other"),
    [
        (
            b'{"model":"m","x":{"messages":[{"role":"user"}]},"messages":[{"role":"user"}]}',
            b'{"model":"m","x":{"messages":[{"role":"user"}]},"messages":[{"role":"system"}]}',
        ),
        (
            b'{"model":"m","messages":[{"role":"user","content":"x"}],"stop":["]"]}',
            b'{"model":"m","messages":[{"role":"user","content":"x"}],"stop":["]}"]}',
        ),
        (
            b'{"model":"m","messages":[{"role":"user","content":"a"}]}',
            b'{"model":"m","messages":[{"role":"user","content":"a"}],"n":2}',
        ),
        (
            b'{"model":"m","messages":[{"role":"user","content":"a"}],"n":2}',
            b'{"model":"m","messages":[{"role":"user","content":"a"}],"n":2,"n":2}',
        ),
    ],
)
def test_requests_that_look_alike_are_told_apart(body: bytes, other: bytes) -> None:
    """Ends that may be those of another request."""
    known = _memory()
    for each in (body, body, other, other, body):
        _check_is_read_as_unknown(each, known)


def _numbers(known: KnownEnvelopes, *bodies: bytes) -> list[int | None]:
    return [chat.parse(body, "req_1", (), known).envelope for body in bodies]


def _body(messages: bytes, more: bytes = b"") -> bytes:
    return b'{"model":"m","messages":' + messages + more + b"}"


def test_one_number_stands_for_one_envelope() -> None:
    """From the second time on; whatever differs but the messages is another."""
    known = _memory()
    hello, bye, warm = _body(HELLO), _body(BYE), _body(HELLO, b',"temperature":1')
    first, second, third, fourth = _numbers(known, hello, bye, hello, bye)
    assert first is None
    assert second is not None
    assert second == third == fourth
    unknown, other = _numbers(known, warm, warm)
    assert unknown is None
    assert other not in (None, second)


def test_each_call_has_fields_of_its_own() -> None:
    """What one call is given is not seen by the next."""
    known = _memory()
    calls: list[Call] = [chat.parse(_body(each), "r", (), known) for each in (HELLO, BYE) * 3]
    assert [bytes(call.fields["messages"]) for call in calls] == [HELLO, BYE] * 3


def test_what_is_unusual_or_large_has_no_number() -> None:
    """Pictures, blanks, what is read in another thread, and more fields than anybody sends."""
    picture = b'[{"role":"user","content":[{"type":"image_url","image_url":{"url":"u"}}]}]'
    large = b'[{"role":"user","content":"' + b"x" * LARGE_BYTES + b'"}]'
    for messages in (picture, b'[{"role": "user","content":"x"}]', large):
        assert _numbers(_memory(), *[_body(messages)] * 3) == [None] * 3
    many = "".join(f'"{n}":1,' for n in range(500)).encode()
    assert _numbers(_memory(), *[b"{" + many + _body(HELLO)[1:]] * 3) == [None] * 3
