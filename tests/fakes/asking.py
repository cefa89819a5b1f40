"""How tests of the fake upstream ask any of its APIs, over plain HTTP, and what of its faults."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from typing import Any

from tests.fakes.upstream import FakeUpstream

HANGING = {"hang-before-head", "hang-mid-stream", "hang-after-usage", "endless", "hop-loop"}
CUT = {"close-before-head", "truncated", "reset-mid-stream"}


def exchange(
    upstream: FakeUpstream, path: str, body: dict[str, Any], headers: dict[str, str]
) -> tuple[int, bytes]:
    """Status and body of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", upstream.port, timeout=10)
    try:
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def events_of(answer: tuple[int, bytes]) -> list[dict[str, Any]]:
    """The events of a stream whose events have names."""
    status, raw = answer
    assert status == 200
    return [json.loads(e.partition("data: ")[2]) for e in raw.decode().split("\n\n") if e]


def check_fault_ends(
    upstream: FakeUpstream,
    fault: str,
    post: Callable[[FakeUpstream, dict[str, Any]], tuple[int, bytes]],
    request: Callable[..., dict[str, Any]],
) -> None:
    """It spoils its own answer, whole and streamed, and no later one."""
    for stream in (False, True):
        try:
            post(upstream, request(model=fault, stream=stream))
        except (http.client.HTTPException, ConnectionError):
            assert fault in CUT
    assert post(upstream, request())[0] == 200
    upstream.wait_for_sockets()
