"""A good answer of a fake vendor that speaks the Responses API: the response object and its items.

What is said is what the same persona says in chat to the same script (answers.py): the request is
put into the form of chat, and the answer out of it. Beside that form's script lines:

    search: QUERY          a web search before the text, where the request offers that tool
    finish: length         an incomplete response; a call has lost half of its arguments
    finish: content_filter the same for the other reason
    finish: error CODE     a failed response after half of the text; CODE is server_error if absent
    usage: {JSON}          in the form of either API; chat's is put into that of Responses

The order of a stream's events is responses_events.py's.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import Any

from tests.fakes.answers import CREATED, answer_to, as_json, pieces, script_of
from tests.fakes.personas import Body, Persona
from tests.fakes.responses_items import Item, declared_tools, items_of, type_of

# A vendor never gives an id twice; the width is fixed, so that answers of one request differ in
# these digits only.
_numbers = itertools.count(1)

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


@dataclass(frozen=True)
class Answer:
    """A finished response: its items are whole, or cut if `status` is not `completed`."""

    body: Body
    model: str
    number: str
    items: tuple[Item, ...]
    status: str  # completed | incomplete | failed
    reason: str | None  # why it is incomplete
    error: dict[str, Any] | None
    usage: dict[str, Any] | None


def answer_for(persona: Persona, body: Body) -> Answer:
    """The answer to a request that responses_rules.py has accepted."""
    tools = _by_chat_name(body)
    asked = _as_chat(body, tuple(tools))
    whole = as_json(answer_to(persona, asked))
    script = script_of(asked)
    choice = whole["choices"][0]
    finish, _, code = str(choice["finish_reason"]).partition(" ")
    failed = finish == "error"
    status = "failed" if failed else "incomplete" if finish in _INCOMPLETE else "completed"
    number = f"{next(_numbers):06d}"
    items = _items(body, number, choice["message"], tools, script)
    if items and status != "completed":
        items[-1] = _cut(items[-1], halve=failed)
    return Answer(
        body,
        whole["model"],
        number,
        tuple(items),
        status,
        _INCOMPLETE.get(finish),
        {"code": code or "server_error", "message": "The engine died."} if failed else None,
        responses_usage(whole.get("usage")),
    )


def responses_usage(usage: dict[str, Any] | None) -> dict[str, Any] | None:
    """Chat's usage in the form of Responses; anything else as it is."""
    if usage is None or "prompt_tokens" not in usage:
        return usage
    given = usage.get("prompt_tokens_details") or {}
    made = usage.get("completion_tokens_details") or {}
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {
            "cached_tokens": given.get("cached_tokens") or 0,
            "cache_write_tokens": given.get("cache_write_tokens") or 0,
        },
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": made.get("reasoning_tokens") or 0},
        "total_tokens": usage["total_tokens"],
    }


def _by_chat_name(body: Body) -> dict[str, tuple[Item, str | None]]:
    """The callable tools with their namespaces, under names that are unique in a flat list."""
    found: dict[str, tuple[Item, str | None]] = {}
    for tool in declared_tools(body):
        if tool["type"] == "namespace":
            for member in tool["tools"]:
                found[f"{tool['name']}__{member['name']}"] = (member, tool["name"])
        elif tool["type"] in ("function", "custom"):
            found[tool["name"]] = (tool, None)
    return found


def _as_chat(body: Body, tool_names: tuple[str, ...]) -> Body:
    messages: list[dict[str, Any]] = []
    if body.get("instructions"):
        messages.append({"role": "system", "content": body["instructions"]})
    for item in items_of(body):
        kind = type_of(item)
        if kind == "message":
            messages.append({"role": item["role"], "content": item["content"]})
        elif kind.endswith("_output"):
            messages.append({"role": "tool", "content": json.dumps(item.get("output"))})
        elif kind != "additional_tools":
            messages.append({"role": "assistant", "content": json.dumps(item)})
    asked: Body = {
        "model": body["model"],
        "messages": messages or [{"role": "system", "content": ""}],
        "tools": [{"type": "function", "function": {"name": name}} for name in tool_names],
    }
    if body.get("max_output_tokens"):
        asked["max_completion_tokens"] = body["max_output_tokens"]
    if (body.get("reasoning") or {}).get("effort") == "none":
        asked["thinking"] = {"type": "disabled"}
    return asked


def _items(
    body: Body,
    number: str,
    message: dict[str, Any],
    tools: dict[str, tuple[Item, str | None]],
    script: dict[str, Any],
) -> list[Item]:
    last = type_of(items_of(body)[-1])
    if last == "compaction_trigger":
        blob = "gAAAAcompacted" + number
        return [{"id": "cmp_" + number, "type": "compaction", "encrypted_content": blob}]
    items: list[Item] = []
    if message.get("reasoning_content"):
        items.append(_reasoning(body, number, message["reasoning_content"]))
    searching = any(str(t["type"]).startswith("web_search") for t in declared_tools(body))
    query = script.get("search") if searching and last == "message" else None
    if query:
        items.append(_search(body, number, query))
    if message.get("content"):
        items.append(_message(number, message["content"], cited=bool(query)))
    for at, call in enumerate(message.get("tool_calls") or ()):
        tool, namespace = tools[call["function"]["name"]]
        items.append(_call(f"{number}{at}", tool, namespace, call["function"]["arguments"]))
    return items


def _reasoning(body: Body, number: str, text: str) -> Item:
    item: Item = {
        "id": "rs_" + number,
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": text}],
    }
    if "reasoning.encrypted_content" in (body.get("include") or ()):
        item["encrypted_content"] = "gAAAAthoughts" + number
    return item


def _search(body: Body, number: str, query: str) -> Item:
    action: dict[str, Any] = {"type": "search", "query": query, "queries": [query]}
    if "web_search_call.action.sources" in (body.get("include") or ()):
        action["sources"] = [{"type": "url", "url": "https://example.com/found"}]
    return {
        "id": "ws_" + number,
        "type": "web_search_call",
        "status": "completed",
        "action": action,
    }


def _message(number: str, text: str, *, cited: bool) -> Item:
    citation = {
        "type": "url_citation",
        "start_index": 0,
        "end_index": len(text),
        "url": "https://example.com/found",
        "title": "Found",
    }
    part = {
        "type": "output_text",
        "text": text,
        "annotations": [citation] if cited else [],
        "logprobs": [],
    }
    return {
        "id": "msg_" + number,
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }


def _call(number: str, tool: Item, namespace: str | None, arguments: str) -> Item:
    item: Item = {
        "id": "fc_" + number,
        "type": "function_call",
        "status": "completed",
        "call_id": "call_" + number,
        "name": tool["name"],
        "arguments": arguments,
    }
    if tool["type"] == "custom":
        item |= {"id": "ctc_" + number, "type": "custom_tool_call", "input": _free_text(arguments)}
        del item["arguments"]
    return item if namespace is None else {**item, "namespace": namespace}


def _free_text(arguments: str) -> str:
    # Where chat would call a function with one argument `input`, a custom tool takes its text.
    try:
        return str(json.loads(arguments)["input"])
    except (ValueError, KeyError, TypeError):
        return arguments


def _cut(item: Item, *, halve: bool) -> Item:
    """The item as it is when the answer ends inside it. `halve`: nobody has cut its text yet."""
    if item["type"] in ("compaction", "reasoning"):
        return item
    cut = {**item, "status": "incomplete"}
    if item["type"] == "message" and halve:
        words = pieces(item["content"][0]["text"])
        half = "".join(words[: max(1, len(words) // 2)])
        cut["content"] = [{**item["content"][0], "text": half, "annotations": []}]
    for name in ("arguments", "input"):
        if name in item:
            cut[name] = item[name][: len(item[name]) // 2]
    return cut


def response_object(answer: Answer, *, started: bool = False) -> dict[str, Any]:
    """The response with every key, as it is at its end, or at its start."""
    body = answer.body
    tier = body.get("service_tier") or "auto"
    reason = None if started else answer.reason
    return {
        "id": "resp_" + answer.number,
        "object": "response",
        "created_at": CREATED,
        "status": "in_progress" if started else answer.status,
        "background": False,
        "completed_at": CREATED + 1 if answer.status == "completed" and not started else None,
        "error": None if started else answer.error,
        "frequency_penalty": 0.0,
        "incomplete_details": reason and {"reason": reason},
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": body.get("max_tool_calls"),
        "model": answer.model,
        "output": [] if started else list(answer.items),
        "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
        "presence_penalty": 0.0,
        "previous_response_id": None,
        "prompt_cache_key": body.get("prompt_cache_key"),
        "prompt_cache_retention": body.get("prompt_cache_retention"),
        "reasoning": {"effort": None, "summary": None, **(body.get("reasoning") or {})},
        "safety_identifier": body.get("safety_identifier"),
        "service_tier": "default" if tier == "auto" else tier,
        "store": body.get("store") is not False,
        "temperature": 1.0 if body.get("temperature") is None else body["temperature"],
        "text": _echoed_text(body.get("text") or {}),
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": [_echoed(tool) for tool in body.get("tools") or ()],
        "top_logprobs": body.get("top_logprobs") or 0,
        "top_p": 1.0 if body.get("top_p") is None else body["top_p"],
        "truncation": body.get("truncation") or "disabled",
        "usage": None if started else answer.usage,
        "user": body.get("user"),
        "metadata": body.get("metadata") or {},
    }


def _echoed(tool: Item) -> Item:
    if tool["type"] == "function":
        return {"description": None, "parameters": None, "strict": True, **tool}
    if tool["type"] == "custom":
        return {"format": {"type": "text"}, **tool}
    return tool


def _echoed_text(text: dict[str, Any]) -> dict[str, Any]:
    form = text.get("format") or {"type": "text"}
    if form["type"] == "json_schema":
        form = {"description": None, "strict": False, **form}
    return {"verbosity": "medium", **text, "format": form}
