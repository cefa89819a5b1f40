"""Reading a URL's query."""

from __future__ import annotations

from collections.abc import Mapping

from farebox.errors import BadRequest

SHOWN_CHARS = 100  # of an id or a number, where an error repeats it


def number(query: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    """A whole number of the query. Raises BadRequest."""
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise BadRequest(
            f"{name!r} must be a whole number from {least} to {most}, not {text[:SHOWN_CHARS]!r}.",
            param=name,
            code="invalid_value",
        )
    return int(text)
