"""POST /v1/responses/compact: a conversation's summary in place of it, as one call.

The model is asked for the summary like for any answer, whatever its upstream speaks, and the call
is charged like any other; here its text is sealed, and its answer gets the form of a compaction.
Source: OpenAI's OpenAPI document, `CompactResource`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec
from msgspec.structs import replace

from farebox import relay
from farebox.core.call import Call, Headers
from farebox.core.ports import Client
from farebox.dialects import chat, responses
from farebox.dialects.responses_to_chat import COMPACT
from farebox.errors import UpstreamFailed
from farebox.server.client import Wrapped
from farebox.server.incoming import receive_call
from farebox.server.items import heads, with_ids
from farebox.server.kept import FALSE, Resolved, off_loop, resolve
from farebox.server.reply import Reply, Request, error_headers
from farebox.server.state import State

_ASKED = msgspec.Raw(msgspec.json.encode({"role": "user", "content": COMPACT}))
_NOT_SENT = ("background", "tools", "tool_choice", "text")  # a summary is plain text
_LENGTH = b"content-length"


async def compact(state: State, request: Request, reply: Reply) -> None:
    """Serve one call. Raises FareboxError while nothing has been sent."""
    caller, call = await receive_call(state, request, reply, _parse)
    resolved = await resolve(state, caller, call)
    items = [*resolved.conversation, _ASKED]
    work = partial(responses.with_input, resolved.call, items)
    call = await off_loop(sum(map(len, items)), work)
    seal = partial(state.gateway.seal.seal, caller.account.id, "compaction")
    client = reply.client(state.settings.idle_timeout_s)
    compacting = _CompactingClient(client, resolved, seal)
    await relay.serve(state.gateway, caller, call, compacting)


def _parse(body: bytes, request_id: str, hops: tuple[str, ...]) -> Call:
    call = responses.parse(body, request_id, hops)
    # One JSON answer that is not kept, whatever the body says of that.
    fields = {name: value for name, value in call.fields.items() if name not in _NOT_SENT}
    fields = {**fields, "stream": FALSE, "store": FALSE}
    return replace(call, stream=False, fields=fields, hosted_tools=())


class _Part(msgspec.Struct, frozen=True):
    text: str = ""


class _Item(msgspec.Struct, frozen=True):
    type: str
    content: list[_Part] = []


class _Response(msgspec.Struct, frozen=True):
    id: str
    created_at: int
    output: list[_Item]
    usage: msgspec.Raw


class _CompactingClient(Wrapped):
    """A client that gets a compaction where the relay gives a response."""

    def __init__(self, client: Client, resolved: Resolved, seal: Callable[[str], str]) -> None:
        super().__init__(client)
        self._resolved = resolved
        self._seal = seal
        self._status = 200
        self._headers: Headers = ()

    async def send_head(self, status: int, headers: Headers) -> None:
        """It waits for the body, whose length it names."""
        self._status = status
        self._headers = tuple(pair for pair in headers if pair[0] != _LENGTH)

    async def send(self, data: bytes, *, last: bool = False) -> None:
        """All of the answer: a JSON answer comes in one piece."""
        size_bytes = sum(map(len, self._resolved.conversation))
        body = await off_loop(size_bytes, partial(self._compaction, data))
        status, headers = self._status, (*self._headers, (_LENGTH, b"%d" % len(body)))
        if not body:
            error = UpstreamFailed(
                "The model wrote no summary. Ask another one.", reason="no_summary"
            )
            error.should_retry = False  # what it wrote was charged, and would be again
            body = chat.error_body(error)
            status, headers = error.status, error_headers(error, len(body))
        await self._client.send_head(status, headers)
        await self._client.send(body, last=last)

    def _compaction(self, data: bytes) -> bytes:
        """The body, made of a response object; b"" if the model wrote nothing."""
        response = msgspec.json.decode(data, type=_Response)
        messages = [item for item in response.output if item.type == "message"]
        summary = "".join(part.text for item in messages for part in item.content)
        if not summary.strip():
            return b""
        sealed = {"type": "compaction", "encrypted_content": self._seal(summary)}
        items = self._resolved.conversation
        told = [
            item
            for item, head in zip(items, heads(items), strict=True)
            if head.role == "user" and head.type in (None, "message")
        ]
        request_id = self._resolved.call.request_id
        output = [*with_ids(told, request_id), *with_ids([_raw(sealed)], request_id, "o")]
        return msgspec.json.encode(
            {
                "id": response.id,
                "object": "response.compaction",
                "created_at": response.created_at,
                "output": [msgspec.Raw(item.data) for item in output],
                "usage": response.usage,
            }
        )


def _raw(item: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(item))
