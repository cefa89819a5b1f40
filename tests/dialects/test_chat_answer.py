"""A whole answer: passed as it came but for its model's name, read for billing, or a failure."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core.call import Call
from farebox.core.usage import Usage
from farebox.dialects.chat_answer import Answer, read_answer, usage_chunk
from farebox.errors import UpstreamFailed
from tests.dialects.streaming import FAILING, FINISH_REASONS, USAGE, body_of, dump, run, said

MESSAGE = {"role": "assistant", "content": "Hi"}


def _whole(*choices: dict[str, Any], **more: Any) -> dict[str, Any]:
    first = {"index": 0, "message": MESSAGE, "finish_reason": "stop"}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "up",
        "choices": list(choices) or [first],
        "usage": USAGE,
        **more,
    }


def _read(body: bytes, model: str = "up") -> Answer:
    call = Call("req_Abc", "chat", model, {})
    return read_answer(body, call, FINISH_REASONS, FAILING)


def _shown(whole: dict[str, Any], model: str = "up") -> dict[str, Any]:
    return json.loads(_read(dump(whole), model).body)


def test_an_answer_under_the_name_asked_for_leaves_as_the_bytes_that_came() -> None:
    """Spaces, order, unknown fields and all."""
    body = json.dumps(_whole(x={"y": [1.50]}), indent=2).encode() + b"\n"
    answer = _read(body)
    assert answer.body == body
    assert (answer.error, answer.service_tier, answer.text_bytes) == (None, None, 2)
    assert answer.usage is not None
    assert msgspec.json.decode(answer.usage) == USAGE


def test_another_name_is_the_only_change() -> None:
    """What is within the other fields stays byte for byte, numbers as they were written."""
    body = (
        b'{"choices": [ {"message" :{"content":"A\\u00e9"}, "x": 1.50} ], "model":"up", "y": 2E1}'
    )
    assert _read(body, 'my "model"').body == (
        b'{"choices":[ {"message" :{"content":"A\\u00e9"}, "x": 1.50} ],'
        b'"model":"my \\"model\\"","y":2E1}'
    )


@pytest.mark.parametrize(
    "came",
    [
        b'{"id":"1","model":"up","choices":[{"x":1.50}],"y":"A\\u00e9"}',
        b'{"id":"1","model":"up","choices":[{"x":"\\"model\\":\\"up\\","}]}',
        b'{"id":",\\"model\\":\\"up\\",","model":"up","choices":[]}',
        b'{"id":{"a":1,"model":"up","b":2},"model":"up","choices":[]}',
        b'{"choices":[{"model":"up"}],"x":{"a":1,"model":"up","b":2},"model":"up","y":1}',
        b'{"model":"first","id":"1","model":"up","choices":[]}',
        b'{"id":"1","model":"up","model":"up","choices":[]}',
        b'{"id":"1","model":null,"choices":[]}',
        b'{"id":"1","model":"\xc3\xa9","choices":[{"x":1}]}',
        b'{"id":"1","model":"\\u00e9","choices":[{"x":1}]}',
    ],
)
def test_only_the_answers_own_name_is_another(came: bytes) -> None:
    """Wherever else there is such a name, or what looks like one."""
    left = _read(came, 'my "model"').body
    assert json.loads(left) == {**json.loads(came), "model": 'my "model"'}
    members = json.loads(left, object_pairs_hook=list)
    assert [name for name, _ in members].count("model") == 1


@pytest.mark.parametrize("model", [None, "", "other"])
def test_a_name_that_is_missing_is_put_in(model: str | None) -> None:
    """Null or absent."""
    assert _shown(_whole(model=model), "asked")["model"] == "asked"
    without = _whole()
    del without["model"]
    assert _shown(without, "asked")["model"] == "asked"


@pytest.mark.parametrize(
    ("reason", "standard"),
    [("stop", "stop"), ("eos_token", "stop"), ("sensitive", "content_filter"), ("own", "own")],
)
def test_finish_reasons_are_said_in_the_standard_words(reason: str, standard: str) -> None:
    """Of each choice; the messages stay as they are."""
    choices = [
        {"index": 0, "message": MESSAGE, "finish_reason": reason},
        {"index": 1, "message": {**MESSAGE, "x": 1}, "finish_reason": "length"},
    ]
    expected = [{**choices[0], "finish_reason": standard}, choices[1]]
    assert _shown(_whole(*choices)) == _whole(*expected)


def _calling(*calls: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": None, "tool_calls": list(calls)}
    return _whole({"index": 0, "message": message, "finish_reason": "tool_calls"})


def _call(**changed: Any) -> dict[str, Any]:
    function = {"name": "f", "arguments": changed.pop("arguments", "{}")}
    return {"id": "call_1", "type": "function", "function": function, **changed}


@pytest.mark.parametrize(
    ("came", "left"),
    [
        (_call(), _call()),
        (_call(arguments={"a": "é"}), _call(arguments='{"a":"é"}')),
        (_call(arguments={}), _call(arguments="{}")),
        (_call(arguments=None), _call(arguments=None)),
        (_call(id=None), _call(id="call_Abc_1")),
        (_call(id=""), _call(id="call_Abc_1")),
        (
            {"id": "c", "type": "custom", "custom": {"name": "shell", "input": "ls"}},
            {"id": "c", "type": "custom", "custom": {"name": "shell", "input": "ls"}},
        ),
    ],
)
def test_tool_calls_can_be_used(came: dict[str, Any], left: dict[str, Any]) -> None:
    """An id to answer to, and arguments as JSON in a string."""
    assert _shown(_calling(_call(), came)) == _calling(_call(), left)


@pytest.mark.parametrize("error", [{"message": "Died."}, "Died.", 7])
def test_an_error_with_status_200_is_no_answer(error: Any) -> None:
    """It is kept for whoever knows the vendor."""
    assert _read(dump({"error": error})) == Answer(b"", None, None, 0, error)
    assert _read(dump(_whole(error=None))).error is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<!doctype html>",
        b"[1,2,3]",
        b"{}",
        b'{"choices":null}',
        b'{"choices":{}}',
        b'{"choices":[{"message":"Hi"}]}',
        b'{"choices":[{"index":0,',
        b'{"choices":[],"model":5}',
        b'{"error":"\xff"}',
        b'{"choices":' + b"[" * 3000,
        dump(_calling(_call(id=""))).replace(b'"content":null', b'"content":"\xff"'),
    ],
)
def test_what_is_no_completion_is_the_upstreams_failure(body: bytes) -> None:
    """Never charged."""
    with pytest.raises(UpstreamFailed) as caught:
        _read(body)
    assert caught.value.reason == "bad_answer"


def test_a_finish_that_means_a_failure_is_one() -> None:
    """In any of the choices."""
    choice = {"index": 1, "message": MESSAGE, "finish_reason": "network_error"}
    with pytest.raises(UpstreamFailed) as caught:
        _read(dump(_whole({"index": 0, "message": MESSAGE}, choice)))
    assert caught.value.reason == "finish_network_error"


@pytest.mark.parametrize("usage", [None, "absent"])
def test_usage_may_be_missing(usage: str | None) -> None:
    """Null is none."""
    whole = _whole(usage=None, service_tier="flex")
    if usage:
        del whole["usage"]
    answer = _read(dump(whole))
    assert (answer.usage, answer.service_tier) == (None, "flex")


texts = st.none() | st.text(max_size=8)


@given(texts, texts, st.lists(st.text(max_size=5), max_size=2))
def test_text_counts_the_same_whole_or_streamed(
    content: str | None, reasoning: str | None, arguments: list[str]
) -> None:
    """What is estimated without usage does not depend on the way it came."""
    calls = [
        {"index": n, "id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": a}}
        for n, a in enumerate(arguments)
    ]
    message = {"role": "assistant", "content": content, "reasoning_content": reasoning}
    whole = _whole({"index": 0, "message": {**message, "tool_calls": calls}})
    pieces = [{"index": 0, "delta": {key: value}} for key, value in message.items()]
    pieces += [{"index": 0, "delta": {"tool_calls": [call]}} for call in calls]
    streamed = run([body_of(*({**said(""), "choices": [piece]} for piece in pieces))])
    assert streamed.text_bytes == _read(dump(whole)).text_bytes


def test_our_own_usage_chunk_is_openais() -> None:
    """For a client that asked for usage where the upstream gave none."""
    call = Call("req_Abc", "chat", "asked", {})
    usage = Usage(10, cache_read=5, image_input=2, output=3, audio_output=1)
    assert json.loads(usage_chunk(call, usage, 1_790_000_000)) == {
        "id": "chatcmpl-Abc",
        "object": "chat.completion.chunk",
        "created": 1_790_000_000,
        "model": "asked",
        "choices": [],
        "usage": {"prompt_tokens": 17, "completion_tokens": 4, "total_tokens": 21},
    }
