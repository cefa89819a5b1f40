"""What each vendor refuses and in which words: one persona a vendor, as strict as its pages say.

How an answer is built is answers.py's; misbehaviour that no vendor means is faults.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from tests.fakes.shapes import (
    Problem,
    deepseek_error,
    deepseek_usage,
    glm_error,
    llama_error,
    mimo_error,
    openai_error,
    openai_usage,
    short_usage,
    vllm_error,
)

Body = dict[str, Any]


Rule = Callable[[Body], Problem | None]
Usage = Callable[
    [int, int, int, int], dict[str, Any]
]  # prompt, cached in it, completion, reasoning


@dataclass(frozen=True)
class Persona:
    """A vendor as its callers meet it. The base path of a URL selects it."""

    name: str
    base_path: str
    rules: tuple[Rule, ...]
    error: Callable[[Problem], bytes]
    unauthorized: Problem
    usage: Usage
    answers_as: Callable[[str], str] = lambda model: model
    thinks: bool = False
    usage_on_finish: bool = False  # in the chunk with the finish reason, not in one of its own
    usage_unasked: bool = False
    comments: bool = False
    call_id: str = "call_{n}"  # counted within one answer: each turn has a call_0
    extra: tuple[tuple[str, Any], ...] = ()  # fields of its own in each chunk and answer
    speaks: tuple[str, ...] = ("chat",)  # chat, responses, messages; the path of another is 404
    messages_path: str = ""  # where that API is not under the base path

    @property
    def paths(self) -> dict[str, str]:
        """The API that is spoken at each path."""
        found = {
            "chat": self.base_path + "/chat/completions",
            "responses": self.base_path + "/responses",
            "messages": self.messages_path or self.base_path + "/messages",
        }
        return {found[name]: name for name in self.speaks}

    @property
    def key(self) -> str:
        """The one credential that it takes."""
        return f"sk-fake-{self.name}-0123456789abcdef"

    def refuses(self, body: object) -> Problem | None:
        """The first thing that is wrong with a body."""
        if not isinstance(body, dict):
            return Problem(400, "The body is not a JSON object.")
        return next((found for rule in self.rules if (found := rule(body))), None)


def messages_of(body: Body) -> Iterator[dict[str, Any]]:
    """The messages that are objects."""
    for message in body.get("messages") or ():
        if isinstance(message, dict):
            yield message


def no_field(name: str, problem: Problem) -> Rule:
    """Refuse a top-level field."""
    return lambda body: problem if body.get(name) is not None else None


def only_roles(*roles: str, problem: Problem) -> Rule:
    """Refuse other roles."""
    return lambda body: (
        problem if any(m.get("role") not in roles for m in messages_of(body)) else None
    )


def needs_messages(problem: Problem) -> Rule:
    """Refuse a body without messages."""
    return lambda body: None if list(messages_of(body)) else problem


def no_json_schema(problem: Problem) -> Rule:
    """Refuse structured outputs by schema."""

    def rule(body: Body) -> Problem | None:
        wanted = body.get("response_format")
        return problem if isinstance(wanted, dict) and wanted.get("type") == "json_schema" else None

    return rule


def no_null_content(problem: Problem) -> Rule:
    """Refuse messages whose content is null or not there."""
    return lambda body: (
        problem if any(m.get("content") is None for m in messages_of(body)) else None
    )


def reasoning_replayed(problem: Problem) -> Rule:
    """Refuse tool calls without their reasoning, unless thinking is off."""

    def rule(body: Body) -> Problem | None:
        if (body.get("thinking") or {}).get("type") == "disabled":
            return None
        called = [m for m in messages_of(body) if m.get("tool_calls")]
        return (
            problem
            if any(not isinstance(m.get("reasoning_content"), str) for m in called)
            else None
        )

    return rule


def only_efforts(*efforts: str, problem: Problem) -> Rule:
    """Refuse other reasoning efforts."""
    return lambda body: problem if body.get("reasoning_effort") not in (None, *efforts) else None


_OPENAI_FIELDS = """
audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens
max_tokens messages metadata modalities model moderation n parallel_tool_calls prediction
presence_penalty prompt_cache_key prompt_cache_options prompt_cache_retention reasoning_effort
response_format safety_identifier seed service_tier stop store stream stream_options
temperature tool_choice tools top_logprobs top_p user verbosity web_search_options
"""


def _openai_unknown(body: Body) -> Problem | None:
    for name in body:
        if name not in _OPENAI_FIELDS.split():
            return Problem(400, f"Unknown parameter: '{name}'.", "unknown_parameter", name)
    return None


def _openai_cap(body: Body) -> Problem | None:
    model = str(body.get("model"))
    if "max_tokens" not in body or not model.startswith(("o1", "o3", "o4", "gpt-5", "gpt-6")):
        return None
    return Problem(
        400,
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
        "'max_completion_tokens' instead.",
        "unsupported_parameter",
        "max_tokens",
    )


def _openai_metadata(body: Body) -> Problem | None:
    if body.get("metadata") and not body.get("store"):
        return Problem(
            400,
            "The 'metadata' parameter is only allowed when 'store' is enabled.",
            None,
            "metadata",
        )
    return None


def _openai_stream_options(body: Body) -> Problem | None:
    if body.get("stream_options") is not None and not body.get("stream"):
        return Problem(
            400,
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            None,
            "stream_options",
        )
    return None


_ROLES = ("system", "user", "assistant", "tool")
_REPLAY = "The `reasoning_content` in the thinking mode must be passed back to the API."

OPENAI = Persona(
    "openai",
    "/openai/v1",
    (
        _openai_unknown,
        needs_messages(
            Problem(
                400,
                "Missing required parameter: 'messages'.",
                "missing_required_parameter",
                "messages",
            )
        ),
        only_roles(
            *_ROLES,
            "developer",
            "function",
            problem=Problem(400, "Invalid value for 'role'.", "invalid_value", "messages[0].role"),
        ),
        _openai_cap,
        _openai_metadata,
        _openai_stream_options,
    ),
    openai_error,
    Problem(401, "Incorrect API key provided: sk-fake-*******cdef.", "invalid_api_key"),
    openai_usage,
    answers_as=lambda model: "gpt-4o-2024-08-06" if model.startswith("gpt-4o") else model,
    call_id="call_Xy{n}abc",
    extra=(("service_tier", "default"), ("system_fingerprint", "fp_fake")),
    speaks=("chat", "responses"),
)

DEEPSEEK = Persona(
    "deepseek",
    "/deepseek",
    (
        needs_messages(Problem(422, "missing field `messages`")),
        only_roles(
            *_ROLES,
            problem=Problem(422, "messages[0].role: unknown variant, expected `system`, `user` …"),
        ),
        no_field("max_completion_tokens", Problem(422, "unknown field `max_completion_tokens`")),
        no_json_schema(Problem(400, "This response_format type is unavailable now")),
        no_null_content(Problem(422, "messages: invalid type: null, expected a string")),
        only_efforts(
            "low", "high", "max", problem=Problem(400, "unknown variant of reasoning_effort")
        ),
        reasoning_replayed(Problem(400, _REPLAY)),
    ),
    deepseek_error,
    Problem(401, "Authentication Fails, Your api key: ****cdef is invalid"),
    deepseek_usage,
    thinks=True,
    usage_on_finish=True,
    comments=True,
    call_id="call_0{n}_fake",
    speaks=("chat", "messages"),
    messages_path="/deepseek/anthropic/v1/messages",
)


def _param(what: str) -> Problem:
    return Problem(400, f"API 调用参数有误，请检查文档: {what}", "1210")


def _glm_messages(body: Body) -> Problem | None:
    if any(m.get("name") is not None for m in messages_of(body)):
        return _param("messages.name")
    return None


def _glm_tools(body: Body) -> Problem | None:
    tools = body.get("tools") or []
    if any("strict" in tool.get("function", {}) for tool in tools):
        return _param("tools.strict")
    return _param("tool_choice") if body.get("tool_choice", "auto") != "auto" else None


def _glm_thinking(body: Body) -> Problem | None:
    off = (body.get("thinking") or {}).get("type") == "disabled"
    return _param("thinking") if off and body.get("model") == "glm-5.3" else None


def _glm(name: str) -> Persona:
    return Persona(
        name,
        f"/{name}/api/paas/v4",
        (
            needs_messages(Problem(400, "未正常接收到messages参数。", "1213")),
            only_roles(*_ROLES, problem=Problem(400, "messages 参数非法。请检查文档。", "1214")),
            _glm_messages,
            _glm_tools,
            _glm_thinking,
            *(
                no_field(field, _param(field))
                for field in (
                    "max_completion_tokens",
                    "frequency_penalty",
                    "presence_penalty",
                    "reasoning_effort",
                )
            ),
            no_json_schema(_param("response_format")),
        ),
        glm_error,
        Problem(401, "令牌已过期或验证不正确", "1002"),
        short_usage,
        thinks=True,
        usage_on_finish=True,
        usage_unasked=True,
        call_id="call_-81{n}",
        extra=(("request_id", "2026112300000000"),),
    )


MIMO = Persona(
    "mimo",
    "/mimo/v1",
    (
        needs_messages(Problem(400, "`messages` is not present")),
        only_roles(*_ROLES, problem=Problem(400, "`role` is not supported")),
        no_field("max_tokens", Problem(400, "`max_tokens` is not supported")),
        no_field("reasoning_effort", Problem(400, "`reasoning_effort` is not supported")),
        no_json_schema(Problem(400, "`json_schema` is not supported")),
        no_null_content(Problem(400, "`text` is not set")),
        reasoning_replayed(Problem(400, _REPLAY)),
    ),
    mimo_error,
    Problem(401, "Invalid API Key"),
    openai_usage,
    thinks=True,
    speaks=("chat", "responses", "messages"),
    messages_path="/mimo/anthropic/v1/messages",
)

_PLAIN_RULES: tuple[Rule, ...] = (
    needs_messages(Problem(400, "'messages' is required")),
    only_roles(*_ROLES, problem=Problem(400, "Unexpected message role.")),
    no_field("max_completion_tokens", Problem(400, "Extra inputs are not permitted")),
)

COMPATIBLE = Persona(
    "openai_compatible",
    "/compatible/v1",
    _PLAIN_RULES,
    vllm_error,
    Problem(401, "Unauthorized"),
    short_usage,
    speaks=("chat", "responses", "messages"),
)

# An openai_compatible server that has nothing but the Responses API.
RESPONSES_ONLY = replace(
    COMPATIBLE, name="responses_only", base_path="/responses-only/v1", speaks=("responses",)
)

LOCAL = Persona(
    "local",
    "/local/v1",
    _PLAIN_RULES,
    llama_error,
    Problem(401, "Invalid API Key"),
    short_usage,
    extra=(("system_fingerprint", "b0000-fake"),),
)

# Its chat is a layer over the Messages API, whose own rules are messages_rules.py's.
ANTHROPIC = Persona(
    "anthropic",
    "/anthropic/v1",
    (
        needs_messages(Problem(400, "messages: at least one message is required")),
        only_roles(
            *_ROLES, "developer", problem=Problem(400, "messages.0.role: Input should be 'user'")
        ),
        lambda body: None if body.get("n") in (None, 1) else Problem(400, "n: must be 1"),
    ),
    openai_error,
    Problem(401, "Invalid Anthropic API Key"),
    openai_usage,
    call_id="toolu_0{n}",
    speaks=("chat", "messages"),
)

# Those that answer chat.
PERSONAS = {
    persona.name: persona
    for persona in (
        OPENAI,
        ANTHROPIC,
        DEEPSEEK,
        _glm("zai"),
        _glm("zhipu"),
        MIMO,
        COMPATIBLE,
        LOCAL,
    )
}
ALL_PERSONAS = {**PERSONAS, RESPONSES_ONLY.name: RESPONSES_ONLY}
