"""A good answer of a fake vendor: scripted by the last user message, in the vendor's own style.

Lines of the last user message that are understood; everything else is answered with a greeting:

    say: TEXT            the text of the answer (otherwise "Hello from NAME.")
    think: TEXT          reasoning before it; only vendors that think do so unasked
    tools                call each offered tool once, in one turn
    call: NAME {JSON}    call this tool with these arguments; several lines are calls of one turn
    tokens: P C O R      usage of P prompt tokens, C of them cached, and of O tokens of output, R of
                         them reasoning, in the vendor's own shape
    usage: {JSON}        exactly this usage object; `usage: null` leaves it out
    finish: REASON       this finish reason
    search: QUERY        a web search before the text; only where the Responses API is spoken

Once tools have answered, nothing is called again: the same message is then answered with its text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.fakes.personas import Body, Persona

CREATED = 1_790_000_000


@dataclass(frozen=True)
class Answer:
    """What is said, before it is put into JSON or a stream."""

    persona: Persona
    model: str
    words: tuple[str, ...]
    thoughts: tuple[str, ...]
    tools: tuple[str, ...]
    arguments: tuple[str, ...]  # of each of the tools
    finish: str
    usage: dict[str, Any] | None
    choices: int
    include_usage: bool


def answer_to(persona: Persona, body: Body) -> Answer:
    """The answer to a request that the persona has accepted."""
    script = script_of(body)
    cap = body.get("max_tokens") or body.get("max_completion_tokens") or 1_000_000
    calls, refusal = _calls_of(script, body)
    said = refusal or script.get("say", f"Hello from {persona.name}.")
    switched_off = (body.get("thinking") or {}).get("type") == "disabled"
    thought = script.get("think", "Let me see." if persona.thinks and not switched_off else "")
    thoughts = pieces(thought)
    words = pieces(said)
    cut = not calls and len(thoughts) + len(words) > cap
    if cut:
        thoughts = thoughts[:cap]
        words = words[: cap - len(thoughts)]
    choices = body.get("n") or 1
    prompt = max(1, len(json.dumps(body["messages"], ensure_ascii=False)) // 4)
    spoken = (len(thoughts) + (len(calls) * 8 or len(words))) * choices
    tokens = script.get("tokens", (prompt, 0, spoken, len(thoughts)))
    usage = script.get("usage", persona.usage(*tokens))
    finish = script.get("finish", "tool_calls" if calls else "length" if cut else "stop")
    asked = (body.get("stream_options") or {}).get("include_usage") is True
    return Answer(
        persona,
        persona.answers_as(str(body.get("model"))),
        () if calls else words,
        thoughts,
        tuple(name for name, _ in calls),
        tuple(arguments for _, arguments in calls),
        finish,
        usage,
        choices,
        asked or persona.usage_unasked,
    )


def script_of(body: Body) -> dict[str, Any]:
    """What the last user message asks for; no calls any more, if a tool has answered it."""
    messages = body["messages"]
    asked = max((at for at, m in enumerate(messages) if m.get("role") == "user"), default=None)
    if asked is None:
        return {}
    later = {message.get("role") for message in messages[asked + 1 :]}
    # Claude Code tells of its surroundings in a system message behind the user's first.
    if later - {"assistant", "tool", "system"}:
        return {}
    found = _script_in(messages[asked].get("content") or "")
    if "tool" in later:
        found.pop("tools", None)
        found.pop("call", None)
    return found


def _script_in(content: str | list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if isinstance(content, list):
        content = "\n".join(part.get("text", "") for part in content)
    for line in content.splitlines():
        name, colon, rest = line.partition(":")
        if name.strip() == "tools" and not colon:
            found["tools"] = True
        elif colon and name in ("say", "think", "finish", "search"):
            found[name] = rest.strip()
        elif colon and name == "call":
            tool, _, arguments = rest.strip().partition(" ")
            found.setdefault("call", []).append((tool, arguments))
        elif colon and name == "tokens":
            found[name] = tuple(int(count) for count in rest.split())
        elif colon and name == "usage":
            found[name] = json.loads(rest)
    return found


def _calls_of(script: dict[str, Any], body: Body) -> tuple[list[tuple[str, str]], str]:
    """The tools that are called, with their arguments; or what is said if one is not offered."""
    offered = [t["function"]["name"] for t in body.get("tools") or () if "function" in t]
    if "tools" in script:
        return [(name, arguments_of(at)) for at, name in enumerate(offered)], ""
    wanted: list[tuple[str, str]] = script.get("call", [])
    missing = [name for name, _ in wanted if name not in offered]
    return ([], f"{missing[0]} is not offered.") if missing else (wanted, "")


def pieces(text: str) -> tuple[str, ...]:
    """The text in words, each a token and each with the blank behind it."""
    words = text.split(" ")
    return tuple(w + " " for w in words[:-1]) + ((words[-1],) if words[-1] else ())


def _envelope(answer: Answer, kind: str) -> dict[str, Any]:
    return {
        "id": "chatcmpl-fake",
        "object": kind,
        "created": CREATED,
        "model": answer.model,
        **dict(answer.persona.extra),
    }


def arguments_of(at: int) -> str:
    """The arguments of the call at that place among the calls of an answer."""
    return json.dumps({"n": at, "text": "你好"}, ensure_ascii=False)


def as_json(answer: Answer) -> dict[str, Any]:
    """The answer in one piece."""
    message: dict[str, Any] = {"role": "assistant", "content": "".join(answer.words) or None}
    if answer.thoughts:
        message["reasoning_content"] = "".join(answer.thoughts)
    if answer.tools:
        message["tool_calls"] = [
            {
                "id": answer.persona.call_id.format(n=at),
                "type": "function",
                "function": {"name": name, "arguments": answer.arguments[at]},
            }
            for at, name in enumerate(answer.tools)
        ]
    choices = [
        {"index": at, "message": message, "logprobs": None, "finish_reason": answer.finish}
        for at in range(answer.choices)
    ]
    whole = {**_envelope(answer, "chat.completion"), "choices": choices}
    return whole if answer.usage is None else {**whole, "usage": answer.usage}


def as_chunks(answer: Answer) -> list[dict[str, Any]]:
    """The answer as the chunks of a stream, usage included if it was asked for."""
    usage = answer.usage if answer.include_usage else None
    own_chunk = usage is not None and not answer.persona.usage_on_finish
    chunks: list[dict[str, Any]] = []
    for at in range(answer.choices):
        chunks += [_chunk(answer, at, delta, None) for delta in _deltas(answer)]
        chunks.append(_chunk(answer, at, {}, answer.finish))
    if own_chunk:
        # OpenAI: when usage was asked for, each earlier chunk says that it is not there yet.
        chunks = [{**chunk, "usage": None} for chunk in chunks]
        chunks.append({**_envelope(answer, "chat.completion.chunk"), "choices": [], "usage": usage})
    elif usage is not None:
        chunks[-1]["usage"] = usage
    return chunks


def _chunk(answer: Answer, index: int, delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {**_envelope(answer, "chat.completion.chunk"), "choices": [choice]}


def _deltas(answer: Answer) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning_content": thought} for thought in answer.thoughts]
    deltas += [{"content": word} for word in answer.words]
    for at, name in enumerate(answer.tools):
        call = {"index": at, "id": answer.persona.call_id.format(n=at), "type": "function"}
        deltas.append({"tool_calls": [{**call, "function": {"name": name, "arguments": ""}}]})
        arguments = answer.arguments[at]
        for part in (arguments[:5], arguments[5:]):
            deltas.append({"tool_calls": [{"index": at, "function": {"arguments": part}}]})
    return deltas
