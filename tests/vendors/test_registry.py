"""Finding vendors by their files, and those of other distributions."""

import os
import subprocess
import sys

import pytest

from farebox.vendors import registry


def test_the_built_in_vendors_are_found():
    """Each module with a VENDOR is one; helpers of the folder are none."""
    names = {
        "anthropic",
        "deepseek",
        "local",
        "mimo",
        "openai",
        "openai_compatible",
        "zai",
        "zhipu",
    }
    assert set(registry.all()) == names
    assert all(vendor.name == name for name, vendor in registry.all().items())


def test_an_unknown_vendor_is_answered_with_the_known_ones():
    """The sentence says what may be written instead."""
    with pytest.raises(registry.VendorUnknown) as caught:
        registry.find("depseek")
    assert str(caught.value) == (
        "There is no vendor 'depseek'. Known vendors: anthropic, deepseek, local, mimo, openai, "
        "openai_compatible, zai, zhipu."
    )


def test_names_are_exact():
    """A name in a catalogue is compared as it is written."""
    with pytest.raises(LookupError):
        registry.find("OpenAI")


ACME = """
from farebox.vendors.base import Vendor

class Acme(Vendor):
    name = "acme"
    title = "Acme"

class Taken(Acme):
    name = "openai"

VENDOR, TAKEN = Acme(), Taken()
"""
FIND = """
import sys
from farebox.vendors import registry
print(registry.find("openai").title, "importlib.metadata" in sys.modules)
print(registry.find("acme").name, "acme" in registry.all(), registry.all()["openai"].title)
"""


def test_a_distribution_may_have_vendors(tmp_path):
    """They are looked for when a name is none of ours, and don't take a name of ours."""
    (tmp_path / "acme_farebox.py").write_text(ACME)
    about = tmp_path / "acme_farebox-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-farebox\nVersion: 1.0\n")
    names = "[farebox.vendors]\nacme = acme_farebox:VENDOR\nother = acme_farebox:TAKEN\n"
    (about / "entry_points.txt").write_text(names)
    done = subprocess.run(
        [sys.executable, "-c", FIND],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.splitlines(), done.stderr) == (["OpenAI False", "acme True OpenAI"], "")
