"""Callers side by side at one gateway or several: streams and JSON mixed, each of a known price.

What a caller has whole is noted with what it must have cost. What it was told instead is counted,
and what a healthy upstream and a rich account can never lead to is a violation.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from tests.e2e.serving import Serving

PRICES = {"gpt-5.6": (4_000, 20_000), "test-slow": (2_500, 10_000)}  # nano-credits a token
_READ_S = 60.0
_AGAIN_S = 0.02  # after a connection that was refused


@dataclass(frozen=True, slots=True)
class Ask:
    """One call, and what it costs."""

    body: bytes
    stream: bool
    due: int


@dataclass
class Told:
    """What callers were told."""

    whole: dict[str, int] = field(default_factory=dict[str, int])  # what each call must cost
    not_whole: Counter[str] = field(default_factory=Counter[str])
    violations: list[str] = field(default_factory=list[str])
    slowest_s: float = 0.0


class Pressing:
    """`with Pressing(gateways, key) as pressing:` presses until the end of the block; then `told`
    says what came of it. `allowed`: what callers may be told besides 200, as "503
    billing_unavailable".
    """

    def __init__(
        self,
        gateways: Sequence[Serving],
        key: str,
        *,
        callers: int = 16,
        seed: int = 0,
        allowed: Sequence[str] = ("503 billing_unavailable",),
    ) -> None:
        self._ports = [int(gateway.origin.rpartition(":")[2]) for gateway in gateways]
        self._key = key
        self._callers = callers
        self._random = random.Random(seed)
        self._allowed = {*allowed}
        self._ends = False
        self._thread = threading.Thread(target=self._run, name="pressing")
        self._answered = threading.Condition()
        self.told = Told()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends = True
        self._thread.join()

    def wait_for_answers(self, count: int, timeout_s: float) -> bool:
        """Whether so many more calls were answered to the end, in that time."""
        with self._answered:
            enough = len(self.told.whole) + count
            return self._answered.wait_for(lambda: len(self.told.whole) >= enough, timeout_s)

    def _run(self) -> None:
        asyncio.run(self._press())

    async def _press(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._callers):
                group.create_task(self._call_on())

    async def _call_on(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._ends:
            ask = self._ask()
            began_s = loop.time()
            try:
                async with asyncio.timeout(_READ_S):
                    raw = await self._exchange(ask)
            except TimeoutError:
                self.told.violations.append("a call was not answered")
                continue
            except OSError:
                self.told.not_whole["no connection"] += 1
                await asyncio.sleep(_AGAIN_S)
                continue
            self.told.slowest_s = max(self.told.slowest_s, loop.time() - began_s)
            self._note(ask, raw)

    def _ask(self) -> Ask:
        chance = self._random
        stream = chance.random() < 0.5
        model = "test-slow" if stream and chance.random() < 0.3 else "gpt-5.6"
        prompt, completion = chance.randint(1, 50), chance.randint(1, 20)
        usage = {"prompt_tokens": prompt, "completion_tokens": completion}
        usage["total_tokens"] = prompt + completion
        text = f"say: one two three\nusage: {json.dumps(usage)}"
        body = {
            "model": model,
            "stream": stream,
            "max_tokens": 64,
            "messages": [{"role": "user", "content": text}],
        }
        p_in, p_out = PRICES[model]
        return Ask(json.dumps(body).encode(), stream, prompt * p_in + completion * p_out)

    async def _exchange(self, ask: Ask) -> bytes:
        port = self._random.choice(self._ports)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            head = (
                f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
                f"Authorization: Bearer {self._key}\r\nContent-Length: {len(ask.body)}\r\n\r\n"
            )
            writer.write(head.encode() + ask.body)
            received = b""
            try:
                while data := await reader.read(65536):
                    received += data
            except ConnectionError:
                pass  # what has come by then counts
            return received
        finally:
            writer.close()

    def _note(self, ask: Ask, raw: bytes) -> None:
        head, _, body = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines[1:])
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        status = lines[0].split()[1] if len(lines[0].split()) > 1 else ""
        if not status:
            self.told.not_whole["no answer"] += 1
        elif status == "200":
            is_whole = _is_whole_stream(body) if ask.stream else _is_whole(body, headers)
            if is_whole:
                with self._answered:
                    self.told.whole[headers["x-request-id"]] = ask.due
                    self._answered.notify_all()
            else:
                self.told.not_whole["cut short"] += 1
        else:
            told = f"{status} {_code(body)}"
            self.told.not_whole[told] += 1
            if told not in self._allowed:
                self.told.violations.append(f"a caller was told {told}: {body[:300]!r}")


def _is_whole(body: bytes, headers: dict[str, str]) -> bool:
    return len(body) == int(headers.get("content-length", "-1"))


def _is_whole_stream(body: bytes) -> bool:
    # The last chunk of chunked coding has no bytes.
    return b"data: [DONE]" in body and body.endswith(b"\r\n0\r\n\r\n")


def _code(body: bytes) -> str:
    try:
        return json.loads(body)["error"]["code"]
    except (ValueError, LookupError, TypeError):
        return "without a code"
