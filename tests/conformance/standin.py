"""A stand-in for a gateway that obeys the scripted prompts, and a made-up document about it.

Small and right, so that a test can spoil one thing. It is no model of the real gateway: only of
what the tool looks at.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Value = dict[str, Any]

_SAME_ALWAYS: dict[str, Value] = {
    "/v1/responses/input_tokens": {"object": "response.input_tokens", "input_tokens": 7},
    "/v1/responses/compact": {"output": [{"type": "compaction"}]},
}


def document() -> Value:
    """What this stand-in answers, in OpenAPI 3.1 with one 3.0 `nullable`."""
    text = {"type": "string"}
    message = _object(type=_just("message"), id=text, content={"type": "array"})
    call = _object(type=_just("function_call"), id=text, arguments=text)
    reasoning = _object(type=_just("reasoning"), id=text, summary={"type": "array"})
    items = {"oneOf": [_ref("Message"), _ref("Call"), _ref("Reasoning")]}
    items["discriminator"] = {"propertyName": "type"}  # pyright: ignore[reportArgumentType]
    usage = {**_object(total_tokens={"type": "integer"}), "nullable": True}
    response = _object(id=text, output={"type": "array", "items": _ref("Item")}, usage=usage)
    parts = ("content_part.added", "content_part.done", "output_text.delta", "output_text.done")
    calls = ("function_call_arguments.delta", "function_call_arguments.done")
    events = [
        *(_event(each, response=_ref("Response")) for each in ("created", "completed")),
        *(_event(f"output_item.{each}", item=_ref("Item")) for each in ("added", "done")),
        *(_event(each, item_id=text) for each in (*parts, *calls)),
    ]
    content = {
        "application/json": {"schema": _ref("Response")},
        "text/event-stream": {"schema": {"anyOf": events}},
    }
    return {
        "paths": {"/responses": {"post": {"responses": {"200": {"content": content}}}}},
        "components": {
            "schemas": {
                "Message": message,
                "Call": call,
                "Reasoning": reasoning,
                "Item": items,
                "Response": response,
                "ErrorResponse": _object(error=_object(message=text)),
            }
        },
    }


def _ref(name: str) -> Value:
    return {"$ref": f"#/components/schemas/{name}"}


def _just(value: str) -> Value:
    return {"type": "string", "enum": [value]}


def _object(**properties: Value) -> Value:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _event(kind: str, **properties: Value) -> Value:
    number = {"type": "integer"}
    return _object(type=_just(f"response.{kind}"), sequence_number=number, **properties)


@dataclass
class StandIn:
    """The gateway; `spoil` is given each response object and each list of events to change."""

    spoil: Callable[[Value], None] = lambda _: None
    spoil_events: Callable[[list[Value]], None] = lambda _: None
    kept: dict[str, tuple[Value, Value]] = field(default_factory=dict[str, tuple[Value, Value]])
    url: str = ""

    def answer(self, method: str, path: str, body: Value) -> tuple[int, Value | list[Value]]:
        """The status, and an object or the events of a stream."""
        if path in _SAME_ALWAYS:
            return 200, _SAME_ALWAYS[path]
        if path == "/v1/responses":
            return self._create(body)
        identity, _, rest = path.removeprefix("/v1/responses/").partition("/")
        if identity not in self.kept:
            return 404, _error("no such response", "response_id", None)
        asked, response = self.kept[identity]
        if method == "DELETE":
            del self.kept[identity]
            return 200, {"id": identity, "object": "response", "deleted": True}
        if rest == "input_items":
            item = {"id": "msg_in", **_last(asked)}
            ends = {"first_id": "msg_in", "last_id": "msg_in", "has_more": False}
            return 200, {"object": "list", "data": [item], **ends}
        return 200, response

    def _create(self, body: Value) -> tuple[int, Value | list[Value]]:
        for name, is_wrong in (
            ("max_output_tokens", body.get("max_output_tokens", 16) < 16),
            ("metadata", len(body.get("metadata") or {}) > 16),
            ("input", not isinstance(body.get("input"), str | list)),
        ):
            if is_wrong:
                return 400, _error(f"{name} is wrong", name, "invalid_value")
        before = body.get("previous_response_id")
        if before is not None and before not in self.kept:
            return 400, _error("unknown", "previous_response_id", "previous_response_not_found")
        response = self._response(body, 5 if before is None else 10)
        if body.get("store") is not False:
            self.kept[response["id"]] = (body, response)
        if not body.get("stream"):
            self.spoil(response)
            return 200, response
        events = list(_events(response))
        for at, event in enumerate(events):
            event["sequence_number"] = at
            if "response" in event:
                self.spoil(event["response"])
        self.spoil_events(events)
        return 200, events

    def _response(self, body: Value, input_tokens: int) -> Value:
        echoed = ("model", "instructions", "tools", "text", "previous_response_id")
        usage = {"input_tokens": input_tokens, "output_tokens": 2}
        return {
            "id": f"resp_{threading.get_ident()}_{len(self.kept)}",
            "status": "completed",
            **{name: body.get(name) for name in echoed},
            "store": body.get("store") is not False,
            "metadata": body.get("metadata") or {},
            "output": _output(body),
            "usage": {**usage, "total_tokens": input_tokens + 2},
        }


def _last(body: Value) -> Value:
    given = body["input"]
    return {"role": "user", "content": given} if isinstance(given, str) else given[-1]


def _output(body: Value) -> list[Value]:
    content = _last(body).get("content") or ""
    script: str = content if isinstance(content, str) else content[-1]["text"]
    parted = [line.partition(": ") for line in script.splitlines()]
    lines = {name: rest for name, _, rest in parted}
    if "tools" in lines:
        called = {"call_id": "call_1", "name": "get_weather", "arguments": '{"city": "Paris"}'}
        return [{"type": "function_call", "id": "fc_1", **called}]
    part = {"type": "output_text", "text": lines.get("say", "Well."), "annotations": []}
    message = {"type": "message", "id": "msg_1", "role": "assistant", "content": [part]}
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed"}
    return [thought, message] if "think" in lines else [message]


def _events(response: Value) -> Iterator[Value]:
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    yield {"type": "response.created", "response": begun}
    for index, item in enumerate(response["output"]):
        where = {"output_index": index, "item_id": item["id"], "content_index": 0}
        opened = {**item, "content": [], "arguments": ""}
        yield {"type": "response.output_item.added", "output_index": index, "item": opened}
        for part in item.get("content") or ():
            yield {"type": "response.content_part.added", **where, "part": part}
            for word in (part["text"][:3], part["text"][3:]):
                yield {"type": "response.output_text.delta", **where, "delta": word}
            yield {"type": "response.output_text.done", **where, "text": part["text"]}
            yield {"type": "response.content_part.done", **where, "part": part}
        if arguments := item.get("arguments"):
            kind = "response.function_call_arguments"
            yield {"type": f"{kind}.delta", **where, "delta": arguments}
            yield {"type": f"{kind}.done", **where, "arguments": arguments}
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": "response.completed", "response": response}


def _error(message: str, param: str, code: str | None) -> Value:
    return {"error": {"message": message, "type": "bad", "param": param, "code": code}}


@contextmanager
def serving(stand_in: StandIn) -> Iterator[StandIn]:
    """The stand-in on a port of its own; its `url` says where."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length) or b"{}")
            status, value = stand_in.answer(self.command, self.path, body)
            kind, data = "application/json", json.dumps(value).encode()
            if isinstance(value, list):
                lines = [f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in value]
                kind, data = "text/event-stream; charset=utf-8", "".join(lines).encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_DELETE = do_POST  # noqa: N815 - the names that the library looks for

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        stand_in.url = f"http://127.0.0.1:{server.server_port}/v1"
        yield stand_in
        server.shutdown()
        thread.join()
