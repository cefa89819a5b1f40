"""Errors in Anthropic's shape: `{"type": "error", "error": {"type", "message"}, "request_id"}`.

Sources: Anthropic's documentation, "Errors"; the type `ErrorType` of its SDK for Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from farebox.dialects.messages_shell import event
from farebox.dialects.values import Object
from farebox.errors import FareboxError

_OUT_OF_CREDIT = "insufficient_quota"
_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
# The tool runner of the SDKs, told so, sends the whole conversation each time instead.
_DETAILS: Final[Mapping[str, Object]] = {"thread": {"error_code": "thread_unsupported_request"}}
# Claude Code shortens a conversation when it reads these words.
_TOO_LONG = "prompt is too long"


def status_of(error: FareboxError) -> int:
    """The HTTP status, where Anthropic's differs from OpenAI's too."""
    if error.type == _OUT_OF_CREDIT:
        return 402  # also where it is 429 for others: these clients wait, and try again, on 429
    return 529 if error.status == 503 else error.status


def error_object(error: FareboxError, request_id: str) -> Object:
    """The error as these clients read it. It has no place for a parameter's name, which therefore
    stands before a sentence that does not have it.
    """
    status = status_of(error)
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    told: Object = {"type": kind, "message": _message(error)}
    details = _DETAILS.get(error.param or "")
    if details is not None:
        told["details"] = details
    return {"type": "error", "error": told, "request_id": request_id}


def error_body(error: FareboxError, request_id: str) -> bytes:
    """The body of an error answer."""
    return msgspec.json.encode(error_object(error, request_id))


def error_event(error: FareboxError, request_id: str) -> bytes:
    """The event that ends a stream which failed: the SDKs raise on it, and nothing follows."""
    found = error_object(error, request_id)
    return event("error", error=found["error"], request_id=request_id)


def _message(error: FareboxError) -> str:
    before = _TOO_LONG if error.code == "context_length_exceeded" else error.param or ""
    if not before or before.casefold() in error.message.casefold():
        return error.message
    return f"{before}: {error.message}"
