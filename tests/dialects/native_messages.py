"""Messages of an upstream that speaks the API, for tests: what it sends, what becomes of it."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx2
from msgspec.structs import replace

from farebox.core.call import Call
from farebox.core.usage import Usage
from farebox.dialects.messages import parse
from farebox.dialects.messages_stream import NativeMessageStream
from farebox.dialects.usage import Reading, read_usage
from tests.dialects import accumulating, feeding
from tests.fakes.messages import message_to
from tests.fakes.messages_events import as_sse, events_of
from tests.fakes.personas import ANTHROPIC

MIB = 1024 * 1024
SCRIPT = "think: a b\nsearch: q\nsay: one two thr\u00e9e\ntokens: 100 40 9 2"
CHARGED = Usage(uncached_input=60, cache_read=40, output=9)
TOOLS = [{"type": "web_search_20260318", "name": "web_search"}]
Event = dict[str, Any]


def asked(**changes: Any) -> Call:
    """A call whose search has a price."""
    body = {"model": "m", "max_tokens": 4096, "messages": [{"role": "user", "content": "hi"}]}
    call = parse(json.dumps({**body, "tools": TOOLS}).encode(), "req_abc")
    return replace(call, hosted_tools=("web_search",), **changes)


def upstream(script: str = SCRIPT, **fields: Any) -> list[Event]:
    """The events with which the fake Anthropic answers a script."""
    return events_of(message_to(ANTHROPIC, body_for(script, fields)))


def body_for(script: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The request that a script goes out with."""
    return {
        "model": "up",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": script}],
        "tools": [*TOOLS, {"name": "f", "input_schema": {"type": "object"}}],
        "thinking": {"type": "adaptive"},
        **fields,
    }


def bytes_of(found: list[Event]) -> bytes:
    """The events on the wire."""
    return b"".join(map(as_sse, found))


class Passed(feeding.Passed):
    """What a stream gave, and what it knows."""

    @property
    def events(self) -> list[Event]:
        """All events in order; each is checked to be named by its type."""
        return accumulating.events(self.sent + self.tail)

    @property
    def types(self) -> list[str]:
        """Their types."""
        return [event["type"] for event in self.events]

    @property
    def reading(self) -> Reading:
        """The usage to charge for."""
        return read_usage(self.stream.usage)

    @property
    def known(self) -> tuple[Any, ...]:
        """What settling looks at."""
        stream = self.stream
        return (
            self.reading,
            stream.tool_calls,
            stream.text_bytes,
            self.error,
            self.failure,
            stream.service_tier,
        )


def run(parts: list[bytes], usage: Usage = CHARGED, call: Call | None = None) -> Passed:
    """Feed a stream as the relay does."""
    return Passed.of(NativeMessageStream(call or asked(), MIB), parts, usage)


def accepted(passed: Passed) -> anthropic.types.Message:
    """What the SDK's own stream helper makes of it."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        head = {"content-type": "text/event-stream"}
        return httpx2.Response(200, headers=head, content=passed.sent + passed.tail)

    with (
        httpx2.Client(transport=httpx2.MockTransport(answer)) as http,
        anthropic.Anthropic(api_key="k", http_client=http, max_retries=0) as client,
        client.messages.stream(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}]
        ) as stream,
    ):
        return stream.get_final_message()
