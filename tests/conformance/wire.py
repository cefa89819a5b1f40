"""Plain HTTP to a gateway, and the events of its streams. Judges nothing of what comes."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_TIMEOUT_S = 300  # of silence; a small model on a small machine takes its time


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream: what its `event:` line names, and its data as text."""

    name: str
    data: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back; `is_cut` when it broke off."""

    status: int
    content_type: str
    body: bytes
    is_cut: bool = False

    @property
    def is_stream(self) -> bool:
        return self.content_type.startswith("text/event-stream")

    def json(self) -> Any:
        """The body decoded. Raises ValueError."""
        return json.loads(self.body)

    def events(self) -> tuple[Event, ...]:
        """The body as events, as the HTML standard ("server-sent events") reads it."""
        return tuple(_events(self.body.decode("utf-8", "replace")))


@dataclass(frozen=True, slots=True)
class Gateway:
    """`url` ends in /v1, as the SDKs' base URL does."""

    url: str
    key: str

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Reply:
        """One call; a refusal is a reply too. Raises OSError when nothing answers."""
        request = urllib.request.Request(
            self.url.rstrip("/") + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
            method=method,
        )
        # Straight to the gateway: a proxy might keep events back.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=_TIMEOUT_S) as answer:
                return _read(answer.status, answer)
        except urllib.error.HTTPError as refusal:
            with refusal:
                return _read(refusal.code, refusal)


def _read(status: int, answer: Any) -> Reply:
    kind = answer.headers.get("Content-Type", "")
    try:
        return Reply(status, kind, answer.read())
    except http.client.IncompleteRead as cut:
        return Reply(status, kind, cut.partial, is_cut=True)


def _events(text: str) -> Iterator[Event]:
    name, data = "", list[str]()
    for line in text.replace("\r\n", "\n").split("\n"):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line and field == "event":
            name = value
        elif line and field == "data":
            data.append(value)
        elif not line:
            if data:
                yield Event(name, "\n".join(data))
            name, data = "", []
