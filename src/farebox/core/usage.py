"""Tokens of one call in disjoint classes. How vendors report them is dialects/usage.py's
business.
"""

from typing import NamedTuple


class Usage(NamedTuple):
    """Token counts, each ≥ 0, no token in two classes."""

    uncached_input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    audio_input: int = 0
    output: int = 0  # text, reasoning included
    audio_output: int = 0
    image_input: int = 0  # counted as uncached text where a model has no price for images

    @property
    def input_total(self) -> int:
        """All input tokens: what a long-context threshold is compared with."""
        uncached, read, write, write_1h, audio, _output, _audio_output, images = self
        return uncached + read + write + write_1h + audio + images

    def as_dict(self) -> dict[str, int]:
        """The counts by class as receipts show them; images only where there are some."""
        counts = self._asdict()
        if not self.image_input:
            del counts["image_input"]
        return counts


CLASSES: tuple[str, ...] = Usage._fields
