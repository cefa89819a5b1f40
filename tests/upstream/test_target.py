"""URLs taken apart and heads written: what is refused, and what goes out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.upstream.target import (
    OURS,
    Origin,
    Target,
    parse_url,
    request_head,
    request_line_rest,
)


@pytest.mark.parametrize(
    ("url", "target", "host"),
    [
        ("http://a.example", Target(Origin("http", "a.example", 80), "/"), "a.example"),
        ("https://A.example/x", Target(Origin("https", "a.example", 443), "/x"), "a.example"),
        ("https://a:8443/x?y=%2F#z", Target(Origin("https", "a", 8443), "/x?y=%2F"), "a:8443"),
        ("http://[::1]:81/", Target(Origin("http", "::1", 81), "/"), "[::1]:81"),
        ("https://[::1]/", Target(Origin("https", "::1", 443), "/"), "[::1]"),
    ],
)
def test_a_url_is_taken_apart(url, target, host):
    """The port of the scheme is not named in Host."""
    assert parse_url(url) == target
    assert target.origin.host_header == host


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example/",
        "a.example/v1",
        "https:///v1",
        "https://user@a.example/",
        "https://user:secret@a.example/",
        "https://a.example/a b",
        "https://a.example/\r\nx: y",
        "https://a.example/\x00",
        "https://a.example/é",
        "https://é.example/",
        "https://a.example:99999/",
        "https://a.example:0/",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_being_repeated(url):
    """It may hold a secret."""
    with pytest.raises(ValueError, match=r"^[^@]+$") as caught:
        parse_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", [*sorted(OURS), b"Host", b"CONTENT-LENGTH"])
def test_headers_that_the_client_writes_itself_are_refused(name):
    """Two of them could be read differently by two parties."""
    with pytest.raises(ValueError, match="leave it out"):
        request_head("POST", b" / HTTP/1.1\r\n", ((name, b"x"),), 0)


@pytest.mark.parametrize("value", [b"a\r\nx: y", b"a\nb", b"a\rb", b"a\0b"])
def test_a_header_value_cannot_begin_another_line(value):
    """And the error does not repeat it."""
    with pytest.raises(ValueError, match="x-a") as caught:
        request_head("POST", b" / HTTP/1.1\r\n", ((b"x-a", value),), 0)
    assert repr(value)[2:-1] not in str(caught.value)


@pytest.mark.parametrize("name", [b"", b"a b", b"a:b", b"a\r\nb", b"\xff"])
def test_a_header_name_is_a_token(name):
    """RFC 9110, 5.6.2."""
    with pytest.raises(ValueError, match="not a header name"):
        request_head("POST", b" / HTTP/1.1\r\n", ((name, b"x"),), 0)


@pytest.mark.parametrize("method", ["HEAD", "CONNECT", "post", "A B", "", "GET\r\n"])
def test_methods_that_cannot_be_sent_are_refused(method):
    """An answer to HEAD or CONNECT is framed unlike all others."""
    with pytest.raises(ValueError, match="cannot be sent"):
        request_head(method, b" / HTTP/1.1\r\n", (), 0)


def test_only_a_get_goes_without_a_content_length():
    """An empty POST says that it is empty."""
    rest = request_line_rest(parse_url("http://a/b"), absolute=False)
    start = b" /b HTTP/1.1\r\nhost: a\r\naccept-encoding: identity\r\n"
    assert request_head("GET", rest, (), 0) == b"GET" + start + b"\r\n"
    assert request_head("POST", rest, (), 0) == b"POST" + start + b"content-length: 0\r\n\r\n"


@given(
    headers=st.lists(st.tuples(st.binary(max_size=5), st.binary(max_size=10)), max_size=3).map(
        tuple
    )
)
def test_a_head_has_exactly_the_lines_asked_for(headers):
    """Or it is refused: no bytes make one header into two, or end the head early."""
    try:
        head = request_head("POST", b" / HTTP/1.1\r\n", headers, 1)
    except ValueError:
        return
    assert head.count(b"\r\n") == head.count(b"\n") == head.count(b"\r") == len(headers) + 3
    assert head.index(b"\r\n\r\n") == len(head) - 4
