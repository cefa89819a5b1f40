"""nginx: the plain reverse proxy that everything is compared with, and the mock's https side.

Debian's or any other that is on the PATH, with one worker. It logs no calls.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from bench import proc
from bench.servers import Running, Target, free_port, is_open, start

_NGINX = shutil.which("nginx")
_OPENSSL = shutil.which("openssl")

_MAIN = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_max_body_size 64m;
  client_body_buffer_size 1m;
  keepalive_requests 1000000000;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_buffering off;
{parts}
}}
"""

_PROXY = """
  upstream {name} {{ server 127.0.0.1:{upstream}; keepalive 2048; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096{listen_more};
    {server_more}
    location / {{ proxy_pass {scheme}://{name}; {location_more} }}
  }}
"""


def version() -> str | None:
    """Nginx's version; None if there is none."""
    if _NGINX is None:
        return None
    command = [_NGINX, "-v"]
    done = subprocess.run(command, capture_output=True, check=True, text=True)  # noqa: S603
    return done.stderr.strip().rpartition("/")[2]


def why_no_https() -> str:
    """Why the rows about an https upstream are left out; empty if they are not."""
    if _NGINX is None:
        return "nginx is not on the PATH, and the mock speaks https through it"
    if _OPENSSL is None:
        return "openssl is not on the PATH, which makes the certificate"
    return ""


def make_certificate(folder: Path) -> Path:
    """A certificate for localhost that signs itself, and its key beside it."""
    assert _OPENSSL is not None
    certificate = folder / "certificate.pem"
    command = [
        _OPENSSL,
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
    ]
    command += ["-nodes", "-keyout", str(folder / "key.pem"), "-out", str(certificate)]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 (made of our own words)
    return certificate


class Nginx:
    """The proxy under test; with the port of an https upstream it has a second door for that."""

    def __init__(
        self, folder: Path, upstream: int, tls_upstream: int = 0, authority: Path | None = None
    ) -> None:
        self._folder = folder
        self._port = free_port()
        self._tls_port = free_port() if tls_upstream else 0
        parts = _part("mock", "http", upstream, self._port)
        if tls_upstream:
            # As a gateway does it: connections are kept, the certificate and its name verified.
            more = "proxy_ssl_session_reuse on; proxy_ssl_server_name on; proxy_ssl_verify on;"
            more += f" proxy_ssl_name localhost; proxy_ssl_trusted_certificate {authority};"
            parts += _part("tlsmock", "https", tls_upstream, self._tls_port, location_more=more)
        _write(folder, parts)

    def start(self) -> tuple[Running, Target]:
        """Run it."""
        running, worker = _run(self._folder, self._port)
        target = Target("nginx", self._port, "none", (running.process.pid,), worker)
        target.tls_port = self._tls_port
        return running, target


class Front:
    """The https side of the mock: another nginx, which belongs to the load and not to what is
    measured.
    """

    def __init__(self, folder: Path, upstream: int, certificate: Path) -> None:
        self._folder = folder
        self.port = free_port()
        key = certificate.with_name("key.pem")
        more = f"ssl_certificate {certificate}; ssl_certificate_key {key};"
        parts = _part("mock", "http", upstream, self.port, listen_more=" ssl", server_more=more)
        _write(folder, parts)

    def start(self) -> Running:
        """Run it."""
        return _run(self._folder, self.port)[0]


def _part(
    name: str,
    scheme: str,
    upstream: int,
    port: int,
    *,
    listen_more: str = "",
    server_more: str = "",
    location_more: str = "",
) -> str:
    return _PROXY.format(
        name=name,
        scheme=scheme,
        upstream=upstream,
        port=port,
        listen_more=listen_more,
        server_more=server_more,
        location_more=location_more,
    )


def _write(folder: Path, parts: str) -> None:
    folder.mkdir()
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder, parts=parts))


def _run(folder: Path, port: int) -> tuple[Running, int]:
    assert _NGINX is not None
    command = [_NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]

    def is_ready(process: subprocess.Popen[bytes]) -> bool:
        # The master listens before it has a worker to answer.
        return is_open(port) and bool(proc.tree(process.pid)[1:])

    running = start(command, folder, is_ready)
    return running, proc.tree(running.process.pid)[1]
