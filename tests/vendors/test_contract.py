"""Every vendor that the registry finds, held to the one contract; and any body, to no crash."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core.ports import UpstreamHead
from farebox.errors import BadRequest, UpstreamRefused
from farebox.vendors import registry
from farebox.vendors.base import Vendor
from tests.values import worded_values
from tests.vendors.contract import CHECKS, KEY, call_of, channel_of

VENDORS = list(registry.all().values())


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_vendor_keeps_the_contract(check: Callable[[Vendor], None], vendor: Vendor):
    """Each check is a fact of its own; a new vendor is in here by its file alone."""
    check(vendor)


_FIELD_NAMES = """
messages tools tool_choice response_format thinking reasoning_effort stream_options store metadata
max_tokens max_completion_tokens stream frequency_penalty n model user x
"""
_WORDS = r"""
developer assistant system none disabled file_id json_schema schema tool_calls name strict function
type role content reasoning_content é \u0066 " \
"""
FIELDS = st.sampled_from(_FIELD_NAMES.split())
JSON = worded_values(_WORDS)


@given(st.sampled_from(VENDORS), st.dictionaries(FIELDS, JSON), st.booleans(), st.booleans())
def test_any_body_is_prepared_or_refused(
    vendor: Vendor, body: dict[str, Any], ascii_only: bool, stream: bool
):
    """No shape of any field crashes a vendor; what comes out is JSON with model and cap."""
    call = call_of(
        json.dumps(body, ensure_ascii=ascii_only).encode(errors="replace"), stream=stream
    )
    try:
        result = vendor.prepare(channel_of(vendor), "up", call, 5, "hop", "alice")
    except BadRequest:
        return
    sent = msgspec.json.decode(result.request.body, type=dict[str, msgspec.Raw])
    assert bytes(sent["model"]) == b'"up"'
    assert bytes(sent[vendor.max_tokens_field]) == b"5"
    assert all(
        line.isascii() and line.isprintable() and "," not in line for line in result.adjusted
    )
    # What was changed once needs no second change.
    again = vendor.prepare(
        channel_of(vendor), "up", call_of(result.request.body, stream=stream), 5, "hop", "alice"
    )
    assert (
        msgspec.json.decode(again.request.body, type=dict[str, msgspec.Raw]).keys() == sent.keys()
    )
    assert again.adjusted == ()


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)
def test_nesting_too_deep_is_refused_or_passed_on_unread(vendor: Vendor):
    """Deep bodies end in a 400 of ours or the vendor's, never in a RecursionError."""
    deep = b"[" * 900 + b"]" * 900
    for field in (b"tools", b"messages", b"response_format", b"thinking", b"stream_options"):
        # The escape makes every cheap test say that the field must be looked at.
        body = b'{"%b":[{"\\u0072ole":"user","content":%b}],"stream":true}' % (field, deep)
        with contextlib.suppress(BadRequest):
            vendor.prepare(channel_of(vendor), "up", call_of(body), 5, "hop", "alice")


BODIES = (
    st.binary(max_size=200)
    | JSON.map(lambda value: json.dumps(value).encode())
    | JSON.map(lambda value: json.dumps({"error": value}).encode())
    | JSON.map(lambda value: b"data:" + json.dumps({"error": {"message": value}}).encode())
    | JSON.map(
        lambda value: json.dumps({"error": {"message": f"{value} {KEY}", "code": value}}).encode()
    )
    | JSON.map(lambda value: json.dumps({"detail": [value]}).encode())
)


@given(st.sampled_from(VENDORS), st.integers(100, 999), BODIES, st.binary(max_size=20))
def test_any_error_body_is_read(vendor: Vendor, status: int, body: bytes, retry_after: bytes):
    """No error body crashes a vendor, and what comes out is complete and without the key."""
    head = UpstreamHead(status, {b"retry-after": retry_after, b"date": retry_after})
    for error in (
        vendor.refused(channel_of(vendor), head, body),
        vendor.error_event(channel_of(vendor), _decoded(body)),
    ):
        _check(error)


def _decoded(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")


def _check(error: UpstreamRefused):
    assert error.status in (400, 413, 429, 502, 503, 504, 508)  # 508: another gateway saw a loop
    assert error.message
    assert error.type
    assert error.retry_elsewhere == (error.status not in (400, 413))
    assert KEY not in f"{error.message}{error.code}{error.param}"
    assert error.code is None or isinstance(error.code, str)
    assert error.retry_after_s is None or 1 <= error.retry_after_s <= 120
    assert (error.retry_after_s is not None) == (error.status in (429, 503))
