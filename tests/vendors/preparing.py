"""Calls of any dialect prepared for a vendor, for tests of what goes out, and sent to its fake."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from farebox.core.call import Call
from farebox.core.channel import Channel
from farebox.core.ports import UpstreamRequest
from farebox.errors import BadRequest
from farebox.vendors import registry
from farebox.vendors.base import Prepared, Vendor
from tests.fakes.personas import ALL_PERSONAS
from tests.fakes.upstream import FakeUpstream
from tests.vendors.contract import CAP, HOP, call_of, channel_of

VENDORS = list(registry.all().values())
EVERY = pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)


@dataclass(frozen=True)
class Preparing:
    """What goes out for a dialect's calls of account `alice`."""

    dialect: str

    def call(self, body: bytes | dict[str, Any], **changes: Any) -> Call:
        """A call with that body, as the dialect hands it on."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return call_of(raw, dialect=self.dialect, **changes)

    def prepared(
        self,
        vendor: Vendor,
        body: bytes | dict[str, Any],
        channel: Channel | None = None,
        **changes: Any,
    ) -> Prepared:
        """The body prepared for the vendor."""
        call = self.call(body, **changes)
        return vendor.prepare(channel or channel_of(vendor), "up-1", call, CAP, HOP, "alice")

    def sent(
        self,
        vendor: Vendor,
        body: bytes | dict[str, Any],
        channel: Channel | None = None,
        **changes: Any,
    ) -> dict[str, Any]:
        """The decoded body that the vendor would get."""
        return msgspec.json.decode(self.prepared(vendor, body, channel, **changes).request.body)

    def check_is_kept_apart(self, vendor: Vendor, body: dict[str, Any], field: str) -> None:
        """Only the account that owns the channel may say what this field says."""
        for owner in ("", "bob"):
            with pytest.raises(BadRequest) as caught:
                self.prepared(vendor, body, channel_of(vendor, dedicated_account=owner))
            assert (caught.value.code, caught.value.param) == ("unsupported_value", field)
        self.prepared(vendor, body, channel_of(vendor, dedicated_account="alice"))

    def prepared_again(
        self, vendor: Vendor, body: dict[str, Any], *, stream: bool
    ) -> dict[str, Any] | None:
        """What the vendor would get, also when that is prepared once more; None if refused."""
        try:
            result = self.prepared(vendor, body, stream=stream)
        except BadRequest:
            return None
        again = self.prepared(vendor, result.request.body, stream=stream)
        assert (again.request.body, again.adjusted) == (result.request.body, ())
        return msgspec.json.decode(result.request.body)

    def posted(
        self, upstream: FakeUpstream, name: str, body: dict[str, Any], **changes: Any
    ) -> tuple[int, bytes]:
        """Status and body of what the fake vendor of this name answers."""
        assert self.dialect in ALL_PERSONAS[name].speaks
        channel = Channel("c", name, upstream.base_url(name), upstream.key(name))
        return post(self.prepared(registry.find(name), body, channel, **changes).request)


def post(request: UpstreamRequest) -> tuple[int, bytes]:
    """Status and body of what the fake answers."""
    url = urlsplit(request.url)
    connection = http.client.HTTPConnection(url.netloc, timeout=10)
    try:
        headers = {name.decode(): value.decode() for name, value in request.headers}
        connection.request("POST", url.path, request.body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
