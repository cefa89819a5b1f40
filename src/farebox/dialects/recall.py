"""What a worker remembers of reasoning: by the ids of the tool calls that it led to.

Vendors that think want their thoughts back with the results of the tools. Clients that return them
need nothing of this; it helps those that drop them, for as long as the same worker remembers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

_MAX_BYTES = 64 * 1024 * 1024
_ENTRY_BYTES = 300  # of an entry beside its text


class Recall:
    """Reasoning texts by (account, call id); the oldest are forgotten first."""

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._texts: OrderedDict[tuple[int, str], str] = OrderedDict()

    def note(self, account_id: int, call_ids: Iterable[str], reasoning: str) -> None:
        """These calls of a tool followed upon this reasoning."""
        for call_id in call_ids:
            pair = (account_id, call_id)
            self._forget(pair)
            self._texts[pair] = reasoning
            self._bytes += _size(reasoning)
        while self._bytes > self._max_bytes:
            self._forget(next(iter(self._texts)))

    def find(self, account_id: int, call_id: str) -> str | None:
        """The reasoning before this call of the account's, if it is remembered."""
        return self._texts.get((account_id, call_id))

    def _forget(self, pair: tuple[int, str]) -> None:
        text = self._texts.pop(pair, None)
        if text is not None:
            self._bytes -= _size(text)


def _size(text: str) -> int:
    return 4 * len(text) + _ENTRY_BYTES  # at most, whatever the text's letters
