"""What a response's events and items are in chat: calls, texts, thoughts, citations."""

from __future__ import annotations

from tests.dialects.feeding import feed
from tests.dialects.unfolding import (
    ROLE,
    body_of,
    call_for,
    choice_of,
    chunks_of,
    custom_item,
    deltas_of,
    events_of,
    function_item,
    message_item,
    refusal_part,
    response_of,
    sse,
    stream_for,
    text_part,
    thoughts_item,
    whole_of,
)


def test_calls_are_counted_and_not_items() -> None:
    """Indexes from 0 without gaps; id, type and name once; interleaved pieces find their call."""
    response = response_of(
        thoughts_item("Hm."),
        message_item(text_part("I look.")),
        function_item("weather", '{"a":1}', "c1"),
        custom_item("patch", "*** B", "c2"),
    )
    first = {"name": "weather", "arguments": ""}
    assert deltas_of(*events_of(response)) == [
        ROLE,
        {"reasoning_content": "Hm"},
        {"reasoning_content": "."},
        {"content": "I lo"},
        {"content": "ok."},
        {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": first}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]},
        {
            "tool_calls": [
                {
                    "index": 1,
                    "id": "c2",
                    "type": "custom",
                    "custom": {"name": "patch", "input": ""},
                }
            ]
        },
        {"tool_calls": [{"index": 1, "custom": {"input": "***"}}]},
        {"tool_calls": [{"index": 1, "custom": {"input": " B"}}]},
        {},
    ]
    parallel = response_of(function_item("f", "11", "c1"), function_item("g", "22", "c2"))
    added = [e for e in events_of(parallel) if e["type"].endswith("added")]
    delta = "response.function_call_arguments.delta"
    pieces = [{"type": delta, "output_index": n, "delta": str(n)} for n in (1, 0, 1, 0)]
    stream = stream_for()
    sent = stream.feed(body_of(*added, *pieces))
    calls = [each["choices"][0]["delta"]["tool_calls"][0] for each in chunks_of(sent)[3:]]
    assert [(call["index"], call["function"]["arguments"]) for call in calls] == [
        (1, "1"),
        (0, "0"),
        (1, "1"),
        (0, "0"),
    ]


def test_a_call_of_the_old_form_answers_functions() -> None:
    """For who offered them; further calls have no room."""
    call = call_for(stream=True, functions=[{"name": "f"}])
    response = response_of(function_item("f", "{}", "c1"), function_item("f", "[]", "c2"))
    deltas = deltas_of(*events_of(response), call=call)
    assert deltas == [
        ROLE,
        {"function_call": {"name": "f", "arguments": ""}},
        {"function_call": {"arguments": "{"}},
        {"function_call": {"arguments": "}"}},
        {},
    ]
    choice = choice_of(response, call)
    assert choice["message"]["function_call"] == {"name": "f", "arguments": "{}"}
    assert choice["finish_reason"] == "function_call"


def test_a_refusal_stays_one() -> None:
    """Beside the content, and counted."""
    assert deltas_of(*events_of(response_of(message_item(refusal_part("No."))))) == [
        ROLE,
        {"refusal": "No"},
        {"refusal": "."},
        {},
    ]


def test_texts_that_chat_has_one_place_for_are_kept_apart() -> None:
    """Messages and thoughts by a blank line; the parts of one message follow each other."""
    response = response_of(
        thoughts_item("A", "B"),
        message_item(text_part("C"), text_part("D")),
        thoughts_item("E"),
        message_item(text_part("F")),
    )
    told = {"reasoning_content": "A\n\nB\n\nE", "content": "CD\n\nF"}
    message = choice_of(response)["message"]
    assert {name: message[name] for name in told} == told
    joined = dict.fromkeys(told, "")
    for delta in deltas_of(*events_of(response)):
        for name in told:
            joined[name] += delta.get(name, "")
    assert joined == told


def test_the_same_thoughts_do_not_come_twice() -> None:
    """A summary and the text itself, of which the first to come is sent."""
    item = thoughts_item("short", raw=("very long",))
    assert choice_of(response_of(item))["message"]["reasoning_content"] == "short"
    raw = {"type": "response.reasoning_text.delta", "output_index": 0, "delta": "very"}
    done = {"type": "response.output_item.done", "output_index": 0, "item": item}
    end = {"type": "response.completed", "response": response_of(item)}
    assert deltas_of(raw, done, end) == [
        ROLE,
        {"reasoning_content": "very"},
        {"reasoning_content": " long"},
        {},
    ]


def test_a_call_without_arguments_has_an_empty_object() -> None:
    """Clients decode them; of one that was cut off nothing is made up."""
    call = choice_of(response_of(function_item("f", "", "c")))["message"]["tool_calls"][0]
    assert call == {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    cut = choice_of(response_of(function_item("f", "", "c"), status="incomplete"))
    assert cut["message"]["tool_calls"][0]["function"]["arguments"] == ""


def test_an_upstream_without_deltas_is_understood() -> None:
    """Finished items alone, or the response at the end alone."""
    response = response_of(
        thoughts_item("Hm."), message_item(text_part("A")), function_item("f", "{}", "c1")
    )
    function = {"name": "f", "arguments": ""}
    told = [
        ROLE,
        {"reasoning_content": "Hm."},
        {"content": "A"},
        {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": function}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
        {},
    ]
    events = events_of(response)
    done = [event for event in events if event["type"].endswith("item.done")]
    assert deltas_of(*done, events[-1]) == told
    assert deltas_of(events[-1]) == told
    for event in done:
        del event["output_index"]
    assert deltas_of(*done, {**events[-1], "response": {"status": "completed"}}) == told


def test_pieces_find_their_item_by_its_id_too() -> None:
    """Where an upstream does not number what it puts out."""
    response = response_of(message_item(text_part("Hi")), function_item("f", "{}", "c1"))
    events = events_of(response)
    for event in events:
        event.pop("output_index", None)
    assert deltas_of(*events) == deltas_of(*events_of(response))


def test_citations_of_the_web_come_once_and_count_in_the_whole_content() -> None:
    """All in one chunk, since SDKs add up no more; chat has no place for other kinds."""
    cited = {"type": "url_citation", "url": "https://x.example", "title": "X"}
    file = {"type": "file_citation", "file_id": "f", "filename": "f.txt", "index": 1}
    response = response_of(
        message_item(text_part("Now:")),
        message_item(
            text_part("ab", annotations=[{**cited, "start_index": 0, "end_index": 2}, file]),
            text_part("cd", annotations=[{**cited, "start_index": 1, "end_index": 2}]),
        ),
    )
    del cited["type"]
    shown = [
        {"type": "url_citation", "url_citation": {**cited, "start_index": 6, "end_index": 8}},
        {"type": "url_citation", "url_citation": {**cited, "start_index": 9, "end_index": 10}},
    ]
    assert deltas_of(*events_of(response))[-2:] == [{"annotations": shown}, {}]
    message = choice_of(response)["message"]
    assert (message["content"], message["annotations"]) == ("Now:\n\nabcd", shown)


def test_hosted_tools_are_counted_by_the_names_they_are_priced_under() -> None:
    """Each time one ran; the client's own calls are none."""
    call = call_for(stream=True, tools=[{"type": "web_search_preview"}])
    response = response_of(
        {"type": "web_search_call", "action": {}},
        {"type": "web_search_call", "action": {}},
        {"type": "code_interpreter_call", "code": ""},
        {"type": "shell_call"},
        {"type": "mcp_list_tools"},
        function_item("f", "{}", "c"),
    )
    counted = (("code_interpreter", 1), ("web_search", 2))
    stream = stream_for(call)
    feed(stream, body_of(*events_of(response)))
    assert stream.tool_calls == counted == whole_of(response, call).tool_calls


def test_log_probabilities_are_for_who_asked_for_them() -> None:
    """In chat's form, with the chunk of their tokens."""
    token = {"token": "Hi", "logprob": -0.5}
    given = [{**token, "top_logprobs": [{**token, "bytes": [72, 105]}]}]
    shown = {
        "content": [
            {**token, "bytes": None, "top_logprobs": [{**token, "bytes": [72, 105]}]},
        ],
        "refusal": None,
    }
    event = {"type": "response.output_text.delta", "output_index": 0, "delta": "Hi"}
    response = response_of(message_item(text_part("Hi", logprobs=given)))
    for asked, expected in ((True, shown), (False, None)):
        call = call_for(stream=True, logprobs=asked)
        stream = stream_for(call)
        chunks = chunks_of(stream.feed(sse({**event, "logprobs": given})))
        assert chunks[-1]["choices"][0]["logprobs"] == expected
        assert choice_of(response, call)["logprobs"] == expected


def test_text_is_counted_in_bytes_for_an_estimate() -> None:
    """Everything that the model wrote, names of tools and thoughts included."""
    response = response_of(
        thoughts_item("é"),
        message_item(text_part("abc"), refusal_part("d")),
        function_item("fn", "{}", "c"),
    )
    stream = stream_for()
    feed(stream, body_of(*events_of(response)))
    assert stream.text_bytes == whole_of(response).text_bytes == 2 + 3 + 1 + 4
