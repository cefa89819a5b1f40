"""The envelope of a chat request: what it says around its messages, for which it is priced, held
for and sent somewhere.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from farebox.dialects.body import Fields, read_field
from farebox.errors import BadRequest

MAX_CHOICES = 128
MAX_TOKENS = 2**31 - 1
MAX_MODEL_CHARS = 256

# What the price, the hold or the choice of a model hangs on.
COUNTED: Final = frozenset(
    (
        "model",
        "messages",
        "max_tokens",
        "max_completion_tokens",
        "n",
        "stream",
        "stream_options",
        "service_tier",
        "tools",
        "web_search_options",
        "modalities",
        "store",
    )
)
_Count = Annotated[int, msgspec.Meta(ge=1, le=MAX_TOKENS)]


class StreamOptions(msgspec.Struct, frozen=True):
    """What of them the gateway must know."""

    include_usage: bool | None = None


class Asked(msgspec.Struct):
    """What the price, the hold or the choice of a model hangs on, but for messages and tools."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_MODEL_CHARS)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: _Count | None = None
    max_completion_tokens: _Count | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=MAX_CHOICES)] | None = None
    service_tier: str | None = None
    modalities: list[str] | None = None


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """An envelope as a Call has it. `fields` are all of the request's, in their order; what
    `messages` are there is no part of it.
    """

    fields: Fields
    model: str
    stream: bool
    include_usage: bool
    output_cap: int | None
    choices: int
    service_tier: str | None
    hosted_tools: tuple[str, ...]
    audio_output: bool
    number: int | None = None  # of one that is known


class _Tool(msgspec.Struct, frozen=True):
    type: str


def read_envelope(fields: Fields, asked: Asked) -> Envelope:
    """The envelope that says this. Raises BadRequest for tools that are none."""
    options, stream = asked.stream_options, asked.stream or False
    caps = [cap for cap in (asked.max_completion_tokens, asked.max_tokens) if cap is not None]
    return Envelope(
        fields,
        asked.model,
        stream,
        bool(stream and options and options.include_usage),
        min(caps) if caps else None,
        asked.n or 1,
        asked.service_tier,
        _hosted_tools(fields),
        "audio" in (asked.modalities or ()),
    )


def refuse_near_names(fields: Fields, counted: frozenset[str]) -> None:
    """Raises BadRequest for a key that is one of these but for its case."""
    # What is priced must be what is sent, and some upstreams, such as all that are written in Go,
    # take "MAX_TOKENS" for max_tokens.
    for name in fields:
        if name not in counted and name.casefold() in counted:
            raise BadRequest(
                f"The key {name!r} is not known. Write {name.casefold()!r}.",
                param=name,
                code="unknown_parameter",
            )


def _hosted_tools(fields: Fields) -> tuple[str, ...]:
    """Tools that run at the vendor, for which it may charge by the call: what is no function of
    the client's.
    """
    if "tools" not in fields and "web_search_options" not in fields:
        return ()
    tools = read_field(fields, "tools", list[_Tool], "a list of objects with a type") or []
    hosted = {hosted_name(tool.type) for tool in tools} - {"function", "custom"}
    if read_field(fields, "web_search_options", dict[str, msgspec.Raw], "an object") is not None:
        hosted.add("web_search")
    return tuple(sorted(hosted))


def hosted_name(kind: str) -> str:
    """The name under which a tool is priced: without the date or `preview` of a version."""
    for name in ("web_search", "computer"):
        if kind.startswith(name):
            return name
    return kind
