"""What each vendor that speaks the Responses API refuses: parameters, input, vendor-side objects.

The API is OpenAI's ("Create a model response"); MiMo leaves out what would need a store.
"""

from __future__ import annotations

from typing import Any

from tests.fakes.personas import Body, Persona, Rule
from tests.fakes.responses_items import items_of, refuses_input, refuses_tools, vendor_objects
from tests.fakes.shapes import Problem

_PARAMETERS = """
access_programs background background_options context_management conversation image include input
instructions max_output_tokens max_tool_calls metadata model moderation parallel_tool_calls
previous_response_id prompt prompt_cache_key prompt_cache_options prompt_cache_retention reasoning
safety_identifier service_tier store stream stream_options temperature text tool_choice tools
top_logprobs top_p truncation user
"""
_INCLUDES = """
file_search_call.results web_search_call.results web_search_call.action.sources
message.input_image.image_url computer_call_output.output.image_url code_interpreter_call.outputs
reasoning.encrypted_content message.output_text.logprobs
"""
_TYPES: dict[str, type | tuple[type, ...]] = {
    "model": str,
    "input": (str, list),
    "instructions": str,
    "stream": bool,
    "store": bool,
    "parallel_tool_calls": bool,
    "max_output_tokens": int,
    "temperature": (int, float),
    "top_p": (int, float),
    "tools": list,
    "include": list,
    "tool_choice": (str, dict),
    "text": dict,
    "reasoning": dict,
    "metadata": dict,
    "stream_options": dict,
}
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_REASONING = ("effort", "summary", "context", "mode", "generate_summary")
_MIN_OUTPUT_TOKENS = 16
_MAX_METADATA = 16


def violations(body: Any) -> list[str]:
    """What a gateway must never send: each place that stores, or names what is stored, here."""
    if not isinstance(body, dict):
        return []
    stored = [] if body.get("store") is False else [f"store: {body.get('store', 'absent')}"]
    return stored + [where for where, _ in vendor_objects(body)]


def refuses(persona: Persona, body: Body) -> Problem | None:
    """The first thing that is wrong with a body."""
    rules = (_types, *_FIRST.get(persona.name, ()), *_EVERYWHERE)
    return next((found for rule in rules if (found := rule(body))), None)


def _types(body: Body) -> Problem | None:
    for name, expected in _TYPES.items():
        value = body.get(name)
        wrong_bool = isinstance(value, bool) and expected is not bool
        if value is not None and (wrong_bool or not isinstance(value, expected)):
            return Problem(400, f"Invalid type for '{name}'.", "invalid_type", name)
    form = (body.get("text") or {}).get("format")
    if form is not None and not isinstance(form, dict):
        return Problem(400, "Invalid type for 'text.format'.", "invalid_type", "text.format")
    return None


def _unknown(body: Body) -> Problem | None:
    for name in body:
        # Codex sends `client_metadata`, which the reference does not name.
        if name not in _PARAMETERS.split() and name != "client_metadata":
            return Problem(400, f"Unknown parameter: '{name}'.", "unknown_parameter", name)
    return None


def _mimo(body: Body) -> Problem | None:
    left_out = ("previous_response_id", "background", "context_management", "conversation")
    for name in body:
        if name in left_out or name not in _PARAMETERS.split():
            return Problem(400, f"`{name}` is not supported")
    form = (body.get("text") or {}).get("format") or {}
    return Problem(400, "`json_schema` is not supported") if "schema" in form else None


def _model(body: Body) -> Problem | None:
    return None if body.get("model") else _missing("model")


def _missing(name: str) -> Problem:
    return Problem(
        400, f"Missing required parameter: '{name}'.", "missing_required_parameter", name
    )


def _vendor_object(body: Body) -> Problem | None:
    return next((problem for _, problem in vendor_objects(body)), None)


def _cap(body: Body) -> Problem | None:
    cap = body.get("max_output_tokens")
    if cap is None or cap >= _MIN_OUTPUT_TOKENS:
        return None
    return Problem(
        400,
        f"Invalid 'max_output_tokens': integer below minimum value. Expected a value >= "
        f"{_MIN_OUTPUT_TOKENS}, but got {cap} instead.",
        "integer_below_min_value",
        "max_output_tokens",
    )


def _values(body: Body) -> Problem | None:
    reasoning = body.get("reasoning") or {}
    for name in reasoning:
        if name not in _REASONING:
            return Problem(
                400,
                f"Unknown parameter: 'reasoning.{name}'.",
                "unknown_parameter",
                f"reasoning.{name}",
            )
    if reasoning.get("effort") not in (None, *_EFFORTS):
        return _invalid("reasoning.effort", reasoning["effort"])
    for at, name in enumerate(body.get("include") or ()):
        if name not in _INCLUDES.split():
            return _invalid(f"include[{at}]", name)
    return None


def _limits(body: Body) -> Problem | None:
    if len(body.get("metadata") or ()) > _MAX_METADATA:
        return Problem(
            400,
            "Invalid 'metadata': too many properties. Expected an object with at most "
            f"{_MAX_METADATA} properties.",
            "object_above_max_properties",
            "metadata",
        )
    if body.get("stream_options") is not None and not body.get("stream"):
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        return Problem(400, message, None, "stream_options")
    if "include_usage" in (body.get("stream_options") or ()):
        name = "stream_options.include_usage"
        return Problem(400, f"Unknown parameter: '{name}'.", "unknown_parameter", name)
    return None


def _invalid(where: str, found: object) -> Problem:
    return Problem(400, f"Invalid value: '{found}'.", "invalid_value", where)


def _format(body: Body) -> Problem | None:
    form = (body.get("text") or {}).get("format") or {"type": "text"}
    if form.get("type") not in ("text", "json_object", "json_schema"):
        return _invalid("text.format.type", form.get("type"))
    # Chat has these one level deeper, in an object `json_schema`.
    needed = ("name", "schema") if form["type"] == "json_schema" else ()
    return next((_missing(f"text.format.{name}") for name in needed if name not in form), None)


def _tool_choice(body: Body) -> Problem | None:
    choice = body.get("tool_choice")
    if choice in (None, "auto", "none"):
        return None
    offered = body.get("tools") or any("tools" in item for item in items_of(body))
    if not offered:
        message = "Tool choice must be specified with 'tools' parameter."
        return Problem(400, message, "invalid_value", "tool_choice")
    if isinstance(choice, str):
        return None if choice == "required" else _invalid("tool_choice", choice)
    if choice.get("type") in ("function", "custom") and "name" not in choice:
        return _missing("tool_choice.name")
    return None if isinstance(choice.get("type"), str) else _missing("tool_choice.type")


_FIRST: dict[str, tuple[Rule, ...]] = {"openai": (_unknown,), "mimo": (_mimo,)}
_EVERYWHERE: tuple[Rule, ...] = (
    _model,
    _vendor_object,
    refuses_input,
    lambda body: refuses_tools(body.get("tools")),
    _tool_choice,
    _cap,
    _values,
    _limits,
    _format,
)
