"""One call of a client as values: what was asked, and the attempts to have it answered."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

Headers = tuple[tuple[bytes, bytes], ...]


class Call(msgspec.Struct, frozen=True, gc=False):
    """A parsed request. `fields` is the body's top level, each value as the raw JSON that came."""

    request_id: str
    dialect: str
    model: str  # as the client wrote it; answers echo it
    fields: Mapping[str, msgspec.Raw]
    stream: bool = False
    include_usage: bool = False  # the client asked for the usage chunk of a stream
    output_cap: int | None = None  # tokens, as the client named it
    choices: int = 1  # `n`
    text_bytes: int = 0  # of the body, less what is counted by table
    table_tokens: int = 0  # input tokens of parts that bytes say nothing of: images
    service_tier: str | None = None
    hosted_tools: tuple[str, ...] = ()  # asked-for tools that a vendor runs, and may charge for
    wires: tuple[str, ...] = ("chat",)  # upstream dialects that can carry it, best first
    audio_output: bool = False
    hops: tuple[str, ...] = ()  # instances that this call came through
    # Of a conversation of the usual shape: which words it has that edits look for, as the file of
    # its dialect that ends in `_usual` says. None: they are to be looked for.
    message_words: frozenset[bytes] | None = None
    # Stands for all that `fields` are but their messages: calls of one number differ only there.
    envelope: int | None = None
    may_drop_tools: bool = False  # a hosted tool that cannot be had is left out, not refused
    writes_1h: bool = False  # it may write into a cache that keeps for an hour, at its own price
    effort_is_wish: bool = False  # left out where a model knows no reasoning effort, not refused
    passed_headers: Headers = ()  # of the client's, for upstreams that speak its own dialect


class Attempt(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One try of one channel. `status` is the upstream's, if it answered; times from its start."""

    n: int
    channel: str
    status: int | None
    error: str | None
    ms: int
    ttft_ms: int | None = None
