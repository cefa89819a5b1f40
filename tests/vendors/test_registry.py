"""Finding vendors by their files."""

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
