"""Real servers, and what each of them is to answer: Python's own, nginx, llama.cpp, the fake."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from farebox.children import MODEL_COMMAND
from farebox.core.call import Headers
from farebox.local.model import MODEL_ID
from tests.fakes.upstream import FakeUpstream
from tests.upstream.certificates import AUTHORITY
from tests.upstream.pythons_server import IDLE_CLOSE_S

KEY = "a-key-of-the-test"
JSON = (b"content-type", b"application/json")
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
NGINX_CALLS = 20  # on one connection
LLAMA_CALLS = 100  # the same, as llama.cpp's heads say
_START_LIMIT_S = 60.0


@dataclass(frozen=True)
class Sample:
    """A request, and what is certain of its answer."""

    framing: str  # length | chunked | close
    path: str
    is_right: Callable[[bytes], bool]
    body: bytes = b""
    method: str = "POST"
    headers: Headers = (JSON,)
    status: int = 200
    keeps: bool = True  # the server keeps the connection after it


@dataclass(frozen=True)
class Served:
    """A server that runs."""

    port: int
    samples: tuple[Sample, ...]  # the first and the last are quick
    most_calls: int | None = None  # that it takes on one connection
    echo: str | None = None  # the path where it says back what it was sent
    is_tls: bool = False  # the wire to it speaks TLS

    @property
    def kept(self) -> Sample:
        """A sample whose connection is kept."""
        return next(sample for sample in self.samples if sample.keeps)


def _echo(framing: str, path: str, size: int) -> Sample:
    body = b"0123456789" * (size // 10)
    return Sample(framing, path, lambda got: got == body, body, keeps=framing != "close")


@contextlib.contextmanager
def _process(
    command: list[str], stdout: int | None = None, stderr: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def _wait_until(is_ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    end_s = time.monotonic() + _START_LIMIT_S
    while not is_ready():
        assert process.poll() is None, "the server has ended"
        assert time.monotonic() < end_s, "the server does not answer"
        time.sleep(0.02)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _is_loaded(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@pytest.fixture(scope="session")
def pythons_ports() -> Iterator[tuple[int, int]]:
    """Those of http.server and of a server on asyncio's streams (see pythons_server.py)."""
    script = str(Path(__file__).with_name("pythons_server.py"))
    with _process([sys.executable, script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        plain, rare = process.stdout.readline().split()
        yield int(plain), int(rare)


@pytest.fixture(scope="session")
def pythons(pythons_ports: tuple[int, int]) -> Served:
    """http.server."""
    samples = (
        _echo("length", "/length", 10),
        _echo("length", "/length", 3_000_000),
        _echo("chunked", "/chunked", 100_000),
        _echo("close", "/close", 100_000),
        # Its error pages end with the connection, whatever length they say.
        Sample(
            "close", "/none", lambda got: b"nothing here" in got, b"", "GET", (), 404, keeps=False
        ),
    )
    return Served(pythons_ports[0], samples, echo="/length")


@pytest.fixture(scope="session")
def pythons_tls(pythons: Served) -> Served:
    """The same over TLS."""
    return replace(pythons, is_tls=True)


@pytest.fixture(scope="session")
def pythons_streams(pythons_ports: tuple[int, int]) -> Served:
    """asyncio's streams: interim heads, chunk extensions, trailers."""
    samples = (_echo("chunked", "/", 10), _echo("chunked", "/", 1_000_000))
    return Served(pythons_ports[1], samples)


_NGINX_CONFIG = """
daemon off; master_process off; worker_processes 1; pid {dir}/nginx.pid; error_log stderr error;
events {{ worker_connections 256; }}
http {{
  access_log off; default_type text/plain;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  client_max_body_size 64m; keepalive_timeout {idle_ms}ms; keepalive_requests {calls};
  server {{
    listen 127.0.0.1:{port};
    location = /hello {{ return 200 "hello"; }}
    location /files/ {{ root {dir}; }}
    location / {{
      proxy_pass http://127.0.0.1:{behind}; proxy_http_version 1.1; proxy_set_header connection "";
      proxy_buffering off; proxy_request_buffering off;
    }}
    location = /unframed/chunked {{
      chunked_transfer_encoding off; proxy_pass http://127.0.0.1:{behind};
    }}
  }}
  server {{
    listen 127.0.0.1:{tls_port} ssl; ssl_protocols TLSv1.3; keepalive_requests 1;
    ssl_certificate {dir}/chain.pem; ssl_certificate_key {dir}/key.pem; ssl_session_cache none;
    location / {{ return 200 "$ssl_protocol $ssl_session_reused"; }}
  }}
}}
"""


@pytest.fixture(scope="session")
def nginx_ports(
    tmp_path_factory: pytest.TempPathFactory, pythons_ports: tuple[int, int]
) -> Iterator[tuple[int, int]]:
    """Those of nginx without and with TLS. In front of http.server, beside files of its own."""
    if NGINX is None:
        pytest.skip("nginx is not installed; the contract holds for the other servers")
    folder, (port, tls_port) = tmp_path_factory.mktemp("nginx"), (_free_port(), _free_port())
    (folder / "files").mkdir()
    (folder / "files" / "big").write_bytes(b"0123456789" * 800_000)
    leaf = AUTHORITY.issue_cert("localhost")
    (folder / "chain.pem").write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "nginx.conf").write_text(
        _NGINX_CONFIG.format(
            dir=folder,
            port=port,
            tls_port=tls_port,
            behind=pythons_ports[0],
            idle_ms=int(IDLE_CLOSE_S * 1000),
            calls=NGINX_CALLS,
        )
    )
    command = [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    with _process(command) as process:
        _wait_until(lambda: _listens(tls_port), process)
        yield port, tls_port


@pytest.fixture(scope="session")
def nginx(nginx_ports: tuple[int, int]) -> Served:
    """nginx: its own words, a file, and a server behind it."""
    samples = (
        Sample("length", "/hello", lambda got: got == b"hello"),
        Sample("length", "/files/big", lambda got: len(got) == 8_000_000, b"", "GET"),
        _echo("length", "/length", 3_000_000),
        _echo("chunked", "/chunked", 1_000_000),
        _echo("close", "/unframed/chunked", 100_000),
        Sample("length", "/files/none", lambda got: b"404" in got, b"", "GET", (), 404),
    )
    return Served(nginx_ports[0], samples, NGINX_CALLS, echo="/length")


def _chat(**more: object) -> bytes:
    said = [{"role": "user", "content": "say: one two"}]
    return json.dumps({"model": MODEL_ID, "messages": said, "max_tokens": 2, **more}).encode()


def _is_chat(got: bytes) -> bool:
    return bool(json.loads(got)["choices"][0]["message"]["content"])


def _is_stream(got: bytes) -> bool:
    events = got.split(b"\n\n")
    return all(event.startswith(b"data: ") for event in events[:-1]) and events[-2:] == [
        b"data: [DONE]",
        b"",
    ]


def _chats(path: str, key: str, *, keeps: bool) -> tuple[Sample, ...]:
    headers = (JSON, (b"authorization", b"Bearer " + key.encode()))
    return (
        Sample("length", path, _is_chat, _chat(), headers=headers),
        Sample("chunked", path, _is_stream, _chat(stream=True), headers=headers, keeps=keeps),
        Sample("length", path, lambda got: b"error" in got, _chat(), status=401, keeps=keeps),
    )


@pytest.fixture(scope="session")
def llama() -> Iterator[Served]:
    """llama.cpp's own server with the small model: answers, streams, a refusal."""
    port = _free_port()
    with _process([*MODEL_COMMAND], stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps({"port": port, "api_key": KEY}).encode() + b"\n")
        process.stdin.flush()
        _wait_until(lambda: _is_loaded(port), process)
        health = Sample("length", "/health", lambda got: b"ok" in got, b"", "GET")
        # It closes the connection behind a stream without having said so, behind an error with.
        chats = _chats("/v1/chat/completions", KEY, keeps=False)
        yield Served(port, (health, *chats), LLAMA_CALLS)


@pytest.fixture(scope="session")
def fake(fake_upstream_server: FakeUpstream) -> Served:
    """The fake of tests/fakes, as the persona `local` while it behaves."""
    url, key = fake_upstream_server.base_url("local"), fake_upstream_server.key("local")
    path = "/" + url.partition("://")[2].partition("/")[2] + "/chat/completions"
    return Served(fake_upstream_server.port, _chats(path, key, keeps=True))
