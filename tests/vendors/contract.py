"""What every vendor keeps, as checks of one vendor each: for the built-in ones and for new ones.

A vendor of your own can be tested with `check_all(vendor)`, or with each check by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, get_args

import msgspec
import pytest

from farebox.core.call import Call
from farebox.core.channel import Channel, ChannelOptions
from farebox.core.ports import UpstreamHead
from farebox.errors import BadRequest, UpstreamRefused
from farebox.vendors import refusals
from farebox.vendors.base import Prepared, Vendor

KEY = "sk-contract-0123456789abcdef"
CAP = 321
HOP = "inst_contract"
HOSTNAME = "upstream.contract.example"
HOST = f"{HOSTNAME}:8443"
STANDARD_FINISH_REASONS = {"stop", "length", "tool_calls", "content_filter", "function_call"}
UNKNOWN = b'"zz_unknown":{"b" : [1.50, 1e3,"\\u00e9" ],  "a":null},"aa_other": 12345678901234567890'
HELLO = b'"messages":[{"role":"user","content":"hello"}]'


def channel_of(vendor: Vendor, **changes: Any) -> Channel:
    """A channel of the vendor at an address that exists nowhere."""
    base_url = f"https://{HOST}/some/base"
    return replace(Channel("c1", vendor.name, base_url, KEY, speaks=vendor.speaks), **changes)


def call_of(body: bytes, **changes: Any) -> Call:
    """A call with that body, as the dialect would parse it."""
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    call = Call(
        "req_1", "chat", "the-model", fields, stream=fields.get("stream") == msgspec.Raw(b"true")
    )
    return msgspec.structs.replace(call, **changes)


def prepared(vendor: Vendor, body: bytes, channel: Channel | None = None) -> Prepared:
    """The body prepared for the vendor."""
    return vendor.prepare(channel or channel_of(vendor), "up-1", call_of(body), CAP, HOP, "alice")


def sent(vendor: Vendor, body: bytes, channel: Channel | None = None) -> dict[str, Any]:
    """The decoded body that the vendor would get."""
    return msgspec.json.decode(prepared(vendor, body, channel).request.body)


def refused(
    vendor: Vendor, status: int, body: bytes, headers: Mapping[bytes, bytes] | None = None
) -> UpstreamRefused:
    """What a refusal of the vendor's becomes."""
    head = UpstreamHead(status, headers or {})
    return vendor.refused(channel_of(vendor), head, body)


def it_says_who_it_is(vendor: Vendor) -> None:
    """Name, title and address are of the expected form."""
    assert vendor.name.isidentifier()
    assert vendor.name == vendor.name.lower()
    assert vendor.title
    assert not vendor.base_url.endswith("/")
    assert vendor.base_url == "" or vendor.base_url.startswith("https://")
    assert vendor.env_name is None or vendor.env_name.endswith("_API_KEY")
    assert "chat" in vendor.speaks
    assert set(vendor.finish_reasons.values()) <= STANDARD_FINISH_REASONS
    assert not set(vendor.finish_reasons) & STANDARD_FINISH_REASONS
    assert not vendor.failing_finish_reasons & (STANDARD_FINISH_REASONS | {*vendor.finish_reasons})
    assert set(vendor.error_codes.values()) <= set(get_args(refusals.Kind))


def unknown_fields_pass_as_the_bytes_that_came(vendor: Vendor) -> None:
    """What nobody here knows is not decoded, reordered or reformatted."""
    body = prepared(vendor, b'{"model":"x",' + UNKNOWN + b"," + HELLO + b"}").request.body
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    came = msgspec.json.decode(b"{" + UNKNOWN + b"}", type=dict[str, msgspec.Raw])
    assert {name: bytes(fields[name]) for name in came} == {n: bytes(v) for n, v in came.items()}
    assert [name for name in fields if name in came] == list(came)


def a_plain_call_changes_only_model_and_cap(vendor: Vendor) -> None:
    """A call without oddities arrives as it was, and nothing is reported as adjusted."""
    result = prepared(vendor, b'{"model":"x",' + HELLO + b',"zz_field":0.70}')
    body = msgspec.json.decode(result.request.body)
    cap = {name: body.pop(name) for name in list(body) if body[name] == CAP}
    assert len(cap) == 1
    assert body == {
        "model": "up-1",
        "messages": [{"role": "user", "content": "hello"}],
        "zz_field": 0.7,
    }
    assert result.adjusted == ()
    assert HELLO in result.request.body
    assert b'"zz_field":0.70' in result.request.body


def the_cap_stands_in_exactly_one_field(vendor: Vendor) -> None:
    """However the client named its cap, the vendor gets ours, once; a rename is told."""
    for given in (b"", b'"max_tokens":9', b'"max_completion_tokens":9', b'"max_tokens":null',
                  b'"max_tokens":9,"max_completion_tokens":8'):  # fmt: skip
        result = prepared(
            vendor, b'{"model":"x",' + HELLO + (b"," + given if given else b"") + b"}"
        )
        body = msgspec.json.decode(result.request.body)
        caps = [name for name in ("max_tokens", "max_completion_tokens") if name in body]
        assert caps == [vendor.max_tokens_field] or vendor.max_tokens_field not in _CAPS
        assert body[vendor.max_tokens_field] == CAP
        other = _CAPS - {vendor.max_tokens_field}
        told = {adjusted.split("=")[0] for adjusted in result.adjusted}
        assert told == {
            name for name in other if f'"{name}":'.encode() in given and b"null" not in given
        }


_CAPS = {"max_tokens", "max_completion_tokens"}


def a_stream_is_asked_for_its_usage(vendor: Vendor) -> None:
    """Usage is always asked for; other stream options stay; it is no adjustment."""
    start = b'{"model":"x",' + HELLO + b',"stream":true'
    for options in (b"", b',"stream_options":null', b',"stream_options":{"include_usage":false}'):
        result = prepared(vendor, start + options + b"}")
        assert msgspec.json.decode(result.request.body)["stream_options"] == {"include_usage": True}
        assert result.adjusted == ()
    kept = sent(vendor, start + b',"stream_options":{"include_obfuscation":false}}')
    assert kept["stream_options"] == {"include_obfuscation": False, "include_usage": True}
    assert "stream_options" not in sent(vendor, b'{"model":"x",' + HELLO + b"}")


def the_key_is_only_in_the_authorization_header(vendor: Vendor) -> None:
    """And without a key there is no such header."""
    request = prepared(vendor, b'{"model":"x",' + HELLO + b"}").request
    assert (b"authorization", b"Bearer " + KEY.encode()) in request.headers
    assert sum(KEY.encode() in value for _, value in request.headers) == 1
    assert KEY not in request.url
    assert KEY.encode() not in request.body
    assert KEY not in repr(channel_of(vendor))
    open_channel = channel_of(vendor, api_key="")
    headers = dict(prepared(vendor, b"{" + HELLO + b"}", open_channel).request.headers)
    assert b"authorization" not in headers


def headers_are_ours_and_name_every_hop(vendor: Vendor) -> None:
    """What the client sent does not go on; each instance on the way is named."""
    call = call_of(b"{" + HELLO + b',"stream":true}', hops=("inst_a", "inst_b"))
    request = vendor.prepare(channel_of(vendor), "m", call, CAP, HOP, "alice").request
    headers = dict(request.headers)
    assert headers[b"x-farebox-hop"] == b"inst_a, inst_b, " + HOP.encode()
    assert headers[b"accept"] == b"text/event-stream"
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"user-agent"].startswith(b"farebox/")
    assert {b"host", b"content-length", b"cookie"} & set(headers) == set()


def a_base_path_is_never_doubled(vendor: Vendor) -> None:
    """Whatever the operator pasted, the path comes once."""
    for base in ("https://h/v1", "https://h/v1/", "https://h/v1/chat/completions"):
        url = vendor.chat_url(channel_of(vendor, base_url=base))
        assert url == "https://h/v1/chat/completions"


def nothing_is_stored_at_a_shared_vendor(vendor: Vendor) -> None:
    """`store` and its labels are dropped and told, but for the account that owns the channel."""
    body = b"{" + HELLO + b',"store":true,"metadata":{"a":"b"}}'
    result = prepared(vendor, body)
    assert {"store", "metadata"} & set(msgspec.json.decode(result.request.body)) == set()
    assert {"store=dropped", "metadata=dropped"} <= set(result.adjusted)
    own = channel_of(vendor, dedicated_account="alice")
    if "store" not in vendor.drop:
        assert sent(vendor, body, own)["store"] is True
    foreign = channel_of(vendor, dedicated_account="bob")
    assert "store" not in sent(vendor, body, foreign)
    if "store" not in vendor.drop:
        assert sent(vendor, b"{" + HELLO + b',"store":false}')["store"] is False


FILE_PARTS = (
    b'{"type":"file","file":{"file_id":"file-1"}}',
    b'{"type":"file","file":{"file\\u005fid":"file-1"}}',
    b'{"type":"file","file":{"\\u0066ile_id" : "file-1"}}',
    b'{"type":"file","file":{"file_id":"file-1","file_id":null}}',
    b'{"type":"file","file":{"file_id":"file-1"},"file":{}}',
)


def a_vendors_file_is_refused_on_a_shared_channel(vendor: Vendor) -> None:
    """However the key is written; the account that owns the channel may name its files."""
    for part in FILE_PARTS:
        body = b'{"messages":[{"role":"user","content":[' + part + b"]}]}"
        for owner in ("", "bob"):
            with pytest.raises(BadRequest) as caught:
                prepared(vendor, body, channel_of(vendor, dedicated_account=owner))
            assert (caught.value.code, caught.value.param) == ("unsupported_value", "messages")
        prepared(vendor, body, channel_of(vendor, dedicated_account="alice"))
    harmless = b'{"messages":[{"role":"user","content":"the \\"file_id\\": x"},{"file_id":null}]}'
    prepared(vendor, harmless)


def what_a_channel_says_wins(vendor: Vendor) -> None:
    """An operator may drop, rename, and name capabilities that the vendor does not know."""
    options = ChannelOptions(
        drop=("zz_gone", "absent"),
        rename=(("zz_here", "zz_there"),),
        max_tokens_field="max_new_tokens",
        json_schema=True,
        developer_role=True,
    )
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}
    body = {
        "messages": [{"role": "developer", "content": "x"}],
        "zz_gone": {},
        "zz_here": "u",
        "max_tokens": 5,
        "response_format": wanted,
    }
    result = prepared(vendor, msgspec.json.encode(body), channel_of(vendor, options=options))
    assert msgspec.json.decode(result.request.body) == {
        "model": "up-1",
        "messages": body["messages"],
        "zz_there": "u",
        "max_new_tokens": CAP,
        "response_format": wanted,
    }
    assert set(result.adjusted) == {"zz_gone=dropped", "zz_here=renamed", "max_tokens=renamed"}


def adjustments_fit_a_header(vendor: Vendor) -> None:
    """Whatever an operator calls a field, the header stays one line of plain signs."""
    options = ChannelOptions(drop=("naïve, field\r\nx: y",))
    body = msgspec.json.encode({"messages": [], "naïve, field\r\nx: y": 1})
    (told,) = prepared(vendor, body, channel_of(vendor, options=options)).adjusted
    assert told == "na_ve__field__x:_y=dropped"


def our_faults_are_not_shown(vendor: Vendor) -> None:
    """A bad key, an empty account and a wrong name are the gateway's trouble: try elsewhere."""
    for status in (301, 401, 402, 403, 404, 405, 500, 502, 503, 504, 529):
        error = refused(vendor, status, LEAK)
        assert error.status >= 502
        assert error.retry_elsewhere
        assert error.fault == "vendor"
        assert "contract" not in error.message.lower()
    assert refused(vendor, 402, b"").status == 503
    assert refused(vendor, 503, b"").code == "server_is_overloaded"
    assert refused(vendor, 504, b"").status == 504


LEAK = msgspec.json.encode(
    {
        "error": {
            "message": f"Key {KEY} at https://{HOST}/some/base refused; Bearer {KEY}; "
            f"sk-other-12345678 {HOST.upper()} {HOSTNAME} org-abcdefgh \x1b[31m\n",
            "code": KEY,
            "param": HOST,
        }
    }
)


def the_clients_faults_are_told_without_secrets(vendor: Vendor) -> None:
    """The vendor's words help the caller; keys and addresses in them do not."""
    for status in (400, 413, 422):
        error = refused(vendor, status, LEAK)
        assert not error.retry_elsewhere
        assert error.fault == "client"
        assert error.type == "invalid_request_error"
        assert error.status == (413 if status == 413 else 400)
        shown = f"{error.message} {error.code} {error.param}".lower()
        for secret in (KEY, HOST, HOSTNAME, "sk-other", "org-abc", "\x1b", "\n"):
            assert secret.lower() not in shown
    told = b'{"error":{"message":"Bad temperature.","code":"invalid_value","param":"temperature"}}'
    error = refused(vendor, 400, told)
    assert (error.message, error.code, error.param) == (
        "Bad temperature.",
        "invalid_value",
        "temperature",
    )


def a_rate_limit_says_how_long_to_wait(vendor: Vendor) -> None:
    """Whole seconds from 1 to 120, from whichever header the vendor uses."""
    for headers, seconds in RETRY_AFTER:
        error = refused(vendor, 429, b'{"error":{"message":"slow"}}', headers)
        assert (error.status, error.type, error.code) == (
            429,
            "rate_limit_error",
            "rate_limit_exceeded",
        )
        assert error.retry_after_s == seconds
        assert error.retry_elsewhere
    assert refused(vendor, 429, b'{"error":{"code":"insufficient_quota"}}').status == 503


RETRY_AFTER: list[tuple[dict[bytes, bytes], int]] = [
    ({}, 1),
    ({b"retry-after": b"7"}, 7),
    ({b"retry-after": b"0"}, 1),
    ({b"retry-after": b"0.2"}, 1),
    ({b"retry-after": b"3600"}, 120),
    ({b"retry-after": b"-5"}, 1),
    ({b"retry-after": b"nan"}, 1),
    ({b"retry-after": b"soon"}, 1),
    ({b"retry-after-ms": b"1500", b"retry-after": b"9"}, 2),
    (
        {
            b"retry-after": b"Mon, 23 Nov 2026 10:00:30 GMT",
            b"date": b"Mon, 23 Nov 2026 10:00:00 GMT",
        },
        30,
    ),
    ({b"retry-after": b"Mon, 23 Nov 2026 10:00:30 GMT"}, 1),
]


def too_long_a_prompt_has_one_code(vendor: Vendor) -> None:
    """In whatever words it is said."""
    for message in (
        "This model's maximum context length is 8192 tokens.",
        "the request exceeds the available context size (2048 tokens)",
        "Prompt exceeds max length",
    ):
        body = msgspec.json.encode({"error": {"message": message, "code": 1}})
        error = refused(vendor, 400, body)
        assert (error.status, error.code, error.param) == (
            400,
            "context_length_exceeded",
            "messages",
        )
        assert error.message == message


def an_error_within_an_answer_is_the_same(vendor: Vendor) -> None:
    """Without a status, the code or type tells whose fault it is; in doubt it is the vendor's."""
    channel = channel_of(vendor)
    for error, status in (
        ({"message": KEY}, 502),
        ("broken", 502),
        (None, 502),
        ({"error": {"message": "x", "code": "rate_limit_exceeded"}}, 429),
        ({"message": "x", "code": 429}, 429),
        ({"message": "x", "type": "overloaded_error"}, 503),
        ({"message": f"bad {KEY}", "type": "invalid_request_error"}, 400),
    ):
        found = vendor.error_event(channel, error)
        assert found.status == status
        assert KEY not in found.message
        assert found.retry_elsewhere == (status != 400)
        assert found.code is None or isinstance(found.code, str)


CHECKS: tuple[Callable[[Vendor], None], ...] = (
    it_says_who_it_is,
    unknown_fields_pass_as_the_bytes_that_came,
    a_plain_call_changes_only_model_and_cap,
    the_cap_stands_in_exactly_one_field,
    a_stream_is_asked_for_its_usage,
    the_key_is_only_in_the_authorization_header,
    headers_are_ours_and_name_every_hop,
    a_base_path_is_never_doubled,
    nothing_is_stored_at_a_shared_vendor,
    a_vendors_file_is_refused_on_a_shared_channel,
    what_a_channel_says_wins,
    adjustments_fit_a_header,
    our_faults_are_not_shown,
    the_clients_faults_are_told_without_secrets,
    a_rate_limit_says_how_long_to_wait,
    too_long_a_prompt_has_one_code,
    an_error_within_an_answer_is_the_same,
)


def check_all(vendor: Vendor) -> None:
    """Every check. Raises AssertionError."""
    for check in CHECKS:
        check(vendor)
