"""A request of the Messages API on its way to a vendor: the edits that go with its shape.

Which of them a vendor needs is said in base.py and in the vendor's own file. Sources: Anthropic's
SDK for Python, `MessageCreateParams`; its documentation, "Versions" and "Extended thinking".
"""

from __future__ import annotations

from typing import Final, cast

from farebox.core.call import Call, Headers
from farebox.dialects.messages_native import without_thinking
from farebox.vendors.body import Body, mentions

CAP_FIELD: Final = "max_tokens"
PATH: Final = "/messages"
VERSION: Final = b"2023-06-01"  # for who names none: later ones take less, such as no temperature
_VERSION_HEADER: Final = b"anthropic-version"
_BETAS_HEADER: Final = b"anthropic-beta"
_VERSION_PATH: Final = "/v1"
_BESIDE: Final = "/anthropic"
# Other APIs' names for what is held, which a server that speaks several might look at.
_OF_OTHERS = ("max_completion_tokens", "max_output_tokens", "n")
_LEAST_BUDGET_TOKENS: Final = 1024


def shape(body: Body, call: Call, output_cap: int) -> None:
    """The cap that was held for, and the kind of answer that is wanted: a stream or a whole."""
    for name in _OF_OTHERS:
        body.drop(name)
    _fit_budget(body, output_cap)
    body.put(CAP_FIELD, output_cap)
    if call.stream and body.raw("stream") != b"true":
        body.put("stream", True)
    elif not call.stream and body.raw("stream") == b"true":
        body.remove("stream")


def cap_of(call: Call, output_cap: int) -> int:
    """The cap to send: none above what was asked for, which may be 0: only the cache is filled."""
    return output_cap if call.output_cap is None else min(output_cap, call.output_cap)


def headers(call: Call) -> Headers:
    """The version and the betas that the client named."""
    version = (_VERSION_HEADER, _passed(call, _VERSION_HEADER) or VERSION)
    betas = _passed(call, _BETAS_HEADER)
    return (version, (_BETAS_HEADER, betas)) if betas else (version,)


def beside(url: str) -> str:
    """The address of a Messages API that has a path of its own beside a vendor's other APIs: made
    of theirs, with or without a version, or as it is if it was configured itself.
    """
    base = url.removesuffix(PATH).removesuffix(_VERSION_PATH)
    return base.removesuffix(_BESIDE) + _BESIDE + _VERSION_PATH + PATH


def _fit_budget(body: Body, output_cap: int) -> None:
    """A budget of thinking stays below the cap where that had to be lowered: else the vendor
    refuses the call. One that the caller set too high himself is the vendor's to refuse.
    """
    if not mentions(body.raw("thinking"), b"budget_tokens"):
        return
    thinking, asked = body.value("thinking"), body.value(CAP_FIELD)
    if not isinstance(thinking, dict) or not isinstance(asked, int) or asked <= output_cap:
        return
    fields = cast("dict[str, object]", thinking)
    budget = fields.get("budget_tokens")
    if not isinstance(budget, int) or isinstance(budget, bool) or not output_cap <= budget < asked:
        return
    if output_cap <= _LEAST_BUDGET_TOKENS:
        for name, value in without_thinking(body.raw("context_management")).items():
            body.put(name, value)
        body.note("thinking", "disabled")
        return
    lower = max(_LEAST_BUDGET_TOKENS, budget * output_cap // asked)
    body.put("thinking", {**fields, "budget_tokens": lower})
    body.note("thinking.budget_tokens", str(lower))


def _passed(call: Call, header: bytes) -> bytes:
    return b",".join(value for name, value in call.passed_headers if name.lower() == header)
