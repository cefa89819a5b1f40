"""TLS towards vendors: who is trusted, and sessions that are resumed. Dialling is dial.py's."""

from __future__ import annotations

import asyncio
import ssl
import sys
from typing import NamedTuple, Self

RESUME_S = 3600.0  # after a full handshake; then the host has to show its certificate again


class _Session(NamedTuple):
    session: ssl.SSLSession
    verified_s: float  # loop time of the full handshake that it goes back to


class ClientContext(ssl.SSLContext):
    """Verifies certificates and host names; connections resume the last session of their host.

    That spares both sides the server's certificates and signature.
    """

    # What was received and is to be decrypted; what was encrypted and is to be sent. Whoever puts
    # something there takes it out before another connection has its turn.
    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO
    _is_trusting: bool
    _resume_s: float
    _sessions: dict[str, _Session]  # by host: a few, those of the operator's channels

    def __new__(cls, *, resume_s: float = RESUME_S) -> Self:
        """Trust the system's authorities, or those of SSL_CERT_FILE and SSL_CERT_DIR."""
        context = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        if sys.version_info >= (3, 13):  # as ssl.create_default_context() does from there on
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
        context.set_alpn_protocols(["http/1.1"])
        context.incoming, context.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context._is_trusting = False
        context._resume_s = resume_s
        context._sessions = {}
        return context

    def wrap(self, host: str) -> ssl.SSLObject:
        """TLS to this host between the two buffers, with its session if there is one to resume."""
        if not self._is_trusting:
            # Some 20 ms, once: not at the start, since a gateway may have no channel with TLS.
            self.load_default_certs()
            self._is_trusting = True
        known = self._sessions.get(host)
        is_fresh = known is not None and _now_s() < known.verified_s + self._resume_s
        session = known.session if known is not None and is_fresh else None
        return self.wrap_bio(self.incoming, self.outgoing, server_hostname=host, session=session)

    def keep_session(self, tls: ssl.SSLObject) -> None:
        """Resume the session of this connection in the next to its host. In TLS 1.3 it is there
        only when the server's first bytes have been read (RFC 8446, 4.6.1).
        """
        session, host = tls.session, str(tls.server_hostname)
        known = self._sessions.get(host) if tls.session_reused else None
        if session is None or (tls.session_reused and known is None):  # forgotten meanwhile
            return
        verified_s = _now_s() if known is None else known.verified_s
        self._sessions[host] = _Session(session, verified_s)

    def forget_session(self, host: str) -> None:
        """A handshake with the host failed, for which its session may be the reason."""
        self._sessions.pop(host, None)


def keep_session(transport: asyncio.BaseTransport) -> None:
    """Have the next connection to the same host resume the session of this one, if it is TLS."""
    tls = transport.get_extra_info("ssl_object")
    if tls is not None and isinstance(tls.context, ClientContext):
        tls.context.keep_session(tls)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
