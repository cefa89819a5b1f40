"""The one error tree: status, code, type, whose fault, and a sentence that says what to do.

    FareboxError
    ├── BadRequest            400  the client's body or parameters
    │   └── TooLarge          413
    ├── Unauthorized          401  no key, a wrong, revoked or expired one: the same answer for all
    ├── ModelNotAllowed       403  the key's own limits
    ├── NotFound              404  a model, a route, an object
    ├── MethodNotAllowed      405
    ├── OutOfCredit           429  (or 402, by a setting); with the shortfall
    ├── BudgetExceeded        429  (or 402, likewise); the key's own budget
    ├── TooManyRequests       429  with Retry-After
    ├── LoopDetected          508  our own request came back
    ├── BillingUnavailable    503  the books cannot be reached
    ├── Overloaded            503  no channel can take the call
    ├── Internal              500  a defect of ours
    └── UpstreamFailed        502  the vendor's fault; 504 for silence
        └── UpstreamRefused        the vendor answered with an error status

How an error looks on the wire is its dialect's business.
"""

from typing import Literal

Fault = Literal["client", "vendor", "us"]


class FareboxError(Exception):
    """One error of a call. `message` is a sentence for the caller and holds no secret."""

    status: int = 500
    type: str = "server_error"
    code: str | None = None
    fault: Fault = "us"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: int | None = None,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.should_retry = should_retry
        if code is not None:
            self.code = code


class BadRequest(FareboxError):
    """The request cannot be used as it is; the same request will never succeed."""

    status = 400
    type = "invalid_request_error"
    fault: Fault = "client"


class TooLarge(BadRequest):
    """The body is larger than the gateway takes."""

    status = 413
    code = "request_too_large"


class Unauthorized(FareboxError):
    """No valid key."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"
    fault: Fault = "client"


class ModelNotAllowed(FareboxError):
    """The model exists and the group has it, but this key may not use it."""

    status = 403
    type = "invalid_request_error"
    code = "model_not_allowed"
    fault: Fault = "client"


class NotFound(FareboxError):
    """No such thing, or not the caller's: the two are never told apart."""

    status = 404
    type = "invalid_request_error"
    fault: Fault = "client"


class MethodNotAllowed(FareboxError):
    """The route exists under another method."""

    status = 405
    type = "invalid_request_error"
    fault: Fault = "client"


class OutOfCredit(FareboxError):
    """The balance does not cover the call. Clients must not retry by themselves."""

    status = 429
    type = "insufficient_quota"
    code = "credit_balance_exhausted"
    fault: Fault = "client"

    def __init__(self, message: str, *, status: int = 429) -> None:
        super().__init__(message, should_retry=False)
        self.status = status


class BudgetExceeded(FareboxError):
    """The key's budget of the period does not cover the call. Clients must not retry by
    themselves.
    """

    status = 429
    type = "insufficient_quota"
    code = "key_budget_exceeded"
    fault: Fault = "client"

    def __init__(self, message: str, *, status: int = 429) -> None:
        super().__init__(message, should_retry=False)
        self.status = status


class TooManyRequests(FareboxError):
    """Too much at once; it may be tried again later."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    fault: Fault = "client"


class LoopDetected(FareboxError):
    """A request of this very gateway came back to it."""

    status = 508
    code = "loop_detected"


class BillingUnavailable(FareboxError):
    """The books cannot be written, so nothing may be spent."""

    status = 503
    type = "service_unavailable_error"
    code = "billing_unavailable"

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after_s=5)


class Overloaded(FareboxError):
    """No channel can take the call now."""

    status = 503
    type = "service_unavailable_error"
    code = "server_is_overloaded"


class Internal(FareboxError):
    """A defect of ours; what went wrong is in the log under the request id."""


class UpstreamFailed(FareboxError):
    """The upstream could not be reached, broke off, or answered nonsense.

    `reason` is a short word for logs and receipts, such as `connect`, `reset`,
    `first_byte_timeout`.
    """

    status = 502
    fault: Fault = "vendor"

    def __init__(
        self, message: str, *, reason: str, status: int = 502, code: str | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.reason = reason


def broke_off(reason: str) -> UpstreamFailed:
    """The upstream's answer has no proper end; `reason` is the short word for why."""
    return UpstreamFailed("The upstream broke its answer off. Try again.", reason=reason)


class UpstreamRefused(UpstreamFailed):
    """The upstream answered with an error. `retry_elsewhere`: another channel may do better."""

    def __init__(  # noqa: PLR0913 (an error as a vendor gave it has this many parts)
        self,
        message: str,
        *,
        status: int,
        upstream_status: int,
        type: str,
        code: str | None,
        param: str | None = None,
        retry_after_s: int | None = None,
        retry_elsewhere: bool = False,
    ) -> None:
        super().__init__(message, reason=f"status_{upstream_status}", status=status)
        self.type = type
        self.code = code
        self.param = param
        self.upstream_status = upstream_status
        self.retry_after_s = retry_after_s
        self.retry_elsewhere = retry_elsewhere
        if status < 500 and status != 429:
            self.fault = "client"
