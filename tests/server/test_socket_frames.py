"""Frames that ask for nothing that there is."""

import pytest

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
