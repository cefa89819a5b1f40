"""Zhipu's GLM models at its Chinese address; Z.ai is the same API at another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from farebox.vendors.base import Vendor
from farebox.vendors.body import DROP_NAME, Body, mentions, raw_list, raw_object
from farebox.vendors.refusals import Kind
from farebox.vendors.thinking import effort_to_switch, thinking_is_off

_ALWAYS_THINKING = ("glm-5.3",)  # refuses thinking disabled with code 1210

_FINISH_REASONS: Final[Mapping[str, str]] = {
    "sensitive": "content_filter",
    "model_context_window_exceeded": "length",
}
_CODES: Final[Mapping[str, Kind]] = {
    **dict.fromkeys(("1000", "1001", "1002", "1003", "1004"), "key"),
    **dict.fromkeys(("1100", "1110", "1111", "1112", "1120", "1121", "1220"), "key"),
    **dict.fromkeys(("1113", "1304", "1308", "1309", "1310"), "balance"),
    **dict.fromkeys(("1211", "1221", "1222"), "model"),
    **dict.fromkeys(("1302", "1303"), "rate"),
    **dict.fromkeys(("1305", "1312"), "overload"),
    **dict.fromkeys(("500", "1200", "1230", "1234"), "failed"),
    "1261": "context",
}


class Zhipu(Vendor):
    """Source: Z.ai's API reference, "Chat Completion" and "Error Codes", November 2026."""

    name = "zhipu"
    title = "Zhipu (BigModel)"
    base_url = "https://open.bigmodel.cn/api/paas/v4"
    env_name = "ZHIPU_API_KEY"
    max_tokens_field = "max_tokens"
    developer_role = False
    json_schema = False
    drop = ("frequency_penalty", "presence_penalty")
    message_edits = (DROP_NAME,)
    finish_reasons = _FINISH_REASONS
    failing_finish_reasons = frozenset({"network_error"})
    error_codes = _CODES
    shows_all_output = True
    remembers = True

    def takes_effort(self, model: str) -> bool:
        """All of its models think, or can be told not to."""
        del model
        return True

    def adapt(self, body: Body) -> None:
        """Thinking is a switch, a tool choice is always auto, and tools are never strict."""
        is_callers = body.has("thinking")
        effort_to_switch(body, can_be_off=_model(body) not in _ALWAYS_THINKING)
        if not is_callers:
            _keep_thoughts(body)
        _choose_auto(body)
        _drop_strict(body)


def _model(body: Body) -> str:
    return str(body.value("model")).casefold()


def _keep_thoughts(body: Body) -> None:
    """Thoughts that are sent back are read only where they are not cleared."""
    if thinking_is_off(body) or not body.messages_mention(b'"reasoning_content"'):
        return
    body.put("thinking", {"type": "enabled", "clear_thinking": False})
    body.note("thinking", "clear_thinking:false")


def _choose_auto(body: Body) -> None:
    choice = body.value("tool_choice")
    if choice is None or choice == "auto":
        return
    if choice == "none":
        # Tools that must not be called are not offered.
        body.drop("tool_choice")
        body.drop("tools")
        return
    body.put("tool_choice", "auto")
    body.note("tool_choice", "auto")


def _drop_strict(body: Body) -> None:
    data = body.raw("tools")
    tools = raw_list(data, "tools") if mentions(data, b'"strict"') else None
    if tools is None:
        return
    dropped = False
    for at, raw in enumerate(tools):
        tool = raw_object(bytes(raw), "tools") or {}
        named = tool.get("function")
        function = raw_object(bytes(named), "tools") if isinstance(named, msgspec.Raw) else None
        if function is not None and function.pop("strict", None) is not None:
            tool["function"] = function
            tools[at] = msgspec.Raw(msgspec.json.encode(tool))
            dropped = True
    if dropped:
        body.put("tools", tools)
        body.note("tools.strict", "dropped")


VENDOR = Zhipu()
