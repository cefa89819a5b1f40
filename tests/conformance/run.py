"""One case in one mode: its calls to the gateway, and everything that was wrong with the answers.

Owns what holds for every response, stream and refusal; what a case asks is in cases.py.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from tests.conformance.order import KEEPALIVE, check_order, final_response
from tests.conformance.schema import Document, Violation
from tests.conformance.wire import Event, Gateway, Reply

_MAX_QUOTE = 300  # characters of an answer that was not expected at all
# What error bodies hold: OpenAI's "Error codes" guide and its SDKs.
_ERROR_FIELDS = {"message": (str,), "type": (str,), "param": (str, type(None))}
_ERROR_FIELDS["code"] = _ERROR_FIELDS["param"]


class Stopped(Exception):
    """The case cannot go on; what was wrong is noted."""


class Skipped(Exception):
    """The model did not do what the case is about; the text tells what it did not."""


@dataclass(frozen=True, slots=True)
class Target:
    """What every case runs against."""

    gateway: Gateway
    model: str
    document: Document
    script: bool = False
    ignored: Sequence[str] = ()


@dataclass
class Run:
    """A case's hands. `problems` and `passed_over` are sentences, "WHERE PATH: what", each once."""

    target: Target
    stream: bool
    problems: dict[str, None] = field(default_factory=dict[str, None])
    passed_over: dict[str, None] = field(default_factory=dict[str, None])

    def create(self, **body: Any) -> dict[str, Any]:
        """POST /responses in this run's mode; the response in the end. Raises Stopped."""
        return self._created(self._post(body), is_capped="max_output_tokens" in body)

    def create_if_taken(self, what: str, **body: Any) -> dict[str, Any]:
        """The same; raises Skipped at a well-formed 400, since not every model takes everything."""
        reply = self._post(body)
        if reply.status == 400:
            error = self.check_refusal(reply, 400)
            raise Skipped(f"the model takes no {what}: {error.get('message')}")
        return self._created(reply, is_capped="max_output_tokens" in body)

    def refused(self, status: int, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """A call that must be refused with this status; its error."""
        return self.check_refusal(self.call(method, path, body), status)

    def answered(self, method: str, path: str, route: str, body: Any = None) -> dict[str, Any]:
        """A call of another route that must be answered, as the document says. Raises Stopped."""
        reply = self.call(method, path, body)
        if reply.status != 200:
            self.stop(f"{method} {route} answered {reply.status}: {_quoted(reply)}")
        value = self._object(reply, f"{method} {route}")
        self.note(f"{method} {route}", self.target.document.check_answer(method, route, value))
        return value

    def call(self, method: str, path: str, body: Any = None) -> Reply:
        """Any call; nothing is asked of its answer but that it is whole."""
        reply = self.target.gateway.call(method, path, body)
        self.expect(not reply.is_cut, f"the answer to {method} {path} broke off")
        return reply

    def expect(self, is_so: bool, otherwise: str) -> None:
        """Note a problem unless it is so."""
        if not is_so:
            self.problems[otherwise] = None

    def stop(self, problem: str) -> None:
        """Note a problem that ends the case. Raises Stopped."""
        self.expect(False, problem)
        raise Stopped

    def note(self, where: str, violations: Sequence[Violation]) -> None:
        """Note what the schema says, but for the places that are to be ignored."""
        for each in violations:
            place = f"{where} {each.path or '(top)'}"
            is_ignored = any(fnmatchcase(place, pattern) for pattern in self.target.ignored)
            (self.passed_over if is_ignored else self.problems)[f"{place}: {each.message}"] = None

    def check_refusal(self, reply: Reply, status: int) -> dict[str, Any]:
        """Its status and the shape of its error."""
        if reply.status != status:
            self.stop(f"expected {status}, the answer was {reply.status}: {_quoted(reply)}")
        value = self._object(reply, f"the {status}")
        error = value.get("error")
        if not isinstance(error, dict):
            self.stop(f"the {status} has no error object: {_quoted(reply)}")
            raise Stopped
        for name, types in _ERROR_FIELDS.items():
            is_right = name in error and isinstance(error[name], types)
            self.expect(is_right, f"the {status}'s error.{name} is {error.get(name)!r}")
        self.note(f"the {status}", self.target.document.check_error(value))
        return error

    def _post(self, body: dict[str, Any]) -> Reply:
        mode = {"stream": True} if self.stream else {}
        return self.call("POST", "/responses", {"model": self.target.model, **body, **mode})

    def _created(self, reply: Reply, *, is_capped: bool) -> dict[str, Any]:
        if reply.status != 200:
            self.stop(f"POST /responses answered {reply.status}: {_quoted(reply)}")
        response = self._streamed(reply) if self.stream else self._plain(reply)
        self.expect(response.get("model") == self.target.model, "the model's id is not echoed")
        status = response.get("status")
        if status != "completed" and not (status == "incomplete" and is_capped):
            self.stop(f"the response's status is {status!r}, its error {response.get('error')!r}")
        self._check_usage(response.get("usage"))
        return response

    def _object(self, reply: Reply, what: str) -> dict[str, Any]:
        kind = reply.content_type
        is_json = kind.startswith("application/json")
        self.expect(is_json, f"{what} is of content type {kind!r}, not application/json")
        try:
            value = reply.json()
        except ValueError:
            value = None
        if not isinstance(value, dict):
            self.stop(f"{what} is not an object of JSON: {_quoted(reply)}")
        return value or {}

    def _plain(self, reply: Reply) -> dict[str, Any]:
        value = self._object(reply, "response")
        self.note("response", self.target.document.check_response(value))
        return value

    def _streamed(self, reply: Reply) -> dict[str, Any]:
        if not reply.is_stream:
            self.stop(f"the answer is of content type {reply.content_type!r}, not a stream")
        events = [(event.name, self._data(event)) for event in reply.events()]
        for _, data in events:
            if data.get("type") != KEEPALIVE:
                self.note(str(data.get("type")), self.target.document.check_event(data))
        for problem in check_order(events):
            self.problems[f"order: {problem}"] = None
        final = final_response(events)
        if final is None:
            self.stop("the stream ended without the final response")
        return final or {}

    def _data(self, event: Event) -> dict[str, Any]:
        try:
            data = json.loads(event.data)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            self.stop(f"an event's data is not an object of JSON: {event.data[:_MAX_QUOTE]!r}")
        return data or {}

    def _check_usage(self, usage: Any) -> None:
        if not isinstance(usage, dict):
            self.expect(False, "the response has no usage")
            return
        parts = [usage.get(f"{name}_tokens") for name in ("input", "output", "total")]
        numbers = [part for part in parts if isinstance(part, int)]
        is_sum = len(numbers) == 3 and numbers[0] + numbers[1] == numbers[2]
        self.expect(is_sum, f"usage does not add up: {usage!r}")


def _quoted(reply: Reply) -> str:
    return reply.body[:_MAX_QUOTE].decode("utf-8", "replace")
