"""Keeping callers apart at a vendor whose account they share: what must not be kept or named there.

An object at a vendor belongs to the credential that made it, so that whoever knows its id could
use another caller's. Which channel is shared, base.py knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

import msgspec

from farebox.dialects.body import hides_letters
from farebox.errors import BadRequest
from farebox.vendors.body import NULL, Body, decode, mentions, raw_list, raw_object

# Fields of OpenAI's APIs that are ids of something kept there, or lists of ids.
_IDS = ("previous_response_id", "conversation", "container", "vector_store_ids", "file_ids")
_IDS_WITHIN = frozenset(
    (b"file_id", b"file_ids", b"vector_store_ids", b"knowledge_id", b"container_id", b"skill_id")
)
# Their schemas may have properties of any name.
_CLIENTS_TOOLS = (b'"function"', b'"custom"', b'"tool_search"')
_NAMESPACE = b'"namespace"'
_DRAWING = b"image_generation_call"
# Fields of Anthropic's that name what lies there, or whom it bills.
_IDS_OF_MESSAGES = (
    "container",
    "thread",
    "user_profile_id",
    "workspace_id",
    "fallback_credit_token",
    "billing_policy",
)
# What a tool is called with, and its schema, may have members of any name.
_OF_THE_CLIENT = (b"input", b"input_schema", b"input_examples")
_TELLING = (*_IDS_WITHIN, b"container", _DRAWING)
# Every JSON string, and whether it is a key. Outside of strings JSON has no quotes, so that
# strings are found from one to the next. Possessive: no place to go back to is remembered, which
# for megabytes of escapes would cost hundreds of them.
_STRINGS = re.compile(rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"[ \t\r\n]*+(?:(:)[ \t\r\n]*+)?', re.DOTALL)
_Member = tuple[bytes, bytes, int]
_AS_DATA = "Send it as data or by its address."
_LONGEST_NAME = 128  # of those looked for, each letter written as an escape


def keep_apart(body: Body) -> None:
    """Take out what would leave one caller's words where another could name them. Raises
    BadRequest for a body that names what is kept at the vendor.
    """
    if body.message_words is None:  # usual messages name nothing
        messages = body.raw("messages")
        if mentions(messages, b"file_id") or b'"audio"' in messages:
            _check_messages(messages)
    if _CHECKS.keys().isdisjoint(body.fields):
        return  # as most calls, which are messages alone
    for name, check in _CHECKS.items():
        if name in body.fields:
            check(body, name)


def _check_input(body: Body, name: str) -> None:
    # Of a body that has messages, what is known to be usual are these.
    if body.message_words is None or "messages" in body.fields:
        _check_items(body.raw(name))


def _drop_store(body: Body, name: str) -> None:
    if body.raw(name) not in (NULL, b"false"):
        body.drop(name)
        # OpenAI refuses metadata of an answer that is not stored.
        body.drop("metadata")


def _refuse(body: Body, name: str) -> None:
    if body.has(name):
        raise _refusal(name, f"{name!r} names what")


def _check_prompt(body: Body, name: str) -> None:
    if any(member == b"id" for member, _, _ in _members(body.raw(name))):
        raise _refusal(name, f"{name!r} names what")


def _check_image(body: Body, name: str) -> None:
    for member, first, _ in _members(body.raw(name)):
        if _is_id(member, first):
            raise _refusal(name, f"{name!r} names a {member.decode()}, which")


def keep_messages_apart(body: Body) -> None:
    """The same for a request of the Messages API. MCP servers are elsewhere, and named in full."""
    for name in _IDS_OF_MESSAGES:
        if body.has(name):
            raise _refusal(name, f"{name!r} names what")
    if body.message_words is None:  # usual messages name nothing
        for name in ("messages", "system"):
            _check_blocks(body.raw(name), name)
    tools = body.raw("tools")
    for raw in raw_list(tools, "tools") or () if _may_name_ids(tools) else ():
        _check_message_tool(bytes(raw))


def _check_message_tool(tool: bytes) -> None:
    members = list(_members(tool)) if _may_name_ids(tool) else []
    kinds = sum(name == b"type" and depth == 1 for name, _, depth in members)
    kind = _raw(raw_object(tool, "tools") or {}, "type") if members else NULL
    if kinds == 0 or (kinds == 1 and kind in (NULL, b'"custom"')):
        return
    for name, first, _ in members:
        if _is_id(name, first):
            raise _refusal("tools", f"A tool's {name.decode()!r} names what")


def _check_blocks(blocks: bytes, param: str) -> None:
    if not _may_name_ids(blocks):
        return
    free_depth: int | None = None  # of the member in which names mean nothing
    for name, first, depth in _members(blocks):
        if free_depth is not None and depth <= free_depth:
            free_depth = None
        if free_depth is not None:
            continue
        if name in _OF_THE_CLIENT and first in (b"{", b"["):
            free_depth = depth
        elif _is_id(name, first):
            raise _refusal(param, f"{param!r} names a {name.decode()}, which", _AS_DATA)


def _check_messages(messages: bytes) -> None:
    audio_depth: int | None = None  # of the object that describes an earlier spoken answer
    for name, first, depth in _members(messages):
        if audio_depth is not None and depth <= audio_depth:
            audio_depth = None
        if first == b"n":
            continue
        if name == b"file_id":
            raise _refusal(
                "messages", "'messages' names a file_id, which", "Send the file as file_data."
            )
        if name == b"id" and audio_depth is not None:
            raise _refusal(
                "messages", "'messages' names an audio's id, which", "Send its transcript as text."
            )
        if name == b"audio" and first == b"{" and audio_depth is None:
            audio_depth = depth


def _check_tools(tools: bytes, param: str) -> None:
    for raw in raw_list(tools, param) or () if _may_name_ids(tools) else ():
        tool = bytes(raw)
        if not _may_name_ids(tool):
            continue
        fields, members = raw_object(tool, param) or {}, list(_members(tool))
        kind = _raw(fields, "type")
        if _stands_once(b"type", members) and kind in _CLIENTS_TOOLS:
            continue
        if _stands_once(b"tools", members) and kind == _NAMESPACE:
            _check_tools(_raw(fields, "tools"), param)
            continue
        for name, first, _ in members:
            if _is_id(name, first):
                raise _refusal(param, f"A tool's {name.decode()!r} names what")


def _check_items(items: bytes) -> None:
    """The same for the items of a response's input, some of which bring tools."""
    for raw in raw_list(items, "input") or () if _may_name_ids(items) else ():
        item = bytes(raw)
        if not _may_name_ids(item):
            continue
        fields, members = raw_object(item, "input") or {}, list(_members(item))
        kind = _raw(fields, "type")
        brings_tools = _stands_once(b"tools", members)
        inside = False  # of `tools`, which are looked at as tools
        for name, first, depth in members:
            inside = brings_tools and (name == b"tools" if depth == 1 else inside)
            if not inside and _is_id(name, first):
                raise _refusal("input", f"'input' names a {name.decode()}, which")
        if brings_tools and kind != b'"mcp_list_tools"':  # those tell of tools, schemas and all
            _check_tools(_raw(fields, "tools"), "input")
        if kind == b'"%b"' % _DRAWING and _raw(fields, "result") == NULL:
            raise _refusal("input", "'input' names an image by its id alone, which")


# What is done with a field that a body has.
_CHECKS: Mapping[str, Callable[[Body, str], None]] = {
    "store": _drop_store,
    **dict.fromkeys(_IDS, _refuse),
    "prompt": _check_prompt,
    "tools": lambda body, name: _check_tools(body.raw(name), name),
    "input": _check_input,
    "image": _check_image,
}


def _may_name_ids(data: bytes) -> bool:
    return any(word in data for word in _TELLING) or hides_letters(data)


def _stands_once(name: bytes, members: list[_Member]) -> bool:
    return sum(member[0] == name and member[2] == 1 for member in members) == 1


def _is_id(name: bytes, first: bytes) -> bool:
    return (name in _IDS_WITHIN and first != b"n") or (name == b"container" and first == b'"')


def _raw(fields: Mapping[str, object], name: str) -> bytes:
    value = fields.get(name)
    return bytes(value) if isinstance(value, msgspec.Raw) else NULL


def _members(data: bytes) -> Iterator[_Member]:
    """The members of all objects in JSON text: name, first byte of the value (n: null), depth.

    The text itself is read, not its decoded form: of a name that comes twice that would show one.
    """
    depth = end = 0
    for match in _STRINGS.finditer(data):
        gap = data[end : match.start()]
        depth += gap.count(b"{") - gap.count(b"}")
        end = match.end()
        if match[2]:
            name: bytes = match[1]
            if b"\\" in name and len(name) <= _LONGEST_NAME:
                name = str(decode(b'"' + name + b'"', "messages")).encode()
            yield name, data[end : end + 1], depth


def _refusal(param: str, what: str, instead: str = "Send what it stands for.") -> BadRequest:
    return BadRequest(
        f"{what} lies in an account at the vendor that all callers share. {instead}",
        code="unsupported_value",
        param=param,
    )
