"""A call of the Responses API as the chat completion that says the same: the request's direction.

This file maps the fields; tools, items and messages are in the files that begin with its name.
What an upstream answers is read by responses_from_chat.py. Sources: OpenAI's OpenAPI document,
`CreateResponse` and `CreateChatCompletionRequest`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from farebox.core.call import Call
from farebox.dialects.body import Fields
from farebox.dialects.chat_envelope import hosted_name
from farebox.dialects.chat_fields import encoded, extensions, notes, value_of
from farebox.dialects.chat_tools import Tool, Toolbox
from farebox.dialects.chat_turns import arrange, words_of
from farebox.dialects.interpreter import Circumstances
from farebox.dialects.responses_to_chat_items import read_items
from farebox.dialects.values import (
    Object,
    as_list,
    as_object,
    malformed,
    name_at,
    optional_text,
    unknown,
)
from farebox.errors import BadRequest

__all__ = ["COMPACT", "ToChat", "Tool", "to_chat"]

COMPACT = """\
Your next message replaces all of the conversation above: whoever goes on, in your place, will \
read it and nothing else. Write that message now. Call no tool, and do not go on with the work.

Say, as far as it applies, in short sections:
- Goal: what the user wants in the end, and how they said it; their wishes and limits, also those \
about style and about what must not be done.
- Decisions: what was decided and why; what was tried, and failed, and why.
- Files: each file, folder, branch, command, address and name that matters, spelled exactly; what \
was changed where; the lines of code that the work hangs on, word for word.
- State: what is done and proven, what is begun, what is broken, with the exact texts of errors \
that still stand.
- Next steps: what is to be done next, in order, and what the user has still to be asked.

Be complete and exact rather than elegant. Leave out pleasantries, and what was settled and does \
not matter any more. Where you are not sure, say so. Write nothing but this summary."""

# The same in both APIs.
_SAME = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
# What the Responses API knows beside them, and its frames: used here, or meant for the gateway.
_CONSUMED_WORDS = """
access_programs background background_options client_metadata context_management conversation
generate image include input instructions max_output_tokens max_tool_calls metadata model
moderation parallel_tool_calls previous_response_id prompt prompt_cache_key
prompt_cache_options prompt_cache_retention reasoning safety_identifier service_tier store
stream stream_id stream_options text tool_choice tools top_logprobs truncation type user
"""
_KNOWN = frozenset((*_SAME, *_CONSUMED_WORDS.split()))
# Chat's words for what the Responses API says otherwise, or has not: they would change what is
# written and charged behind the back of what was read and held.
_CHATS_WORDS = """
audio function_call functions logprobs max_completion_tokens max_tokens messages modalities n
prediction reasoning_effort response_format verbosity web_search_options
"""
_CHATS_OWN = frozenset(_CHATS_WORDS.split())
_LOGPROBS = "message.output_text.logprobs"
_NULL = b"null"


@dataclass(frozen=True, slots=True)
class ToChat:
    """What is sent in a call's place. `tools` are the client's by the names that the upstream
    knows them by; `compacts`: the answer is the summary that a compaction item holds.
    """

    call: Call
    adjusted: tuple[str, ...]  # what the client would miss, such as `tools.web_search=dropped`
    tools: Mapping[str, Tool]
    compacts: bool


def to_chat(call: Call, around: Circumstances) -> ToChat:
    """The chat completion for a call of the Responses API. `max_output_tokens` is left to the
    vendor, who sets the cap. Raises BadRequest for what is malformed, sealed for another account,
    or has no equivalent.
    """
    try:
        return _translate(call, around)
    except RecursionError:
        raise BadRequest(
            "The body is nested too deeply. Keep it below 500 levels.", param="input"
        ) from None


def _translate(call: Call, around: Circumstances) -> ToChat:
    fields = call.fields
    toolbox = Toolbox()
    tools = value_of(fields, "tools")
    if tools is not None:
        toolbox.declare(tools, "tools")
    read = read_items(value_of(fields, "input"), toolbox, around)
    instructions = value_of(fields, "instructions")
    if instructions is not None and not isinstance(instructions, str):
        raise malformed("instructions", "a string", instructions)
    messages = arrange(
        read.turns,
        instructions or "",
        lambda call_id: around.recall.find(around.account_id, call_id),
    )
    if read.compacts:
        messages.append({"role": "user", "content": COMPACT})
    if not messages:
        raise BadRequest("'input' must hold at least a message.", param="input")
    body: Object = {"model": call.model, "messages": messages}
    body |= _settings(fields, read.effort)
    if not read.compacts:
        body |= _tool_fields(fields, toolbox) | _form_fields(fields)
    if call.stream:
        body["stream"] = True
    passed, refused = extensions(fields, _KNOWN, _CHATS_OWN)
    return ToChat(
        call=replace(
            call,
            dialect="chat",
            fields={**encoded(body), **passed},
            hosted_tools=(),
            message_words=words_of(messages),
        ),
        adjusted=notes(
            [f"tools.{hosted_name(kind)}" for kind in toolbox.dropped]
            + [f"input.{kind}" for kind in read.dropped]
            + refused
        ),
        tools=toolbox.tools,
        compacts=read.compacts,
    )


def _settings(fields: Fields, effort: str | None) -> Object:
    """How the model is to write, whatever it writes."""
    body: Object = {}
    for name in _SAME:
        raw = fields.get(name)
        if raw is not None and bytes(raw) != _NULL:
            body[name] = raw
    reasoning = value_of(fields, "reasoning")
    if reasoning is not None:
        asked = optional_text(as_object(reasoning, "reasoning"), "effort", "reasoning")
        effort = effort or asked
    if effort is not None:
        body["reasoning_effort"] = effort
    return body


def _tool_fields(fields: Fields, toolbox: Toolbox) -> Object:
    choice = toolbox.choose(value_of(fields, "tool_choice"))
    if not choice.functions:
        return {}
    body: Object = {"tools": choice.functions}
    if choice.mode is not None:
        body["tool_choice"] = choice.mode
    if value_of(fields, "parallel_tool_calls") is False:
        body["parallel_tool_calls"] = False
    return body


def _form_fields(fields: Fields) -> Object:
    """What the answer is to look like."""
    body: Object = {}
    count = value_of(fields, "top_logprobs")
    include = value_of(fields, "include")
    if count or (include is not None and _LOGPROBS in as_list(include, "include")):
        body["logprobs"] = True
        if count:
            body["top_logprobs"] = count
    text = value_of(fields, "text")
    form = None if text is None else as_object(text, "text").get("format")
    wanted = None if form is None else _response_format(as_object(form, "text.format"))
    if wanted is not None:
        body["response_format"] = wanted
    return body


def _response_format(form: Object) -> Object | None:
    kind = form.get("type")
    path = "text.format"
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": kind}
    if kind != "json_schema":
        raise unknown(f"{path}.type", kind, "text, json_object or json_schema")
    schema: Object = {"name": name_at(form, "name", path)}
    description = optional_text(form, "description", path)
    if description is not None:
        schema["description"] = description
    schema["schema"] = as_object(form.get("schema"), f"{path}.schema")
    if form.get("strict") is True:
        schema["strict"] = True
    return {"type": "json_schema", "json_schema": schema}
