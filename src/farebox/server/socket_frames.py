"""What clients say over a WebSocket: a text frame becomes the Call that it asks for.

What such a frame means for a socket is socket_session.py's business. Source: OpenAI's guide
"WebSocket mode" and its OpenAPI document, `ResponsesClientEvent`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec

from farebox.core.call import Call
from farebox.dialects.body import decode_fields, read_field
from farebox.dialects.responses import parse
from farebox.errors import BadRequest

_CREATE, _STEER = "response.create", "response.steer"
_SHOWN_CHARS = 100
# What a frame has beside the body of a POST. A socket's responses are streams without being asked.
_OWN_KEYS = ("type", "event_id", "stream_id", "generate", "stream")


class _Head(msgspec.Struct, frozen=True):
    type: str
    stream_id: Annotated[str, msgspec.Meta(max_length=256)] | None = None
    generate: bool | None = None


_READ = msgspec.json.Decoder(_Head)


@dataclass(frozen=True, slots=True)
class Create:
    """A frame that asks for a response. Without `generate` nothing is to be written: the client
    only sends ahead what it has.
    """

    data: bytes
    stream_id: str | None
    generate: bool


def read_create(data: bytes) -> Create:
    """What the frame asks for; its body is not looked at. Raises BadRequest."""
    try:
        head = _READ.decode(data)
    except msgspec.ValidationError as error:
        raise BadRequest(
            f'A frame must be a JSON object such as {{"type": "{_CREATE}", …}}: {error}.',
            code="invalid_value",
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The frame is not valid JSON: {error}.") from None
    except RecursionError:
        raise BadRequest("The frame is nested too deeply. Keep it below 1000 levels.") from None
    if head.type == _CREATE:
        return Create(data, head.stream_id, head.generate is not False)
    if head.type == _STEER:
        message = f"A response cannot be steered here. Wait for its end and send {_CREATE!r}."
    else:
        message = f"Frames of type {head.type[:_SHOWN_CHARS]!r} are not known. Send {_CREATE!r}."
    raise BadRequest(message, param="type", code="unsupported_value")


def read_call(data: bytes, request_id: str, hops: tuple[str, ...]) -> Call:
    """The call that a frame asks for, as a stream. Raises BadRequest."""
    fields = decode_fields(data)
    if read_field(fields, "background", bool, "true or false"):
        raise BadRequest(
            "Over a WebSocket a response cannot run in the background. Use POST /v1/responses.",
            param="background",
            code="unsupported_value",
        )
    body = {name: value for name, value in fields.items() if name not in _OWN_KEYS}
    return parse(msgspec.json.encode({**body, "stream": True}), request_id, hops)
