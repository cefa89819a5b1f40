"""Python's own servers as a process: http.server, and asyncio's streams with rarer framings.

Prints the two ports, and serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import sys
import threading

IDLE_CLOSE_S = 0.5  # then http.server closes a connection


class Echo(http.server.BaseHTTPRequestHandler):
    """Says back what it was sent, framed as the path says."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_CLOSE_S
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """Echo, in the way that the last part of the path names."""
        self.connection.settimeout(None)  # the limit is for the time between calls
        body = self.rfile.read(int(self.headers["content-length"]))
        framing = self.path.rpartition("/")[2]
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        if framing == "chunked":
            self.send_header("transfer-encoding", "chunked")
            body = b"".join(
                b"%x\r\n%b\r\n" % (len(part), part)
                for part in (body[i : i + 10_000] for i in range(0, len(body), 10_000))
            )
            body += b"0\r\n\r\n"
        elif framing == "close":
            self.send_header("connection", "close")
            self.close_connection = True
        else:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.connection.settimeout(IDLE_CLOSE_S)

    def do_GET(self) -> None:
        """Nothing is there."""
        self.send_error(404, "nothing here")

    def log_message(self, format: str, *args: object) -> None:
        """Keep still."""


async def echo_rarely(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Echo with interim heads before it, extensions in its chunks, and trailers behind it."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
            writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-t\r\n\r\n")
            writer.write(b'%X;a="b;c";d\r\n%b\r\n0\r\nx-t: 1\r\n\r\n' % (length, body))
            await writer.drain()
    writer.close()


async def main() -> None:
    """Serve until standard input ends."""
    plain = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    plain.daemon_threads = True
    threading.Thread(target=plain.serve_forever, daemon=True).start()
    rare = await asyncio.start_server(echo_rarely, "127.0.0.1", 0)
    sys.stdout.write(f"{plain.server_port} {rare.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
