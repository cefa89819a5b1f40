"""Clients that must not notice a reload: connections that are kept, and nothing tried twice."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from types import TracebackType
from typing import Self

from tests.e2e.pressing import PRICES
from tests.e2e.serving import Serving

_LIMIT_S = 60
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def body(model: str, words: int, *, stream: bool) -> bytes:
    """A call that is answered with so many words, and costs `due(model)`."""
    text = f"say: {' '.join(['word'] * words)}\nusage: {json.dumps(USAGE)}"
    asked = {"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]}
    return json.dumps(asked).encode()


def due(model: str) -> int:
    """What it costs, in nano-credits."""
    p_in, p_out = PRICES[model]
    return 10 * p_in + 5 * p_out


@dataclass
class Seen:
    """What clients have seen: whole answers with what each must cost, and what went wrong."""

    whole: dict[str, int] = field(default_factory=dict[str, int])
    streams: int = 0
    probes: int = 0
    wrong: list[str] = field(default_factory=list[str])


class Kept:
    """One connection at a time, kept for as long as the server lets it be."""

    def __init__(self, gateway: Serving, key: str) -> None:
        self.connection = HTTPConnection(
            "127.0.0.1", int(gateway.origin.rpartition(":")[2]), timeout=_LIMIT_S
        )
        self._headers = {"Authorization": f"Bearer {key}"}

    def ask(self, method: str, path: str, data: bytes | None = None) -> tuple[HTTPResponse, bytes]:
        """Raises OSError, HTTPException: a connection that was closed is not tried again."""
        self.connection.request(method, path, data, self._headers)
        answer = self.connection.getresponse()
        return answer, answer.read()

    def close(self) -> None:
        self.connection.close()


class Rolling:
    """`with Rolling(gateway, key) as rolling:` calls, streams and asks whether the gateway is ready
    until the end of the block; then `seen` says what came of it.
    """

    def __init__(self, gateway: Serving, key: str, *, callers: int = 2, streams: int = 2) -> None:
        self._gateway = gateway
        self._key = key
        self._ends = threading.Event()
        kinds: Sequence[Callable[[Kept], None]] = (
            *[self._call] * callers,
            *[self._stream] * streams,
            self._probe,
        )
        self._threads = [threading.Thread(target=self._go_on, args=[kind]) for kind in kinds]
        self.seen = Seen()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()

    def _go_on(self, once: Callable[[Kept], None]) -> None:
        kept = Kept(self._gateway, self._key)
        while not self._ends.is_set():
            try:
                once(kept)
            except (OSError, HTTPException) as error:
                self.seen.wrong.append(f"{once.__name__}: {error!r}")
                kept.close()
        kept.close()

    def _call(self, kept: Kept) -> None:
        self._note(kept, "gpt-5.6", 2, stream=False)
        self._ends.wait(0.05)  # a client that does something else, too, and leaves it idle

    def _stream(self, kept: Kept) -> None:
        self._note(kept, "test-slow", 15, stream=True)
        self.seen.streams += 1

    def _note(self, kept: Kept, model: str, words: int, *, stream: bool) -> None:
        path = "/v1/chat/completions"
        answer, data = kept.ask("POST", path, body(model, words, stream=stream))
        end = b"data: [DONE]\n\n" if stream else b"}"
        if answer.status == 200 and data.endswith(end) and data.count(b"word") == words:
            self.seen.whole[answer.headers["x-request-id"]] = due(model)
        else:
            self.seen.wrong.append(f"{answer.status} {data[-200:]!r}")

    def _probe(self, kept: Kept) -> None:
        answer, data = kept.ask("GET", "/readyz")
        self.seen.probes += 1
        if answer.status != 200:
            self.seen.wrong.append(f"/readyz: {answer.status} {data!r}")
        self._ends.wait(0.1)
