"""A call of the Messages API as the chat completion that says the same: the request's direction.

This file maps the fields; tools, content and turns are in the files that begin with its name. What
an upstream answers is read by messages_from_chat.py. Sources: Anthropic's SDK for Python,
`MessageCreateParams` with and without its betas; OpenAI's OpenAPI document,
`CreateChatCompletionRequest`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import cast

from msgspec.structs import replace

from farebox.core.call import Call
from farebox.dialects.body import Fields
from farebox.dialects.chat_fields import encoded, extensions, notes, value_of
from farebox.dialects.chat_tools import Tool
from farebox.dialects.chat_turns import arrange, join_users, words_of
from farebox.dialects.interpreter import Circumstances
from farebox.dialects.messages_to_chat_content import Notes, text_part
from farebox.dialects.messages_to_chat_tools import Tools, fits_strictly
from farebox.dialects.messages_to_chat_turns import read_effort, read_turns
from farebox.dialects.messages_to_chat_usual import usual_messages
from farebox.dialects.values import Object, as_list, as_object, malformed, unknown
from farebox.errors import BadRequest

__all__ = ["MessagesToChat", "Tool", "messages_to_chat"]

# In both APIs, or in so many vendors' chat that it means the same.
_SAME = ("temperature", "top_p", "top_k")
# What the Messages API knows beside them, and its frames: used here, or meant for the gateway.
_CONSUMED_WORDS = """
anthropic_beta anthropic_version betas billing_policy cache_control compaction container
context_management diagnostics fallback_credit_token fallbacks inference_geo max_tokens
mcp_servers messages metadata model output_config output_format service_tier speed
stop_sequences stream system thinking thread tool_choice tools user_profile_id workspace_id
"""
_KNOWN = frozenset((*_SAME, *_CONSUMED_WORDS.split()))
# Chat's words for what the Messages API says otherwise, or has not: they would change what is
# written and charged behind the back of what was read and held.
_CHATS_WORDS = """
audio function_call functions logprobs max_completion_tokens modalities n parallel_tool_calls
prediction reasoning_effort response_format stop store stream_options top_logprobs verbosity
web_search_options
"""
_CHATS_OWN = frozenset(_CHATS_WORDS.split())
# What lies in an account at Anthropic, or is paid by it.
_THEIRS = (
    "thread",
    "user_profile_id",
    "workspace_id",
    "fallback_credit_token",
    "billing_policy",
    "compaction",
)
_MISSED = ("context_management", "diagnostics", "mcp_servers", "container")
_THINKS = ("enabled", "adaptive", "between_tools")
_DISPLAYS = ("summarized", "omitted", "updates")
# From how many tokens of a budget on a greater effort is meant.
_BUDGETS = ((16384, "high"), (4096, "medium"))
_OFF = "none"


@dataclass(frozen=True, slots=True)
class MessagesToChat:
    """What is sent in a call's place. `tools` are the client's by the names that the upstream
    knows them by. Who does not see thinking gets no blocks of it; who omits it gets their
    signatures alone.
    """

    call: Call
    adjusted: tuple[str, ...]  # what the client would miss, such as `tools.web_search=dropped`
    tools: Mapping[str, Tool]
    shows_thinking: bool
    omits_thinking: bool
    stop_sequences: tuple[str, ...]


def messages_to_chat(
    call: Call, around: Circumstances, *, cache_control: bool = False
) -> MessagesToChat:
    """The chat completion for a call of the Messages API. `max_tokens` is left to the vendor, who
    sets the cap. `cache_control`: the upstream takes marks of what to cache. Raises BadRequest for
    what is malformed, sealed for another account, or has no equivalent.
    """
    try:
        return _translate(call, around, Notes(keeps_marks=cache_control))
    except RecursionError:
        raise BadRequest(
            "The body is nested too deeply. Keep it below 500 levels.", param="messages"
        ) from None


@dataclass(frozen=True, slots=True)
class _Thinking:
    """What `thinking` asks for."""

    shown: bool = False
    omitted: bool = False
    effort: str | None = None


def _translate(call: Call, around: Circumstances, noted: Notes) -> MessagesToChat:
    fields = call.fields
    _refuse_theirs(fields)
    tools = Tools(noted)
    tools.read(value_of(fields, "tools"))
    messages, effort = _read_messages(call, tools, around, noted)
    if not messages:
        raise BadRequest("'messages' must say something.", param="messages", code="invalid_value")
    _mark_last(messages, fields, noted)
    thinking = _thinking(value_of(fields, "thinking"))
    stops = _stop_sequences(value_of(fields, "stop_sequences"))
    body: Object = {"model": call.model, "messages": messages}
    body |= {name: fields[name] for name in _SAME if value_of(fields, name) is not None}
    body |= {"stop": list(stops)} if stops else {}
    body |= _output_fields(fields, effort, thinking, noted)
    body |= tools.choose(value_of(fields, "tool_choice"))
    body |= {"stream": True} if call.stream else {}
    missed = [name for name in _MISSED if value_of(fields, name)]
    missed += ["speed"] if value_of(fields, "speed") == "fast" else []
    passed, refused = extensions(fields, _KNOWN, _CHATS_OWN)
    return MessagesToChat(
        call=replace(
            call,
            dialect="chat",
            fields={**encoded(body), **passed},
            hosted_tools=(),
            effort_is_wish=True,
            passed_headers=(),
            message_words=words_of(messages),
        ),
        adjusted=notes([*noted.dropped, *missed, *refused]),
        tools=tools.toolbox.tools,
        shows_thinking=thinking.shown,
        omits_thinking=thinking.omitted,
        stop_sequences=stops,
    )


def _read_messages(
    call: Call, tools: Tools, around: Circumstances, noted: Notes
) -> tuple[list[Object], str | None]:
    """The messages, and the effort that the last of the system's asked for."""

    def recalled(call_id: str) -> str | None:
        return around.recall.find(around.account_id, call_id)

    system, raw = value_of(call.fields, "system"), call.fields["messages"]
    if call.message_words is not None and not noted.keeps_marks:
        head = read_turns(system, [], tools, around, noted)
        opened = partial(around.seal.open, around.account_id, "reasoning")
        usual = usual_messages(raw, tools.toolbox, recalled, opened)
        if usual is not None:
            messages, dropped = usual
            noted.dropped += dropped
            return arrange(head.turns, "", recalled) + messages, None
    read = read_turns(system, value_of(call.fields, "messages"), tools, around, noted)
    return join_users(arrange(read.turns, "", recalled)), read.effort


def _refuse_theirs(fields: Fields) -> None:
    """Raises BadRequest for what only Anthropic could do, and an answer without would be wrong."""
    for name in _THEIRS:
        if value_of(fields, name) is not None:
            raise BadRequest(
                f"{name!r} cannot be had with this model. Leave it out.",
                param=name,
                code="unsupported_value",
            )
    container = value_of(fields, "container")
    if isinstance(container, dict):
        container = cast("Object", container).get("id")
    if container is not None:
        raise BadRequest(
            "'container' names what lies in an account at a vendor. Leave it out.",
            param="container",
            code="unsupported_value",
        )


def _mark_last(messages: list[Object], fields: Fields, noted: Notes) -> None:
    """A mark on the whole request stands for one on its last block."""
    whole: Object = {"cache_control": value_of(fields, "cache_control")}
    mark = noted.mark_of(whole, "cache_control")
    last = messages[-1]
    if mark is not None and last["content"]:
        content = last["content"]
        parts = [text_part(content)] if isinstance(content, str) else cast("list[Object]", content)
        noted.put_mark(parts, mark)
        last["content"] = parts


def _thinking(value: object) -> _Thinking:
    if value is None:
        return _Thinking()
    config = as_object(value, "thinking")
    kind = config.get("type")
    if kind == "disabled":
        return _Thinking(effort=_OFF)
    if kind not in _THINKS:
        raise unknown(
            "thinking.type", kind, f"disabled, {', '.join(_THINKS[:-1])} or {_THINKS[-1]}"
        )
    display = config.get("display")
    if display is not None and display not in _DISPLAYS:
        raise unknown("thinking.display", display, "summarized, omitted or updates")
    effort = None
    if kind == "enabled":
        budget = config.get("budget_tokens")
        if not isinstance(budget, int) or isinstance(budget, bool):
            raise malformed("thinking.budget_tokens", "a whole number", budget)
        effort = next((effort for least, effort in _BUDGETS if budget >= least), "low")
    return _Thinking(shown=True, omitted=display == "omitted", effort=effort)


def _stop_sequences(value: object) -> tuple[str, ...]:
    stops = [] if value is None else as_list(value, "stop_sequences")
    for at, stop in enumerate(stops):
        if not isinstance(stop, str):
            raise malformed(f"stop_sequences[{at}]", "a string", stop)
    return tuple(cast("list[str]", stops))


def _output_fields(fields: Fields, effort: str | None, thinking: _Thinking, noted: Notes) -> Object:
    """How hard the model is to try, and what its answer is to look like."""
    config = value_of(fields, "output_config")
    output = {} if config is None else as_object(config, "output_config")
    effort = effort or read_effort(config, "output_config")
    if effort is None or thinking.effort == _OFF:
        effort = thinking.effort  # vendors who switch thinking by an effort would switch it on
    if output.get("task_budget") is not None:
        noted.dropped.append("output_config.task_budget")
    body: Object = {} if effort is None else {"reasoning_effort": effort}
    form, path = output.get("format"), "output_config.format"
    if form is None:  # where it stood while it was new
        form, path = value_of(fields, "output_format"), "output_format"
    if form is not None:
        body["response_format"] = _response_format(as_object(form, path), path)
    return body


def _response_format(form: Object, path: str) -> Object:
    if form.get("type") != "json_schema":
        raise unknown(f"{path}.type", form.get("type"), "json_schema")
    schema = as_object(form.get("schema"), f"{path}.schema")
    wanted: Object = {"name": "answer", "schema": schema}
    if fits_strictly(schema):
        wanted["strict"] = True
    return {"type": "json_schema", "json_schema": wanted}
