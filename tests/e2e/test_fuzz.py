"""Whatever is sent to the gateway: an answer in OpenAI's shape, never a defect of ours."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e.config import MODELS
from tests.e2e.serving import Serving

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
_JSON = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
_ROLES = st.sampled_from(["system", "developer", "user", "assistant", "tool", "function", "x"])
_PARTS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["text", "image_url", "file", "input_audio", "y"])},
        optional={
            "text": st.text(max_size=10) | _SCALARS,
            "image_url": _JSON | st.just({"url": "data:image/png;base64,AAAA"}),
            "file": _JSON | st.just({"file_id": "file-1"}),
        },
    ),
    max_size=3,
)
_MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": _ROLES},
        optional={
            "content": st.text(max_size=30) | _PARTS | _SCALARS,
            "name": _SCALARS,
            "tool_calls": _JSON,
            "tool_call_id": _SCALARS,
            "reasoning_content": _SCALARS,
        },
    ),
    max_size=4,
)
_BODIES = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from([*MODELS.values(), "over", "nothing"]) | _SCALARS,
        "messages": _MESSAGES | _JSON,
        "stream": st.booleans() | _SCALARS,
        "stream_options": _JSON | st.just({"include_usage": True}),
        "max_tokens": st.integers(-5, 2**40) | _SCALARS,
        "max_completion_tokens": st.integers(1, 100) | _SCALARS,
        "n": st.integers(-1, 200) | _SCALARS,
        "tools": _JSON | st.just([{"type": "function", "function": {"name": "f"}}]),
        "tool_choice": _JSON | st.sampled_from(["auto", "none", "required"]),
        "response_format": _JSON | st.just({"type": "json_schema", "json_schema": {"name": "x"}}),
        "reasoning_effort": _JSON | st.sampled_from(["none", "low", "max"]),
        "thinking": _JSON | st.just({"type": "disabled"}),
        "service_tier": _SCALARS,
        "modalities": _JSON | st.just(["text", "audio"]),
        "store": _JSON,
        "stop": _JSON,
        "temperature": _JSON,
        "web_search_options": _JSON,
        "anything": _JSON,
    },
)


def _post(gateway: Serving, body: bytes) -> tuple[int, bytes]:
    host = gateway.origin.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        head = {"Authorization": f"Bearer {gateway.key}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", body, head)
        answer = connection.getresponse()
        assert (answer.getheader("x-request-id") or "").startswith("req_")
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("kind", ["shaped", "rubbish"])
def test_no_body_is_a_defect_of_ours(gateway: Serving, kind: str) -> None:
    """Shaped bodies and rubbish: 2xx, 4xx or an upstream's own failure; no traceback, no hold
    left.
    """
    bodies: Any = _BODIES.map(lambda body: json.dumps(body).encode())
    if kind == "rubbish":
        bodies = st.binary(max_size=60) | _JSON.map(lambda value: json.dumps(value).encode())

    @settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
    @given(bodies)
    def fuzz(body: bytes) -> None:
        status, answer = _post(gateway, body)
        assert status in (200, 400, 404, 413, 422, 502), (status, answer)
        if status != 200:
            error = json.loads(answer)["error"]
            assert error["message"]
            assert error["type"] != "server_error" or status == 502, error

    fuzz()
    gateway.money()
    assert "Traceback" not in gateway.log.read_text(encoding="utf-8")


_PATHS = st.builds(
    "{}{}{}".format,
    st.sampled_from(
        ["/v1/models/", "/v1/receipts/", "/v1/credits", "/pricing", "/v1/", "/healthz", "/", "//"]
    ),
    st.text("abz09_-./%~:@!$&'()*+,;= éß☃\\\"<>{}|^`", max_size=40).map(quote)
    | st.text("/.%ab20F;?#&", max_size=20)
    | st.sampled_from(["%00", "%ff%fe", "req_" + "0" * 22, "x" * 5000, "../../etc/passwd"]),
    st.sampled_from(["", "?", "?a=b", "?%ff"]),
)
_METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "QUERY"])
_HEADER = st.tuples(
    st.sampled_from(
        ["accept", "content-type", "content-encoding", "x-farebox-hop", "range", "cookie", "x"]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f")),
)


def test_no_path_and_no_header_is_a_defect_of_ours(gateway: Serving) -> None:
    """Any method at any address, with a good key: 2xx to 4xx, in OpenAI's shape where refused."""
    before = gateway.money()
    host, key = gateway.origin.removeprefix("http://"), gateway.key

    @settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
    @given(_METHODS, _PATHS, st.lists(_HEADER, max_size=3), st.binary(max_size=20))
    def fuzz(method: str, path: str, headers: list[tuple[str, str]], body: bytes) -> None:
        connection = http.client.HTTPConnection(host, timeout=30)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            connection.putheader("Authorization", f"Bearer {key}")
            connection.putheader("Content-Length", str(len(body)))
            for name, value in headers:
                connection.putheader(name, value.encode("latin-1"))
            connection.endheaders(body)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        assert answer.status < 500, (answer.status, data)
        if answer.getheader("x-request-id") is None:  # what is no HTTP never gets to a route
            assert answer.status == 400
        elif answer.status >= 400 and method != "HEAD":
            assert json.loads(data)["error"]["message"]

    fuzz()
    assert gateway.money() == before
    assert "Traceback" not in gateway.log.read_text(encoding="utf-8")
