"""Whatever is asked of /v1/messages: a client's error in Anthropic's shape, or a good answer."""

import asyncio
import json

from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.server.messaging import REQUEST, TOOL, post, will_say
from tests.values import json_values

JSON = json_values(8, floats=st.floats())
KINDS = [
    "text",
    "image",
    "document",
    "thinking",
    "redacted_thinking",
    "tool_use",
    "tool_result",
    "server_tool_use",
    "web_search_tool_result",
    "search_result",
    "container_upload",
    "compaction",
    "mcp_tool_use",
    "nonsense",
]
SOURCES = [
    {"type": "base64", "media_type": "image/png", "data": "aGk="},
    {"type": "url", "url": "https://example.com/x.png"},
    {"type": "text", "media_type": "text/plain", "data": "x"},
    {"type": "file", "file_id": "file_1"},
]
BLOCK = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS) | JSON},
    optional={
        "text": st.just("x") | JSON,
        "source": st.sampled_from(SOURCES) | JSON,
        "thinking": st.just("x") | JSON,
        "signature": st.just("fb1.x") | JSON,
        "data": st.just("x") | JSON,
        "id": st.just("toolu_1") | JSON,
        "tool_use_id": st.just("toolu_1") | JSON,
        "name": st.sampled_from(["look", "web_search"]) | JSON,
        "input": st.just({}) | JSON,
        "content": JSON | st.lists(st.just({"type": "text", "text": "x"}), max_size=2),
        "is_error": JSON,
        "cache_control": st.just({"type": "ephemeral", "ttl": "1h"}) | JSON,
        "citations": JSON,
    },
)
MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "assistant", "system"]) | JSON,
        "content": st.text(max_size=5) | st.lists(BLOCK | JSON, max_size=3) | JSON,
    },
)
TOOL_KINDS = ["custom", "bash_20250124", "web_search_20250305", "computer_20250124", "mcp_toolset"]
TOOLS = st.just(TOOL) | st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(TOOL_KINDS) | JSON,
        "name": st.just("look") | JSON,
        "input_schema": JSON,
        "description": JSON,
        "strict": JSON,
        "cache_control": JSON,
    },
)
CHOICES = [{"type": "any"}, {"type": "tool", "name": "look"}, {"type": "none"}]
KNOWN = {
    "tools": st.lists(TOOLS, max_size=3),
    "tool_choice": st.sampled_from(CHOICES),
    "thinking": st.sampled_from([{"type": "enabled", "budget_tokens": 2000}, {"type": "adaptive"}]),
    "output_config": st.fixed_dictionaries({}, optional={"effort": JSON, "format": JSON}),
    "system": st.lists(BLOCK, max_size=2),
    "metadata": st.just({"user_id": "x"}),
    "stop_sequences": st.lists(st.text(max_size=3), max_size=6),
}
NAMES = [
    *KNOWN,
    "model",
    "max_tokens",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "service_tier",
    "speed",
    "inference_geo",
    "container",
    "context_management",
    "mcp_servers",
    "fallbacks",
    "diagnostics",
    "cache_control",
]
FIELDS = st.fixed_dictionaries({}, optional=KNOWN) | st.dictionaries(
    st.sampled_from(NAMES), JSON, max_size=4
)
MESSAGES = JSON | st.lists(MESSAGE | JSON, max_size=3)


@given(st.tuples(FIELDS, MESSAGES) | FIELDS | JSON | st.binary(max_size=60))
@hypothesis_settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_body_is_a_defect_of_ours(elsewhere, body):
    """The upstream of this test gives no streams, which is its fault."""
    if isinstance(body, tuple):
        fields, messages = body
        body = {**REQUEST, "messages": messages, **fields}
    elif isinstance(body, dict):
        body = {**REQUEST, **body}
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    elsewhere.upstream.exchanges.clear()
    will_say(elsewhere, "Hello!")
    answer = asyncio.run(post(elsewhere, body))
    assert answer.status in (200, 400, 404, 502), (body, answer)
    if answer.status == 502:
        assert b'"stream"' in body
    if answer.status == 200:
        assert answer.json["type"] == "message"
    else:
        assert set(answer.json) == {"type", "error", "request_id"}
