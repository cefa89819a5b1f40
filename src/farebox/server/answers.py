"""JSON answers of the cold routes."""

import msgspec
from starlette.responses import Response


def json_answer(data: object, status: int = 200) -> Response:
    """The data as a JSON answer that no cache keeps: all of it is of one caller or one moment."""
    return Response(
        msgspec.json.encode(data),
        status,
        headers={"cache-control": "no-store"},
        media_type="application/json",
    )
