"""What lies at a vendor whose account callers share is not reached by its id."""

from __future__ import annotations

from types import ModuleType

import pytest

from farebox.dialects import chat, responses
from farebox.errors import BadRequest
from farebox.vendors import registry
from farebox.vendors.base import Vendor
from tests.vendors.contract import CAP, HELLO, HOP, channel_of, prepared

VENDORS = list(registry.all().values())
KEPT_THERE = (
    ("messages", b'[{"role":"assistant","audio":{"id":"audio_1"}}]'),
    ("messages", b'[{"role":"assistant","audio":{"x":{"y":{}},"id":"audio_1"}}]'),
    ("messages", b'[{"role":"assistant","\\u0061udio" : {"\\u0069d":"audio_1","id":null}}]'),
    ("messages", b'[{"audio":{"id":"audio_1"},"audio":null}]'),
    ("previous_response_id", b'"resp_1"'),
    ("conversation", b'{"id":"conv_1"}'),
    ("container", b'"cntr_1"'),
    ("prompt", b'{"id":"pmpt_1","version":"2"}'),
    ("tools", b'[{"type":"file_search","vector_store_ids":["vs_1"]}]'),
    ("tools", b'[{"type":"code_interpreter","container":"cntr_1"}]'),
    ("tools", b'[{"type":"code_interpreter","container":{"type":"auto","file_ids":["file-1"]}}]'),
    ("tools", b'[{"type":"retrieval","retrieval":{"knowledge_id":"1"}}]'),
)
HARMLESS = (
    ("messages", b'[{"role":"assistant","audio":null,"id":"msg_1"}]'),
    ("messages", b'[{"role":"assistant","audio":{"id":null,"transcript":"hi"}}]'),
    ("messages", b'[{"content":[{"type":"audio","audio":{"data":"UklGRg=="}}],"id":"msg_1"}]'),
    ("messages", b'[{"content":"\\"audio\\": {\\"id\\": 1}","tool_calls":[{"id":"call_1"}]}]'),
    ("previous_response_id", b"null"),
    ("prompt", b'"Once"'),
    ("tools", b'[{"type":"function","function":{"parameters":{"properties":{"file_id":{}}}}}]'),
    ("tools", b'[{"type":"code_interpreter","container":{"type":"auto"}}]'),
)


def _body(field: str, value: bytes) -> bytes:
    own = b'"%b":%b' % (field.encode(), value)
    return b"{" + (own if field == "messages" else HELLO + b"," + own) + b"}"


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)
@pytest.mark.parametrize(("field", "value"), KEPT_THERE)
def test_an_id_of_what_a_vendor_keeps_is_refused(vendor: Vendor, field: str, value: bytes) -> None:
    """However it is written: it may be another caller's. Only the channel's own account may."""
    body = _body(field, value)
    for owner in ("", "bob"):
        with pytest.raises(BadRequest) as caught:
            prepared(vendor, body, channel_of(vendor, dedicated_account=owner))
        assert (caught.value.code, caught.value.param) == ("unsupported_value", field)
    prepared(vendor, body, channel_of(vendor, dedicated_account="alice"))


@pytest.mark.parametrize("dialect", [chat, responses])
def test_where_messages_and_input_are_sent_both_are_looked_at(dialect: ModuleType) -> None:
    """A server may look at the one that its API does not have, however usual the other is."""
    item = b'{"role":"user","content":[{"type":"input_file","file_id":"file-1"}]}'
    usual, other = (b"messages", b"input")[:: 1 if dialect is chat else -1]
    body = b'{"model":"m","%b":[{"role":"user","content":"Hi"}],"%b":[%b]}' % (usual, other, item)
    call = dialect.parse(body, "req_1")
    vendor = registry.all()["openai"]
    with pytest.raises(BadRequest) as caught:
        vendor.prepare(channel_of(vendor), "up-1", call, CAP, HOP, "alice")
    assert caught.value.param == other.decode()


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)
@pytest.mark.parametrize(("field", "value"), HARMLESS)
def test_what_only_looks_like_it_is_sent(vendor: Vendor, field: str, value: bytes) -> None:
    """Ids of a caller's own, data instead of an id, null, the same words in a text."""
    prepared(vendor, _body(field, value))
