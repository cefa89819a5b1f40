"""What a vendor's error means: reading its many shapes, whose fault it is, what a caller may see.

A caller never sees a credential, an address of an upstream, or that the gateway's own account
with a vendor is in trouble.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final, Literal, cast
from urllib.parse import urlsplit

import msgspec

from farebox.core.channel import Channel
from farebox.core.ports import UpstreamHead
from farebox.errors import UpstreamRefused

Kind = Literal[
    "client",  # the caller's request is wrong; the vendor's words go to them
    "context",  # more tokens than the model takes
    "key",  # our credential
    "balance",  # our account at the vendor
    "model",  # a name or path that the catalogue has wrong
    "rate",
    "overload",
    "timeout",
    "failed",
    "loop",  # a 508: our own request came back
]

MAX_RETRY_AFTER_S: Final = 120  # the official SDKs give up beyond it
_BALANCE_RETRY_AFTER_S = 60
_MAX_MESSAGE_CHARS = 1000
_MAX_READ_BYTES = 256 * 1024

# Source: OpenAI's guide "Error codes", its OpenAPI document (`ResponseErrorCode`), and the codes of
# this gateway, which may be an upstream too.
OPENAI_CODES: Final[Mapping[str, Kind]] = {
    "invalid_api_key": "key",
    "account_deactivated": "key",
    "insufficient_quota": "balance",
    "billing_not_active": "balance",
    "billing_hard_limit_reached": "balance",
    "credit_balance_exhausted": "balance",
    "key_budget_exceeded": "balance",
    "exceeded_current_quota_error": "balance",
    "model_not_found": "model",
    "rate_limit_exceeded": "rate",
    "slow_down": "overload",
    "server_is_overloaded": "overload",
    "context_length_exceeded": "context",
    "exceed_context_size_error": "context",  # llama.cpp
    # Of a failed response: the error has no status there, and no type.
    **dict.fromkeys(
        (
            "invalid_prompt",
            "bio_policy",
            "cyber_policy",
            "misalignment_policy_violation",
            "data_residency_mismatch",
            "image_content_policy_violation",
            "invalid_image",
            "invalid_image_format",
            "invalid_base64_image",
            "invalid_image_url",
            "invalid_image_mode",
            "image_too_large",
            "image_too_small",
            "image_parse_error",
            "image_file_too_large",
            "unsupported_image_media_type",
            "empty_image_file",
            "failed_to_download_image",
            "image_file_not_found",
        ),
        "client",
    ),
    "vector_store_timeout": "timeout",
}

# An error inside an answer has no status: its type must do.
_TYPES: Final[Mapping[str, Kind]] = {
    "invalid_request_error": "client",
    "BadRequestError": "client",
    "authentication_error": "key",
    "permission_error": "key",
    "rate_limit_error": "rate",
    "overloaded_error": "overload",
    "service_unavailable_error": "overload",
    "billing_error": "balance",
    "not_found_error": "model",
    "request_too_large": "client",
    "timeout_error": "timeout",
}

_STATUSES: Final[Mapping[int, Kind]] = {
    400: "client",
    413: "client",
    422: "client",
    401: "key",
    403: "key",
    402: "balance",
    404: "model",
    408: "timeout",
    429: "rate",
    503: "overload",
    504: "timeout",
    508: "loop",
    529: "overload",
}

_CONTEXT = re.compile(
    r"context[ _](length|window|size)|maximum context|prompt (is too long|exceeds max)"
    r"|too many (input )?tokens|input is too long|exceeds? context limit",
    re.IGNORECASE,
)
# Anthropic says so with status 400, as if it were the request's fault.
_BALANCE = re.compile(r"credit balance is too low", re.IGNORECASE)
# llama.cpp answers an image to a model without eyes with status 500, which is no failure of its
# own: another try would end alike.
_UNSUPPORTED = re.compile(r"\b(image|audio|video) input is not supported", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    type: str
    code: str | None
    message: str


_OURS: Final[Mapping[str, _Answer]] = {
    "key": _Answer(
        502,
        "server_error",
        None,
        "The upstream did not accept this gateway's request. Try again later; if it goes on, "
        "tell the gateway's operator.",
    ),
    "balance": _Answer(
        503,
        "service_unavailable_error",
        "server_is_overloaded",
        "No upstream can take calls for this model now. Try again later.",
    ),
    "model": _Answer(
        502,
        "server_error",
        None,
        "The upstream does not offer this model now. Try again later; if it goes on, tell the "
        "gateway's operator.",
    ),
    "rate": _Answer(
        429,
        "rate_limit_error",
        "rate_limit_exceeded",
        "The upstream takes no more calls for this model at the moment. Try again in {wait} s.",
    ),
    "overload": _Answer(
        503,
        "service_unavailable_error",
        "server_is_overloaded",
        "The upstream is overloaded. Try again in {wait} s.",
    ),
    "loop": _Answer(
        508,
        "server_error",
        "loop_detected",
        "The upstream leads back to this gateway. Tell its operator; nothing was charged.",
    ),
    "timeout": _Answer(504, "server_error", None, "The upstream took too long. Try again."),
    "failed": _Answer(502, "server_error", None, "The upstream failed to answer. Try again."),
}


@dataclass(frozen=True, slots=True)
class Said:
    """What an error answer says of itself, as far as it is of the expected types."""

    message: str = ""
    type: str | None = None
    code: str | None = None
    param: str | None = None


def read_body(body: bytes) -> Said:
    """The error in a body of any shape: JSON, JSON behind `data:`, plain text, HTML, nothing."""
    text = body[:_MAX_READ_BYTES].removeprefix(b"\xef\xbb\xbf").strip()
    if text.startswith((b"data:", b"event:")):
        lines = [line.strip() for line in text.splitlines()]
        text = b"".join(line.removeprefix(b"data:") for line in lines if line.startswith(b"data:"))
    try:
        value = cast("object", msgspec.json.decode(text))
    except (msgspec.DecodeError, RecursionError):
        # A page is for a browser; a line of text may be worth showing.
        plain = not text.startswith((b"<", b"{", b"[")) and len(text) <= _MAX_MESSAGE_CHARS
        return Said(text.decode(errors="replace") if plain else "")
    return read_error(value)


def read_error(value: object) -> Said:
    """The error in decoded JSON: `{"error": {…}}` or `"…"`, `{"message"}`, `{"detail"}` …"""
    if isinstance(value, list) and value:
        value = cast("list[object]", value)[0]
    if isinstance(value, str):
        return Said(value)
    if not isinstance(value, dict):
        return Said()
    said = cast("dict[str, object]", value)
    inner = said.get("error")
    if isinstance(inner, dict):
        said = cast("dict[str, object]", inner)
    elif isinstance(inner, str) and not isinstance(said.get("message"), str):
        said = {**said, "message": inner}
    message, param = _message(said)
    if param is not None and " " in param:
        # MiMo puts the sentence that explains its "Param Incorrect" into `param`.
        message, param = (f"{message}: {param}" if message else param), None
    return Said(message, _word(said.get("type")), _word(said.get("code")), param)


def _message(said: Mapping[str, object]) -> tuple[str, str | None]:
    param = _word(said.get("param"))
    for name in ("message", "msg", "detail", "error_msg"):
        value = said.get(name)
        if isinstance(value, str) and value:
            return value, param
        # FastAPI's own validation errors, as vLLM and others give them.
        if isinstance(value, list) and value and isinstance(value[0], dict):
            first = cast("dict[str, object]", value[0])
            where = first.get("loc")
            path = (
                [str(step) for step in cast("list[object]", where)]
                if isinstance(where, list)
                else []
            )
            return str(first.get("msg", "")), ".".join(path[1:]) or param
    return "", param


def _word(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None


def kind_of(status: int | None, said: Said, codes: Mapping[str, Kind]) -> Kind:
    """Whose fault it is: by the vendor's code, then by the status, or by the type without one."""
    kind = (
        codes.get(said.code or "")
        or codes.get(said.type or "")
        or (_kind_of_event(said) if status is None else _kind_of_status(status))
    )
    if kind == "client" and _BALANCE.search(said.message):
        return "balance"
    if kind == "client" and _CONTEXT.search(said.message):
        return "context"
    if kind == "failed" and _UNSUPPORTED.search(said.message):
        return "client"
    return kind


def _kind_of_status(status: int) -> Kind:
    return _STATUSES.get(status, "failed")


def _kind_of_event(said: Said) -> Kind:
    if said.code and re.fullmatch(r"[45]\d\d", said.code):
        return _kind_of_status(int(said.code))
    return _TYPES.get(said.type or "") or _TYPES.get(said.code or "") or "failed"


def refusal(
    channel: Channel, status: int, kind: Kind, said: Said, retry_after_s: int | None
) -> UpstreamRefused:
    """The error for the caller; the vendor's own words are shown only of the caller's fault."""
    if kind in ("client", "context"):
        return _clients_fault(channel, status, kind, said)
    answer = _OURS[kind]
    wait = None
    if kind in ("rate", "overload"):
        wait = retry_after_s or 1
    elif kind == "balance":
        wait = retry_after_s or _BALANCE_RETRY_AFTER_S
    return UpstreamRefused(
        answer.message.format(wait=wait),
        status=answer.status,
        upstream_status=status,
        type=answer.type,
        code=answer.code,
        retry_after_s=wait,
        retry_elsewhere=True,
    )


def _clients_fault(channel: Channel, status: int, kind: Kind, said: Said) -> UpstreamRefused:
    code, param = _plain(said.code, channel), _plain(said.param, channel)
    if code == str(status):
        code = None  # the status again, which says nothing more
    if kind == "context":
        code = "context_length_exceeded"
        param = "input" if param == "input" else "messages"  # the latter is a chat's
    if status == 413 and code is None:
        code = "request_too_large"
    return UpstreamRefused(
        scrub(said.message, channel) or "The upstream refused the request as invalid.",
        status=413 if status == 413 and kind == "client" else 400,
        upstream_status=status,
        type="invalid_request_error",
        code=code,
        param=param,
        retry_elsewhere=False,
    )


def _plain(word: str | None, channel: Channel) -> str | None:
    if word is None or not re.fullmatch(r"[\w.\[\]-]{1,128}", word):
        return None
    return word if scrub(word, channel) == word else None


_SECRETS = re.compile(
    r"\b(?:sk|pk|rk|key|org|proj|req)[-_][\w*.…-]{6,}|\bbearer\s+\S+", re.IGNORECASE
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


def scrub(text: str, channel: Channel) -> str:
    """The text without the channel's key, address or anything that looks like a credential."""
    text = text[: 16 * _MAX_MESSAGE_CHARS]
    if channel.api_key:
        # A short key may also be an ordinary part of words.
        edge = r"\b" if len(channel.api_key) < 8 else ""
        text = re.sub(edge + re.escape(channel.api_key) + edge, "***", text)
    text = _SECRETS.sub("***", text)
    for address in _addresses(channel.base_url):
        text = re.sub(re.escape(address), "the upstream", text, flags=re.IGNORECASE)
    return _CONTROL.sub(" ", text).strip()[:_MAX_MESSAGE_CHARS]


def _addresses(base_url: str) -> list[str]:
    try:
        parts = urlsplit(base_url)
        found = [base_url, f"{parts.scheme}://{parts.netloc}", parts.netloc, parts.hostname]
    except ValueError:
        found = [base_url]
    return [address for address in found if address and address != "://"]


def retry_after_s(head: UpstreamHead) -> int | None:
    """How long the vendor asks to wait, in whole seconds from 1 to 120; None if it does not say.

    Source: RFC 9110, Retry-After; `retry-after-ms` is what the official OpenAI SDKs read first.
    """
    seconds = _number(head.headers.get(b"retry-after-ms"), 1000)
    if seconds is None:
        seconds = _number(head.headers.get(b"retry-after"), 1)
    if seconds is None:
        seconds = _until_date(head)
    return None if seconds is None else max(1, min(math.ceil(seconds), MAX_RETRY_AFTER_S))


def _number(value: bytes | None, divisor: int) -> float | None:
    try:
        number = float(value or b"") / divisor
    except ValueError:
        return None
    return max(0.0, min(number, MAX_RETRY_AFTER_S)) if not math.isnan(number) else None


def _until_date(head: UpstreamHead) -> float | None:
    # A date is taken relative to the answer's own Date, so that no clock has to agree with it.
    try:
        until = parsedate_to_datetime((head.headers.get(b"retry-after") or b"").decode())
        now = parsedate_to_datetime((head.headers.get(b"date") or b"").decode())
        return max(0.0, min((until - now).total_seconds(), MAX_RETRY_AFTER_S))
    except (ValueError, TypeError, OverflowError):
        return None
