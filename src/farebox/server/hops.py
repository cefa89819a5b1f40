"""Which gateways a request came through, so that one which comes back to us goes no second round.

The header is written by vendors/; nothing else is read from it.
"""

from __future__ import annotations

from collections.abc import Sequence

from farebox.errors import LoopDetected

_MAX_HOPS = 8  # gateways in a row; nobody has use for more than two or three
_MAX_HOP_CHARS = 64  # an id has 16


def read_hops(values: Sequence[bytes], instance_id: str) -> tuple[str, ...]:
    """The instances that a request came through, as they wrote themselves into these headers of it.
    Raises LoopDetected if we are one of them.
    """
    if not values:
        return ()
    names = b",".join(values).decode("latin-1").split(",")
    hops = tuple(name.strip() for name in names if name.strip())
    # It is sent on with the call, so that a caller must not be able to fill it with anything.
    if len(hops) > _MAX_HOPS or max(map(len, hops), default=0) > _MAX_HOP_CHARS:
        raise LoopDetected(
            f"This request came through more than {_MAX_HOPS} gateways, or its header "
            "x-farebox-hop was not written by one. Nothing was charged."
        )
    if instance_id in hops:
        raise LoopDetected(
            "This request came from this gateway itself: a channel's base URL, or the "
            "environment's OPENAI_BASE_URL or ANTHROPIC_BASE_URL, points back to it. Nothing was "
            "charged."
        )
    return hops
