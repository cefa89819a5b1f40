"""Usage: disjoint classes of tokens, their sum, and how receipts show them."""

import pytest
from msgspec.structs import replace

from farebox.core.usage import CLASSES, Usage

FULL = Usage(1, 20, 300, 4_000, 50_000, 600_000, 7_000_000, 80_000_000)


def test_the_input_is_all_classes_but_the_outputs() -> None:
    """What a long-context threshold is compared with: images and audio are input too."""
    assert FULL.input_total == 80_054_321
    assert replace(FULL, output=0, audio_output=0).input_total == FULL.input_total


def test_every_class_of_a_receipt_is_there() -> None:
    """Seven classes always; images only where there are some."""
    assert tuple(FULL.as_dict()) == CLASSES
    assert Usage().as_dict() == dict.fromkeys(
        (
            "uncached_input",
            "cache_read",
            "cache_write",
            "cache_write_1h",
            "audio_input",
            "output",
            "audio_output",
        ),
        0,
    )
    assert Usage(image_input=2).as_dict()["image_input"] == 2


def test_values_are_frozen() -> None:
    """A change makes a new value."""
    with pytest.raises(AttributeError):
        FULL.output = 1  # pyright: ignore[reportAttributeAccessIssue]
