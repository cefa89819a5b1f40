"""Reading a request's body: size, time, encoding. What it says is the dialects' business."""

from __future__ import annotations

import asyncio
import zlib

from farebox.core.settings import Settings
from farebox.errors import BadRequest, TooLarge
from farebox.server.heads import UNCODED
from farebox.server.reply import Request

_GZIP_OR_ZLIB = 47  # zlib's wbits that recognise either header by themselves
_DEFLATED = (b"gzip", b"x-gzip", b"deflate")


class UnsupportedMedia(BadRequest):
    """415: a content type or encoding that is not read here."""

    status = 415


class BodyTimeout(BadRequest):
    """408: the body did not arrive in time."""

    status = 408


async def read_body(request: Request, settings: Settings) -> bytes:
    """The whole body, inflated. Raises BadRequest and its kin; ClientGone when the client hangs up.

    The content type is not asked for beyond refusing forms with parts: `curl -d` names a form
    where it sends JSON.
    """
    head = request.head
    limit_bytes = settings.max_body_bytes
    body = request.whole() if head.is_plain else None
    if body is not None:  # as for nearly every call
        if len(body) > limit_bytes:
            raise _too_large(limit_bytes)
        return body
    if head.has_parts:
        raise UnsupportedMedia(
            "A multipart body is not read here. Send JSON with 'Content-Type: application/json'."
        )
    if head.coding not in UNCODED and head.coding not in _DEFLATED:
        raise UnsupportedMedia(
            f"Content-Encoding {head.coding.decode('latin-1')[:40]!r} is not read here. "
            "Send the body as it is, or as gzip or deflate."
        )
    if (request.length_bytes or 0) > limit_bytes:
        raise _too_large(limit_bytes)
    if request.arrived:
        body = await _collect(request, limit_bytes)
    else:
        try:
            async with asyncio.timeout(settings.body_timeout_s):
                body = await _collect(request, limit_bytes)
        except TimeoutError:
            raise BodyTimeout(
                f"The body did not arrive within {settings.body_timeout_s:g} s."
            ) from None
    if head.coding in UNCODED:
        return body
    # In a thread: inflating up to the limit takes a tenth of a second and more.
    return await asyncio.to_thread(_inflate, body, limit_bytes)


async def _collect(request: Request, limit_bytes: int) -> bytes:
    parts: list[bytes] = []
    size_bytes = 0
    while True:
        part, more = await request.read()
        size_bytes += len(part)
        if size_bytes > limit_bytes:
            raise _too_large(limit_bytes)
        if not more:
            if not parts:
                return part
            parts.append(part)
            return b"".join(parts)
        parts.append(part)


def _inflate(body: bytes, limit_bytes: int) -> bytes:
    inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        data = inflater.decompress(body, limit_bytes + 1)
    except zlib.error:
        raise BadRequest(
            "The body is not the gzip or zlib data that its Content-Encoding says."
        ) from None
    if len(data) > limit_bytes:
        raise _too_large(limit_bytes)
    if not inflater.eof or inflater.unused_data:
        raise BadRequest("The compressed body is cut short, or something follows it.")
    return data


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(f"The body is larger than the {limit_bytes} bytes that this gateway takes.")
