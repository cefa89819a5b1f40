"""The lines of an answer's head that are kept: each as it would be made anew, and not too many."""

import pytest

from farebox.server import head_lines
from farebox.server.head_lines import FirstLines, line, size_lines


def test_the_first_lines_are_the_status_and_what_the_server_says():
    """In its order; of any status, and of a server that says nothing."""
    first = FirstLines([(b"date", b"today"), (b"server", b"s")])
    for _ in range(2):
        assert first[200] == b"HTTP/1.1 200 OK\r\ndate: today\r\nserver: s\r\n"
        assert first[529] == b"HTTP/1.1 529 \r\ndate: today\r\nserver: s\r\n"
    assert FirstLines([])[404] == b"HTTP/1.1 404 Not Found\r\n"


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"\0", b"a\x7f"])
def test_what_is_no_line_is_refused_each_time(value):
    """Else whoever chose the value could write headers of their own, or an answer."""
    for _ in range(2):
        with pytest.raises(RuntimeError, match="Invalid HTTP header value"):
            line((b"a", value))


def test_figures_do_not_fill_the_memory():
    """There are as many lengths of bodies as bodies."""
    kept: dict = line.__self__  # pyright: ignore[reportFunctionMemberAccess]
    for length in range(3 * head_lines._MOST_LINES):
        assert line((b"content-length", b"%d" % length)) == b"content-length: %d\r\n" % length
        assert len(kept) <= head_lines._MOST_LINES
        assert size_lines[length] == f"{length:x}\r\n".encode()
        assert len(size_lines) <= head_lines._MOST_LINES
