"""What Anthropic refuses of a Messages request, in its words; and what a gateway must not send.

Sources: Anthropic's SDK for Python, `MessageCreateParams` with and without its betas; its
documentation, "Errors", "Tool use" and "Extended thinking".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.fakes.personas import Body, Persona
from tests.fakes.shapes import Problem

_FIELDS = """
cache_control container inference_geo max_tokens messages metadata model output_config service_tier
speed stop_sequences stream system temperature thinking tool_choice tools top_k top_p
"""
_BETA_FIELDS = """
billing_policy compaction context_management diagnostics fallback_credit_token fallbacks mcp_servers
thread user_profile_id workspace_id
"""
_ROLES = ("user", "assistant", "system")
_BLOCKS = """
text image document search_result thinking redacted_thinking tool_use tool_result server_tool_use
web_search_tool_result web_fetch_tool_result advisor_tool_result code_execution_tool_result
bash_code_execution_tool_result text_editor_code_execution_tool_result tool_search_tool_result
mcp_tool_use mcp_tool_result container_upload compaction tool_addition tool_removal
mcp_tool_listing fallback
"""
_VERSIONS = ("2023-06-01", "2026-10-21")
_SAMPLING = ("temperature", "top_p", "top_k")  # which the later version has no more
_SIGNATURE = "EqQB"
_LEAST_BUDGET = 1024
_NAMES_AN_OBJECT = ("container", "thread", "user_profile_id", "workspace_id", "diagnostics")
_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def anthropic_error(problem: Problem) -> bytes:
    """Anthropic's shape: a type by the status, and neither code nor param."""
    other = "invalid_request_error" if problem.status < 500 else "api_error"
    error = {"type": _TYPES.get(problem.status, other), "message": problem.message}
    request_id = "req_011CSHoEeqs5C35K2UUqR7Fy"
    return json.dumps({"type": "error", "error": error, "request_id": request_id}).encode()


def unauthorized(persona: Persona, headers: dict[str, str]) -> Problem | None:
    """A key stands in either of two headers. Anthropic wants a version beside it."""
    key = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
    if key != persona.key:
        return Problem(401, "invalid x-api-key")
    if persona.name == "anthropic" and headers.get("anthropic-version") not in _VERSIONS:
        return Problem(400, "anthropic-version: header is required")
    return None


def violations(body: Any) -> list[str]:
    """What a gateway must never send on: whatever names an object in the account at the vendor."""
    if not isinstance(body, dict):
        return []
    found = [name for name in _NAMES_AN_OBJECT if body.get(name) is not None]
    messages = body.get("messages")
    return found + (list(_ids_in(messages, "messages")) if isinstance(messages, list) else [])


def _ids_in(value: Any, where: str) -> Iterator[str]:
    if isinstance(value, list):
        for at, each in enumerate(value):
            yield from _ids_in(each, f"{where}[{at}]")
    elif isinstance(value, dict):
        for name, each in value.items():
            if name in ("file_id", "container_id", "skill_id") and each is not None:
                yield f"{where}.{name}"
            elif name not in ("input", "input_schema"):
                yield from _ids_in(each, f"{where}.{name}")


def thinks(body: Body) -> bool:
    """Whether a request asks for thinking."""
    return (body.get("thinking") or {}).get("type") in ("enabled", "adaptive", "between_tools")


def blocks_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    """A message's content as blocks."""
    content = message.get("content")
    return [{"type": "text", "text": content}] if isinstance(content, str) else content or []


def refuses(persona: Persona, body: Body, headers: dict[str, str]) -> Problem | None:
    """The first thing that is wrong with a body. Only Anthropic insists on what is its own."""
    found = next((found for rule in _EVERYWHERE if (found := rule(body))), None)
    if found is not None or persona.name != "anthropic":
        return found
    betas = bool(headers.get("anthropic-beta"))
    for name in body:
        if name not in _FIELDS.split() and not (betas and name in _BETA_FIELDS.split()):
            return _invalid(f"{name}: Extra inputs are not permitted")
        if name in _SAMPLING and headers.get("anthropic-version") == _VERSIONS[1]:
            return _invalid(f"{name}: Extra inputs are not permitted")
    return next((found for rule in _ANTHROPICS if (found := rule(body))), None)


def _invalid(message: str) -> Problem:
    return Problem(400, message)


def _required(body: Body) -> Problem | None:
    for name, kind in (("model", str), ("max_tokens", int), ("messages", list)):
        if name not in body:
            return _invalid(f"{name}: Field required")
        if not isinstance(body[name], kind) or isinstance(body[name], bool):
            return _invalid(f"{name}: Input should be a valid {kind.__name__}")
    if body["max_tokens"] < 0:
        return _invalid("max_tokens: Input should be greater than or equal to 0")
    return None if body["messages"] else _invalid("messages: at least one message is required")


def _messages(body: Body) -> Problem | None:
    for at, message in enumerate(body["messages"]):
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            return _invalid(f"messages.{at}.role: Input should be 'user', 'assistant' or 'system'")
        if not isinstance(message.get("content"), str | list):
            return _invalid(f"messages.{at}.content: Field required")
        if not message["content"] and at < len(body["messages"]) - 1:
            return _invalid(f"messages.{at}: all messages must have non-empty content")
        for n, block in enumerate(blocks_of(message)):
            problem = _block(block, f"messages.{at}.content.{n}")
            if problem is not None:
                return problem
    return None


def _block(block: Any, where: str) -> Problem | None:
    kind = block.get("type") if isinstance(block, dict) else None
    if kind not in _BLOCKS.split():
        return _invalid(f"{where}: Input tag '{kind}' found using 'type' does not match any tag")
    if kind == "text" and not block.get("text"):
        return _invalid("messages: text content blocks must be non-empty")
    if kind == "thinking" and not str(block.get("signature")).startswith(_SIGNATURE):
        return _invalid(f"{where}: Invalid `signature` in `thinking` block")
    if kind == "tool_use" and not isinstance(block.get("input"), dict):
        return _invalid(f"{where}.tool_use.input: Input should be a valid dictionary")
    return None


def _pairs(body: Body) -> Problem | None:
    """Results answer the calls of the message before, all of them and nothing else."""
    open_calls: set[str] = set()
    for at, message in enumerate(body["messages"]):
        blocks = blocks_of(message)
        results = {b["tool_use_id"] for b in blocks if b["type"] == "tool_result"}
        if results - open_calls:
            return _invalid(
                f"messages.{at}.content.0: unexpected `tool_use_id` found in `tool_result` blocks"
            )
        if open_calls - results and message["role"] == "user":
            return _invalid(
                f"messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately"
                " after"
            )
        if message["role"] != "system":
            open_calls = {b["id"] for b in blocks if b["type"] == "tool_use"}
    return None


def _tools(body: Body) -> Problem | None:
    tools = body.get("tools") or []
    names = [tool.get("name") for tool in tools if isinstance(tool, dict)]
    if len(set(names)) < len(names):
        return _invalid("tools: Tool names must be unique.")
    for at, tool in enumerate(tools):
        if tool.get("type") in (None, "custom") and "input_schema" not in tool:
            return _invalid(f"tools.{at}.custom.input_schema: Field required")
    choice = body.get("tool_choice") or {}
    if choice and not tools:
        return _invalid("tool_choice: may only be specified while providing tools")
    if choice.get("type") == "tool" and choice.get("name") not in names:
        return _invalid(f"Tool '{choice.get('name')}' not found in provided tools")
    servers = {server["name"] for server in body.get("mcp_servers") or ()}
    used = {tool.get("mcp_server_name") for tool in tools if tool.get("type") == "mcp_toolset"}
    return None if servers == used else _invalid("mcp_servers: each needs its mcp_toolset")


def _thinking(body: Body) -> Problem | None:
    thinking = body.get("thinking") or {}
    edits = (body.get("context_management") or {}).get("edits") or ()
    if any(e["type"].startswith("clear_thinking") for e in edits) and not thinks(body):
        return _invalid("`clear_thinking_20251015` strategy requires `thinking` to be enabled")
    if thinking.get("type") != "enabled":
        return None
    return _budget(body, thinking.get("budget_tokens")) or _thoughts_first(body)


def _budget(body: Body, budget: Any) -> Problem | None:
    if not isinstance(budget, int) or budget < _LEAST_BUDGET:
        return _invalid("thinking.enabled.budget_tokens: Input should be at least 1024")
    if budget >= body["max_tokens"]:
        return _invalid("`max_tokens` must be greater than `thinking.budget_tokens`.")
    if body.get("temperature") not in (None, 1):
        return _invalid("`temperature` may only be set to 1 when thinking is enabled.")
    if (body.get("tool_choice") or {}).get("type") in ("any", "tool"):
        return _invalid("Thinking may not be enabled when tool_choice forces tool use.")
    return None


def _thoughts_first(body: Body) -> Problem | None:
    """The turn that goes on begins with thoughts, if it calls tools."""
    turn: list[dict[str, Any]] = []
    for message in reversed(body["messages"]):
        blocks = blocks_of(message)
        if message["role"] == "assistant":
            turn = blocks + turn
        elif message["role"] == "user" and not any(b["type"] == "tool_result" for b in blocks):
            break
    kinds = [block["type"] for block in turn]
    if "tool_use" not in kinds or kinds[0] in ("thinking", "redacted_thinking"):
        return None
    return _invalid(
        f"messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found"
        f" `{kinds[0]}`. When `thinking` is enabled, a final `assistant` message must start with a"
        " thinking block."
    )


_EVERYWHERE = (_required, _messages)
_ANTHROPICS = (_pairs, _tools, _thinking)
