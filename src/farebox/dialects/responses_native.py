"""A request of the Responses API on its way to an upstream that speaks it too: what stays here, and
what nobody there could read.

All state is ours, so nothing is stored there and nothing is looked up there. Whatever need not be
changed leaves as the bytes that came; what a single vendor refuses is vendors/' business. Source:
OpenAI's OpenAPI document, `CreateResponse`, and its guide "Conversation state".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from farebox.core.call import Call
from farebox.dialects.chat_envelope import hosted_name
from farebox.dialects.chat_mend import NOTHING, is_set
from farebox.dialects.interpreter import Circumstances, Outgoing
from farebox.dialects.raw import read_raw, to_raw
from farebox.dialects.responses import CLIENTS_TOOLS
from farebox.dialects.responses_to_chat_items import SUMMARY_INTRO
from farebox.dialects.responses_usual import NEEDS_NO_ID
from farebox.dialects.seal import Foreign, Purpose, is_ours
from farebox.errors import BadRequest

_FALSE = msgspec.Raw(b"false")
_NULL = msgspec.Raw(b"null")
_SEALED: Final = "reasoning.encrypted_content"
# The store, conversations and the background are ours. Metadata belong to what is stored.
_STAYS = frozenset(
    (
        "previous_response_id",
        "conversation",
        "background",
        "background_options",
        "prompt",
        "metadata",
    )
)
_BRINGS_TOOLS = ("additional_tools", "tool_search_output")
_PASSTHROUGH: Final = "internal_chat_message_metadata_passthrough"  # Codex's, for its own backend


class _Item(msgspec.Struct):
    """What tells how an item must be changed."""

    type: str | None = None
    role: msgspec.Raw = NOTHING
    id: msgspec.Raw = NOTHING
    encrypted_content: str | None = None
    content: msgspec.Raw = NOTHING
    tools: msgspec.Raw = NOTHING
    internal_chat_message_metadata_passthrough: msgspec.Raw = NOTHING

    @property
    def kind(self) -> str:
        """The type, which messages and references may leave out."""
        if self.type is not None:
            return self.type
        return "item_reference" if not is_set(self.role) and is_set(self.id) else "message"


class _Environment(msgspec.Struct):
    type: str | None = None


class _Tool(msgspec.Struct):
    type: str
    environment: _Environment | str | None = None
    tools: msgspec.Raw = NOTHING  # of a namespace

    @property
    def hosted(self) -> str | None:
        """The name under which it is priced; None for a tool that runs at the client."""
        name = hosted_name(self.type)
        if name not in CLIENTS_TOOLS:
            return name
        where = self.environment
        is_container = isinstance(where, _Environment) and where.type not in (None, "local")
        return name if name == "shell" and is_container else None


class _Choice(msgspec.Struct):
    type: str | None = None
    tools: list[msgspec.Raw] | None = None


class _Reasoning(msgspec.Struct):
    effort: str | None = None


_ITEM = msgspec.json.Decoder(_Item)
_TOOL = msgspec.json.Decoder(_Tool)
_CHOICE = msgspec.json.Decoder(_Choice)
_REASONING: msgspec.json.Decoder[_Reasoning | None] = msgspec.json.Decoder(_Reasoning | None)
_INCLUDE: msgspec.json.Decoder[list[str] | None] = msgspec.json.Decoder(list[str] | None)
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def to_native(call: Call, around: Circumstances) -> Outgoing:
    """The call with what an upstream must not get taken out, and what was lost by that. Raises
    BadRequest for a sealed text of another account's and for a reference to an item.
    """
    fields = {name: raw for name, raw in call.fields.items() if name not in _STAYS}
    native = _Native(call.hosted_tools, around)
    # Usual items that have none of these members are known to need no change.
    if call.message_words != frozenset() and _is_list(fields.get("input", _NULL)):
        fields["input"] = native.items(fields["input"])
    if is_set(fields.get("tools", NOTHING)):
        native.offer(fields)
    _ask_for_thoughts(fields)
    fields["store"] = _FALSE
    return Outgoing(replace(call, fields=fields), tuple(dict.fromkeys(native.adjusted)))


def _is_list(raw: msgspec.Raw) -> bool:
    return bytes(memoryview(raw)[:1]) == b"["


def _ask_for_thoughts(fields: dict[str, msgspec.Raw]) -> None:
    """Have reasoning sealed by the vendor where the response is kept here, or the next request that
    builds on it could not give it back. Models that do not reason refuse to be asked, but they
    refuse an effort too.
    """
    if bytes(fields.get("store", b"null")) in (b"null", b"false"):
        return
    reasoning = read_raw(_REASONING, fields.get("reasoning", _NULL), "reasoning", "an object")
    include = read_raw(_INCLUDE, fields.get("include", _NULL), "include", "a list of strings")
    has_effort = reasoning is not None and reasoning.effort is not None
    if has_effort and _SEALED not in (include or ()):
        fields["include"] = to_raw([*(include or ()), _SEALED])


class _Native:
    """One request on its way."""

    def __init__(self, hosted_tools: Sequence[str], around: Circumstances) -> None:
        self._hosted_tools = hosted_tools
        self._around = around
        self.adjusted: list[str] = []

    def items(self, raw: msgspec.Raw) -> msgspec.Raw:
        """An input, itself if nothing in it had to be changed."""
        came = read_raw(_LIST, raw, "input", "a list of items")
        sent = [self._item(item, f"input[{at}]") for at, item in enumerate(came)]
        if all(after is before for after, before in zip(sent, came, strict=True)):
            return raw
        return to_raw([item for item in sent if item is not None])

    def offer(self, fields: dict[str, msgspec.Raw]) -> None:
        """Leave only those tools in a request that can be had, also in its choice of tools."""
        tools = self._tools(fields["tools"], "tools")
        if tools is fields["tools"]:
            return
        fields["tools"] = tools
        if bytes(tools) == b"[]":
            del fields["tools"]
        choice = bytes(fields.get("tool_choice", b"null"))
        if not choice.startswith(b"{"):
            return
        chosen = read_raw(_CHOICE, msgspec.Raw(choice), "tool_choice", "a string or an object")
        if chosen.type != "allowed_tools" or not chosen.tools:
            return
        allowed = self._without(chosen.tools, "tool_choice.tools")
        if not allowed:
            fields["tool_choice"] = msgspec.Raw(b'"none"')
        elif len(allowed) < len(chosen.tools):
            fields["tool_choice"] = to_raw({**_FIELDS.decode(choice), "tools": allowed})

    def _item(self, raw: msgspec.Raw, path: str) -> msgspec.Raw | None:
        """An item as it goes out; None for one that does not."""
        item = read_raw(_ITEM, raw, path, "an item, an object whose type is a string")
        kind = item.kind
        if kind == "item_reference":
            raise BadRequest(
                f"'{path}' refers to an item that is not kept here. Send the item itself.",
                param=path,
                code="unsupported_value",
            )
        blob = item.encrypted_content
        if blob is not None and is_ours(blob):
            return self._opened(kind, blob, path)
        if kind == "reasoning" and blob is None and bytes(item.content) in (b"", b"null", b"[]"):
            # The vendor has kept nothing under its id, and a summary is nothing to go on from.
            self.adjusted.append("input.reasoning=dropped")
            return None
        changed: dict[str, msgspec.Raw] = {}
        if kind in _BRINGS_TOOLS and is_set(item.tools):
            tools = self._tools(item.tools, f"{path}.tools")
            changed = {} if tools is item.tools else {"tools": tools}
        needs_no_id = kind in NEEDS_NO_ID or (kind == "reasoning" and blob is None)
        gone = ["id"] if needs_no_id and item.id is not NOTHING else []
        if item.internal_chat_message_metadata_passthrough is not NOTHING:
            gone.append(_PASSTHROUGH)
        if not gone and not changed:
            return raw
        fields = {**_FIELDS.decode(raw), **changed}
        return to_raw({name: value for name, value in fields.items() if name not in gone})

    def _opened(self, kind: str, blob: str, path: str) -> msgspec.Raw | None:
        """What was sealed here: a summary goes out as text, another model's thoughts do not."""
        purpose: Purpose = "reasoning" if kind == "reasoning" else "compaction"
        try:
            text = self._around.seal.open(self._around.account_id, purpose, blob)
        except Foreign:
            raise BadRequest(
                f"The encrypted_content of '{path}' was not sealed here for this account. Leave the"
                " item out, or send it where it comes from.",
                param="input",
                code="invalid_encrypted_content",
            ) from None
        if purpose == "reasoning":
            self.adjusted.append("input.reasoning=dropped")
            return None
        part = {"type": "input_text", "text": SUMMARY_INTRO + text}
        return to_raw({"type": "message", "role": "user", "content": [part]})

    def _tools(self, raw: msgspec.Raw, path: str) -> msgspec.Raw:
        """A list of tools, itself if all of them can be had."""
        came = read_raw(_LIST, raw, path, "a list of tools")
        sent = self._without(came, path)
        return raw if sent == came else to_raw(sent)

    def _without(self, tools: list[msgspec.Raw], path: str) -> list[msgspec.Raw]:
        """The tools that can be had: those of the client's, and those that have a price."""
        kept: list[msgspec.Raw] = []
        for at, raw in enumerate(tools):
            tool = read_raw(_TOOL, raw, f"{path}[{at}]", "a tool, an object with a type")
            name = tool.hosted
            if name is not None and name not in self._hosted_tools:
                self.adjusted.append(f"tools.{name}=dropped")
                continue
            inner = tool.tools
            if tool.type == "namespace" and is_set(inner):
                inner = self._tools(inner, f"{path}[{at}].tools")
            unchanged = inner is tool.tools
            kept.append(raw if unchanged else to_raw({**_FIELDS.decode(raw), "tools": inner}))
        return kept
