"""What tests of the Messages API's routes say to a worker, whose upstream speaks chat."""

import json
from dataclasses import replace

from farebox.routing.catalogue import Catalogue
from tests.server.asking import chunk, completion
from tests.server.worker import JSON_HEAD, SSE_HEAD

REQUEST = {
    "model": "m",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": "words of a user"}],
}
HEADERS = {"anthropic-version": "2023-06-01"}
VENDORS = ["openai_compatible", "openai", "deepseek", "zai", "zhipu", "mimo"]
TOOL = {"name": "look", "input_schema": {"type": "object", "properties": {"at": {}}}}
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "look", "arguments": '{"at": "door"}'},
}


def of_vendor(worker, vendor):
    """The worker, whose upstream is this vendor's, and speaks chat."""
    catalogue = worker.state.gateway.catalogue
    worker.state.gateway.catalogue = Catalogue.of(
        catalogue.version,
        [
            replace(channel, vendor=vendor, speaks=("chat",))
            for channel in catalogue.channels.values()
        ],
        catalogue.models.values(),
        catalogue.groups.values(),
    )
    return worker


def will_say(worker, text, **message):
    """The next call's upstream answers with one JSON body."""
    return worker.will_answer(JSON_HEAD, completion(text, **message))


def will_call(worker):
    """The next call's upstream calls the tool, in one JSON body."""
    body = completion(None, tool_calls=[CALL]).replace(b'"stop"', b'"tool_calls"')
    return worker.will_answer(JSON_HEAD, body)


def will_stream(worker, *steps, finish="stop", usage=None):
    """The next call's upstream streams these: texts, deltas, events to wait for, errors."""
    script = [chunk({"role": "assistant", "content": ""})]
    for step in steps:
        delta = {"content": step} if isinstance(step, str) else step
        script.append(chunk(delta) if isinstance(delta, dict) else delta)
    usage = usage or {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    script += [chunk({}, finish, usage=usage), b"data: [DONE]\n\n"]
    return worker.will_answer(SSE_HEAD, *script)


async def post(worker, body=None, path="", headers=None, **fields):
    """POST to /v1/messages and `path`, as Anthropic's clients do; `fields` change the request."""
    data = json.dumps({**REQUEST, **fields}).encode() if body is None else body
    headers = {**HEADERS, "x-api-key": worker.secret, **(headers or {})}
    return await worker.ask("POST", "/v1/messages" + path, headers, data)


def sent(worker, at=-1):
    """The body of a request to the upstream."""
    return json.loads(worker.upstream.requests[at].body)


def native(text, **usage):
    """A whole answer of an upstream that speaks Messages."""
    return {
        "id": "msg_upstream",
        "type": "message",
        "role": "assistant",
        "model": "upstream-m",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 5, **usage},
    }


def native_stream(text, **usage):
    """The same as a stream, in as few events as there may be."""
    whole = native(text, **usage)
    begun = {**whole, "content": [], "stop_reason": None}
    begun["usage"] = {**whole["usage"], "output_tokens": 1}
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    events = [
        {"type": "message_start", "message": begun},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": ""},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": text},
        },
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]
    return [f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in events]
