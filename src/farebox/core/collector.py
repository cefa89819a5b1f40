"""When the garbage collector begins in a process of the gateway, and how often it looks.

While a process starts, nearly all that is made stays. To look through that over and over takes a
tenth of a start, and as much again for a last look that finds a thousand objects.
"""

import gc
from collections.abc import Generator
from contextlib import contextmanager

_ALLOCATIONS = gc.get_threshold()[0]


@contextmanager
def put_off() -> Generator[None]:
    """The collector does not look before `begin`, or before the end of this."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def begin(allocations: int = _ALLOCATIONS) -> None:
    """What is there lives until the end and is never looked through; what comes is, by and by:
    `allocations` are those between two looks at the youngest, by default Python's own.
    """
    gc.freeze()
    gc.set_threshold(allocations, 10, 10)
    gc.enable()
