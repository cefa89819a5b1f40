"""Whatever is asked of the Responses API's routes: a client's error or a good answer."""

import asyncio
import json

from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.server.asking import REQUEST, get, will_say
from tests.values import json_values

JSON = json_values(8, floats=st.floats())
KINDS = [
    "message",
    "reasoning",
    "function_call",
    "function_call_output",
    "item_reference",
    "compaction",
    "compaction_trigger",
    "additional_tools",
    "custom_tool_call",
    "web_search_call",
    "nonsense",
]
ITEM = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(KINDS) | JSON,
        "id": st.sampled_from(["msg_1", ""]) | JSON,
        "role": st.sampled_from(["user", "assistant", "developer"]) | JSON,
        "content": JSON | st.just([{"type": "input_text", "text": "x"}]),
        "output": JSON,
        "call_id": st.just("c") | JSON,
        "name": st.just("f") | JSON,
        "arguments": st.just("{}") | JSON,
        "encrypted_content": st.just("fb1.x") | JSON,
        "summary": JSON,
        "tools": JSON,
    },
)
NAMES = [
    "model",
    "stream",
    "instructions",
    "tools",
    "tool_choice",
    "text",
    "reasoning",
    "include",
    "metadata",
    "store",
    "previous_response_id",
    "conversation",
    "prompt",
    "max_output_tokens",
    "parallel_tool_calls",
    "truncation",
    "service_tier",
    "top_logprobs",
    "temperature",
]
FIELDS = st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4)
INPUT = JSON | st.lists(ITEM | JSON, max_size=3) | st.text(max_size=20)


@given(
    st.sampled_from(["", "", "/compact", "/input_tokens"]),
    st.tuples(FIELDS, INPUT) | JSON | st.binary(max_size=60),
)
@hypothesis_settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_body_is_a_defect_of_ours(elsewhere, path, body):
    """Whatever is posted, the answer is a client's error or a good one; the upstream of these
    tests gives no streams, which is its fault.
    """
    if isinstance(body, tuple):
        fields, given_input = body
        body = {**REQUEST, "input": given_input, **fields}
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    elsewhere.upstream.exchanges.clear()
    will_say(elsewhere, "Hello!")
    sent = elsewhere.ask("POST", "/v1/responses" + path, None, body, elsewhere.secret)
    answer = asyncio.run(sent)
    assert answer.status in (200, 400, 404, 502), (body, answer)
    if answer.status == 502:
        assert b'"stream"' in body
    if answer.status != 200:
        assert set(answer.json["error"]) == {"message", "type", "param", "code"}


SEGMENT = st.text(
    st.characters(codec="ascii", exclude_characters="/?#%\\ ", min_codepoint=33, max_codepoint=126),
    min_size=1,
    max_size=20,
)
QUERY = st.dictionaries(
    st.sampled_from(["limit", "order", "after", "stream", "starting_after", "include[]"]),
    SEGMENT.map(lambda text: text.replace("&", "")),
    max_size=3,
)


@given(
    st.sampled_from(["GET", "DELETE", "POST", "PUT", "HEAD", "OPTIONS"]),
    SEGMENT,
    st.sampled_from(["", "/cancel", "/input_items", "/other"]),
    QUERY,
)
@hypothesis_settings(max_examples=100, deadline=None)
def test_no_path_is_a_defect_of_ours(elsewhere, method, response_id, rest, query):
    """Unknown ids, routes, methods and queries are told apart by 400, 404 and 405."""
    asked = "&".join(f"{name}={value}" for name, value in query.items())
    answer = asyncio.run(get(elsewhere, f"{response_id}{rest}?{asked}", method=method))
    assert answer.status in (204, 400, 404, 405), answer
