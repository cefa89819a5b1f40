"""Heads that are known: which may be, and that no other is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.server.heads import Head, KnownHeads

URL = b"/v1/chat/completions"
BEFORE = b"POST %b HTTP/1.1\r\nHost: a\r\nAuthorization:  Bearer b \r\nContent-Length: " % URL
AFTER = b"\r\nX-A: \xff\r\n\r\n"
HEADERS = [
    (b"host", b"a"),
    (b"authorization", b"Bearer b"),
    (b"content-length", b"57"),
    (b"x-a", b"\xff"),
]


def knowing(raw, headers, times=2):
    """What is known when this head came so often, in front of a body."""
    heads = KnownHeads()
    for _ in range(times):
        heads.learn(raw + b"body\r\n\r\n", Head(list(headers)), "route")
    return heads


HEADS = knowing(BEFORE + b"57" + AFTER, HEADERS)


@given(st.integers(0, 10**12 - 1), st.binary(max_size=20))
def test_another_length_is_read_from_a_known_head(length, body):
    """With where the body begins; what the head says is the same but for it."""
    data = b"%b%d%b" % (BEFORE, length, AFTER)
    found = HEADS.find(data + body)
    assert found is not None
    known, length_bytes, body_at = found
    assert (length_bytes, body_at) == (length, len(data))
    assert known.route == "route"
    assert known.head.fields == {b"host": b"a", b"authorization": b"Bearer b", b"x-a": b"\xff"}
    assert known.head.length_bytes is None


@pytest.mark.parametrize(
    "digits",
    [
        *(b"", b" ", b" 5", b"+5", b"-5", b"5 ", b"5,5", b"0x5", b"5\r\n", b"\xd9\xa5", b"5\n"),
        *(b"1" * 13, b"5\0", b"5\r\nContent-Length: 5"),
    ],
)
def test_what_is_no_length_is_left_to_the_parser(digits):
    """Which refuses it, or knows better."""
    assert HEADS.find(BEFORE + digits + AFTER) is None


@given(st.integers(0, len(BEFORE + AFTER) - 1), st.integers(1, 255))
def test_a_head_with_any_other_byte_is_not_the_known_one(at, change):
    """Nor is one that has not come whole."""
    around = bytearray(BEFORE + AFTER)
    around[at] ^= change
    before, after = bytes(around[: len(BEFORE)]), bytes(around[len(BEFORE) :])
    assert HEADS.find(before + b"57" + after) is None
    assert HEADS.find((BEFORE + b"57" + AFTER)[: at + 1]) is None


@given(
    st.sampled_from([b"57", b"0", b"1" * 12, b"1" * 13, b"", b"5 ", b"+5", b"5\r\nX: 5"]),
    st.sampled_from([b"", b"body", b"\r\n\r\n", BEFORE + b"57" + AFTER]),
    st.integers(0, 200),
    st.integers(0, 255),
)
def test_the_head_that_came_last_is_known_as_it_would_be_found(digits, body, at, change):
    """Whatever was changed in it or follows it, wherever it was cut: the table says the same."""
    latest, _, _ = HEADS.find(BEFORE + b"57" + AFTER) or pytest.fail("it is known")
    data = bytearray(BEFORE + digits + AFTER + body)
    for each in (bytes(data), bytes(data[:at])):
        assert HEADS.find(each, latest) == HEADS.find(each)
    data[at % len(data)] ^= change
    assert HEADS.find(bytes(data), latest) == HEADS.find(bytes(data))


def test_the_head_that_came_last_is_no_other():
    """Two that differ behind the length, or before it, are told apart on one connection."""
    heads = knowing(BEFORE + b"57" + AFTER, HEADERS)
    other = BEFORE + b"57" + AFTER.replace(b"\xff", b"b")
    for _ in range(2):
        heads.learn(other, Head([*HEADERS[:-1], (b"x-a", b"b")]), "other")
    latest = None
    for raw, route in [(other, "other"), (BEFORE + b"57" + AFTER, "route")] * 2:
        latest, _, _ = heads.find(raw, latest) or pytest.fail("both are known")
        assert latest.route == route


@pytest.mark.parametrize(
    ("before", "after", "headers"),
    [
        pytest.param(BEFORE, b" " + AFTER, HEADERS, id="space behind the length"),
        pytest.param(BEFORE, AFTER, HEADERS[:-1], id="a line that was not read"),
        pytest.param(BEFORE, AFTER, [*HEADERS, HEADERS[0]], id="one too many"),
        pytest.param(BEFORE, AFTER, [*HEADERS[:-1], (b"x-a", b"b")], id="read otherwise"),
        pytest.param(BEFORE, AFTER[:-2], HEADERS, id="not whole"),
        pytest.param(b"\r\n" + BEFORE, AFTER, HEADERS, id="an empty line before"),
        pytest.param(
            BEFORE,
            AFTER[:-2] + b"X-B: " + b"b" * 5000 + b"\r\n\r\n",
            [*HEADERS, (b"x-b", b"b" * 5000)],
            id="long",
        ),
        pytest.param(
            BEFORE,
            b"\r\nTransfer-Encoding: chunked" + AFTER,
            [*HEADERS[:3], (b"transfer-encoding", b"chunked"), HEADERS[3]],
            id="chunked",
        ),
        pytest.param(
            BEFORE,
            b"\r\nContent-Length: 57" + AFTER,
            [*HEADERS[:3], *HEADERS[2:]],
            id="two lengths",
        ),
    ],
)
def test_what_could_be_read_in_two_ways_is_not_known(before, after, headers):
    """Only a head whose lines are as they were read, with one length that its digits end."""
    raw = before + b"57" + after
    assert knowing(raw, headers).find(raw) is None


def test_without_a_length_there_is_nothing_to_know():
    """The end of the body is somewhere else then."""
    raw = b"POST / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert knowing(raw, [(b"host", b"a")]).find(raw) is None


def test_a_head_is_known_from_the_second_time_on():
    """With some clients none comes twice, and to look at each of them would be for nothing."""
    raw = BEFORE + b"57" + AFTER
    assert knowing(raw, HEADERS, times=1).find(raw) is None


def test_heads_that_never_come_again_displace_none():
    """As of clients that write a number of their own into each."""
    raw = BEFORE + b"57" + AFTER
    heads = knowing(raw, HEADERS)
    for number in range(3000):
        other = b"%d" % number
        heads.learn(raw.replace(b"\xff", other), Head([*HEADERS[:3], (b"x-a", other)]), "")
    assert heads.find(raw) is not None


def test_many_heads_take_no_more_than_so_much_room():
    """When there are too many, all are forgotten, and those that come again are known again."""
    raw = BEFORE + b"57" + AFTER
    heads = knowing(raw, HEADERS)
    for number in range(1000):
        other = b"%d" % number
        head = Head([*HEADERS[:3], (b"x-a", other)])
        for _ in range(2):
            heads.learn(raw.replace(b"\xff", other), head, "")
    assert heads.find(raw) is None
    for _ in range(2):
        heads.learn(raw, Head(HEADERS), "")
    assert heads.find(raw) is not None
