"""How an upstream's failure is put into words. When there is one, the other files here decide."""

from __future__ import annotations

from farebox.errors import UpstreamFailed

# reason -> (status, sentence). The caller may see these, so none names a URL, a host or a key.
_FAILURES: dict[str, tuple[int, str]] = {
    "connect": (502, "The upstream could not be reached."),
    "dns": (502, "The upstream's name could not be resolved."),
    "tls": (502, "No secure connection to the upstream could be made."),
    "proxy": (502, "The proxy did not open a way to the upstream."),
    "connect_timeout": (504, "The upstream could not be reached in time."),
    "first_byte_timeout": (504, "The upstream did not begin its answer in time."),
    "idle_timeout": (504, "The upstream fell silent in the middle of its answer."),
    "closed": (502, "The upstream closed the connection without an answer."),
    "reset": (502, "The upstream broke off the connection."),
    "truncated": (502, "The upstream's answer broke off before its end."),
    "bad_http": (502, "The upstream's answer is not valid HTTP."),
    "bad_encoding": (502, "The upstream's answer is compressed in a way that cannot be read."),
    "too_large": (502, "The upstream's answer is larger than the gateway takes."),
    "aborted": (502, "The call to the upstream was dropped."),
}


def failed(reason: str, cause: BaseException | None = None) -> UpstreamFailed:
    """The error for one of the reasons above; `cause` is for the log."""
    status, sentence = _FAILURES[reason]
    failure = UpstreamFailed(sentence, reason=reason, status=status, code="upstream_unreachable")
    failure.__cause__ = cause
    return failure
