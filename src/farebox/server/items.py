"""The items of a request's input: which ones name a kept item, and the form that all are kept in.

Where they are kept is the store's business, what they mean to a model the dialects'. Source:
OpenAI's OpenAPI document, `InputItem` and `ItemResource`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from farebox.core.call import Call
from farebox.core.kept import KeptItem
from farebox.dialects.responses import read_items
from farebox.errors import BadRequest

_MAX_ID_CHARS = 200  # a client's own id of an item; a longer one is no id
MOST_ADDED_BYTES = 160  # by which an item grows when it gets an id, a type, a part for its text
_REFERENCE = "item_reference"
_MESSAGE = "message"
_PREFIXES = {
    _MESSAGE: "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "compaction": "cmp",
}


class Head(msgspec.Struct, frozen=True):
    """What tells one kind of item from another. Clients leave any of it out."""

    id: object = None
    type: object = None
    role: object = None

    @property
    def reference(self) -> str | None:
        """The id of the kept item that stands here only by its id."""
        is_bare = self.type is None and self.role is None and self.id is not None
        if self.type != _REFERENCE and not is_bare:
            return None
        if not isinstance(self.id, str):
            raise BadRequest(
                "An 'item_reference' of 'input' needs an 'id', the id of an item that is kept.",
                param="input",
                code="invalid_value",
            )
        return self.id


_HEAD = msgspec.json.Decoder(Head)
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def heads(items: Iterable[msgspec.Raw]) -> list[Head]:
    """The heads of items. Raises BadRequest for what is no object."""
    try:
        return [_HEAD.decode(item) for item in items]
    except (msgspec.MsgspecError, RecursionError):
        raise BadRequest(
            'Each item of \'input\' must be an object such as {"role": "user", "content": "…"}.',
            param="input",
            code="invalid_value",
        ) from None


def split(call: Call) -> tuple[list[msgspec.Raw], list[str | None]]:
    """The items of a call's input, and beside each the id that it references. Raises BadRequest."""
    items = read_items(call.fields)
    if call.message_words is not None:
        return items, [None] * len(items)  # usual items are known to be there themselves
    return items, [head.reference for head in heads(items)]


def replaced(
    items: Sequence[msgspec.Raw], references: Sequence[str | None], found: Mapping[str, KeptItem]
) -> list[msgspec.Raw]:
    """The items with those that are referenced in their places. Raises BadRequest."""
    whole: list[msgspec.Raw] = []
    for item, reference in zip(items, references, strict=True):
        if reference is None:
            whole.append(item)
        elif reference in found:
            whole.append(msgspec.Raw(found[reference].data))
        else:
            raise BadRequest(
                f"Item with id {reference[:_MAX_ID_CHARS]!r} not found. Only items of responses"
                " that are kept ('store' is not false) can be referenced: send the item itself.",
                param="input",
                code="item_not_found",
            )
    return whole


def with_ids(items: Iterable[msgspec.Raw], request_id: str, side: str = "i") -> list[KeptItem]:
    """Items as they are kept and shown: each with an id and a type, a text of a message as a part.

    `side` sets the ids of one request's input and output apart. An id that comes twice stays with
    the first: lists are read on from an id, which must be one place.
    """
    body = request_id.removeprefix("req_")
    kept: list[KeptItem] = []
    taken: set[str] = set()
    for number, raw in enumerate(items):
        head, item = _HEAD.decode(raw), _FIELDS.decode(raw)
        kind = head.type if isinstance(head.type, str) else _MESSAGE
        known = head.id
        is_id = isinstance(known, str) and 0 < len(known) <= _MAX_ID_CHARS
        if not isinstance(known, str) or not is_id or known in taken:
            known = f"{_PREFIXES.get(kind, 'item')}_{body}{side}{number:02d}"
        taken.add(known)
        whole = {"id": known, "type": kind, **item, **_shown(head, kind, item)}
        whole["id"] = known
        kept.append(KeptItem(known, msgspec.json.encode(whole)))
    return kept


def _shown(head: Head, kind: str, item: Mapping[str, msgspec.Raw]) -> dict[str, object]:
    """What clients may leave out of an item and expect in a list of them."""
    if kind != _MESSAGE:
        return {}
    shown: dict[str, object] = {"type": kind}
    shown["status"] = item.get("status", "completed")
    content = item.get("content", msgspec.Raw(b"null"))
    if bytes(content).startswith(b'"'):
        part: dict[str, object] = {"type": "input_text", "text": content}
        if head.role == "assistant":
            part = {"type": "output_text", "text": content, "annotations": []}
        shown["content"] = [part]
    return shown
