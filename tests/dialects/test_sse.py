"""Server-sent events: whole events of any pieces, no byte changed or lost, nothing read twice."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.dialects.sse import Event, EventTooLarge, Splitter, event, event_data
from tests.dialects.feeding import cut

MIB = 1024 * 1024
BOM = b"\xef\xbb\xbf"
# Of these pieces every odd sequence of line ends is made.
pieces = st.lists(
    st.sampled_from(
        [
            *(b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b"data", b":", b" ", b"data: a"),
            *(b"data:b", b": ping", b"event: x", b"data", b"\xff", BOM, b"{}", b"\0"),
        ]
    ),
    max_size=40,
).map(b"".join)
bodies = st.binary(max_size=200) | pieces


@st.composite
def cut_bodies(draw: st.DrawFn, whole: st.SearchStrategy[bytes] = bodies) -> list[bytes]:
    """A body in pieces, some of them empty."""
    return draw(cut(draw(whole), 20))


def split(parts: list[bytes], limit_bytes: int = MIB) -> list[Event]:
    """The events of a stream that arrives in these parts."""
    splitter = Splitter(limit_bytes)
    events = [each for part in parts for each in splitter.feed(part)]
    return events + splitter.close()


def reference(body: bytes) -> list[bytes | None]:
    """The data of each event, read line by line as the standard says; a last event without a
    blank line counts, unless it is white space.
    """
    datas: list[bytes | None] = []
    lines: list[bytes] = []
    # A line end or the end of the text ends a line; what is there is kept.
    for line in re.findall(rb"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+\Z", body):
        text = line.rstrip(b"\r\n")
        if text or not lines:  # an empty line in front of an event belongs to it
            lines.append(text)
            continue
        datas.append(_data_of(lines, first=not datas))
        lines = []
    if b"".join(lines).strip():
        datas.append(_data_of(lines, first=not datas))
    return datas


def _data_of(lines: list[bytes], *, first: bool) -> bytes | None:
    lines = [lines[0].removeprefix(BOM) if first else lines[0], *lines[1:]]
    values = [
        line.partition(b":")[2].removeprefix(b" ")
        for line in lines
        if line.partition(b":")[0] == b"data"
    ]
    return b"\n".join(values) if values else None


@given(cut_bodies())
def test_no_byte_is_lost_or_changed(parts: list[bytes]) -> None:
    """Events in a row are the stream; only white space behind the last one may differ."""
    body = b"".join(parts)
    whole = b"".join(raw for raw, _ in split(parts))
    assert whole.rstrip() == body.rstrip()
    if body.endswith(b"\n\n"):
        assert whole == body or not body[len(whole) :].strip()


@given(cut_bodies())
def test_cuts_make_no_difference(parts: list[bytes]) -> None:
    """The same events whether a stream comes whole, in pieces or byte by byte."""
    body = b"".join(parts)
    whole = split([body])
    assert split(parts) == whole
    assert split([bytes([byte]) for byte in body]) == whole


@given(bodies)
def test_events_are_those_of_a_reader_line_by_line(body: bytes) -> None:
    """With any mix of LF, CRLF and CR."""
    read = [data for _, data in split([body]) if data is not None]
    assert read == [data for data in reference(body) if data is not None]


@pytest.mark.parametrize(
    ("body", "datas"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data:a\n\ndata:  b\n\n", [b"a", b" b"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a\rdata: b\n\n", [b"a\nb"]),
        (b"data: {\ndata: }\nid: 7\n\n", [b"{\n}"]),
        (b"data\n\ndata:\n\n", [b"", b""]),
        (b": ping\n\nevent: x\n\n\n\ndata: a\n\n", [None, None, None, b"a"]),
        (b"\n\n\ndata: a\n\n", [None, b"a"]),
        (BOM + b"data: a\n\n" + BOM + b"data: b\n\n", [b"a", None]),
        (BOM + b": first\n\ndata: a\n\n", [None, b"a"]),
        (b"event: x\ndata: a\nretry: 3\nfoo: b\n\n", [b"a"]),
        (b" data: a\n\n", [None]),
        (b"data: a", [b"a"]),
        (b"data: a\n", [b"a"]),
        (b"data: a\r\n\r", [b"a"]),
        (b"data: a\n\n\n", [b"a"]),
        (b"data: a\n\n  \r\n", [b"a"]),
        (b"", []),
    ],
)
def test_data_are_read_as_the_standard_says(body: bytes, datas: list[bytes | None]) -> None:
    """One space after the colon is dropped, several data lines are joined, comments have none."""
    assert [data for _, data in split([body])] == datas


def test_a_last_event_without_a_blank_line_gets_one() -> None:
    """Another event may be sent behind it."""
    assert split([b"data: a\n\ndata: b"]) == [(b"data: a\n\n", b"a"), (b"data: b\n\n", b"b")]
    assert split([b"data: b\r\n"]) == [(b"data: b\n\n", b"b")]


def test_a_line_of_five_megabytes_comes_whole() -> None:
    """In reads of 64 KiB, with its neighbours."""
    big = b"data: " + b"x" * 5_000_000 + b"\n\n"
    body = b"data: a\n\n" + big + b"data: b\n\n"
    parts = [body[at : at + 65_536] for at in range(0, len(body), 65_536)]
    assert [raw for raw, _ in split(parts, 8 * MIB)] == [b"data: a\n\n", big, b"data: b\n\n"]


def test_an_event_above_the_limit_ends_the_stream() -> None:
    """The sentence names the limit; events of the usual size go on below it."""
    splitter = Splitter(1000)
    for _ in range(100):
        assert len(splitter.feed(b"data: " + b"x" * 980 + b"\n\n")) == 1
    splitter.feed(b"x" * 1000)
    with pytest.raises(EventTooLarge, match="larger than 1000 bytes"):
        splitter.feed(b"x")


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_a_long_event_is_not_searched_again_for_each_byte_of_it(line_end: bytes) -> None:
    """A third of a megabyte, byte by byte: searched anew each time it would take minutes."""
    splitter = Splitter(MIB)
    size = 300_000
    for byte in (b"x",) * size:
        assert splitter.feed(byte) == []
    [(raw, _)] = splitter.feed(line_end * 2 + b"y")
    assert len(raw) == size + 2 * len(line_end)


class _Counting(bytes):
    """Bytes that count how many of them were looked at."""

    looked_at = 0

    def find(self, sub, start=0, end=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        stop = len(self) if end is None else min(end, len(self))
        found = super().find(sub, start, stop)
        _Counting.looked_at += (found if found >= 0 else stop) - start
        return found


@pytest.mark.parametrize("blank", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_many_small_events_in_one_read_are_not_searched_to_its_end(blank: bytes) -> None:
    """Each event looks ahead a bounded way, whatever ends its lines."""
    _Counting.looked_at = 0
    count = 20_000
    events = Splitter(MIB).feed(_Counting((b"data: a" + blank) * count))
    assert len(events) >= count - 1  # the last CR may be half a CRLF
    assert _Counting.looked_at <= 5000 * count


@given(st.lists(st.binary(max_size=20), min_size=1).map(b"\n".join))
def test_an_event_made_is_read_as_its_data(data: bytes) -> None:
    """Lines of the data become lines of the event."""
    data = data.replace(b"\r", b"")
    assert event_data(event(data)) == data
    assert split([event(data)]) == [(event(data), data)]
