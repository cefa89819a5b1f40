"""Which form a request's answers have where that hangs on the route: errors, and the id's headers.

What an error looks like is its dialect's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from farebox.core.call import Headers
from farebox.dialects import chat, messages_errors
from farebox.errors import FareboxError

ANTHROPIC_VERSION = b"anthropic-version"  # which every client of Anthropic's sends
_ANTHROPICS = "/v1/messages"  # always in its form, and everything below it
_SHARED = "/v1/models"  # in the form of whoever asks


@dataclass(frozen=True, slots=True)
class Form:
    """The form of one request's answers."""

    status: Callable[[FareboxError], int]
    body: Callable[[FareboxError, str], bytes]  # of an error, under a request id
    id_headers: tuple[bytes, ...]

    def ids(self, request_id: str) -> Headers:
        """The headers that bear a request's id."""
        value = request_id.encode()
        return tuple([(name, value) for name in self.id_headers])


def _status(error: FareboxError) -> int:
    return error.status


def _body(error: FareboxError, _request_id: str) -> bytes:
    return chat.error_body(error)


OPENAI = Form(_status, _body, (b"x-request-id",))
ANTHROPIC = Form(
    messages_errors.status_of, messages_errors.error_body, (b"x-request-id", b"request-id")
)


def form_of(path: str, headers: Iterable[tuple[bytes, bytes]]) -> Form:
    """The form for a request of this path, without slashes too many, and with these headers."""
    if _is_within(path, _ANTHROPICS):
        return ANTHROPIC
    if _is_within(path, _SHARED) and any(name == ANTHROPIC_VERSION for name, _ in headers):
        return ANTHROPIC
    return OPENAI


def _is_within(path: str, root: str) -> bool:
    return path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/")
