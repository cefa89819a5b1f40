"""What is asked of a gateway: one function for each case, run plain and streamed.

A prompt is a sentence to a model, or with --script lines that a scripted upstream obeys.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.conformance.run import Run, Skipped
from tests.conformance.samples import red_png, small_pdf

_ENOUGH = 400  # output tokens; a small model may not end by itself

_GREET = ("Say hello in five words.", "say: Hello to all of you.")
_CALL = ("What is the weather in Paris now? Call get_weather.", "tools")
_PERSON = (
    "Ada Lovelace is 36 years old. Give her name and age as JSON.",
    'say: {"name": "Ada Lovelace", "age": 36}',
)
_REASON = ("What is 17 times 3? Think first.", "think: Three times seventeen.\nsay: It is 51.")
_LOOK = ("Describe this in one sentence.", "say: A red square.")

_WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city now.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": False,
}
_PERSON_SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Case:
    """`modes` are those of False (plain) and True (streamed) in which it makes sense."""

    name: str
    ask: Callable[[Run], None]
    modes: tuple[bool, ...] = (False, True)


def _prompt(run: Run, prompt: tuple[str, str]) -> str:
    return prompt[1] if run.target.script else prompt[0]


def _user(run: Run, prompt: tuple[str, str], *parts: dict[str, Any]) -> dict[str, Any]:
    text = {"type": "input_text", "text": _prompt(run, prompt)}
    return {"type": "message", "role": "user", "content": [*parts, text]}


def _items(response: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [item for item in response.get("output") or () if item.get("type") == kind]


def _text(response: dict[str, Any]) -> str:
    parts = [part for item in _items(response, "message") for part in item.get("content") or ()]
    return "".join(part.get("text", "") for part in parts)


def _expect_text(run: Run, response: dict[str, Any]) -> None:
    run.expect(bool(_text(response)), f"no text in the output: {response.get('output')!r}")


def _input_tokens(response: dict[str, Any]) -> int:
    return (response.get("usage") or {}).get("input_tokens") or 0


def _basic(run: Run) -> None:
    response = run.create(
        input=_prompt(run, _GREET),
        max_output_tokens=_ENOUGH,
        store=False,
        metadata={"purpose": "conformance"},
    )
    _expect_text(run, response)
    run.expect(response.get("metadata") == {"purpose": "conformance"}, "metadata is not echoed")


def _instructions(run: Run) -> None:
    told = "Answer as a pirate would."
    response = run.create(
        instructions=told, input=_prompt(run, _GREET), max_output_tokens=_ENOUGH, store=False
    )
    _expect_text(run, response)
    run.expect(response.get("instructions") == told, "the instructions are not echoed")


def _developer(run: Run) -> None:
    system = {"role": "developer", "content": "Answer as a pirate would."}
    response = run.create(
        input=[system, _user(run, _GREET)], max_output_tokens=_ENOUGH, store=False
    )
    _expect_text(run, response)


def _called(run: Run, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A response with a call of the tool, and the call. Raises Skipped when there is none."""
    response = run.create(
        input=[_user(run, _CALL)],
        tools=[_WEATHER],
        tool_choice="required",
        max_output_tokens=_ENOUGH,
        **more,
    )
    calls = _items(response, "function_call")
    if not calls:
        run.expect(not run.target.script, f"no call in the output: {response.get('output')!r}")
        raise Skipped("the model made no call")
    call = calls[0]
    run.expect(call.get("name") == "get_weather", f"the call's name is {call.get('name')!r}")
    try:
        arguments = json.loads(call.get("arguments", ""))
    except (TypeError, ValueError):
        arguments = None
    is_whole = isinstance(arguments, dict) or response.get("status") == "incomplete"
    run.expect(is_whole, f"the arguments are not JSON: {call.get('arguments')!r}")
    return response, call


def _tool_call(run: Run) -> None:
    response, _ = _called(run, store=False)
    names = [tool.get("name") for tool in response.get("tools") or ()]
    run.expect(names == ["get_weather"], f"the tools are not echoed: {response.get('tools')!r}")


def _result_of(call: dict[str, Any]) -> dict[str, Any]:
    output = json.dumps({"celsius": 11, "sky": "rain"})
    return {"type": "function_call_output", "call_id": call.get("call_id"), "output": output}


def _round_trip(run: Run) -> None:
    response, call = _called(run, store=False, include=["reasoning.encrypted_content"])
    answer = run.create(
        input=[_user(run, _CALL), *response["output"], _result_of(call)],
        tools=[_WEATHER],
        max_output_tokens=_ENOUGH,
        store=False,
    )
    run.expect(bool(answer.get("output")), "the answer to a tool's result has no output")


def _round_trip_kept(run: Run) -> None:
    response, call = _called(run, store=True)
    answer = run.create(
        previous_response_id=response.get("id"),
        input=[_result_of(call)],
        tools=[_WEATHER],
        max_output_tokens=_ENOUGH,
    )
    run.expect(bool(answer.get("output")), "the answer to a tool's result has no output")


def _image(run: Run) -> None:
    picture = {"type": "input_image", "image_url": red_png(), "detail": "auto"}
    response = run.create_if_taken(
        "pictures",
        input=[_user(run, _LOOK, picture)],
        max_output_tokens=_ENOUGH,
        store=False,
    )
    _expect_text(run, response)


def _file(run: Run, name: str, kind: str, content: bytes) -> None:
    data = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    response = run.create_if_taken(
        f"files of {kind}",
        input=[_user(run, _LOOK, {"type": "input_file", "filename": name, "file_data": data})],
        max_output_tokens=_ENOUGH,
        store=False,
    )
    _expect_text(run, response)


def _text_file(run: Run) -> None:
    _file(run, "note.txt", "text/plain", b"The square is red.\n")


def _pdf_file(run: Run) -> None:
    _file(run, "note.pdf", "application/pdf", small_pdf())


def _history(run: Run) -> None:
    said = [
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Hello Ada."}]},
    ]
    response = run.create(input=[*said, _user(run, _GREET)], max_output_tokens=_ENOUGH, store=False)
    _expect_text(run, response)


def _previous(run: Run) -> None:
    first = run.create(input=_prompt(run, _GREET), max_output_tokens=_ENOUGH, store=True)
    second = run.create(
        previous_response_id=first.get("id"),
        input=_prompt(run, _GREET),
        max_output_tokens=_ENOUGH,
        store=True,
    )
    echoed = second.get("previous_response_id")
    run.expect(echoed == first.get("id"), f"previous_response_id is {echoed!r} in the answer")
    is_longer = _input_tokens(second) > _input_tokens(first)
    run.expect(is_longer, "the second call's input is no longer than the first's")
    error = run.refused(
        400,
        "POST",
        "/responses",
        {"model": run.target.model, "input": "x", "previous_response_id": "resp_unknown"},
    )
    run.expect(
        error.get("code") == "previous_response_not_found",
        f"an unknown previous response has the code {error.get('code')!r}",
    )


def _structured(run: Run) -> None:
    shape = {"type": "json_schema", "name": "person", "schema": _PERSON_SCHEMA, "strict": True}
    response = run.create(
        input=_prompt(run, _PERSON),
        text={"format": shape},
        max_output_tokens=_ENOUGH,
        store=False,
    )
    echoed = ((response.get("text") or {}).get("format") or {}).get("type")
    run.expect(echoed == "json_schema", f"text.format.type is {echoed!r} in the answer")
    if response.get("status") == "incomplete":
        raise Skipped("the model did not come to an end")
    try:
        person = json.loads(_text(response))
    except ValueError:
        person = None
    is_person = isinstance(person, dict) and person.keys() == {"name", "age"}
    run.expect(is_person, f"the text is not what the schema asks for: {_text(response)!r}")


def _reasoning(run: Run) -> None:
    asked = {"effort": "low", "summary": "auto"}
    include = ["reasoning.encrypted_content"]
    response = run.create(
        input=[_user(run, _REASON)],
        reasoning=asked,
        include=include,
        max_output_tokens=_ENOUGH,
        store=False,
    )
    thoughts = _items(response, "reasoning")
    if not thoughts:
        run.expect(not run.target.script, f"no reasoning in the output: {response['output']!r}")
        raise Skipped("the model did not reason")
    run.expect(bool(thoughts[0].get("encrypted_content")), "no encrypted_content, though asked for")
    run.create(
        input=[_user(run, _REASON), *response["output"], _user(run, _GREET)],
        reasoning=asked,
        include=include,
        max_output_tokens=_ENOUGH,
        store=False,
    )


def _bad_input(run: Run) -> None:
    body = {"model": run.target.model, "input": "x", "stream": run.stream}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"max_output_tokens": 5}, "max_output_tokens"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"input": 7}, "input"),
    ]
    for fields, param in wrong:
        error = run.refused(400, "POST", "/responses", body | fields)
        is_named = str(error.get("param")).startswith(param)
        run.expect(is_named, f"the 400 to a wrong {param} names param {error.get('param')!r}")


def _stored(run: Run) -> None:
    made = run.create(input=_prompt(run, _GREET), max_output_tokens=_ENOUGH, store=True)
    identity = made.get("id")
    found = run.answered("GET", f"/responses/{identity}", "/responses/{response_id}")
    run.note("the stored response", run.target.document.check_response(found))
    different = sorted(k for k in made.keys() | found.keys() if made.get(k) != found.get(k))
    run.expect(not different, f"the stored response differs in {different}")
    run.refused(404, "GET", "/responses/resp_unknown")


def _input_items(run: Run) -> None:
    made = run.create(input=[_user(run, _GREET)], max_output_tokens=_ENOUGH, store=True)
    path, route = f"/responses/{made.get('id')}/input_items", "/responses/{response_id}/input_items"
    listed = run.answered("GET", path, route)
    run.expect(listed.get("object") == "list", f"its object is {listed.get('object')!r}")
    data = listed.get("data") or [{}]
    roles = [item.get("role") for item in data]
    run.expect(roles == ["user"], f"the list holds items of {roles}, and one of the user went in")
    ends = (listed.get("first_id"), listed.get("last_id"), listed.get("has_more"))
    run.expect(ends == (data[0].get("id"), data[-1].get("id"), False), f"its ends are {ends}")


def _deleted(run: Run) -> None:
    made = run.create(input=_prompt(run, _GREET), max_output_tokens=_ENOUGH, store=True)
    path = f"/responses/{made.get('id')}"
    reply = run.call("DELETE", path)
    run.expect(reply.status == 200, f"DELETE answered {reply.status}")
    run.refused(404, "GET", path)
    run.refused(404, "GET", f"{path}/input_items")


def _not_stored(run: Run) -> None:
    made = run.create(input=_prompt(run, _GREET), max_output_tokens=_ENOUGH, store=False)
    run.expect(made.get("store") is False, f"store is {made.get('store')!r} in the answer")
    run.refused(404, "GET", f"/responses/{made.get('id')}")


def _count(run: Run) -> None:
    body = {"model": run.target.model, "input": "How long is this?", "tools": [_WEATHER]}
    route = "/responses/input_tokens"
    answer = run.answered("POST", route, route, body)
    run.expect(answer.get("object") == "response.input_tokens", f"object is {answer!r}")
    count = answer.get("input_tokens")
    run.expect(isinstance(count, int) and count > 0, f"input_tokens is {count!r}")


def _compacted(run: Run) -> None:
    body = {"model": run.target.model, "input": [_user(run, _GREET)]}
    route = "/responses/compact"
    answer = run.answered("POST", route, route, body)
    kinds = [item.get("type") for item in answer.get("output") or ()]
    run.expect(kinds[-1:] == ["compaction"], f"the output's items are {kinds}")


CASES = (
    Case("basic text", _basic),
    Case("instructions", _instructions),
    Case("developer message", _developer),
    Case("tool calling", _tool_call),
    Case("function-call round trip", _round_trip),
    Case("round trip by previous_response_id", _round_trip_kept),
    Case("image input", _image),
    Case("text file input", _text_file),
    Case("PDF file input", _pdf_file),
    Case("multi-turn", _history),
    Case("previous_response_id", _previous),
    Case("structured output", _structured),
    Case("reasoning", _reasoning),
    Case("bad input", _bad_input),
    Case("stored response", _stored),
    Case("input items", _input_items),
    Case("deleted response", _deleted),
    Case("store: false", _not_stored),
    Case("input tokens", _count, modes=(False,)),
    Case("compact", _compacted, modes=(False,)),
)
