"""Heads that are known: which may be, and that no other is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.server.heads import Head, known_head

URL = b"/v1/chat/completions"
BEFORE = b"POST %b HTTP/1.1\r\nHost: a\r\nAuthorization:  Bearer b \r\nContent-Length: " % URL
AFTER = b"\r\nX-A: \xff\r\n\r\n"
HEADERS = [
    (b"host", b"a"),
    (b"authorization", b"Bearer b"),
    (b"content-length", b"57"),
    (b"x-a", b"\xff"),
]
KNOWN = known_head(BEFORE + b"57" + AFTER + b"body\r\n\r\n", URL, Head(HEADERS))


@given(st.integers(0, 10**12 - 1), st.binary(max_size=20))
def test_another_length_is_read_from_a_known_head(length, body):
    """With where the body begins; what the head says is the same but for it."""
    assert KNOWN is not None
    data = b"%b%d%b" % (BEFORE, length, AFTER)
    assert KNOWN.begins(data + body) == (length, len(data))
    assert KNOWN.head.fields == {b"host": b"a", b"authorization": b"Bearer b", b"x-a": b"\xff"}
    assert (KNOWN.head.length_bytes, KNOWN.url) == (None, URL)


@pytest.mark.parametrize(
    "digits",
    [
        b"",
        b" ",
        b"+5",
        b"-5",
        b"5 ",
        b"5,5",
        b"0x5",
        b"5\r\n",
        b"\xd9\xa5",
        b"1" * 13,
        b"5\n",
        b"5\0",
    ],
)
def test_what_is_no_length_is_left_to_the_parser(digits):
    """Which refuses it, or knows better."""
    assert KNOWN is not None
    assert KNOWN.begins(BEFORE + digits + AFTER) is None


@given(st.integers(0, len(BEFORE + AFTER) - 1), st.integers(1, 255))
def test_a_head_with_any_other_byte_is_not_the_known_one(at, change):
    """Nor is one that has not come whole."""
    assert KNOWN is not None
    around = bytearray(BEFORE + AFTER)
    around[at] ^= change
    before, after = bytes(around[: len(BEFORE)]), bytes(around[len(BEFORE) :])
    found = KNOWN.begins(before + b"57" + after)
    assert found is None
    assert KNOWN.begins((BEFORE + b"57" + AFTER)[: at + 1]) is None


@pytest.mark.parametrize(
    ("before", "after", "headers"),
    [
        pytest.param(BEFORE, b" " + AFTER, HEADERS, id="space behind the length"),
        pytest.param(BEFORE, AFTER, HEADERS[:-1], id="a line that was not read"),
        pytest.param(BEFORE, AFTER, [*HEADERS, HEADERS[0]], id="one too many"),
        pytest.param(BEFORE, AFTER, [*HEADERS[:-1], (b"x-a", b"b")], id="read otherwise"),
        pytest.param(BEFORE, AFTER[:-2], HEADERS, id="not whole"),
        pytest.param(b"\r\n" + BEFORE, AFTER, HEADERS, id="an empty line before"),
        pytest.param(BEFORE, AFTER[:-2] + b"X-B: " + b"b" * 5000 + b"\r\n\r\n", HEADERS, id="long"),
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
def test_what_could_be_read_in_two_ways_is_not_kept(before, after, headers):
    """Only a head whose lines are as they were read, with one length that its digits end."""
    assert known_head(before + b"57" + after, URL, Head(headers)) is None


def test_without_a_length_there_is_nothing_to_know():
    """The end of the body is somewhere else then."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert known_head(head, b"/", Head([(b"host", b"a")])) is None
