"""Frames that ask for nothing that there is."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.errors import BadRequest
from farebox.server.socket_frames import read_call, read_create
from tests.server.sockets import FIRST, REST, ask, frames, socket
from tests.server.worker import SSE_HEAD

pytestmark = pytest.mark.anyio


def _nested(depth):
    return '{"type":"response.create","input":' + "[" * depth + "]" * depth + "}"


@pytest.mark.parametrize(
    "rubbish",
    [
        "",
        "not JSON",
        "[]",
        "{}",
        '{"type":1}',
        '{"type":"session.update"}',
        '{"type":"response.steer","previous_response_id":"resp_1","input":[]}',
        '{"type":"response.create"',
        '{"type":"response.create"}',
        '{"type":"response.create","type":"response.create","model":"m","input":"Hi"}',
        '{"type":"response.create","model":"m","input":"Hi","background":true}',
        '{"type":"response.create","model":"m","input":"Hi","generate":"no"}',
        '{"type":"response.create","model":"m","input":"Hi","stream_id":7}',
        '{"type":"response.create","model":"m","input":7}',
        '{"type":"response.create","model":"m","input":[7]}',
        '{"type":"response.create","model":"m","input":"Hi","conversation":"conv_1"}',
        '{"type":"response.create","model":"m","input":"Hi","max_output_tokens":1}',
        '{"type":"response.create","model":"m","input":"\\ud800"}',
        _nested(100_000),
        b'{"type":"response.create","model":"m","input":"Hi"}',
        b"\xff\x00",
    ],
)
async def test_a_frame_of_rubbish_is_answered_with_an_error(worker, rubbish):
    """400 in OpenAI's shape, nothing charged or sent, and the socket goes on."""
    worker.will_answer(SSE_HEAD, FIRST, REST)
    async with socket(worker) as opened:
        await opened.send(rubbish)
        error = (await frames(opened))[-1]
        assert (error["type"], error["status"]) == ("error", 400)
        assert set(error["error"]) == {"message", "type", "param", "code"}
        assert (worker.upstream.requests, worker.books.settlements) == ([], [])
        assert (await ask(opened))[-1]["type"] == "response.completed"


_KEYS = st.sampled_from(
    ["type", "model", "input", "stream_id", "generate", "event_id", "background", "stream", "tools"]
)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["response.create", "response.steer", "m", ""])
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
)


@given(st.dictionaries(_KEYS, _VALUES) | _VALUES, st.integers(0, 200), st.binary(max_size=3))
def test_whatever_a_frame_holds_it_is_a_call_or_an_error_of_the_clients(frame, place, mixed_in):
    """Nothing else is raised; and a call is a stream that is named nothing of the socket's."""
    whole = json.dumps(frame).encode()
    for data in (whole, whole[:place] + mixed_in + whole[place:]):
        try:
            read_create(data)
            call = read_call(data, "req_1", ())
        except BadRequest:
            continue
        assert call.stream
        assert not call.fields.keys() & {"type", "stream_id", "generate", "event_id"}
