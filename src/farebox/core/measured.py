"""One call's input as it was counted here and as its upstream reported it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measured:
    """`deviation_ppm` is how far the answer to a question would have been from what was reported,
    in parts per million of that.
    """

    model: str  # public id
    vocabulary: str
    exact: bool  # the answer would not have been called an estimate
    counted: int  # tokens by the vocabulary, before any factor
    reported: int  # input tokens of all classes
    deviation_ppm: int
