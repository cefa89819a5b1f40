"""Tokens of one call in disjoint classes. How vendors report them is dialects/usage.py's
business.
"""

import msgspec


class Usage(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Token counts, each ≥ 0, no token in two classes. As JSON it names those that there were."""

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
        return (
            self.uncached_input
            + self.cache_read
            + self.cache_write
            + self.cache_write_1h
            + self.audio_input
            + self.image_input
        )

    def as_dict(self) -> dict[str, int]:
        """The counts by class as receipts show them; images only where there are some."""
        counts = msgspec.structs.asdict(self)
        if not self.image_input:
            del counts["image_input"]
        return counts


CLASSES: tuple[str, ...] = Usage.__struct_fields__
