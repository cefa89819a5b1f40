"""What is read from the wire: events as the HTML standard has them, and answers that break off."""

from __future__ import annotations

import socket
import threading

import pytest

from tests.conformance.wire import Event, Gateway, Reply


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"", []),
        (b'event: a\ndata: {"x":1}\n\n', [Event("a", '{"x":1}')]),
        (b"event:a\r\ndata:1\r\ndata: 2\r\n\r\n", [Event("a", "1\n2")]),
        (b": a comment\n\nid: 7\ndata: 1\n\n", [Event("", "1")]),
        (b"event: a\n\ndata: 1\n\n", [Event("", "1")]),
        (b"data: not ended", []),
        ("data: 你好\n\n".encode(), [Event("", "你好")]),
    ],
)
def test_events_are_read_as_browsers_read_them(body: bytes, events: list[Event]) -> None:
    """Comments are nothing, lines of data are joined, an event that is not ended does not count."""
    assert list(Reply(200, "text/event-stream", body).events()) == events


def test_an_answer_that_breaks_off_is_known_as_such() -> None:
    """What came is kept, and told from a whole answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")

        thread = threading.Thread(target=answer)
        thread.start()
        gateway = Gateway(f"http://127.0.0.1:{server.getsockname()[1]}/v1", "sk-fb-x")
        reply = gateway.call("GET", "/responses/x")
        thread.join()
    assert (reply.status, reply.body, reply.is_cut) == (200, b"half", True)
