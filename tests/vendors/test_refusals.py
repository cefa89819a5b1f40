"""What vendors' errors become: their codes, their shapes, and what is struck out of them."""

from __future__ import annotations

import json

import msgspec
import pytest

from farebox.core.ports import UpstreamHead
from farebox.vendors import registry
from farebox.vendors.base import Vendor
from tests.vendors.contract import channel_of, refused


def _glm(code: str) -> bytes:
    return msgspec.json.encode({"error": {"code": code, "message": "出错了"}})


@pytest.mark.parametrize(
    ("status", "code", "becomes"),
    [
        (401, "1002", 502),
        (429, "1113", 503),
        (429, "1302", 429),
        (429, "1305", 503),
        (400, "1211", 502),
        (400, "1210", 400),
        (400, "1301", 400),
        (500, "1234", 502),
    ],
)
def test_glm_codes_tell_more_than_its_status(status: int, code: str, becomes: int):
    """An account in arrears is a 429 there, an unknown model a 400."""
    error = refused(registry.find("zai"), status, _glm(code))
    assert error.status == becomes
    assert error.retry_elsewhere == (becomes != 400)
    assert error.message == "出错了" or becomes != 400
    assert error.code == code or becomes != 400


def test_glm_says_a_full_context_by_number():
    """1261 has OpenAI's code for it."""
    error = refused(registry.find("zhipu"), 400, _glm("1261"))
    assert (error.code, error.param) == ("context_length_exceeded", "messages")


SHAPES: list[tuple[str, int, bytes, str, str | None]] = [
    (
        "mimo",
        400,
        b'data:{"error":{"code":"400","message":"Param Incorrect","param":"`text` is not set"}}',
        "Param Incorrect: `text` is not set",
        None,
    ),
    (
        "openai_compatible",
        400,
        b'{"object":"error","message":"bad n","type":"BadRequestError","param":"n","code":400}',
        "bad n",
        "n",
    ),
    (
        "openai_compatible",
        422,
        b'{"detail":[{"loc":["body","messages",0,"role"],"msg":"Field required"}]}',
        "Field required",
        "messages.0.role",
    ),
    ("openai_compatible", 400, b'{"detail":"No such thing"}', "No such thing", None),
    ("openai_compatible", 400, b'{"error":"model is loading"}', "model is loading", None),
    ("openai_compatible", 400, b"plain words\r\n", "plain words", None),
    ("local", 400, b'{"error":{"code":400,"message":"\'messages\' is required"}}',
     "'messages' is required", None),
    ("local", 500, b'{"error":{"code":500,"message":"image input is not supported - hint"}}',
     "image input is not supported - hint", None),
    ("openai", 400, b"<html>nginx</html>", "The upstream refused the request as invalid.", None),
    ("openai", 400, b"", "The upstream refused the request as invalid.", None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "status", "body", "message", "param"), SHAPES)
def test_errors_of_many_shapes_are_understood(
    name: str, status: int, body: bytes, message: str, param: str | None
):
    """The sentence that helps reaches the caller, whatever it was wrapped in."""
    error = refused(registry.find(name), status, body)
    assert (error.status, error.message, error.code, error.param) == (400, message, None, param)


def test_a_short_key_does_not_spoil_ordinary_words():
    """Self-hosted servers run with keys such as `test`."""
    vendor: Vendor = registry.find("openai_compatible")
    channel = channel_of(vendor, api_key="test", base_url="http://127.0.0.1:8000/v1")
    said = {"error": {"message": "key test is not the latest", "type": "invalid_request_error"}}
    assert vendor.error_event(channel, said).message == "key *** is not the latest"


def _error(kind: str, message: str) -> bytes:
    error = {"type": kind, "message": message}
    return json.dumps({"type": "error", "error": error, "request_id": "req_secret01"}).encode()


LONG = "prompt is too long: 210000 tokens > 200000 maximum"
BOTH = "input length and `max_tokens` exceed context limit: 190000 + 32000 > 200000"
BROKE = "Your credit balance is too low to access the Anthropic API."
REFUSALS: tuple[tuple[int, str, str, int, str | None], ...] = (
    (400, "invalid_request_error", "max_tokens: Field required", 400, None),
    (400, "invalid_request_error", LONG, 400, "context_length_exceeded"),
    (400, "invalid_request_error", BOTH, 400, "context_length_exceeded"),
    (413, "request_too_large", "Request exceeds the maximum size", 413, "request_too_large"),
    (400, "invalid_request_error", BROKE, 503, "server_is_overloaded"),
    (402, "billing_error", "Pay first", 503, "server_is_overloaded"),
    (401, "authentication_error", "invalid x-api-key", 502, None),
    (403, "permission_error", "Not allowed", 502, None),
    (404, "not_found_error", "model: claude-x", 502, None),
    (429, "rate_limit_error", "Slow down", 429, "rate_limit_exceeded"),
    (500, "api_error", "Internal server error", 502, None),
    (504, "timeout_error", "Timed out", 504, None),
    (529, "overloaded_error", "Overloaded", 503, "server_is_overloaded"),
)


@pytest.mark.parametrize(("status", "kind", "message", "becomes", "code"), REFUSALS)
def test_anthropics_refusals_are_understood(
    status: int, kind: str, message: str, becomes: int, code: str | None
) -> None:
    """By status, and by type within a stream. Its words are shown of the caller's fault alone."""
    vendor = registry.find("anthropic")
    channel, body = channel_of(vendor), _error(kind, message)
    found = vendor.refused(channel, UpstreamHead(status, {}), body)
    assert (found.status, found.code) == (becomes, code)
    event = vendor.error_event(channel, json.loads(body)["error"])
    assert event.status == (400 if becomes == 413 else becomes)
    for error in (found, event):
        assert error.retry_elsewhere == (becomes not in (400, 413))
        assert (error.message == message) == (becomes in (400, 413))
        assert "req_secret" not in error.message


def test_a_request_id_of_the_vendors_is_struck_out() -> None:
    """It would lead nobody anywhere but us."""
    vendor = registry.find("anthropic")
    body = _error("invalid_request_error", "Bad. (request id: req_011CSHoEeqs5C35K2UUqR7Fy)")
    found = vendor.refused(channel_of(vendor), UpstreamHead(400, {}), body)
    assert found.message == "Bad. (request id: ***)"
