"""Frames between workers and the ledger: however they are cut, the messages are the same."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.billing import messages as m
from farebox.billing.entry import entry_of
from farebox.ledger import wire
from tests.settlements import settlement

REQUESTS: list[m.Request] = [
    m.Resume([m.OpenHold("req_0", 1, "key_1", 5, None, 0)]),
    m.Hold("req_1", 1, "key_1", 10, 20),
    m.Hold("req_2", 1, "key_1", 10, 20, 10**15, 1_700_000_000_000_000),
    m.Extend("req_1", 7),
    m.Release("req_2"),
    m.Settle(entry_of(settlement(due_nanocredits=9))),
    m.Delivered(["req_1", "req_2"]),
    m.Recall(1),
]
ANSWERS: list[m.Answer] = [
    m.Held("req_1", 20),
    m.Refused("req_2", "credit", 10, 3, 4, 7),
    m.Settled("req_1", 9, 0),
    m.NotSettled("req_3", "away"),
    m.Recalled(1),
]


@given(st.lists(st.sampled_from(REQUESTS), max_size=20), st.integers(0, 2**32))
def test_requests_come_out_as_they_went_in(messages: list[m.Request], seed: int) -> None:
    """In order, however the bytes are cut, and as soon as their frame is whole."""
    cut = random.Random(seed)
    halves = (messages[: len(messages) // 2], messages[len(messages) // 2 :])
    data = b"".join(map(wire.frames, halves))
    reader, found = wire.request_reader(), []
    while data:
        size = cut.randint(1, len(data))
        found += reader.feed(data[:size])
        data = data[size:]
    assert found == messages


def test_byte_by_byte() -> None:
    """A frame's messages come with its last byte, and not before."""
    for frames, reader, messages in (
        (wire.frames(REQUESTS), wire.request_reader(), REQUESTS),
        (wire.frames(ANSWERS), wire.answer_reader(), ANSWERS),
    ):
        for at in range(len(frames) - 1):
            assert reader.feed(frames[at : at + 1]) == []
        assert reader.feed(frames[-1:]) == messages


def test_many_messages_are_several_frames() -> None:
    """So that neither side is held up by one."""
    messages = [m.Release(f"req_{number}") for number in range(2 * wire.MAX_MESSAGES + 1)]
    frames = wire.frames(messages)
    first = int.from_bytes(frames[: wire.HEAD_BYTES], "big") + wire.HEAD_BYTES
    reader = wire.request_reader()
    assert reader.feed(frames[:first]) == messages[: wire.MAX_MESSAGES]
    assert reader.feed(frames[first:]) == messages[wire.MAX_MESSAGES :]


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",  # longer than any frame
        b"\x00\x00\x00\x01\xc1",  # not MessagePack
        wire.frames([m.Held("req_1", 1)]),  # what the other side says
        b"\x00\x00\x00\x05\x91\x92\xa1h\x01",  # a hold that is too short
    ],
)
def test_what_is_no_frame_of_ours_is_refused(data: bytes) -> None:
    """Rather than guessed at."""
    with pytest.raises(wire.WireError):
        wire.request_reader().feed(data)
