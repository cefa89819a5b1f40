"""What tests of the Responses API's routes say to a worker, and what its upstream says."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace

from farebox.routing.catalogue import Catalogue
from tests.server.worker import JSON_HEAD, SSE_HEAD

CANARY = "canary-of-a-user"
REQUEST = {"model": "m", "input": "words of a user"}
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def chunk(delta, finish_reason=None, **more):
    """One event of a chat upstream's stream."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    data = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "up"}
    return b"data: " + json.dumps({**data, "choices": [choice], **more}).encode() + b"\n\n"


def stream_of(*texts):
    """The events of a whole stream that says these texts."""
    said = [chunk({"content": text}) for text in texts]
    end = chunk({}, "stop", usage=USAGE)
    return [chunk({"role": "assistant", "content": ""}), *said, end, b"data: [DONE]\n\n"]


def completion(text, **message):
    """A chat upstream's whole answer."""
    said = {"role": "assistant", "content": text, **message}
    choice = {"index": 0, "message": said, "finish_reason": "stop"}
    data = {"id": "c", "object": "chat.completion", "created": 1, "model": "up"}
    return json.dumps({**data, "choices": [choice], "usage": USAGE}).encode()


def native(text):
    """A whole answer of an upstream that speaks Responses."""
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    number = len(text)
    message = {
        "type": "message",
        "id": f"msg_up{number}",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }
    usage = {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 15,
    }
    response = {"id": f"resp_up{number}", "object": "response", "created_at": 1, "model": "up"}
    response |= {"status": "completed", "output": [message], "usage": usage}
    return response


def native_stream(text):
    """The same as a stream, in as few events as there may be."""
    response = native(text)
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    (item,) = response["output"]
    events = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": response},
    ]
    return [
        f"event: {event['type']}\ndata: {json.dumps({**event, 'sequence_number': n})}\n\n".encode()
        for n, event in enumerate(events)
    ]


def speaking(worker, wire):
    """The worker, whose upstream speaks this dialect and no other."""
    catalogue = worker.state.gateway.catalogue
    worker.state.gateway.catalogue = Catalogue.of(
        catalogue.version,
        [replace(channel, speaks=(wire,)) for channel in catalogue.channels.values()],
        catalogue.models.values(),
        catalogue.groups.values(),
    )
    return worker


def is_native(worker):
    """Whether its upstream speaks Responses."""
    return worker.state.gateway.catalogue.channels["c"].speaks == ("responses",)


def will_say(worker, text):
    """The next call's upstream answers with one JSON body."""
    body = json.dumps(native(text)).encode() if is_native(worker) else completion(text)
    worker.will_answer(JSON_HEAD, body)


def will_stream(worker, *texts):
    """The next call's upstream streams; give events among the texts to wait for them."""
    if is_native(worker):
        return worker.will_answer(SSE_HEAD, *native_stream("".join(texts)))
    steps = stream_of()
    said = [chunk({"content": text}) if isinstance(text, str) else text for text in texts]
    return worker.will_answer(SSE_HEAD, steps[0], *said, *steps[1:])


async def post(worker, path="", secret=None, headers=None, **fields):
    """POST below /v1/responses; with `fields` it has a body."""
    body = json.dumps(fields).encode() if fields else b""
    secret = worker.secret if secret is None else secret
    return await worker.ask("POST", "/v1/responses" + path, headers, body, secret)


async def create(worker, say="Hello!", secret=None, **fields):
    """Make a response and give it back, once it is there."""
    will_say(worker, say)
    answer = await post(worker, secret=secret, **{**REQUEST, **fields})
    assert answer.status == 200, answer.body
    return answer.json


async def get(worker, path, secret=None, method="GET"):
    """GET below /v1/responses/."""
    secret = worker.secret if secret is None else secret
    return await worker.ask(method, "/v1/responses/" + path, secret=secret)


def events_in(body):
    """The data of each event of a stream, checked against its event line."""
    found = []
    for block in body.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines())
        if lines:
            found.append(json.loads(lines["data"]))
            assert found[-1]["type"] == lines["event"]
    return found


def sent_messages(worker, at=-1):
    """The messages of a request to the upstream: role and content."""
    body = json.loads(worker.upstream.requests[at].body)
    if "input" in body:
        told = [("system", body["instructions"])] if body.get("instructions") else []
        items = body["input"]
        if isinstance(items, str):
            items = [{"role": "user", "content": items}]
        return told + [(each["role"], _text_of(each["content"])) for each in items]
    return [(each["role"], each["content"]) for each in body["messages"]]


def stored(worker):
    """The store's file with everything that was written."""
    path = worker.state.kept.path
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.read_bytes()


def _text_of(content):
    return content if isinstance(content, str) else "".join(part["text"] for part in content)
