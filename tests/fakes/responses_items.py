"""Which input items and tools a Responses upstream takes, and what it says of others.

The field tables follow OpenAI's API reference, "Create a model response". Top-level parameters
are responses_rules.py's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from tests.fakes.personas import Body
from tests.fakes.shapes import Problem

Item = dict[str, Any]

# What may stand in an item of each type, beside `type` and `id`.
ITEM_FIELDS = {
    "message": "role content status phase",
    "function_call": "call_id name arguments namespace status caller async",
    "function_call_output": "call_id output name namespace status caller",
    "custom_tool_call": "call_id name input namespace status caller async",
    "custom_tool_call_output": "call_id output status caller",
    "reasoning": "summary content encrypted_content status",
    "additional_tools": "role tools",
    "tool_search_call": "call_id arguments execution status",
    "tool_search_output": "call_id tools execution status",
    "compaction": "encrypted_content",
    "compaction_trigger": "",
    "configuration_update": "reasoning text",
    "program": "call_id code fingerprint",
    "program_output": "call_id result status",
    "web_search_call": "action status",
    "file_search_call": "queries results status",
    "computer_call": "call_id action actions pending_safety_checks status",
    "computer_call_output": "call_id output acknowledged_safety_checks status",
    "image_generation_call": "result status action background output_format quality size",
    "code_interpreter_call": "code container_id outputs status",
    "local_shell_call": "call_id action status",
    "local_shell_call_output": "output status",
    "shell_call": "call_id action environment status caller",
    "shell_call_output": "call_id output max_output_length status caller",
    "apply_patch_call": "call_id operation status caller",
    "apply_patch_call_output": "call_id output status caller",
    "mcp_list_tools": "server_label tools error",
    "mcp_call": "server_label name arguments output error approval_request_id status",
    "mcp_approval_request": "server_label name arguments",
    "mcp_approval_response": "approval_request_id approve reason",
}
_NEEDED = {
    "message": "role content",
    "function_call": "call_id name arguments",
    "function_call_output": "call_id output",
    "custom_tool_call": "call_id name input",
    "custom_tool_call_output": "call_id output",
    "reasoning": "summary",
    "additional_tools": "tools",
    "tool_search_output": "tools",
    "compaction": "encrypted_content",
}
_ID_PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "reasoning": "rs",
    "web_search_call": "ws",
    "compaction": "cmp",
}
_INPUT_PARTS = {
    "input_text": "text prompt_cache_breakpoint",
    "input_image": "image_url detail file_id prompt_cache_breakpoint",
    "input_file": "filename file_data file_url file_id detail prompt_cache_breakpoint",
}
_OUTPUT_PARTS = {"output_text": "text annotations logprobs", "refusal": "refusal"}
_REASONING_PARTS = {"reasoning_text": "text"}
_SUMMARY_PARTS = {"summary_text": "text"}
_TOOL_FIELDS = {
    "function": "name description parameters strict output_schema defer_loading allowed_callers",
    "custom": "name description format defer_loading allowed_callers",
    "namespace": "name description tools",
    "tool_search": "execution description parameters",
    "web_search": "filters search_context_size user_location external_web_access "
    "search_content_types",
    "web_search_2025_08_26": "filters search_context_size user_location",
    "web_search_preview": "search_context_size user_location search_content_types",
    "file_search": "vector_store_ids filters max_num_results ranking_options",
    "computer": "",
    "computer_use_preview": "display_height display_width environment",
    "mcp": "server_label server_url server_description connector_id authorization headers "
    "allowed_tools require_approval",
    "code_interpreter": "container allowed_callers",
    "programmatic_tool_calling": "",
    "image_generation": "action background input_fidelity input_image_mask model moderation "
    "output_compression output_format partial_images quality size",
    "local_shell": "",
    "shell": "environment allowed_callers",
    "apply_patch": "allowed_callers",
}
_ROLES = ("user", "assistant", "system", "developer")
_MAX_CALL_ID = 64


def type_of(item: Item) -> str:
    """The type of an input item; a message may leave it out, a reference too."""
    return str(item.get("type") or ("message" if "role" in item else "item_reference"))


def items_of(body: Body) -> list[Item]:
    """The input as items: a text is one message of the user."""
    given = body.get("input")
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    return [item for item in given if isinstance(item, dict)] if isinstance(given, list) else []


def declared_tools(body: Body) -> list[Item]:
    """The tools that a request offers, in their order, with those of `additional_tools`."""
    carrying = (
        i for i in items_of(body) if type_of(i) in ("additional_tools", "tool_search_output")
    )
    return [tool for holder in (body, *carrying) for tool in holder.get("tools") or ()]


def refuses_input(body: Body) -> Problem | None:
    """The first thing that is wrong with the input."""
    given = body.get("input")
    if isinstance(given, str) and given:
        return None
    if not isinstance(given, list) or not given:
        return Problem(
            400, "Missing required parameter: 'input'.", "missing_required_parameter", "input"
        )
    for at, item in enumerate(given):
        problem = _wrong_item(item, f"input[{at}]")
        if problem is not None:
            return problem
    return _unpaired(given)


def _wrong_item(item: object, where: str) -> Problem | None:
    if not isinstance(item, dict):
        return Problem(400, f"Invalid type for '{where}': expected an object.", "invalid_type")
    kind = type_of(item)
    if kind not in ITEM_FIELDS:
        return _bad_value(where + ".type", kind, ITEM_FIELDS)
    problem = _fields(item, ITEM_FIELDS[kind] + " type id", _NEEDED.get(kind, ""), where)
    return problem or _wrong_id(item, kind, where) or _wrong_inside(item, kind, where)


def _wrong_id(item: Item, kind: str, where: str) -> Problem | None:
    prefix = _ID_PREFIXES.get(kind, "")
    if not str(item.get("id") or prefix).startswith(prefix):
        return Problem(
            400,
            f"Invalid '{where}.id': '{item['id']}'. Expected an ID that begins with '{prefix}'.",
            "invalid_value",
            where + ".id",
        )
    if len(str(item.get("call_id") or "")) > _MAX_CALL_ID:
        return Problem(
            400,
            f"Invalid '{where}.call_id': string too long. Expected a string with maximum length "
            f"{_MAX_CALL_ID}.",
            "string_above_max_length",
            where + ".call_id",
        )
    return None


def _wrong_inside(item: Item, kind: str, where: str) -> Problem | None:
    check = _CHECKS.get(kind)
    return check(item, where) if check else None


def _wrong_output(item: Item, where: str) -> Problem | None:
    if isinstance(item["output"], list):
        return _wrong_parts(item["output"], _INPUT_PARTS, where + ".output")
    return _wrong_text(item, "output", where)


def _wrong_text(item: Item, name: str, where: str) -> Problem | None:
    if isinstance(item[name], str):
        return None
    found = f"{where}.{name}"
    return Problem(400, f"Invalid type for '{found}': expected a string.", "invalid_type", found)


def _wrong_message(item: Item, where: str) -> Problem | None:
    if item["role"] not in _ROLES:
        return _bad_value(where + ".role", item["role"], _ROLES)
    if isinstance(item["content"], str):
        return None
    known = _OUTPUT_PARTS if item["role"] == "assistant" else _INPUT_PARTS
    return _wrong_parts(item["content"], known, where + ".content")


def _wrong_reasoning(item: Item, where: str) -> Problem | None:
    if item.get("encrypted_content") is None and item.get("id"):
        # Nothing is stored here, so that an id alone leads nowhere.
        return Problem(
            404,
            f"Item with id '{item['id']}' not found. Items are not persisted when `store` is set "
            "to false. Try again with `store` set to true, or remove this item from your input.",
            None,
            "input",
        )
    return (
        _wrong_parts(item["summary"], _SUMMARY_PARTS, where + ".summary")
        or _wrong_parts(item.get("content") or [], _REASONING_PARTS, where + ".content")
        or _wrong_blob(item, where)
    )


def _wrong_blob(item: Item, where: str) -> Problem | None:
    blob = item.get("encrypted_content")
    if blob is None or (isinstance(blob, str) and blob.startswith("gAAAA")):
        return None
    return Problem(
        400,
        f"The encrypted content for item {item.get('id')} could not be verified.",
        "invalid_encrypted_content",
        where + ".encrypted_content",
    )


def _wrong_parts(parts: object, known: dict[str, str], where: str) -> Problem | None:
    if not isinstance(parts, list):
        return Problem(400, f"Invalid type for '{where}'.", "invalid_type", where)
    for at, part in enumerate(parts):
        here = f"{where}[{at}]"
        kind = str(part.get("type") if isinstance(part, dict) else part)
        if kind not in known:
            return _bad_value(here, kind, known)
        needed = "text" if "text" in known[kind].split() else ""
        problem = _fields(part, known[kind] + " type", needed, here)
        if problem is None and needed:
            problem = _wrong_text(part, needed, here)
        image = str(part.get("image_url") or "data:")
        if problem is None and not re.match(r"data:|https?://", image):
            problem = _bad_value(here + ".image_url", image, ("a URL",))
        if problem is not None:
            return problem
    return None


_CHECKS: dict[str, Callable[[Item, str], Problem | None]] = {
    "message": _wrong_message,
    "reasoning": _wrong_reasoning,
    "compaction": _wrong_blob,
    "function_call": lambda item, where: _wrong_text(item, "arguments", where),
    "custom_tool_call": lambda item, where: _wrong_text(item, "input", where),
    "function_call_output": _wrong_output,
    "custom_tool_call_output": _wrong_output,
    "additional_tools": lambda item, where: refuses_tools(item["tools"], where + ".tools"),
    "tool_search_output": lambda item, where: refuses_tools(item["tools"], where + ".tools"),
}


def _unpaired(items: list[Item]) -> Problem | None:
    calls: dict[str, str] = {}
    for item in items:
        kind = type_of(item)
        if kind in ("function_call", "custom_tool_call"):
            calls[str(item["call_id"])] = kind
        elif kind in ("function_call_output", "custom_tool_call_output"):
            if calls.get(str(item["call_id"])) not in (kind.removesuffix("_output"), "answered"):
                what = "function" if kind.startswith("function") else "custom tool"
                return Problem(
                    400,
                    f"No tool call found for {what} call output with call_id {item['call_id']}.",
                    None,
                    "input",
                )
            calls[str(item["call_id"])] = "answered"
    for call_id, state in calls.items():
        if state != "answered":
            what = "tool" if state == "function_call" else "custom tool"
            return Problem(400, f"No {what} output found for call {call_id}.", None, "input")
    return None


def refuses_tools(tools: object, where: str = "tools", inside: str = "") -> Problem | None:
    """The first thing that is wrong with tools. `inside`: the namespace they stand in."""
    if tools is None:
        return None
    if not isinstance(tools, list):
        return Problem(400, f"Invalid type for '{where}'.", "invalid_type", where)
    known = ("function", "custom") if inside else tuple(_TOOL_FIELDS)
    for at, tool in enumerate(tools):
        here = f"{where}[{at}]"
        kind = str(tool.get("type") if isinstance(tool, dict) else tool)
        if kind not in known:
            return _bad_value(here + ".type", kind, known)
        needed = {"function": "name", "custom": "name", "namespace": "name tools"}.get(kind, "")
        # Chat's tools have an object `function` inside, and lack the name therefore.
        problem = _fields(tool, _TOOL_FIELDS[kind] + " type", needed, here)
        if (
            problem is None
            and needed
            and not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", str(tool["name"]))
        ):
            problem = _bad_value(here + ".name", tool["name"], ("^[a-zA-Z0-9_-]+$",))
        if problem is None and kind == "namespace":
            problem = refuses_tools(tool.get("tools"), here + ".tools", tool["name"])
        if problem is not None:
            return problem
    return None


def _fields(value: Item, allowed: str, needed: str, where: str) -> Problem | None:
    for name in needed.split():
        if value.get(name) is None:
            found = f"{where}.{name}"
            return Problem(
                400, f"Missing required parameter: '{found}'.", "missing_required_parameter", found
            )
    for name in value:
        if name not in allowed.split():
            found = f"{where}.{name}"
            return Problem(400, f"Unknown parameter: '{found}'.", "unknown_parameter", found)
    return None


def _bad_value(where: str, found: object, known: Any) -> Problem:
    names = ", ".join(f"'{name}'" for name in known)
    return Problem(
        400, f"Invalid value: '{found}'. Supported values are: {names}.", "invalid_value", where
    )


def vendor_objects(body: Body) -> Iterator[tuple[str, Problem]]:
    """Each mention of something that would lie at the vendor, and what a vendor says to it."""
    for name in ("previous_response_id", "conversation", "prompt"):
        if body.get(name) is not None:
            code = "previous_response_not_found" if name == "previous_response_id" else None
            yield name, Problem(400, f"The object of '{name}' was not found.", code, name)
    if body.get("background"):
        yield (
            "background",
            Problem(400, "Background mode requires 'store'.", "unsupported_value", "background"),
        )
    for at, item in enumerate(items_of(body)):
        if type_of(item) == "item_reference":
            message = f"Item with id '{item.get('id')}' not found."
            yield f"input[{at}]", Problem(404, message, None, "input")
    for where in ("input", "tools"):
        for path in _references(body.get(where), where):
            yield path, Problem(400, f"The object of '{path}' was not found.", None, path)


def _references(value: object, where: str) -> Iterator[str]:
    if isinstance(value, list):
        for at, part in enumerate(value):
            yield from _references(part, f"{where}[{at}]")
    elif isinstance(value, dict):
        for name, part in value.items():
            if name in ("file_id", "file_ids", "vector_store_ids", "container_id", "skill_id"):
                if part:
                    yield f"{where}.{name}"
            elif name == "container" and isinstance(part, str):
                yield f"{where}.{name}"
            elif name not in ("parameters", "output_schema", "arguments"):
                yield from _references(part, f"{where}.{name}")
