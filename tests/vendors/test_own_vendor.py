"""The example of docs/vendors.md: one file makes a vendor that keeps the whole contract."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from farebox import vendors
from farebox.vendors import registry
from farebox.vendors.base import Vendor
from tests.vendors.contract import CAP, call_of, channel_of, check_all, refused

DOC = Path(__file__).parents[2] / "docs" / "vendors.md"


@pytest.fixture
def acme(tmp_path: Path) -> Iterator[Vendor]:
    """The documented file, put where vendors are looked for."""
    found = re.search(
        r"<!-- example: (acme\.py) -->\n```python\n(.*?)```", DOC.read_text(), re.DOTALL
    )
    assert found, "docs/vendors.md has no example of a vendor's file"
    (tmp_path / found[1]).write_text(found[2])
    vendors.__path__.append(str(tmp_path))
    try:
        yield registry.discover()["acme"]
    finally:
        vendors.__path__.remove(str(tmp_path))
        sys.modules.pop("farebox.vendors.acme", None)


def test_the_documented_vendor_is_found_by_its_file_and_keeps_the_contract(acme: Vendor):
    """No list has to be edited and no test to be written for that."""
    check_all(acme)


def test_the_documented_vendor_does_what_it_says(acme: Vendor):
    """Each line of the example has its effect."""
    body = {
        "messages": [{"role": "developer", "content": "x"}],
        "logit_bias": {},
        "user": "u",
        "reasoning_effort": "high",
    }
    call = call_of(msgspec.json.encode(body))
    result = acme.prepare(channel_of(acme), "m", call, CAP, "hop")
    assert msgspec.json.decode(result.request.body) == {
        "messages": [{"role": "system", "content": "x"}],
        "model": "m",
        "max_tokens": CAP,
        "thinking": {"type": "enabled"},
        "end_user": "u",
    }
    assert set(result.adjusted) == {
        "messages.role=developer->system",
        "logit_bias=dropped",
        "user=renamed",
        "reasoning_effort=thinking:enabled",
    }
    assert refused(acme, 400, b'{"error":{"code":"E17"}}').status == 503


def test_every_built_in_vendor_is_in_the_manual():
    """Its name, title and the reasons that it has are documented."""
    text = DOC.read_text()
    for vendor in registry.all().values():
        assert f"`{vendor.name}`" in text
        assert vendor.base_url in text
        assert vendor.env_name is None or f"`{vendor.env_name}`" in text
        for reason in (*vendor.finish_reasons, *vendor.failing_finish_reasons):
            assert f"`{reason}`" in text
