"""What stands around the content of a message: its id, its events, and usage in Anthropic's shape.

Which content there is is the translations' business. Source: Anthropic's SDK for Python, `Message`,
`Usage` and `RawMessageStreamEvent`.
"""

from __future__ import annotations

import msgspec

from farebox.core.usage import Usage
from farebox.dialects.values import Object


def message_id(request_id: str) -> str:
    """The id of the message that answers a request."""
    return "msg_" + request_id.removeprefix("req_")


def event(type: str, **fields: object) -> bytes:
    """One event of a stream."""
    data = msgspec.json.encode({"type": type, **fields})
    return b"event: " + type.encode() + b"\ndata: " + data + b"\n\n"


PING = event("ping")


def usage_object(usage: Usage, **more: object) -> Object:
    """What was charged: input without what was read from and written to a cache, which stand beside
    it. Sound and images are input here, and all that was written is output.
    """
    return {
        "input_tokens": usage.uncached_input + usage.audio_input + usage.image_input,
        "cache_creation_input_tokens": usage.cache_write + usage.cache_write_1h,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": usage.output + usage.audio_output,
        **more,
    }
