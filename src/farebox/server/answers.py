"""JSON answers of the cold routes."""

import msgspec
from starlette.responses import Response


def json_answer(data: object, status: int = 200) -> Response:
    """The data as a JSON answer that no cache keeps: all of it is of one caller or one moment."""
    return raw_json_answer(msgspec.json.encode(data), status)


def raw_json_answer(data: bytes, status: int = 200) -> Response:
    """The same for what is JSON already."""
    return Response(
        data,
        status,
        headers={"cache-control": "no-store"},
        media_type="application/json",
    )
