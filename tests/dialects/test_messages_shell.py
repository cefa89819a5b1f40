"""What stands around the content of a message."""

from __future__ import annotations

from typing import Any, cast

import msgspec
from anthropic._models import validate_type
from anthropic.types import Usage as SdkUsage
from hypothesis import given
from hypothesis import strategies as st

from farebox.core.usage import CLASSES, Usage
from farebox.dialects.messages_shell import PING, event, message_id, usage_object
from farebox.dialects.usage import read_usage

usages = st.builds(Usage, *(st.integers(0, 10_000) for _ in CLASSES))


def test_a_message_is_known_by_its_requests_id() -> None:
    """Receipts are found by what the client has."""
    assert message_id("req_abc") == "msg_abc"


def test_an_event_is_named_by_its_type() -> None:
    """Twice, as the SDKs want it."""
    assert event("x", a=[1]) == b'event: x\ndata: {"type":"x","a":[1]}\n\n'
    assert PING == b'event: ping\ndata: {"type":"ping"}\n\n'


@given(usages)
def test_usage_adds_up(usage: Usage) -> None:
    """No token is told twice, and none is left out."""
    told = cast("dict[str, Any]", usage_object(usage))
    read_or_written = told["cache_read_input_tokens"] + told["cache_creation_input_tokens"]
    assert told["input_tokens"] + read_or_written == usage.input_total
    assert sum(told["cache_creation"].values()) == told["cache_creation_input_tokens"]
    assert told["output_tokens"] == usage.output + usage.audio_output


@given(usages)
def test_usage_is_read_back_as_what_it_was(usage: Usage) -> None:
    """By another gateway of this kind; it has no place for sounds and images of their own."""
    told = usage_object(usage)
    assert read_usage(msgspec.Raw(msgspec.json.encode(told))).usage == Usage(
        uncached_input=usage.uncached_input + usage.audio_input + usage.image_input,
        cache_read=usage.cache_read,
        cache_write=usage.cache_write,
        cache_write_1h=usage.cache_write_1h,
        output=usage.output + usage.audio_output,
    )


def test_usage_has_the_sdks_shape() -> None:
    """Also with what is added to it."""
    told = usage_object(Usage(1), output_tokens_details={"thinking_tokens": 0})
    assert validate_type(type_=SdkUsage, value=told).output_tokens_details is not None
