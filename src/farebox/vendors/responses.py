"""A request of the Responses API on its way to a vendor: the edits that go with its shape.

Which of them a vendor needs is said in base.py and in the vendor's own file. Source: OpenAI's
OpenAPI document, `CreateResponse`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from farebox.core.call import Call
from farebox.vendors.body import NULL, Body, decode, mentions, raw_object, schema_text

CAP_FIELD: Final = "max_output_tokens"
LEAST_OUTPUT_TOKENS: Final = 16  # the reference's least; fewer are held for a chat's small cap
# Names of chat's for what is held, which a server that speaks both APIs might look at.
_OF_CHAT = ("max_tokens", "max_completion_tokens", "n")


def shape(body: Body, call: Call, output_cap: int) -> None:
    """The cap that was held for, and the kind of answer that is wanted: a stream or a whole."""
    for name in _OF_CHAT:
        body.drop(name)
    body.put(CAP_FIELD, max(output_cap, LEAST_OUTPUT_TOKENS))
    if call.stream and body.raw("stream") != b"true":
        body.put("stream", True)  # a socket's answers are streams without its saying so
    elif not call.stream:
        if body.raw("stream") == b"true":
            body.remove("stream")
        body.fields.pop("stream_options", None)  # vendors refuse it beside a whole answer
    body.put("store", False)


def json_schema_to_object(body: Body) -> None:
    """`text.format` json_schema as json_object, with the schema at the end of the instructions."""
    if not mentions(body.raw("text"), b"json_schema"):
        return
    text = raw_object(body.raw("text"), "text") or {}
    form = text.get("format")
    wanted = raw_object(bytes(form), "text") if isinstance(form, msgspec.Raw) else None
    if wanted is None or _raw(wanted, "type") != b'"json_schema"':
        return
    told = schema_text(_raw(wanted, "schema"))
    instructions = body.value("instructions")
    if isinstance(instructions, str) and instructions:
        told = f"{instructions}\n\n{told}"
    body.put("instructions", told)
    body.put("text", {**text, "format": {"type": "json_object"}})
    body.note("text.format", "json_object")


def map_effort(body: Body, efforts: Mapping[str, str]) -> None:
    """Name an effort as the vendor does; one that is not in the table stays."""
    reasoning = raw_object(body.raw("reasoning"), "reasoning") or {}
    effort = decode(_raw(reasoning, "effort"), "reasoning")
    if isinstance(effort, str) and effort in efforts:
        body.put("reasoning", {**reasoning, "effort": efforts[effort]})
        body.note("reasoning.effort", efforts[effort])


def fit_effort(body: Body, fitting: Callable[[str], str | None]) -> None:
    """Put the effort that fits in place of the one that is asked for; None: leave it out."""
    reasoning = raw_object(body.raw("reasoning"), "reasoning") or {}
    effort = decode(_raw(reasoning, "effort"), "reasoning")
    if not isinstance(effort, str) or (fitted := fitting(effort)) == effort:
        return
    if fitted is None:
        body.put("reasoning", {name: raw for name, raw in reasoning.items() if name != "effort"})
    else:
        body.put("reasoning", {**reasoning, "effort": fitted})
    body.note("reasoning.effort", fitted or "dropped")


def _raw(fields: Mapping[str, object], name: str) -> bytes:
    value = fields.get(name)
    return bytes(value) if isinstance(value, msgspec.Raw) else NULL
