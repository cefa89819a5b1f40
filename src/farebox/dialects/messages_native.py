"""A call of the Messages API on its way to an upstream that speaks it too: what stays here, and
what nobody there could read.

Whatever need not be changed leaves as the bytes that came; what a single vendor refuses, and what
must not be named to a vendor, is vendors/' business. Sources: Anthropic's SDK for Python,
`MessageCreateParams` with and without its betas; its documentation, "Extended thinking".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from farebox.core.call import Call
from farebox.dialects.body import hides_letters
from farebox.dialects.chat_mend import NOTHING, is_set
from farebox.dialects.interpreter import Circumstances, Outgoing
from farebox.dialects.messages import CLIENTS_TOOLS, hosted_name
from farebox.dialects.raw import read_raw, to_raw
from farebox.dialects.seal import Foreign, is_ours
from farebox.errors import BadRequest

_OFF = msgspec.Raw(b'{"type":"disabled"}')
_NULL = msgspec.Raw(b"null")
# Its ids are those of answers, which clients know by ours.
_DIAGNOSTICS: Final = "diagnostics"
# How a blob of ours begins, however its signs are written; letters are hides_letters()'s.
_SEALED = re.compile(rb'"fb(?:1|\\u0031)(?:\.|\\u002[eE])')
_ADDED_TOOL: Final = b'"tool_definition"'
_CLEAR_THINKING: Final = "clear_thinking_"
_TOOLSET: Final = "mcp_toolset"
_THOUGHTS = ("thinking", "redacted_thinking")


class _Message(msgspec.Struct):
    role: str | None = None
    content: msgspec.Raw = NOTHING


class _Added(msgspec.Struct):
    definition: msgspec.Raw = NOTHING


class _Block(msgspec.Struct):
    """What tells how a block must be changed."""

    type: str | None = None
    signature: str | None = None
    tool: msgspec.Raw = NOTHING


class _Typed(msgspec.Struct):
    type: str | None = None


class _Edits(msgspec.Struct):
    edits: list[msgspec.Raw] | None = None


_MESSAGE = msgspec.json.Decoder(_Message)
_BLOCK = msgspec.json.Decoder(_Block)
_ADDED = msgspec.json.Decoder(_Added)
_TYPED = msgspec.json.Decoder(_Typed)
_EDITS = msgspec.json.Decoder(_Edits)
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def to_native_messages(call: Call, around: Circumstances) -> Outgoing:
    """The call with what an upstream must not get taken out, and what was lost by that. Raises
    BadRequest for a sealed text of another account's, and for a thread.
    """
    fields = dict(call.fields)
    if is_set(fields.get("thread", NOTHING)):
        raise BadRequest(
            "'thread' cannot be had, since the ids of messages that clients know are not the"
            " vendor's. Send the whole conversation.",
            param="thread",
            code="unsupported_value",
        )
    native = _Native(call.hosted_tools, around)
    if is_set(fields.pop(_DIAGNOSTICS, NOTHING)):
        native.adjusted.append(f"{_DIAGNOSTICS}=dropped")
    if is_set(fields.get("tools", NOTHING)):
        native.offer(fields)
    if _TOOLSET not in call.hosted_tools and is_set(fields.pop("mcp_servers", NOTHING)):
        native.adjusted.append(f"tools.{_TOOLSET}=dropped")
    # Usual messages that have none of these members are known to need no change.
    if call.message_words != frozenset() and is_set(fields.get("messages", NOTHING)):
        native.converse(fields)
    return Outgoing(replace(call, fields=fields), tuple(dict.fromkeys(native.adjusted)))


def without_thinking(context_management: bytes) -> dict[str, msgspec.Raw]:
    """The fields that have a model answer without thinking first: with it goes what says which
    thoughts are kept, since that is refused where there are none.
    """
    off = {"thinking": _OFF}
    if b"clear_thinking" not in context_management and not hides_letters(context_management):
        return off
    managed = msgspec.Raw(context_management)
    edits = read_raw(_EDITS, managed, "context_management", "an object").edits or []
    kept = [edit for edit in edits if not _kind(edit).startswith(_CLEAR_THINKING)]
    if len(kept) < len(edits):
        off["context_management"] = to_raw({**_FIELDS.decode(managed), "edits": kept})
    return off


class _Native:
    """One request on its way."""

    def __init__(self, hosted_tools: Sequence[str], around: Circumstances) -> None:
        self._hosted_tools = hosted_tools
        self._around = around
        self.adjusted: list[str] = []

    def offer(self, fields: dict[str, msgspec.Raw]) -> None:
        """Leave only those tools in a request that can be had."""
        came = read_raw(_LIST, fields["tools"], "tools", "a list of tools")
        kept = [tool for at, tool in enumerate(came) if self._can_be_had(tool, f"tools[{at}]")]
        if len(kept) == len(came):
            return
        fields["tools"] = to_raw(kept)
        if not kept:
            del fields["tools"]
            fields.pop("tool_choice", None)  # one that forced a tool was refused before

    def converse(self, fields: dict[str, msgspec.Raw]) -> None:
        """Take out of the conversation what was sealed here, and tools that cannot be had."""
        data = bytes(fields["messages"])
        if not (_SEALED.search(data) or _ADDED_TOOL in data or hides_letters(data)):
            return
        came = read_raw(_LIST, fields["messages"], "messages", "a list of messages")
        sent = [self._message(message, f"messages[{at}]") for at, message in enumerate(came)]
        if all(after is before for after, before in zip(sent, came, strict=True)):
            return
        fields["messages"] = to_raw([message for message in sent if message is not None])
        thinking = fields.get("thinking", _NULL)
        if _kind(thinking) == "enabled" and _has_lost_its_thoughts(came, sent):
            managed = bytes(fields.get("context_management", _NULL))
            fields.update(without_thinking(managed))
            self.adjusted.append("thinking=disabled")

    def _message(self, raw: msgspec.Raw, path: str) -> msgspec.Raw | None:
        """A message as it goes out; None for one of which nothing is left."""
        data = bytes(raw)
        if not (_SEALED.search(data) or _ADDED_TOOL in data or hides_letters(data)):
            return raw
        message = read_raw(_MESSAGE, raw, path, "a message, an object with role and content")
        content = message.content
        if not bytes(content).startswith(b"["):
            return raw
        path = f"{path}.content"
        came = read_raw(_LIST, content, path, "a list of blocks")
        kept = [block for at, block in enumerate(came) if self._stays(block, f"{path}[{at}]")]
        if len(kept) == len(came):
            return raw
        return to_raw({**_FIELDS.decode(raw), "content": kept}) if kept else None

    def _stays(self, raw: msgspec.Raw, path: str) -> bool:
        """Whether a block may go out. Raises BadRequest for a blob of another account's."""
        block = read_raw(_BLOCK, raw, path, "a block, an object with a type")
        if block.type == "tool_addition" and is_set(block.tool):
            added = read_raw(_ADDED, block.tool, f"{path}.tool", "an object").definition
            return not is_set(added) or self._can_be_had(added, f"{path}.tool.definition")
        if block.type != "thinking" or block.signature is None or not is_ours(block.signature):
            return True
        try:
            self._around.seal.open(self._around.account_id, "reasoning", block.signature)
        except Foreign:
            raise BadRequest(
                f"The signature of '{path}' was not sealed here for this account. Leave the block"
                " out, or send it where it comes from.",
                param=path,
                code="invalid_encrypted_content",
            ) from None
        self.adjusted.append("messages.thinking=dropped")
        return False

    def _can_be_had(self, tool: msgspec.Raw, path: str) -> bool:
        """Whether a tool is the client's own, or has a price."""
        kind = read_raw(_TYPED, tool, path, "a tool, an object").type
        name = hosted_name(kind or "custom")
        if name in CLIENTS_TOOLS or name in self._hosted_tools:
            return True
        self.adjusted.append(f"tools.{name}=dropped")
        return False


def _has_lost_its_thoughts(came: list[msgspec.Raw], sent: list[msgspec.Raw | None]) -> bool:
    """Whether the turn that goes on, an assistant's with the results of the tools that it calls,
    no longer begins with thoughts because they were sealed here: with a budget of thinking
    Anthropic insists on them.
    """
    first = len(came)
    for at in range(len(came) - 1, -1, -1):
        message = _message_of(came[at])
        if message.role == "assistant":
            first = at
        elif message.role != "system" and "tool_result" not in _block_kinds(message):
            break
    turn = range(first, len(came))
    if all(sent[at] is came[at] for at in turn):
        return False
    kinds = [kind for at in turn for kind in _block_kinds(_message_of(sent[at]))]
    return "tool_use" in kinds and kinds[0] not in _THOUGHTS


def _message_of(raw: msgspec.Raw | None) -> _Message:
    """A message; nothing of one that is none, which is the vendor's to refuse."""
    try:
        return _Message() if raw is None else _MESSAGE.decode(raw)
    except msgspec.MsgspecError:
        return _Message()


def _block_kinds(message: _Message) -> list[str]:
    if not bytes(message.content).startswith(b"["):
        return ["text"] if is_set(message.content) else []
    return [_kind(block) for block in _LIST.decode(message.content)]


def _kind(value: msgspec.Raw) -> str:
    """The type of an object; nothing for what has none."""
    try:
        return _TYPED.decode(value).type or ""
    except msgspec.MsgspecError:
        return ""
