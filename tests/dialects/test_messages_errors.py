"""Errors in Anthropic's shape."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx2
import pytest

from farebox.dialects.messages_errors import error_body, error_event, error_object, status_of
from farebox.errors import (
    BadRequest,
    BillingUnavailable,
    BudgetExceeded,
    FareboxError,
    Internal,
    LoopDetected,
    MethodNotAllowed,
    ModelNotAllowed,
    NotFound,
    OutOfCredit,
    Overloaded,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    UpstreamFailed,
    UpstreamRefused,
)

ERRORS: list[tuple[FareboxError, int, str]] = [
    (BadRequest("x"), 400, "invalid_request_error"),
    (TooLarge("x"), 413, "request_too_large"),
    (Unauthorized("x"), 401, "authentication_error"),
    (OutOfCredit("x"), 402, "billing_error"),
    (OutOfCredit("x", status=402), 402, "billing_error"),
    (BudgetExceeded("x"), 402, "billing_error"),
    (ModelNotAllowed("x"), 403, "permission_error"),
    (NotFound("x"), 404, "not_found_error"),
    (MethodNotAllowed("x"), 405, "invalid_request_error"),
    (TooManyRequests("x"), 429, "rate_limit_error"),
    (LoopDetected("x"), 508, "api_error"),
    (BillingUnavailable("x"), 529, "overloaded_error"),
    (Overloaded("x"), 529, "overloaded_error"),
    (Internal("x"), 500, "api_error"),
    (UpstreamFailed("x", reason="connect"), 502, "api_error"),
    (UpstreamFailed("x", reason="first_byte_timeout", status=504), 504, "timeout_error"),
    (
        UpstreamRefused(
            "x",
            status=429,
            upstream_status=429,
            type="rate_limit_error",
            code="rate_limit_exceeded",
        ),
        429,
        "rate_limit_error",
    ),
]


@pytest.mark.parametrize(
    ("error", "status", "kind"), ERRORS, ids=[f"{type(e).__name__}_{s}" for e, s, _ in ERRORS]
)
def test_each_error_has_its_status_and_type(error: FareboxError, status: int, kind: str) -> None:
    """As Anthropic documents them; the request's id stands in the body."""
    assert status_of(error) == status
    assert error_object(error, "req_abc") == {
        "type": "error",
        "error": {"type": kind, "message": "x"},
        "request_id": "req_abc",
    }


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (BadRequest("Too many.", param="max_tokens"), "max_tokens: Too many."),
        (BadRequest("'max_tokens' is too high.", param="max_tokens"), "'max_tokens' is too high."),
        (
            BadRequest("Too long.", param="messages", code="context_length_exceeded"),
            "prompt is too long: Too long.",
        ),
        (
            BadRequest("Prompt is too long: 9 > 8", code="context_length_exceeded"),
            "Prompt is too long: 9 > 8",
        ),
    ],
)
def test_a_message_says_what_is_wrong_and_where(error: FareboxError, message: str) -> None:
    """There is no other place for a parameter's name; and Claude Code looks for these words."""
    found: Any = error_object(error, "req_abc")
    assert found["error"]["message"] == message


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OutOfCredit("Top up."), anthropic.PaymentRequiredError),
        (Overloaded("Wait."), anthropic.OverloadedError),
        (TooLarge("Cut."), anthropic.RequestTooLargeError),
        (Unauthorized("Key?"), anthropic.AuthenticationError),
    ],
)
def test_the_sdk_raises_the_error_that_it_has_for_it(error: FareboxError, raised: Any) -> None:
    """From the status and the body."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status_of(error), content=error_body(error, "req_abc"))

    with _client(answer) as client, pytest.raises(raised) as caught:
        client.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "?"}])
    assert error.message in str(caught.value)
    assert json.loads(error_body(error, "req_abc")) == caught.value.body


def test_a_refused_thread_tells_the_sdk_to_go_on_without() -> None:
    """By the code on which its tool runner sends the whole conversation each time instead."""
    error = BadRequest("'thread' cannot be had.", param="thread")
    told = {
        "type": "invalid_request_error",
        "message": "'thread' cannot be had.",
        "details": {"error_code": "thread_unsupported_request"},
    }
    whole = {"type": "error", "error": told, "request_id": "req_abc"}
    assert error_object(error, "req_abc") == whole


def test_the_sdk_raises_on_an_error_within_a_stream() -> None:
    """It is the last event, whatever came before it."""
    body = error_event(Overloaded("Wait."), "req_abc")
    assert body == (
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error",'
        b'"message":"Wait."},"request_id":"req_abc"}\n\n'
    )

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    with _client(answer) as client, pytest.raises(anthropic.APIStatusError, match="Wait"):
        list(
            client.messages.create(
                model="m",
                max_tokens=1,
                messages=[{"role": "user", "content": "?"}],
                stream=True,
            )
        )


def _client(answer: Any) -> anthropic.Anthropic:
    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    return anthropic.Anthropic(api_key="k", max_retries=0, http_client=http)
