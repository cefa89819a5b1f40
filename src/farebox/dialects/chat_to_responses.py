"""A chat completion as a request of the Responses API, for upstreams that speak nothing else.

Where that API has no equivalent, what would change the answer's form is refused (`n`, `stop`,
sound), as OpenAI refuses `stop` for its reasoning models; what only leans on the answer is left
out and named. Messages are chat_to_responses_messages.py's. Sources: OpenAI's OpenAPI document,
`CreateChatCompletionRequest` and `CreateResponse`; its guide "Migrate to the Responses API".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from farebox.core.call import Call
from farebox.dialects.body import Fields, read_field
from farebox.dialects.chat_mend import is_set
from farebox.dialects.chat_to_responses_messages import Conversation, Object, read, unsupported
from farebox.dialects.interpreter import Outgoing
from farebox.dialects.responses import LEAST_OUTPUT_TOKENS
from farebox.dialects.responses_usual import words_of
from farebox.errors import BadRequest

_LOGPROBS = "message.output_text.logprobs"
_NO_PARAMETERS = msgspec.Raw(b'{"type":"object","properties":{}}')  # as chat takes absent ones

# These have another name or form, or no place at all; whatever is not here passes as it came.
_OF_CHAT = frozenset(
    (
        "messages",
        "max_tokens",
        "max_completion_tokens",
        "n",
        "stop",
        "modalities",
        "store",
        "stream_options",
        "tools",
        "functions",
        "function_call",
        "tool_choice",
        "web_search_options",
        "response_format",
        "verbosity",
        "reasoning_effort",
        "logprobs",
    )
)
# What has no place, with the values that say nothing beside null. Metadata belongs to what is
# stored, and nothing is.
_DROPPED: Final[Mapping[str, tuple[bytes, ...]]] = {
    "audio": (),
    "frequency_penalty": (b"0", b"0.0"),
    "logit_bias": (b"{}",),
    "metadata": (b"{}",),
    "prediction": (),
    "presence_penalty": (b"0", b"0.0"),
    "seed": (),
    "store": (b"false",),
}
# What Responses understands by these is priced, kept or checked by other means than a chat's.
_OF_RESPONSES = frozenset(
    (
        "background",
        "conversation",
        "input",
        "max_output_tokens",
        "previous_response_id",
        "prompt",
    )
)


def chat_to_responses(call: Call) -> Outgoing:
    """The call in the dialect `responses`, and what was left out of it. Raises BadRequest for what
    that API cannot do.
    """
    fields = call.fields
    _refuse(call)
    conversation = Conversation()
    messages = read_field(fields, "messages", list[Object], "a list of objects") or []
    for n, message in enumerate(messages):
        conversation.add(message, f"messages[{n}]")
    out: dict[str, object] = {
        name: raw
        for name, raw in fields.items()
        if name not in _OF_CHAT and name not in _DROPPED and name.casefold() not in _OF_RESPONSES
    }
    out |= {"input": conversation.items, "store": False}
    adjusted = [
        f"{name}=dropped"
        for name, silent in _DROPPED.items()
        if _has(fields, name) and bytes(fields[name]) not in silent
    ]
    if call.output_cap is not None:
        out["max_output_tokens"] = max(call.output_cap, LEAST_OUTPUT_TOKENS)
        if call.output_cap < LEAST_OUTPUT_TOKENS:
            adjusted.append(f"max_tokens={LEAST_OUTPUT_TOKENS}")
    for name, made in _MADE.items():
        value = made(fields)
        if value is not None:
            out[name] = value
    raw_fields = {name: _raw(value) for name, value in out.items()}
    # What was made of usual messages mostly is a usual input, and is quicker read than searched.
    words = None if call.message_words is None else words_of(raw_fields["input"])
    sent = replace(call, dialect="responses", fields=raw_fields, message_words=words, envelope=None)
    return Outgoing(sent, (*conversation.adjusted, *adjusted))


def is_old_form(call: Call) -> bool:
    """Whether a chat offers `functions`, and so expects `function_call` in the answer."""
    return _offers_functions(call.fields)


def _refuse(call: Call) -> None:
    for name, raw in call.fields.items():
        if name.casefold() in _OF_RESPONSES and is_set(raw):
            raise BadRequest(
                f"{name!r} is no parameter of chat completions. Ask POST /v1/responses for it.",
                param=name,
                code="unknown_parameter",
            )
    if call.choices > 1:
        raise unsupported(
            f"'n' is {call.choices}, but this model gives one choice a call. Ask several times.",
            "n",
        )
    if call.audio_output:
        raise unsupported(
            "This model cannot speak: leave 'audio' out of 'modalities'.", "modalities"
        )
    stop = call.fields.get("stop")
    if stop is not None and bytes(stop) not in (b"null", b"[]", b'""'):
        raise BadRequest(
            "This model takes no 'stop': it would write on behind it. Leave it out, and cut the"
            " answer yourself.",
            param="stop",
            code="unsupported_parameter",
        )


def _raw(value: object) -> msgspec.Raw:
    return value if isinstance(value, msgspec.Raw) else msgspec.Raw(msgspec.json.encode(value))


def _has(fields: Fields, name: str) -> bool:
    return name in fields and is_set(fields[name])


def _offers_functions(fields: Fields) -> bool:
    return _has(fields, "functions") and not _has(fields, "tools")


def _stream_options(fields: Fields) -> object:
    options = read_field(fields, "stream_options", Object, "an object") or {}
    kept = {name: value for name, value in options.items() if name != "include_usage"}
    return kept or None


def _tools(fields: Fields) -> list[object] | None:
    given = read_field(fields, "tools", list[Object], "a list of objects")
    tools: list[object] = [_tool(tool, f"tools[{n}]") for n, tool in enumerate(given or ())]
    if given is None:
        old = read_field(fields, "functions", list[Object], "a list of objects") or ()
        tools = [_function(function) for function in old]
    search = read_field(fields, "web_search_options", Object, "an object")
    if search is not None:
        tools.append(_web_search(search))
    return tools or None


def _tool(tool: Object, where: str) -> Mapping[str, object]:
    kind = read(tool.get("type"), str, f"{where}.type", "a string") or ""
    inner = _inner(tool, kind, f"{where}.{kind}")
    if kind == "function" and inner is not None:
        return _function(inner)
    if kind == "custom" and inner is not None:
        made = _flat(inner, "custom")
        form = read(inner.get("format"), Object, f"{where}.custom.format", "an object")
        grammar = read((form or {}).get("grammar"), Object, f"{where}.custom.format", "an object")
        return made if grammar is None else {**made, "format": _flat(grammar, "grammar")}
    return tool  # a hosted one, or a tool in the form of Responses already


def _inner(value: Object, kind: str, where: str) -> Object | None:
    """The object that a tool of the client's, or a choice of tools, has in it."""
    if kind not in ("function", "custom", "allowed_tools"):
        return None
    return read(value.get(kind), Object, where, "an object")


def _function(function: Object) -> dict[str, object]:
    made = _flat(function, "function")
    if not _has(function, "parameters"):
        made["parameters"] = _NO_PARAMETERS
    # An absent one means true in Responses, and false in chat.
    made["strict"] = function["strict"] if _has(function, "strict") else False
    return made


def _flat(inner: Object, kind: str) -> dict[str, object]:
    # The type comes last: what stands inside must not make another, priced tool of it.
    return {**inner, "type": kind}


def _web_search(options: Object) -> dict[str, object]:
    tool: dict[str, object] = {"type": "web_search"}
    if _has(options, "search_context_size"):
        tool["search_context_size"] = options["search_context_size"]
    where = "web_search_options.user_location"
    location = read(options.get("user_location"), Object, where, "an object") or {}
    near = read(location.get("approximate"), Object, where, "an object")
    if near is not None:
        tool["user_location"] = _flat(near, "approximate")
    return tool


def _tool_choice(fields: Fields) -> object:
    name = "tool_choice" if _has(fields, "tool_choice") else "function_call"
    raw = fields.get(name)
    if raw is None or not is_set(raw) or not bytes(raw).startswith(b"{"):
        return raw if raw is not None and is_set(raw) else None
    choice = read_field(fields, name, Object, "a string or an object") or {}
    if name == "function_call":
        return _flat(choice, "function")
    kind = read(choice.get("type"), str, "tool_choice.type", "a string") or ""
    inner = _inner(choice, kind, f"tool_choice.{kind}")
    if inner is None:
        return raw
    if kind != "allowed_tools":
        return _flat(inner, kind)
    where = "tool_choice.allowed_tools.tools"
    allowed = read(inner.get("tools"), list[Object], where, "a list of objects") or []
    return {**_flat(inner, kind), "tools": [_allowed(tool, where) for tool in allowed]}


def _allowed(tool: Object, where: str) -> Mapping[str, object]:
    kind = read(tool.get("type"), str, where, "a list of objects") or ""
    inner = _inner(tool, kind, where)
    return tool if inner is None else _flat(inner, kind)


def _parallel(fields: Fields) -> object:
    # The old form of an answer has room for one call.
    if _offers_functions(fields):
        return False
    return fields.get("parallel_tool_calls")


def _text(fields: Fields) -> object:
    text: dict[str, object] = dict(read_field(fields, "text", Object, "an object") or {})
    form = read_field(fields, "response_format", Object, "an object")
    if form is not None:
        where = "response_format.json_schema"
        schema = read(form.get("json_schema"), Object, where, "an object")
        text["format"] = form if schema is None else _flat(schema, "json_schema")
    if _has(fields, "verbosity"):
        text["verbosity"] = fields["verbosity"]
    return text or None


def _reasoning(fields: Fields) -> object:
    if not _has(fields, "reasoning_effort"):
        return None  # OpenRouter's `reasoning` has the form of Responses and passes
    given = read_field(fields, "reasoning", Object, "an object") or {}
    return {**given, "effort": fields["reasoning_effort"]}


def _include(fields: Fields) -> object:
    if not read_field(fields, "logprobs", bool, "true or false"):
        return None
    return [*(read_field(fields, "include", list[str], "a list of strings") or ()), _LOGPROBS]


_MADE: Final[Mapping[str, Callable[[Fields], object]]] = {
    "stream_options": _stream_options,
    "tools": _tools,
    "tool_choice": _tool_choice,
    "parallel_tool_calls": _parallel,
    "text": _text,
    "reasoning": _reasoning,
    "include": _include,
}
