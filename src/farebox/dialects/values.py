"""Values of a decoded request as what they must be, or a BadRequest that says where they stand.

What they mean is the translations' business, which read requests of several dialects.
"""

from __future__ import annotations

from typing import cast

from farebox.errors import BadRequest

Object = dict[str, object]
"""A JSON object as it was decoded, or as it is to be encoded."""

_OBJECTS = frozenset((dict,))
_SHOWN_CHARS = 100  # of a value in an error
_KINDS: dict[type, str] = {
    str: "a string",
    list: "a list",
    dict: "an object",
    bool: "true or false",
    int: "a number",
    float: "a number",
}


def malformed(path: str, wanted: str, value: object = None) -> BadRequest:
    """What to raise for a value; `path` is where it stands, such as `input[3].content`."""
    found = "nothing" if value is None else _KINDS.get(type(value), "something else")
    return BadRequest(f"'{path}' must be {wanted}, not {found}.", param=path, code="invalid_value")


def unknown(path: str, value: object, wanted: str) -> BadRequest:
    """What to raise for a word that is not one of those that there are."""
    if not isinstance(value, str):
        return malformed(path, wanted, value)
    return BadRequest(
        f"'{path}' must be {wanted}, not {value[:_SHOWN_CHARS]!r}.",
        param=path,
        code="invalid_value",
    )


def as_object(value: object, path: str) -> Object:
    """An object. Raises BadRequest."""
    if not isinstance(value, dict):
        raise malformed(path, "an object", value)
    return cast("Object", value)


def as_list(value: object, path: str) -> list[object]:
    """A list. Raises BadRequest."""
    if not isinstance(value, list):
        raise malformed(path, "a list", value)
    return cast("list[object]", value)


def as_objects(value: object, path: str) -> list[Object]:
    """A list of objects. Raises BadRequest."""
    values = as_list(value, path)
    # Of thousands none mostly is anything else, and none of their places has to be told.
    if not _OBJECTS.issuperset(map(type, values)):
        for at, member in enumerate(values):
            as_object(member, f"{path}[{at}]")
    return cast("list[Object]", values)


def text_at(holder: Object, name: str, path: str) -> str:
    """A member that is a string, which may be empty. Raises BadRequest."""
    value = holder.get(name)
    if not isinstance(value, str):
        raise malformed(f"{path}.{name}", "a string", value)
    return value


def name_at(holder: Object, name: str, path: str) -> str:
    """A member that is a string of at least a character. Raises BadRequest."""
    value = holder.get(name)
    if not isinstance(value, str):
        raise malformed(f"{path}.{name}", "a string", value)
    if not value:
        raise BadRequest(
            f"'{path}.{name}' must not be empty.", param=f"{path}.{name}", code="invalid_value"
        )
    return value


def optional_text(holder: Object, name: str, path: str) -> str | None:
    """A member that is a string, or absent, or null. Raises BadRequest."""
    value = holder.get(name)
    return value if value is None or isinstance(value, str) else text_at(holder, name, path)
