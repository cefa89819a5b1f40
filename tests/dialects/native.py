"""Responses of an upstream that speaks the API, for tests: what it sends, what becomes of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, cast

from openai import omit
from openai._models import construct_type
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent

from farebox.core.call import Call
from farebox.core.usage import Usage
from farebox.dialects.responses import parse
from farebox.dialects.responses_shell import Shell
from farebox.dialects.responses_stream import NativeStream
from tests.dialects.feeding import is_good, reason_of
from tests.dialects.responding import circumstances, events
from tests.fakes.personas import OPENAI
from tests.fakes.responses import answer_for
from tests.fakes.responses_events import as_sse, events_of

MIB = 1024 * 1024
SCRIPT = "think: a b c\nsearch: q\nsay: one two thr\u00e9e"
TOOLS = [
    {"type": "web_search"},
    {"type": "function", "name": "f", "parameters": {"type": "object"}},
    {"type": "custom", "name": "patch", "format": {"type": "text"}},
]


def upstream(script: str = SCRIPT, **fields: Any) -> list[dict[str, Any]]:
    """The events with which the fake OpenAI answers a script; without one, items of every kind."""
    body = {"model": "up", "input": script, "store": False, "tools": TOOLS, **fields}
    answer = answer_for(OPENAI, body)
    if script is SCRIPT:
        calls = answer_for(OPENAI, {**body, "input": "tools"})
        answer = replace(answer, items=answer.items + calls.items)
    return events_of(answer)


def bytes_of(found: list[dict[str, Any]]) -> bytes:
    """The events on the wire."""
    return b"".join(map(as_sse, found))


def charged(found: list[dict[str, Any]]) -> Usage:
    """What is charged for the usage that such a stream reports."""
    usage = found[-1]["response"]["usage"]
    return Usage(uncached_input=usage["input_tokens"], output=usage["output_tokens"])


@dataclass(frozen=True)
class Passed:
    """What a stream gave, and what it knows."""

    sent: bytes
    tail: bytes
    failure: str | None
    stream: NativeStream
    shell: Shell

    @property
    def events(self) -> list[dict[str, Any]]:
        """All events in order; each is checked to be named by its type."""
        return events(self.sent + self.tail)

    @property
    def types(self) -> list[str]:
        """Their types, without `response.`."""
        return [event["type"].removeprefix("response.") for event in self.events]

    @property
    def response(self) -> dict[str, Any]:
        """The response object of the last event."""
        return self.events[-1]["response"]

    @property
    def known(self) -> tuple[Any, ...]:
        """What settling looks at."""
        stream = self.stream
        usage = stream.usage and bytes(stream.usage)
        return (usage, stream.tool_calls, stream.text_bytes, stream.error, self.failure)


def run(
    parts: list[bytes], usage: Usage | None = None, pings: tuple[int, ...] = (), **fields: Any
) -> Passed:
    """Feed a stream as the relay does; `pings` are the parts before which there is one."""
    body = {"model": "m", "input": "hi", "stream": True, "tools": TOOLS, **fields}
    call = parse(json.dumps(body).encode(), "req_abc")
    around = circumstances()
    shell = Shell(call, around)
    stream = NativeStream(call, shell, around, MIB)
    sent = b""
    for n, part in enumerate(parts):
        if stream.finished:
            break
        sent += (shell.ping() if n in pings else b"") + stream.feed(part)
    if not stream.finished:
        sent += stream.end()
    tail = stream.tail(usage or Usage(uncached_input=7, output=3)) if is_good(stream) else b""
    return Passed(sent, tail, reason_of(stream), stream, shell)


def accepted(passed: Passed) -> Response:
    """What the SDK's own stream helper makes of it."""
    found = passed.events
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    assert found[0]["type"] == "response.created"
    state = ResponseStreamState(input_tools=[], text_format=omit)
    for event in found:
        typed = construct_type(type_=ResponseStreamEvent, value=event)
        state.handle_event(cast("ResponseStreamEvent", typed))
    return cast("Response", construct_type(type_=Response, value=passed.response))


def asked(**fields: Any) -> tuple[Call, Shell]:
    """A call, and the shell of its response."""
    call = parse(json.dumps({"model": "m", "input": "hi", **fields}).encode(), "req_abc")
    return call, Shell(call, circumstances())
