"""A chat that differs from one before it in its messages alone is prepared as if it did not."""

from __future__ import annotations

import dataclasses
from itertools import product
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from farebox.core.call import Call, Headers
from farebox.core.channel import Channel, ChannelOptions
from farebox.dialects import chat
from farebox.dialects.body import LARGE_BYTES
from farebox.dialects.chat_usual import KnownEnvelopes
from farebox.errors import BadRequest
from farebox.vendors.base import Vendor
from farebox.vendors.body import Body
from farebox.vendors.registry import find
from tests.dialects.usual_bodies import text_of, usual_messages
from tests.vendors.contract import CAP, HOP, channel_of
from tests.vendors.preparing import EVERY, VENDORS

HELLO = b'[{"role":"user","content":"Hi"}]'
BYE = b'[{"role":"user","content":"Bye"},{"role":"assistant","content":null}]'

members = st.lists(
    st.sampled_from(
        [
            ("temperature", 0.7),
            ("top_k", 5),
            ("n", 2),
            ("best_of", 2),
            ("store", True),
            ("metadata", {"a": "b"}),
            ("conversation", "c"),
            ("max_tokens", 9),
            ("max_completion_tokens", 9),
            ("frequency_penalty", 1),
            ("reasoning_effort", "none"),
            ("reasoning_effort", "high"),
            ("thinking", {"type": "disabled"}),
            ("thinking", None),
            ("tool_choice", "none"),
            ("tool_choice", "required"),
            ("tools", [{"type": "function", "function": {"name": "f", "strict": True}}]),
            ("response_format", {"type": "json_schema", "json_schema": {"schema": {}}}),
            ("response_format", {"type": "json_object"}),
            ("stream_options", {"include_usage": False, "x": 1}),
            ("stream_options", {}),
            ("user", msgspec.Raw(b'"\\u00e9\\ud83d\\ude00"')),
            ("zz", [1, 2.5]),
        ]
    ),
    unique_by=lambda member: member[0],
    max_size=4,
)
options = st.builds(
    ChannelOptions,
    drop=st.sampled_from([(), (), ("zz", "messages"), ("temperature",)]),
    rename=st.sampled_from(
        [(), (), (("zz", "yy"),), (("max_tokens", "n_tokens"),), (("messages", "input"),)]
    ),
    max_tokens_field=st.sampled_from([None, None, "max_new_tokens"]),
    json_schema=st.sampled_from([None, True, False]),
    developer_role=st.sampled_from([None, True, False]),
)
message_lists = st.lists(usual_messages(), min_size=1, max_size=3).map(
    lambda each: text_of(tuple(each)).encode()
)


def _prepared(
    vendor: Vendor, channel: Channel, call: Call, cap: int = CAP, hop: str = HOP
) -> tuple[Any, ...]:
    """All that goes out, or the error that it is refused with."""
    try:
        prepared = vendor.prepare(channel, "up-1", call, cap, hop, "alice")
    except BadRequest as error:
        return error.message, error.param, error.code
    return (*msgspec.structs.astuple(prepared.request), prepared.adjusted)


def _check_is_prepared_as_unknown(vendor: Vendor, channel: Channel, call: Call, cap: int) -> None:
    for _ in range(3):
        expected = _prepared(vendor, channel, replace(call, envelope=None), cap)
        assert _prepared(vendor, channel, call, cap) == expected


def _calls(fields: list[tuple[str, Any]], *messages: bytes, at: int = 1) -> list[Call]:
    """A call with each of the messages, before the field at that place; all of one envelope."""
    known = KnownEnvelopes(9, 1 << 20)
    parts = [b'"%b":%b' % (name.encode(), msgspec.json.encode(value)) for name, value in fields]
    calls: list[Call] = []
    for each in (messages[0], *messages):
        body = b",".join([*parts[:at], b'"messages":' + each, *parts[at:]])
        calls.append(chat.parse(b"{" + body + b"}", "req_1", (), known))
    return calls[1:]


@EVERY
def test_chats_of_every_vendor_may_be_remembered(vendor: Vendor) -> None:
    """All that are built in promise what it takes."""
    assert vendor.remembers


@st.composite
def chats(draw: st.DrawFn) -> list[Call]:
    """Calls of one envelope."""
    fields = [("model", "m"), *draw(members), *draw(st.sampled_from([[], [("stream", True)]]))]
    between = draw(st.lists(message_lists, min_size=1, max_size=4))
    return _calls(fields, HELLO, *between, BYE, at=draw(st.integers(0, len(fields))))


@given(
    st.sampled_from(VENDORS),
    options,
    st.sampled_from(["", "alice", "bob"]),
    chats(),
    st.integers(1),
)
def test_what_goes_out_is_the_same(
    vendor: Vendor, options_: ChannelOptions, owner: str, calls: list[Call], cap: int
) -> None:
    """Address, headers, body and adjustments, or the refusal: whatever came before."""
    channel = channel_of(vendor, options=options_, dedicated_account=owner)
    for call in calls:
        assert call.envelope is not None
        _check_is_prepared_as_unknown(vendor, channel, call, cap)
        _check_is_prepared_as_unknown(vendor, dataclasses.replace(channel, api_key=""), call, CAP)


@pytest.mark.parametrize("name", ["a", "b", "c"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_body_is_what_stands_around_one_of_its_fields(name: str, count: int) -> None:
    """Be it the first, the last or the only one."""
    names = ["c", "b", "a"][3 - count :]
    body = Body({each: msgspec.Raw(b"[0}") for each in (*names, name)})
    before, after = body.around(name)
    assert before + b"[0}" + after == body.encode()


class _Counting(Vendor):
    """It says how often a body was edited."""

    name = "counting"
    remembers = True

    def __init__(self) -> None:
        self.edited = 0

    def adapt(self, body: Body) -> None:
        self.edited += 1


def _edits(vendor: _Counting, call: Call, **changes: Any) -> int:
    """How many of three chats are edited that are prepared alike."""
    channel = channel_of(vendor, **changes)
    before = vendor.edited
    for _ in range(3):
        _prepared(vendor, channel, call)
    return vendor.edited - before


def _call(messages: bytes = HELLO, *more: tuple[str, Any]) -> Call:
    return _calls([("model", "m"), *more], messages)[0]


def test_the_third_of_three_chats_is_known() -> None:
    """The first may be the only one; the second shows that it is not."""
    assert _edits(_Counting(), _call()) == 2
    assert _edits(_Counting(), replace(_call(), envelope=None)) == 3
    assert _edits(_Counting(), _call(), dedicated_account="bob") == 2


def test_what_hangs_on_messages_is_not_remembered() -> None:
    """An edit that may be needed for some; fields that a channel does without; a large chat."""
    assert _edits(_Counting(), _call(b'[{"role":"developer","content":"x"}]')) == 2
    system = ChannelOptions(developer_role=False)
    developer = _call(b'[{"role":"developer","content":"x"}]')
    assert _edits(_Counting(), developer, options=system) == 3
    assert _edits(_Counting(), _call(), options=system) == 2
    assert _edits(_Counting(), _call(), options=ChannelOptions(drop=("messages",))) == 3
    schema = ("response_format", {"type": "json_schema", "json_schema": {}})
    as_text = ChannelOptions(json_schema=False)
    assert _edits(_Counting(), _call(HELLO, schema), options=as_text) == 3
    assert _edits(_Counting(), replace(_call(), text_bytes=LARGE_BYTES + 1)) == 3


def test_a_vendor_built_on_another_promises_for_itself() -> None:
    """What it changes may hang on messages; then nothing of its own is remembered."""

    class Telling(_Counting):
        def headers(self, channel: Channel, call: Call, hop: str) -> Headers:
            return ((b"x-request", call.request_id.encode()),)

    vendor, call = Telling(), _call()
    assert not vendor.remembers
    for request_id in ("a", "b", "c", "d"):
        prepared = vendor.prepare(
            channel_of(vendor), "m", replace(call, request_id=request_id), CAP, HOP
        )
        assert prepared.request.headers == ((b"x-request", request_id.encode()),)


def test_a_vendor_that_reads_messages_gets_each() -> None:
    """Through the body's methods, which notice."""

    class Reading(_Counting):
        remembers = True

        def adapt(self, body: Body) -> None:
            super().adapt(body)
            body.put("last", body.value("messages"))

    assert _edits(Reading(), _call()) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"api_key": "sk-other"},
        {"base_url": "https://other.example/v1"},
        {"first_byte_timeout_s": 7.0},
        {"options": ChannelOptions(drop=("temperature",))},
        {"dedicated_account": "alice"},
    ],
    ids=str,
)
def test_a_changed_channel_is_another(changes: dict[str, Any]) -> None:
    """Also when it lies where the former one lay."""
    vendor, call = find("openai_compatible"), _call(HELLO, ("temperature", 1), ("store", True))
    for _ in range(20):
        _check_is_prepared_as_unknown(vendor, channel_of(vendor), call, CAP)
        _check_is_prepared_as_unknown(vendor, channel_of(vendor, **changes), call, CAP)


def test_whatever_else_is_asked_for_is_another() -> None:
    """Another vendor, model, cap, hop, account, or way that the call came."""
    call = _call(HELLO, ("store", True))
    channel = channel_of(find("openai"), dedicated_account="alice")
    calls = (call, replace(call, hops=("inst_a",)))
    vendors = (find("openai"), find("deepseek"))
    asked = product(vendors, ("a", "b"), calls, (1, 2), ("h1", "h2"), ("alice", "bob"))
    for vendor, model, each, cap, hop, account in [*asked] * 3:
        unknown = replace(each, envelope=None)
        expected = vendor.prepare(channel, model, unknown, cap, hop, account)
        assert vendor.prepare(channel, model, each, cap, hop, account) == expected
